"""The least or greatest string of each group, kept in an arena; and decimals of 128 bits added up."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernelmill.kernels._jit import (
    helper,
    i32_in,
    i32_out,
    i64,
    i64_in,
    i64_out,
    kernel,
    u8_in,
    u8_out,
    u64_in,
    u64_out,
)

ARENA_USED = 0
_SIGN = np.uint64(63)
_ZERO, _ONE = np.uint64(0), np.uint64(1)


@helper
def _compare(a: Any, a_start: Any, a_size: Any, b: Any, b_start: Any, b_size: Any) -> Any:
    """Below 0, 0 or above: how a stands to b, by bytes."""
    for at in range(min(a_size, b_size)):
        step = np.int64(a[np.uint64(a_start + at)]) - np.int64(b[np.uint64(b_start + at)])
        if step != 0:
            return step
    return a_size - b_size


@kernel(i64(i32_in, u8_in, i32_in, u8_in, i64, i64, i64_out, i64_out, u8_out, i64_out))
def keep_least_strings(
    groups: Any, data: Any, offsets: Any, validity: Any, first: Any, sign: Any, starts: Any, sizes: Any, arena: Any,
    state: Any,
) -> Any:  # fmt: skip
    """Keep the least string (sign 1) or the greatest (sign -1) of each group, from row `first` on.

    Shapes: groups i32[n]; offsets i32[n + 1]; validity u8[n] or empty; starts i64[g]; sizes i64[g], 1 more than the
    string's bytes, 0 for none. Returns the first row not done: below n, the arena is full.
    """
    masked = validity.size != 0
    for row in range(first, groups.size):
        if masked and validity[row] == 0:
            continue
        group = np.uint64(groups[row])
        start, size = np.int64(offsets[row]), np.int64(offsets[row + 1]) - np.int64(offsets[row])
        held = sizes[group] - 1
        if held >= 0 and sign * _compare(data, start, size, arena, starts[group], held) >= 0:
            continue
        place = starts[group]
        if held < size:
            place = state[ARENA_USED]
            if place + size > arena.size:
                return row
            state[ARENA_USED] = place + size
        for at in range(size):
            arena[np.uint64(place + at)] = data[np.uint64(start + at)]
        starts[group], sizes[group] = place, size + 1
    return groups.size


@kernel(i64(u8_in, i64_in, i64_in, i64, i32_out, u8_out))
def join_strings(arena: Any, starts: Any, sizes: Any, limit: Any, offsets: Any, out: Any) -> Any:
    """Copy the strings of all groups one behind the other; returns their bytes: above `limit`, not all were copied.

    Shapes: starts, sizes i64[g] as `keep_least_strings` has them; offsets i32[g + 1]; out u8[at least limit].
    """
    total = np.int64(0)
    offsets[0] = 0
    for group in range(starts.size):
        size = max(np.int64(0), sizes[group] - 1)
        if total + size <= limit:
            for at in range(size):
                out[np.uint64(total + at)] = arena[np.uint64(starts[group] + at)]
        total += size
        offsets[group + 1] = np.int32(total & 0x7FFFFFFF)
    return total


@kernel(i64(i32_in, u64_in, u8_in, u64_out))
def add_wide_integers(groups: Any, values: Any, validity: Any, sums: Any) -> Any:
    """Add integers of 128 bits to the sums of their groups; returns the first row whose sum leaves them, else -1.

    Shapes: groups i32[n]; values u64[2 n], sums u64[2 g]: the low word, then the high one.
    """
    masked = validity.size != 0
    bad = -1
    for row in range(groups.size):
        if masked and validity[row] == 0:
            continue
        at = np.uint64(groups[row]) << _ONE
        low, high = values[np.uint64(2 * row)], values[np.uint64(2 * row + 1)]
        before = sums[at | _ONE]
        total = sums[at] + low
        carry = _ONE if total < low else _ZERO
        after = before + high + carry
        sums[at], sums[at | _ONE] = total, after
        if (((before ^ after) & (high ^ after)) >> _SIGN) != _ZERO and bad < 0:
            bad = row
    return bad
