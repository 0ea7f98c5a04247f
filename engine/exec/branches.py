"""The named outputs of a map: what it emits to each goes through steps of its own to partitions of its own.

The rows of the main output flow from step to step as they come. Those of the others are held back until there are
enough of them, then go through their steps at once: one loop over the input serves all outputs, memory stays bounded,
and where they are cut follows from the rows alone (I1).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.lazymodules import pc

HELD_ROWS_MAX, HELD_BYTES_MAX = 1 << 20, 32 << 20
_SMALL_MAX = 256
"""So many batches become one: a record that machine code leaves to Python makes one of a row or two."""

Placed = Callable[[int, list[pa.RecordBatch]], None]
"""Takes rows through the steps of the branch of that number, counted from 0, and into its partitions."""


class Branches:
    """The branches of one task, so many: `take` rows as the map emits them, `finish` when there are no more."""

    def __init__(self, count: int, placed: Placed) -> None:
        self._placed = placed
        self._held: list[list[pa.RecordBatch]] = [[] for _ in range(count)]
        self._small, self._rows, self._bytes = [0] * count, [0] * count, [0] * count

    def take(self, output: int, batch: pa.RecordBatch) -> None:
        """Take rows emitted to output `output`, from 1 on."""
        number = output - 1
        while batch.num_rows:
            some, size = self._fitting(number, batch)
            self._hold(number, batch.slice(0, some), size)
            batch = batch.slice(some)

    def _fitting(self, number: int, batch: pa.RecordBatch) -> tuple[int, int]:
        """How many rows to take until there are enough of them, and their bytes: however batches are cut (I1)."""
        ends = _ends(batch)
        some = int(np.searchsorted(ends, HELD_BYTES_MAX - self._bytes[number])) + 1
        some = min(some, HELD_ROWS_MAX - self._rows[number], batch.num_rows)
        return some, int(ends[some - 1])

    def _hold(self, number: int, batch: pa.RecordBatch, size: int) -> None:
        self._held[number].append(batch)
        self._small[number] += 1
        self._rows[number] += batch.num_rows
        self._bytes[number] += size
        if self._small[number] >= _SMALL_MAX:
            held, first = self._held[number], len(self._held[number]) - _SMALL_MAX
            held[first:] = pa.Table.from_batches(held[first:]).combine_chunks().to_batches()
            self._small[number] = 0
        if self._rows[number] >= HELD_ROWS_MAX or self._bytes[number] >= HELD_BYTES_MAX:
            self._flush(number)

    def finish(self) -> None:
        """Place the rows that are held back."""
        for number in range(len(self._held)):
            self._flush(number)

    def _flush(self, number: int) -> None:
        held = self._held[number]
        if held:
            self._placed(number, held)
            held.clear()
            self._rows[number] = self._bytes[number] = self._small[number] = 0


def _ends(batch: pa.RecordBatch) -> NDArray[np.int64]:
    """How many bytes there are up to the end of each row: 16 for a value, and those of its text."""
    sizes = np.full(batch.num_rows, 16 * batch.num_columns, np.int64)
    columns: list[Any] = batch.columns
    for column in columns:
        if pa.types.is_string(column.type) or pa.types.is_binary(column.type):
            sizes += np.asarray(pc.binary_length(column).fill_null(0))
        elif pa.types.is_nested(column.type):
            sizes += column.nbytes // batch.num_rows  # only Python makes such, in batches that are always the same
    return np.cumsum(sizes)
