"""CachedFrame: a frame whose rows were computed once and are held; what `LazyFrame.cache` gives."""

from __future__ import annotations

import pyarrow as pa

from kernelmill.engine.caching import CachedRows
from kernelmill.engine.dataframe import DataFrame
from kernelmill.engine.frame import LazyFrame
from kernelmill.engine.origin import users_line
from kernelmill.engine.plan.logical import ScanSource


class CachedFrame(LazyFrame):
    """A LazyFrame whose rows are there already: made by `LazyFrame.cache`. Use it as any other, or in a `with`."""

    __slots__ = ("_rows",)

    def __init__(self, rows: CachedRows, schema: pa.Schema, unique: tuple[str, ...]) -> None:
        super().__init__(ScanSource(rows, schema, unique, rows.is_reduced, origin=users_line()))
        self._rows = rows

    @property
    def height(self) -> int:
        """How many rows there are."""
        return self._rows.rows

    @property
    def counters(self) -> dict[str, int]:
        """What functions counted by emit.count when the rows were made."""
        return dict(self._rows.counters)

    @property
    def rejects(self) -> DataFrame | None:
        """The records that were set aside when the rows were made; None if there were none."""
        table = self._rows.rejects
        return None if table is None else DataFrame(table)

    def close(self) -> None:
        """Free the rows now. A plan over them is KM0107 from then on."""
        self._rows.close()

    def __enter__(self) -> CachedFrame:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
