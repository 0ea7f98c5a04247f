"""The footers of many Parquet files, as a plan holds them: what splits follow from, and no more.

A footer takes some 8 KB in memory however small its file, which for a hundred thousand files is most of a gigabyte.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import pyarrow as pa

from kernelmill.engine.io.parquet_footer import RowGroup, parquet_info
from kernelmill.engine.io.pruning import ColumnStats
from kernelmill.engine.splits import FileStamp

FOOTERS_HELD_MAX = 1000
"""Of so many files all footers are held whole: no statistics are read twice then."""


class GroupFacts(Protocol):
    """What a plan wants to know of a row group."""

    @property
    def rows(self) -> int:
        """How many rows it has."""

    @property
    def stats(self) -> Mapping[str, ColumnStats]:
        """Statistics by column."""

    def bytes_of(self, columns: Sequence[str]) -> int:
        """Compressed bytes of these columns."""


class FileFacts(Protocol):
    """What a plan wants to know of a file."""

    @property
    def file(self) -> FileStamp:
        """The file."""

    @property
    def schema(self) -> pa.Schema:
        """Its columns."""

    @property
    def row_groups(self) -> Sequence[GroupFacts]:
        """Its row groups, in order."""


def footers_of(files: Sequence[FileStamp]) -> tuple[FileFacts, ...]:
    """Read the footers of all files; of more than 1,000, what is held of each is small. Raises as `parquet_info`."""
    if len(files) <= FOOTERS_HELD_MAX:
        return tuple(parquet_info(file) for file in files)
    schemas: dict[tuple[tuple[str, str, bool], ...], _Columns] = {}
    return tuple(_noted(file, schemas) for file in files)


class _Columns:
    """A schema that files share, and the number of each column."""

    def __init__(self, schema: pa.Schema) -> None:
        self.schema = schema
        self.number_of = {name: number for number, name in enumerate(schema.names)}


class _Group:
    """A row group; its statistics are read again where a filter asks for them."""

    __slots__ = ("_bytes_of_column", "_file", "_number", "rows")

    def __init__(self, file: _File, number: int, rows: int, bytes_of_column: tuple[int, ...]) -> None:
        self._file, self._number, self.rows, self._bytes_of_column = file, number, rows, bytes_of_column

    @property
    def stats(self) -> Mapping[str, ColumnStats]:
        """Statistics by column."""
        return parquet_info(self._file.file).row_groups[self._number].stats

    def bytes_of(self, columns: Sequence[str]) -> int:
        """Compressed bytes of these columns; one that the file lacks has none."""
        numbers = self._file.columns.number_of
        return sum(self._bytes_of_column[numbers[name]] for name in columns if name in numbers)


class _File:
    __slots__ = ("columns", "file", "row_groups")

    def __init__(self, file: FileStamp, columns: _Columns, groups: Sequence[RowGroup]) -> None:
        self.file, self.columns = file, columns
        self.row_groups = tuple(
            _Group(self, number, group.rows, tuple(group.column_bytes.get(name, 0) for name in columns.number_of))
            for number, group in enumerate(groups)
        )

    @property
    def schema(self) -> pa.Schema:
        """Its columns."""
        return self.columns.schema


def _noted(file: FileStamp, schemas: dict[tuple[tuple[str, str, bool], ...], _Columns]) -> _File:
    info = parquet_info(file)
    key = tuple((field.name, str(field.type), field.nullable) for field in info.schema)
    columns = schemas.get(key)
    if columns is None:
        columns = schemas[key] = _Columns(info.schema)
    return _File(file, columns, info.row_groups)
