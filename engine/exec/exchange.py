"""The map side of a shuffle: rows to partitions by the partition hash, stable within each (I1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.batch import (
    Bytes,
    Words,
    array_of_strings,
    buffer_of,
    fixed_view,
    is_string_like,
    key_words,
    new_array,
    plain,
    strings_view,
    validity_buffer,
    validity_bytes,
    view_of,
)
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.fixedbytes import ordered_bytes, wide_words
from kernelmill.kernels import gathering, hashing, listing, partitioning

Rows = NDArray[np.uint32]


def hash_rows(columns: list[pa.Array[Any]]) -> Words:
    """The partition hash of each row; its bytes are a contract, see kernels/hashing."""
    hashes = hashing.first_seeds(len(columns[0]))
    for column in columns:
        add_to_hashes(column, hashes)
    return hashes


def add_to_hashes(column: pa.Array[Any], hashes: Words) -> None:
    """Hash one more column of the rows into `hashes`, which hold the seed of each row."""
    values = plain(column)
    if is_string_like(values.type):
        hashing.hash_strings(*strings_view(values), validity_bytes(values), hashes)
    elif pa.types.is_decimal128(values.type):
        words, valid = wide_words(values), validity_bytes(values)
        for word in range(2):
            hashing.hash_words(np.ascontiguousarray(words[word::2]), valid, hashes)
    elif pa.types.is_fixed_size_binary(values.type):
        hashing.hash_strings(*strings_view(ordered_bytes(values)), validity_bytes(values), hashes)
    elif pa.types.is_null(values.type):
        hashing.hash_words(np.zeros(len(values), np.uint64), np.zeros(len(values), np.uint8), hashes)
    else:
        hashing.hash_words(key_words(values), validity_bytes(values), hashes)


def partition_rows(hashes: Words, partitions: int) -> tuple[Rows, NDArray[np.int64]]:
    """Row numbers in order of partition, stable, and where each partition begins (partitions + 1 entries)."""
    part_of_row = np.empty(hashes.size, np.uint32)
    rows_of_part = np.zeros(partitions, np.int64)
    partitioning.partition_of_hashes(hashes, partitions, part_of_row, rows_of_part)
    return in_order(part_of_row, rows_of_part)


def by_partition(part_of_row: Rows, partitions: int) -> tuple[Rows, NDArray[np.int64]]:
    """As `partition_rows`, from the partition of each row."""
    return in_order(part_of_row, np.bincount(part_of_row, minlength=partitions).astype(np.int64))


def in_order(
    part_of_row: Rows, rows_of_part: NDArray[np.int64], order: Rows | None = None
) -> tuple[Rows, NDArray[np.int64]]:
    """As `partition_rows`, from the partition of each row and the rows of each partition; fills `order` if given."""
    bounds = np.zeros(rows_of_part.size + 1, np.int64)
    np.cumsum(rows_of_part, out=bounds[1:])
    if order is None:
        order = np.empty(part_of_row.size, np.uint32)
    partitioning.order_by_partition(part_of_row, bounds[:-1].copy(), order)
    return order, bounds


class Placed(NamedTuple):
    """A batch whose rows are in order of partition already; partition p has rows [bounds[p], bounds[p + 1])."""

    batch: pa.RecordBatch
    bounds: NDArray[np.int64]


Placing = Callable[[pa.RecordBatch, int], Rows]
"""Tells the partition, below the number given, of each row of a batch."""


def to_partitions(
    batches: Iterator[pa.RecordBatch | Placed],
    keys: tuple[str, ...],
    partitions: int,
    context: TaskContext,
    placing: Placing | None = None,
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows of each batch by partition, as they come, each share with its partition's number.

    Placed by the hash of `keys`, or as `placing` tells; no keys: partition 0.
    """
    for batch in batches:
        context.check_cancelled()
        if isinstance(batch, Placed):
            placed, bounds = batch
        elif not batch.num_rows:
            continue
        elif (partitions == 1 and placing is None) or not keys:
            yield 0, batch
            continue
        else:
            if placing is None:
                order, bounds = partition_rows(hash_rows([batch.column(key) for key in keys]), partitions)
            else:
                order, bounds = by_partition(placing(batch, partitions), partitions)
            placed = take_rows(batch, order)  # one gather for all: a partition is a slice of it
        for part in range(partitions):
            if bounds[part + 1] > bounds[part]:
                yield part, placed.slice(bounds[part], bounds[part + 1] - bounds[part])


def in_shares(
    placed: Iterator[tuple[int, pa.RecordBatch]], targets: Callable[[int], Iterable[int]]
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Rows that were placed, for each partition that `targets` gives in place of theirs."""
    for partition, batch in placed:
        for target in targets(partition):
            yield target, batch


def to_partition(
    batches: Iterator[pa.RecordBatch], partition: int, context: TaskContext
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """All rows, as they come, for one partition."""
    for batch in batches:
        context.check_cancelled()
        if batch.num_rows:
            yield partition, batch


def take_columns(columns: list[pa.Array[Any]], rows: Rows) -> list[pa.Array[Any]]:
    """These rows of each column, in this order."""
    return [RowSource(column).take(rows) for column in columns]


def take_rows(batch: pa.RecordBatch, rows: Rows) -> pa.RecordBatch:
    """These rows of a batch, in this order."""
    columns = take_columns(batch.columns, rows)
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


class RowSource:
    """A column ready to be gathered from: its buffers as numpy, or the Arrow array if kernels have no form for it."""

    def __init__(self, column: Any) -> None:
        self._column, dtype = column, column.type
        self._strings: tuple[Bytes, NDArray[np.int32]] | None = None
        self._fixed: NDArray[Any] | None = None
        self._lists: tuple[NDArray[np.int32], Words] | None = None
        self._wide: Bytes | None = None
        self._gather: Any = None
        self._codes = RowSource(column.indices) if isinstance(column, pa.DictionaryArray) else None
        width = getattr(dtype, "bit_width", 0) if pa.types.is_primitive(dtype) else 0
        if pa.types.is_string(dtype) or pa.types.is_binary(dtype):
            self._strings = strings_view(column)
        elif width in _GATHER:
            self._gather, numpy_type = _GATHER[width]
            self._fixed = fixed_view(column, numpy_type)
        elif width := fixed_width(dtype):
            data = column.buffers()[-1]
            self._wide = view_of(data, np.uint8, column.offset * width, len(column) * width) if len(column) else None
        elif pa.types.is_list(dtype) and _holds_words(column):
            self._lists = np.asarray(column.offsets), fixed_view(column.values, np.uint64)
        self._validity = validity_bytes(column)

    def take(self, rows: Rows) -> pa.Array[Any]:
        """The values of these rows."""
        if self._codes is not None:
            codes: Any = self._codes.take(rows)
            return pa.DictionaryArray.from_arrays(codes, self._column.dictionary, safe=False)
        if self._strings is None and self._fixed is None and self._lists is None and self._wide is None:
            return self._taken_by_arrow(rows)
        validity, nulls = self._validity, 0
        if validity.size:
            kept = np.empty(rows.size, np.uint8)
            gathering.gather_u8(validity, rows, kept)
            validity, nulls = kept, int(rows.size - np.count_nonzero(kept))
        if self._strings is not None:
            data, offsets = self._strings
            out_offsets = np.empty(rows.size + 1, np.int32)
            total = gathering.gather_string_lengths(offsets, rows, 0, rows.size, out_offsets)
            out = new_array(total + gathering.SLACK_BYTES, np.uint8)
            gathering.gather_strings(data, offsets, rows, 0, rows.size, out_offsets, out)
            return array_of_strings(out, out_offsets, validity, nulls, self._column.type)
        bits = validity_buffer(validity, nulls)
        if self._lists is not None:
            return self._runs(rows, [bits], nulls)
        if self._wide is not None:
            width = fixed_width(self._column.type)
            wide = new_array(rows.size * width, np.uint8)
            gathering.gather_fixed(self._wide, width, rows, wide)
            return pa.Array.from_buffers(self._column.type, rows.size, [bits, buffer_of(wide)], nulls)
        assert self._fixed is not None
        taken = new_array(rows.size, self._fixed.dtype.type)
        self._gather(self._fixed, rows, taken)
        return pa.Array.from_buffers(self._column.type, rows.size, [bits, buffer_of(taken)], nulls)

    def _taken_by_arrow(self, rows: Rows) -> pa.Array[Any]:
        taken: pa.Array[Any] = self._column.take(pa.array(rows, pa.uint32()))
        return taken

    def _runs(self, rows: Rows, validity: list[pa.Buffer | None], nulls: int) -> pa.Array[Any]:
        """The lists of these rows, their elements being words."""
        assert self._lists is not None
        offsets, words = self._lists
        out_offsets = np.empty(rows.size + 1, np.int32)
        total = listing.gather_run_lengths(offsets, rows, out_offsets)
        if total > _ELEMENTS_MAX:
            return self._taken_by_arrow(rows)  # which says what is wrong
        out = np.empty(total, np.uint64)
        listing.gather_runs(offsets, words, rows, out)
        dtype = self._column.type
        values: pa.Array[Any] = pa.Array.from_buffers(dtype.value_type, total, [None, buffer_of(out)], 0)
        buffers = [*validity, buffer_of(out_offsets)]
        return pa.Array.from_buffers(dtype, rows.size, buffers, nulls, children=[values])


def fixed_width(dtype: Any) -> int:
    """Bytes of each value of a type of bytes of a fixed width or of decimals; 0 for others."""
    if pa.types.is_fixed_size_binary(dtype):
        return int(dtype.byte_width)
    return int(dtype.bit_width) // 8 if pa.types.is_decimal(dtype) else 0


def _holds_words(lists: Any) -> bool:
    """True for lists whose elements have 64 bits and no nulls."""
    dtype = lists.type.value_type
    return pa.types.is_primitive(dtype) and dtype.bit_width == 64 and not lists.values.null_count


_ELEMENTS_MAX = (1 << 31) - 1
_GATHER: dict[int, tuple[Any, Any]] = {
    8: (gathering.gather_u8, np.uint8),
    16: (gathering.gather_u16, np.uint16),
    32: (gathering.gather_u32, np.uint32),
    64: (gathering.gather_u64, np.uint64),
}
