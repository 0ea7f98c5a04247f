"""Rows that were placed but not moved: wide values stay in the batch they came in, and are gathered once, when sorted.

A row of 100 bytes that is gathered for its partition and again in order costs two copies, and fresh memory for the
first. Only the columns that are sorted by, and those that others would have to bring together, are moved at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa

from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.exchange import Placing, Rows, RowSource, by_partition, fixed_width, take_columns
from kernelmill.kernels import gathering

_APART_BYTES_MIN = 32  # of a row: less is not worth its number, which takes 4
_SPARE = 2  # a slice of a buffer that is longer than so many times itself would keep the rest of it in memory


def stays(column: pa.Array[Any]) -> bool:
    """Whether values can be gathered by address: they are bytes of a fixed width or decimals, none null."""
    return fixed_width(column.type) >= gathering.PLACED_BYTES_MIN and not column.null_count


class PickedRows(NamedTuple):
    """Some rows of a batch: `placed` holds those columns that were gathered, `apart` the others by their position.

    rows are the numbers of these rows in the columns of `apart`. Read-only; slices share all memory.
    """

    schema: pa.Schema
    placed: pa.RecordBatch
    apart: dict[int, pa.Array[Any]]
    rows: Rows

    @property
    def num_rows(self) -> int:
        """How many rows there are."""
        return self.placed.num_rows

    @property
    def nbytes(self) -> int:
        """Bytes of these rows, brought together."""
        return self.placed.nbytes + self.apart_bytes

    @property
    def apart_bytes(self) -> int:
        """Bytes of the values that were not gathered."""
        return self.num_rows * sum(fixed_width(column.type) for column in self.apart.values())

    def slice(self, first: int, count: int) -> PickedRows:
        """`count` of these rows from `first` on, or as many as there are."""
        return self._replace(placed=self.placed.slice(first, count), rows=self.rows[first : first + count])

    def select(self, names: list[str]) -> pa.RecordBatch:
        """Columns that were gathered. Raises KeyError for others."""
        return self.placed.select(names)

    def gathered(self) -> pa.RecordBatch:
        """The rows as a batch."""
        moved = iter(self.placed.columns)
        columns = [
            RowSource(self.apart[number]).take(self.rows) if number in self.apart else next(moved)
            for number in range(len(self.schema))
        ]
        return pa.RecordBatch.from_arrays(columns, schema=self.schema)


def pick_rows(batch: pa.RecordBatch, keys: tuple[str, ...], rows: Rows) -> pa.RecordBatch | PickedRows:
    """These rows of a batch, in this order; wide columns that are no keys are left where they are."""
    apart = {
        number: column
        for number, (name, column) in enumerate(zip(batch.schema.names, batch.columns, strict=True))
        if name not in keys and stays(column) and _owns_memory(column)
    }
    if sum(fixed_width(column.type) for column in apart.values()) < _APART_BYTES_MIN:
        return pa.RecordBatch.from_arrays(take_columns(batch.columns, rows), schema=batch.schema)
    moved = [number for number in range(batch.num_columns) if number not in apart]
    columns = take_columns([batch.column(number) for number in moved], rows)
    placed = pa.RecordBatch.from_arrays(columns, schema=pa.schema([batch.schema.field(number) for number in moved]))
    return PickedRows(batch.schema, placed, apart, rows)


def _owns_memory(column: pa.Array[Any]) -> bool:
    data = column.buffers()[-1]
    return data is not None and data.size <= _SPARE * column.nbytes


def to_ranges(
    batches: Iterator[pa.RecordBatch], keys: tuple[str, ...], partitions: int, context: TaskContext, placing: Placing
) -> Iterator[tuple[int, pa.RecordBatch | PickedRows]]:
    """The rows of each batch by partition, as `placing` tells, each share with its partition's number."""
    for batch in batches:
        context.check_cancelled()
        if not batch.num_rows:
            continue
        order, bounds = by_partition(placing(batch, partitions), partitions)
        picked = pick_rows(batch, keys, order)
        for part in range(partitions):
            if bounds[part + 1] > bounds[part]:
                yield part, picked.slice(bounds[part], bounds[part + 1] - bounds[part])
