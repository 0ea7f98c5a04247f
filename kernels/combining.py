"""Aggregate states: one dense array each, indexed by group number, updated a column at a time.

Rows are taken in order, so a float sum is the same whatever else happens (I1). `validity` has one byte a row, 0 for
null; empty means that nothing is null. Minimum and maximum work on words whose unsigned order is the values' order
(`orderedwords`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernelmill.kernels._jit import (
    f64_in,
    f64_out,
    i32_in,
    i64,
    i64_in,
    i64_out,
    kernel,
    u8_in,
    u8_out,
    u64,
    u64_in,
    u64_out,
    void,
)


@kernel(void(i32_in, u8_in, i64_out))
def count_rows(groups: Any, validity: Any, counts: Any) -> None:
    """Add one to counts[group] for each row that is valid."""
    if validity.size == 0:
        for row in range(groups.size):
            counts[np.uint64(groups[row])] += 1
        return
    for row in range(groups.size):
        counts[np.uint64(groups[row])] += np.int64(validity[row])


@kernel(i64(i32_in, i64_in, u8_in, i64_out))
def add_integers(groups: Any, values: Any, validity: Any, sums: Any) -> Any:
    """Add values[row] to sums[group]; returns the first row whose sum leaves int64, else -1."""
    masked = validity.size != 0
    bad = -1
    for row in range(groups.size):
        if masked and validity[row] == 0:
            continue
        group = np.uint64(groups[row])
        before = sums[group]
        value = values[row]
        after = before + value
        sums[group] = after
        if ((before ^ after) & (value ^ after)) < 0 and bad < 0:
            bad = row
    return bad


@kernel(i64(i32_in, u64_in, u8_in, u64_out))
def add_unsigned(groups: Any, values: Any, validity: Any, sums: Any) -> Any:
    """As `add_integers`, for uint64."""
    masked = validity.size != 0
    bad = -1
    for row in range(groups.size):
        if masked and validity[row] == 0:
            continue
        group = np.uint64(groups[row])
        after = sums[group] + values[row]
        sums[group] = after
        if after < values[row] and bad < 0:
            bad = row
    return bad


@kernel(void(i32_in, f64_in, u8_in, f64_out))
def add_floats(groups: Any, values: Any, validity: Any, sums: Any) -> None:
    """Add values[row] to sums[group] in row order."""
    if validity.size == 0:
        for row in range(groups.size):
            sums[np.uint64(groups[row])] += values[row]
        return
    for row in range(groups.size):
        if validity[row] != 0:
            sums[np.uint64(groups[row])] += values[row]


_SIGN = np.uint64(1 << 63)
_INFINITY = np.uint64(0x7FF << 52)
_ZERO = np.uint64(0)


@kernel(void(i32_in, f64_in, u8_in, f64_out, i64_out))
def add_and_count(groups: Any, values: Any, validity: Any, sums: Any, counts: Any) -> None:
    """The two states of a mean in one pass."""
    masked = validity.size != 0
    for row in range(groups.size):
        if masked and validity[row] == 0:
            continue
        group = np.uint64(groups[row])
        sums[group] += values[row]
        counts[group] += 1


@kernel(void(i32_in, u64_in, u8_in, u64, u64_out, u8_out))
def keep_least(groups: Any, words: Any, validity: Any, flip: Any, least: Any, seen: Any) -> None:
    """Keep the smallest word ^ flip of each group; seen[group] becomes 1 with its first valid row.

    flip: the top bit makes words in order of int64, all ones keep the largest, both together do both.
    """
    masked = validity.size != 0
    for row in range(groups.size):
        if masked and validity[row] == 0:
            continue
        word = words[row] ^ flip
        group = np.uint64(groups[row])
        if seen[group] == 0 or word < least[group]:
            least[group] = word
            seen[group] = 1


@kernel(void(i32_in, u64_in, u8_in, u64, u64_out, u8_out))
def keep_least_float(groups: Any, bits: Any, validity: Any, flip: Any, least: Any, seen: Any) -> None:
    """As `keep_least` on the bits of floats: their words in order are made on the way, and xor'ed with `flip`.

    NaN is passed over and -0.0 is 0.0. flip: 0 keeps the smallest value, all ones the largest.
    """
    masked = validity.size != 0
    for row in range(groups.size):
        value = bits[row]
        if (value & ~_SIGN) > _INFINITY or (masked and validity[row] == 0):
            continue
        if value == _SIGN:
            value = _ZERO
        word = (~value if value & _SIGN else value ^ _SIGN) ^ flip
        group = np.uint64(groups[row])
        if seen[group] == 0 or word < least[group]:
            least[group] = word
            seen[group] = 1
