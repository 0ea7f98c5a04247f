"""Reading a key table: its groups as columns, in first-seen order or in an order given, and their partition hashes."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernelmill.kernels._jit import (
    helper,
    i32_in,
    i32_out,
    i64,
    i64_out,
    kernel,
    u8_in,
    u8_out,
    u32_in,
    u32_out,
    u64_2d_in,
    u64_out,
    void,
)
from kernelmill.kernels.hashing import PARTITION_SEED, xxh64_bytes, xxh64_null, xxh64_words
from kernelmill.kernels.intrinsics import multiply_high, prefetch, store_u64
from kernelmill.kernels.keytable import LOW, NULL_LENGTH, ROW_AHEAD, SHIFT, append

_SIXTEEN = np.uint64(16)
_KEY_AHEAD = 12
KEY_SLACK_BYTES = 16
"""A short key is written as two words, whatever its length."""


@kernel(i64(u64_2d_in, i64, i64, u64_out, u8_out))
def read_words(rows: Any, first: Any, last: Any, values: Any, validity: Any) -> Any:
    """Fixed-width keys of groups [first, last) and their validity (1 valid, 0 null); returns how many are null."""
    nulls = 0
    for i in range(first, last):
        at = np.uint64(i - first)
        values[at] = rows[np.uint64(i), 0]
        is_null = (rows[np.uint64(i), 3] & LOW) == NULL_LENGTH
        validity[at] = np.uint8(0) if is_null else np.uint8(1)
        nulls += 1 if is_null else 0
    return nulls


@helper
def _add_offset(rows: Any, group: Any, at: Any, offsets: Any, validity: Any) -> Any:
    """Set offsets[at + 1] and validity[at] for a group that comes after offsets[at]; returns 1 for null."""
    length = rows[group, 3] & LOW
    is_null = length == NULL_LENGTH
    validity[at] = np.uint8(0) if is_null else np.uint8(1)
    offsets[at + np.uint64(1)] = offsets[at] + (np.int32(0) if is_null else np.int32(length))
    return 1 if is_null else 0


@helper
def _write_key(rows: Any, arena: Any, group: Any, at: Any, length: Any, data: Any) -> None:
    """Write a group's string to data[at:]; up to KEY_SLACK_BYTES more may be overwritten with anything."""
    if length <= 16:
        store_u64(data, at, rows[group, 0])
        store_u64(data, at + 8, rows[group, 1])
    else:
        append(data, at, arena, np.int64(rows[group, 0]), length)


@kernel(i64(u64_2d_in, i64, i64, i32_out, u8_out))
def read_offsets(rows: Any, first: Any, last: Any, offsets: Any, validity: Any) -> Any:
    """Offsets (from 0) of the strings of groups [first, last) and their validity; returns how many are null.

    The caller has made sure that they are below 2 GiB together.
    """
    nulls = 0
    offsets[0] = 0
    for i in range(first, last):
        nulls += _add_offset(rows, np.uint64(i), np.uint64(i - first), offsets, validity)
    return nulls


@kernel(void(u64_2d_in, u8_in, i64, i64, i32_in, u8_out))
def read_strings(rows: Any, arena: Any, first: Any, last: Any, offsets: Any, data: Any) -> None:
    """The bytes of the strings of groups [first, last) at their `offsets`; `data` ends in KEY_SLACK_BYTES more."""
    for i in range(first, last):
        at = np.int64(offsets[np.uint64(i - first)])
        _write_key(rows, arena, np.uint64(i), at, np.int64(offsets[np.uint64(i - first + 1)]) - at, data)


@kernel(i64(u64_2d_in, u8_in, i64, u32_in, i32_out, u8_out, u8_out, u32_out))
def place_groups(
    rows: Any, arena: Any, first: Any, order: Any, offsets: Any, validity: Any, data: Any, counts: Any
) -> Any:
    """Strings, offsets (from 0), validity and fused counts of the groups first + order; returns how many are null.

    Shapes: order u32[n]; offsets i32[n + 1]; validity u8[n], 1 valid; counts u32[n], or u32[2 n] for counts of 64 bits,
    lower half first; data u8 with KEY_SLACK_BYTES more than the strings have, below 2 GiB. One pass, for each step
    fetches a record from anywhere.
    """
    last = order.size - 1
    is_wide = counts.size > order.size
    nulls = 0
    offsets[0] = 0
    for i in range(order.size):
        prefetch(rows, np.int64(first + order[min(i + ROW_AHEAD, last)]))
        soon = np.uint64(first + order[min(i + _KEY_AHEAD, last)])
        prefetch(arena, np.int64(rows[soon, 0]) if (rows[soon, 3] & LOW) > _SIXTEEN else 0)
        at, group = np.uint64(i), np.uint64(first + order[i])
        nulls += _add_offset(rows, group, at, offsets, validity)
        start = np.int64(offsets[at])
        _write_key(rows, arena, group, start, np.int64(offsets[np.uint64(i + 1)]) - start, data)
        count = np.uint32(rows[group, 3] >> SHIFT)
        if is_wide:
            counts[np.uint64(2) * at], counts[np.uint64(2) * at + np.uint64(1)] = count, np.uint32(0)
        else:
            counts[at] = count
    return nulls


@kernel(void(u64_2d_in, i64, u32_out))
def read_counts(rows: Any, first: Any, counts: Any) -> None:
    """The counts that fused counting left in the records of groups from `first` on; they fit 32 bits."""
    for i in range(counts.size):
        counts[np.uint64(i)] = np.uint32(rows[np.uint64(first + i), 3] >> SHIFT)


@kernel(i64(u64_2d_in, u8_in, i64, i64, u32_out, i64_out))
def partition_groups(
    rows: Any, arena: Any, first: Any, partitions: Any, part_of_group: Any, groups_of_part: Any
) -> Any:  # fmt: skip
    """The partition (`hashing`, `partitioning`) of the strings of groups from `first` on; returns their bytes.

    Shapes: part_of_group u32[n] and groups_of_part i64[partitions], both filled.
    """
    factor = np.uint64(partitions)
    bytes_ = np.int64(0)
    for i in range(part_of_group.size):
        group = np.uint64(first + i)
        prefetch(rows, first + i + ROW_AHEAD)
        length = rows[group, 3] & LOW
        if length == NULL_LENGTH:
            hashed = xxh64_null(PARTITION_SEED)
        elif length > _SIXTEEN:
            hashed = xxh64_bytes(arena, np.int64(rows[group, 0]), np.int64(length), PARTITION_SEED)
            bytes_ += np.int64(length)
        else:
            hashed = xxh64_words(rows[group, 0], rows[group, 1], length, PARTITION_SEED)
            bytes_ += np.int64(length)
        part_of_group[np.uint64(i)] = np.uint32(multiply_high(hashed, factor))
    groups_of_part[:] = 0
    for i in range(part_of_group.size):
        groups_of_part[np.uint64(part_of_group[np.uint64(i)])] += 1
    return bytes_
