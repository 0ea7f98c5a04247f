"""Values to the lists of their groups: each goes where its group's list goes on.

Groups are numbered from 0; what is made at once are the lists of groups [first, first + n), which may lie in any order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernelmill.kernels._jit import (
    i32_in,
    i32_out,
    i64,
    i64_in,
    i64_out,
    kernel,
    u32_in,
    u32_out,
    u64_in,
    u64_out,
    void,
)

_ELEMENTS_MAX = (1 << 31) - 1


@kernel(void(i32_in, u64_in, u32_out, u64_out, i64_out))
def hold_words(groups: Any, words: Any, held_groups: Any, held_words: Any, lengths: Any) -> None:
    """Copy words and their groups to where they wait, and count the words of each group.

    Shapes: groups i32[n], words u64[n], held_groups u32[n], held_words u64[n]; lengths i64[g], added to.
    """
    for row in range(groups.size):
        at = np.uint64(row)
        group = np.uint64(groups[at])
        held_groups[at] = np.uint32(group)
        held_words[at] = words[at]
        lengths[group] += 1


@kernel(i64(i64_in, i64, u32_in, i32_out, i64_out))
def place_lists(lengths: Any, first: Any, order: Any, offsets: Any, next_slot: Any) -> Any:
    """Offsets of the lists of groups first + order[i], and where each group's begins; returns their elements.

    Shapes: lengths i64[g]; order u32[n], each number below n once; offsets i32[n + 1]; next_slot i64[n], of group
    first + i at i. If the result is over 2^31 - 1 the offsets have wrapped: make fewer lists.
    """
    total = np.int64(0)
    offsets[0] = 0
    for i in range(order.size):
        at = np.uint64(i)
        group = np.uint64(order[at])
        next_slot[group] = total
        total += lengths[np.uint64(first) + group]
        offsets[at + np.uint64(1)] = np.int32(total & _ELEMENTS_MAX)
    return total


@kernel(void(u32_in, u64_in, i64, i64_out, u64_out))
def scatter_words(groups: Any, words: Any, first: Any, next_slot: Any, out: Any) -> None:
    """Put word r where the list of groups[r] goes on, if that is one of [first, first + n).

    Shapes: groups u32[m], words u64[m]; next_slot i64[n], where each list goes on in `out`, moved on in place.
    """
    for row in range(groups.size):
        at = np.uint64(row)
        group = np.int64(groups[at]) - first
        if 0 <= group < next_slot.size:
            slot = next_slot[np.uint64(group)]
            out[np.uint64(slot)] = words[at]
            next_slot[np.uint64(group)] = slot + 1


@kernel(void(u32_in, i32_in, u64_in, i64, i64_out, u64_out))
def scatter_runs(groups: Any, offsets: Any, words: Any, first: Any, next_slot: Any, out: Any) -> None:
    """As `scatter_words`, of the words [offsets[r], offsets[r + 1]) for each row r."""
    for row in range(groups.size):
        at = np.uint64(row)
        group = np.int64(groups[at]) - first
        if 0 <= group < next_slot.size:
            slot = next_slot[np.uint64(group)]
            for place in range(offsets[at], offsets[at + np.uint64(1)]):
                out[np.uint64(slot)] = words[np.uint64(place)]
                slot += 1
            next_slot[np.uint64(group)] = slot


@kernel(void(u32_in, i32_in, i64_out))
def add_run_lengths(groups: Any, offsets: Any, lengths: Any) -> None:
    """Add the length of each row's run, offsets[r + 1] - offsets[r], to lengths[groups[r]]."""
    for row in range(groups.size):
        at = np.uint64(row)
        lengths[np.uint64(groups[at])] += offsets[at + np.uint64(1)] - offsets[at]


@kernel(i64(i32_in, u32_in, i32_out))
def gather_run_lengths(offsets: Any, rows: Any, out_offsets: Any) -> Any:
    """Fill the offsets, from 0, of the runs of these rows; returns their elements, which may be more than offsets hold.

    Shapes: offsets i32[m + 1]; rows u32[n]; out_offsets i32[n + 1].
    """
    total = np.int64(0)
    out_offsets[0] = 0
    for i in range(rows.size):
        row = np.uint64(rows[np.uint64(i)])
        total += np.int64(offsets[row + np.uint64(1)]) - np.int64(offsets[row])
        out_offsets[np.uint64(i + 1)] = np.int32(total & _ELEMENTS_MAX)
    return total


@kernel(void(i32_in, u64_in, u32_in, u64_out))
def gather_runs(offsets: Any, words: Any, rows: Any, out: Any) -> None:
    """Copy the words [offsets[r], offsets[r + 1]) of these rows one behind the other to `out`."""
    slot = np.uint64(0)
    for i in range(rows.size):
        row = np.uint64(rows[np.uint64(i)])
        for place in range(offsets[row], offsets[row + np.uint64(1)]):
            out[slot] = words[np.uint64(place)]
            slot += np.uint64(1)
