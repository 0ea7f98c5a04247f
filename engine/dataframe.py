"""DataFrame: a result in memory. It shows itself and hands its rows on; verbs are those of LazyFrame, by `.lazy()`."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

import pyarrow as pa

from kernelmill.engine.display import table_html, table_text
from kernelmill.engine.errors import Code, error
from kernelmill.engine.options import unknown_name, whole_number
from kernelmill.engine.origin import users_line
from kernelmill.engine.pyvalues import python_value, python_values
from kernelmill.engine.schema import Schema, find
from kernelmill.engine.sizes import format_count

_ROWS_SHOWN = 10
_LAZY_VERBS = (
    "select",
    "filter",
    "with_columns",
    "drop",
    "rename",
    "cast",
    "group_by",
    "sort",
    "top_k",
    "explode",
    "unnest",
    "unpivot",
    "unique",
    "drop_nulls",
    "tail",
    "sample",
    "gather_every",
    "with_row_index",
    "limit",
    "sink_parquet",
    "explain",
)


class DataFrame:
    """Rows in memory, as one Arrow table, with the counters and rejects of the job that made them."""

    __slots__ = ("_counters", "_outputs", "_rejects", "_table")

    def __init__(
        self,
        table: pa.Table,
        *,
        counters: Mapping[str, int] | None = None,
        rejects: pa.Table | None = None,
        outputs: Mapping[str, DataFrame] | None = None,
    ) -> None:
        self._table = table
        self._counters = dict(counters or {})
        self._rejects = rejects
        self._outputs = dict(outputs or {})

    @property
    def height(self) -> int:
        """The number of rows."""
        return self._table.num_rows

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of rows and columns."""
        return self._table.num_rows, self._table.num_columns

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self._table.column_names)

    @property
    def schema(self) -> Schema:
        """Names and types of the columns."""
        return Schema.of(self._table.schema)

    @property
    def counters(self) -> Mapping[str, int]:
        """The user's counters of the job that made the rows."""
        return MappingProxyType(self._counters)

    @property
    def rejects(self) -> DataFrame | None:
        """The records that were set aside, with their origin and the reason; None if there were none."""
        return None if self._rejects is None else DataFrame(self._rejects)

    @property
    def outputs(self) -> Mapping[str, DataFrame]:
        """The named outputs of a job that was tried with `trial`, by name; empty for other results."""
        return MappingProxyType(self._outputs)

    def rows(self) -> list[tuple[Any, ...]]:
        """All rows as tuples of Python values; a moment that no datetime can hold, as of nanoseconds, is text."""
        return list(self.iter_rows())

    def row(self, index: int) -> tuple[Any, ...]:
        """One row as a tuple; negative numbers count from the end. KM0107 if there is no such row."""
        place = index + self.height if index < 0 else index
        if not 0 <= place < self.height:
            what = f"there is no row {index}"
            raise error(Code.BAD_SETTING, what, where=users_line(), hint=f"rows are 0 to {self.height - 1}")
        return tuple(python_value(column[place]) for column in self._table.columns)

    def iter_rows(self) -> Iterator[tuple[Any, ...]]:
        """The rows one by one as tuples, converted a batch at a time."""
        for batch in self._table.to_batches(max_chunksize=8192):
            yield from zip(*map(python_values, batch.columns), strict=True)

    def __getitem__(self, name: Any) -> pa.ChunkedArray[Any]:
        """One column as a pyarrow array; KM0101 if it is not there."""
        if not isinstance(name, str):
            what, hint = f"a column is asked for by its name, not by {name!r}", "df.row(0), df.head(3)"
            raise error(Code.BAD_SETTING, what, where=users_line(), hint=hint)
        find(self._table.schema, name, where=users_line())
        return self._table.column(name)

    def head(self, n: int = 5) -> DataFrame:
        """The first `n` rows, without copying."""
        return DataFrame(self._table.slice(0, whole_number("n", n, 0)), counters=self._counters, rejects=self._rejects)

    def to_arrow(self) -> pa.Table:
        """The rows as a pyarrow.Table, without copying."""
        return self._table

    def to_pandas(self) -> Any:
        """The rows as a pandas.DataFrame; pandas is imported now."""
        return self._table.to_pandas()

    def to_polars(self) -> Any:
        """The rows as a polars.DataFrame; polars is imported now."""
        return importlib.import_module("polars").DataFrame(self)

    def to_dict(self) -> dict[str, list[Any]]:
        """Each column as a list of Python values, by name; they are those of `rows`."""
        return {name: python_values(self._table.column(name)) for name in self._table.column_names}

    def write_parquet(self, path: Any, **options: Any) -> Any:
        """Write Parquet, all or nothing: `sink_parquet` with its options."""
        return self.lazy().sink_parquet(path, **options)

    def lazy(self) -> Any:
        """A LazyFrame over these rows, for further verbs."""
        # frame imports this module at its head; the way back is taken when it is there
        return importlib.import_module("kernelmill.engine.scan").from_arrow(self._table)

    def text(self, n: int | None = None, *, more: bool = False) -> str:
        """The first `n` rows as an aligned table; `more` says that there are others than those held here."""
        shown = self._table if n is None else self._table.slice(0, n)
        left = self.height - shown.num_rows
        footer = f"... {format_count(left)} more rows" if left else "... more rows" if more else ""
        return table_text(shown, footer=footer)

    def __len__(self) -> int:
        return self.height

    def __repr__(self) -> str:
        return f"DataFrame {self.height:,} rows, {self._table.num_columns} columns\n{self.text(_ROWS_SHOWN)}"

    def _repr_html_(self) -> str:
        left = self.height - _ROWS_SHOWN
        footer = f"... {format_count(left)} more rows" if left > 0 else ""
        return table_html(self._table.slice(0, _ROWS_SHOWN), footer=footer)

    def __arrow_c_schema__(self) -> object:
        return self._table.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self._table.__arrow_c_stream__(requested_schema)  # type: ignore[no-untyped-call]

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):  # copy, pickle and notebooks ask for names that are not there
            raise AttributeError(name)
        known = [verb for verb in dir(type(self)) if not verb.startswith("_")]
        foreign = {verb: f"this is a result: use df.lazy().{verb}(...)" for verb in _LAZY_VERBS}
        raise unknown_name("DataFrame", name, known, foreign)
