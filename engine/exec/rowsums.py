"""Checksums of rows that do not depend on their order: what a map task makes again is compared by them.

A row's checksum is XXH64 over the bytes of the partition hash's contract (`kernels/hashing`), column by column, under a
seed of its own; rows of a block are summed modulo 2^64 and xored. Types that cannot be keys are hashed too: a list by
its length and the sum of its items' hashes, each seeded with its position; a struct by its fields.
"""

from __future__ import annotations

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
from kernelmill.engine.lazymodules import pc
from kernelmill.kernels import hashing

ROW_SEED = np.uint64(0x726F77636865636B)
"""The seed of a row's first column: the bytes "rowcheck" read as a big-endian number."""
_NO_NULLS = np.empty(0, np.uint8)


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
    hashes = np.full(batch.num_rows, ROW_SEED, np.uint64)
    for column in batch.columns:
        _hash(column, hashes)
    return RowSums(batch.num_rows, int(hashes.sum(dtype=np.uint64)), int(np.bitwise_xor.reduce(hashes)))


def _hash(column: pa.Array[Any], hashes: Words) -> None:
    """Hash one column into `hashes`, which hold each row's seed."""
    values: Any = plain(column)
    dtype, t = values.type, pa.types
    if is_string_like(dtype):
        hashing.hash_strings(*strings_view(values), validity_bytes(values), hashes)
    elif is_word_like(dtype):
        hashing.hash_words(key_words(values), validity_bytes(values), hashes)
    elif t.is_null(dtype):
        hashing.hash_words(np.zeros(len(values), np.uint64), np.zeros(len(values), np.uint8), hashes)
    elif t.is_decimal128(dtype) or t.is_decimal256(dtype):
        words = dtype.bit_width // 64
        view = view_of(values.buffers()[1], np.uint64, values.offset * words, len(values) * words)
        for word in range(words):
            hashing.hash_words(np.ascontiguousarray(view[word::words]), validity_bytes(values), hashes)
    elif t.is_struct(dtype):
        hashing.hash_words(np.zeros(len(values), np.uint64), validity_bytes(values), hashes)
        for field in values.flatten():
            _hash(field, hashes)
    elif t.is_list(dtype) or t.is_large_list(dtype) or t.is_fixed_size_list(dtype):
        _hash_lists(values, hashes)
    elif t.is_map(dtype):
        entry = pa.struct([pa.field("key", dtype.key_type), pa.field("value", dtype.item_type)])
        _hash(values.cast(pa.list_(entry)), hashes)
    elif isinstance(values, pa.ExtensionArray):
        _hash(values.storage, hashes)
    else:
        _hash(values.cast(pa.binary()) if t.is_fixed_size_binary(dtype) else _texts(values), hashes)


def _hash_lists(values: Any, hashes: Words) -> None:
    lengths: NDArray[np.int64] = pc.list_value_length(values).fill_null(0).cast(pa.int64()).to_numpy()
    if pa.types.is_fixed_size_list(values.type):  # flatten leaves out the items of null lists, as here
        lengths = np.where(values.is_valid().to_numpy(zero_copy_only=False), lengths, 0)
    starts = np.cumsum(lengths) - lengths
    items = values.flatten()
    positions = np.arange(len(items), dtype=np.int64) - np.repeat(starts, lengths)
    seeds = np.full(len(items), ROW_SEED, np.uint64)
    hashing.hash_words(positions.view(np.uint64), _NO_NULLS, seeds)
    _hash(items, seeds)
    sums = np.zeros(len(values), np.uint64)
    filled = lengths > 0
    if filled.any():
        sums[filled] = np.add.reduceat(seeds, starts[filled])
    hashing.hash_words(lengths.view(np.uint64), validity_bytes(values), hashes)
    hashing.hash_words(sums, _NO_NULLS, hashes)


def _texts(values: Any) -> pa.Array[Any]:
    """Types that are rare and have no fixed bytes of their own here: as Python writes their values."""
    return pa.array([None if value is None else repr(value) for value in values.to_pylist()], pa.string())
