"""Checksums of rows that do not depend on their order: what a map task makes again is compared by them.

A row's checksum (`kernels/rowchecks`) is of the bytes of the partition hash's contract (`kernels/hashing`), column by
column, from a seed of its own; rows of a block are summed modulo 2^64 and xored. Types that cannot be keys have one
too: a list by its length and the sum of its items' checksums, each begun with its position; a struct by its fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.batch import (
    Words,
    is_string_like,
    is_word_like,
    key_words,
    plain,
    strings_view,
    validity_bytes,
    view_of,
)
from kernelmill.kernels import rowchecks

ROW_SEED = np.uint64(0x726F77636865636B)
"""Where a row's checksum begins: the bytes "rowcheck" read as a big-endian number."""


class RowSums(NamedTuple):
    """Rows, and the sum modulo 2^64 and xor of their checksums."""

    rows: int = 0
    sum: int = 0
    xor: int = 0

    def plus(self, other: RowSums) -> RowSums:
        """The sums of the rows of both."""
        return RowSums(self.rows + other.rows, (self.sum + other.sum) % (1 << 64), self.xor ^ other.xor)


def row_sums(batch: pa.RecordBatch) -> RowSums:
    """The checksums of a batch's rows: equal for equal rows in any order."""
    checks = np.full(batch.num_rows, ROW_SEED, np.uint64)
    for column in batch.columns:
        _mix(column, checks)
    totals = np.zeros(2, np.uint64)
    rowchecks.add_rows(checks, totals)
    return RowSums(batch.num_rows, int(totals[0]), int(totals[1]))


def kernels_of_rows(schema: pa.Schema) -> list[Callable[..., Any]]:
    """The kernels that `row_sums` calls for such rows."""
    return list(dict.fromkeys([*chain.from_iterable(map(_kernels_of, schema.types)), rowchecks.add_rows]))


def _kernels_of(dtype: Any) -> Iterator[Callable[..., Any]]:
    t = pa.types
    if t.is_dictionary(dtype):
        yield from _kernels_of(dtype.value_type)
    elif t.is_struct(dtype):
        yield rowchecks.mix_words
        yield from chain.from_iterable(_kernels_of(field.type) for field in dtype)
    elif _is_list(dtype) and is_word_like(dtype.value_type):
        yield rowchecks.mix_word_lists
    elif _is_list(dtype):
        yield from (rowchecks.begin_items, *_kernels_of(dtype.value_type), rowchecks.mix_lists)
    elif t.is_map(dtype):
        yield from _kernels_of(pa.list_(pa.struct([("key", dtype.key_type), ("value", dtype.item_type)])))
    elif isinstance(dtype, pa.BaseExtensionType):
        yield from _kernels_of(dtype.storage_type)
    else:
        is_word = is_word_like(dtype) or t.is_null(dtype) or t.is_decimal128(dtype) or t.is_decimal256(dtype)
        yield rowchecks.mix_words if is_word else rowchecks.mix_strings


def _is_list(dtype: pa.DataType) -> bool:
    t = pa.types
    return bool(t.is_list(dtype) or t.is_large_list(dtype) or t.is_fixed_size_list(dtype))


def _mix(column: pa.Array[Any], checks: Words) -> None:
    """Take one column into the rows' checksums."""
    values: Any = plain(column)
    dtype, t = values.type, pa.types
    if is_string_like(dtype):
        rowchecks.mix_strings(*strings_view(values), validity_bytes(values), checks)
    elif is_word_like(dtype):
        rowchecks.mix_words(key_words(values), validity_bytes(values), checks)
    elif t.is_null(dtype):
        rowchecks.mix_words(np.zeros(len(values), np.uint64), np.zeros(len(values), np.uint8), checks)
    elif t.is_decimal128(dtype) or t.is_decimal256(dtype):
        words = dtype.bit_width // 64
        view = view_of(values.buffers()[1], np.uint64, values.offset * words, len(values) * words)
        for word in range(words):
            rowchecks.mix_words(np.ascontiguousarray(view[word::words]), validity_bytes(values), checks)
    elif t.is_struct(dtype):
        rowchecks.mix_words(np.zeros(len(values), np.uint64), validity_bytes(values), checks)
        for field in values.flatten():
            _mix(field, checks)
    elif _is_list(dtype):
        _mix_lists(values, checks)
    elif t.is_map(dtype):
        entry = pa.struct([pa.field("key", dtype.key_type), pa.field("value", dtype.item_type)])
        _mix(values.cast(pa.list_(entry)), checks)
    elif isinstance(values, pa.ExtensionArray):
        _mix(values.storage, checks)
    else:
        _mix(values.cast(pa.binary()) if t.is_fixed_size_binary(dtype) else _texts(values), checks)


def _mix_lists(values: Any, checks: Words) -> None:
    if not len(values):
        return
    places = _places(values)
    begin, count = int(places[0]), int(places[-1] - places[0])
    items = plain(values.values.slice(begin, count))
    # those of 64 bits may lie beyond 2^31 while the items of one batch do not
    offsets, first = (places, begin) if places.dtype == np.int32 else ((places - begin).astype(np.int32), 0)
    if is_word_like(items.type):
        words, valid = key_words(items), validity_bytes(items)
        rowchecks.mix_word_lists(offsets, first, words, valid, validity_bytes(values), ROW_SEED, checks)
        return
    item_checks = np.empty(count, np.uint64)
    rowchecks.begin_items(offsets, first, ROW_SEED, item_checks)
    _mix(items, item_checks)
    rowchecks.mix_lists(offsets, first, item_checks, validity_bytes(values), checks)


def _places(values: Any) -> NDArray[np.int32 | np.int64]:
    """Where the lists of an array begin and end in its values."""
    if pa.types.is_fixed_size_list(values.type):
        size: int = values.type.list_size
        return np.arange(values.offset, values.offset + len(values) + 1, dtype=np.int64) * size
    width = np.int64 if pa.types.is_large_list(values.type) else np.int32
    return view_of(values.buffers()[1], width, values.offset, len(values) + 1)


def _texts(values: Any) -> pa.Array[Any]:
    """Types that are rare and have no fixed bytes of their own here: as Python writes their values."""
    return pa.array([None if value is None else repr(value) for value in values.to_pylist()], pa.string())
