"""Values to the lists of their groups, in one pass: each goes where its group's list goes on."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernelmill.kernels._jit import i32_in, i64_out, kernel, u32_in, u64_in, u64_out, void


@kernel(void(u32_in, u64_in, i64_out, u64_out))
def scatter_words(groups: Any, words: Any, next_slot: Any, out: Any) -> None:
    """Put word r where the list of groups[r] goes on.

    Shapes: groups u32[n], words u64[n]; next_slot i64[g], where each group's list goes on in `out`, moved on in place.
    """
    for row in range(groups.size):
        at = np.uint64(row)
        group = np.uint64(groups[at])
        slot = next_slot[group]
        out[np.uint64(slot)] = words[at]
        next_slot[group] = slot + 1


@kernel(void(u32_in, i32_in, u64_in, i64_out, u64_out))
def scatter_runs(groups: Any, offsets: Any, words: Any, next_slot: Any, out: Any) -> None:
    """As `scatter_words`, of the words [offsets[r], offsets[r + 1]) for each row r."""
    for row in range(groups.size):
        at = np.uint64(row)
        group = np.uint64(groups[at])
        slot = next_slot[group]
        for place in range(offsets[at], offsets[np.uint64(row + 1)]):
            out[np.uint64(slot)] = words[np.uint64(place)]
            slot += 1
        next_slot[group] = slot


@kernel(void(u32_in, i32_in, i64_out))
def add_run_lengths(groups: Any, offsets: Any, lengths: Any) -> None:
    """Add the length of each row's run, offsets[r + 1] - offsets[r], to lengths[groups[r]]."""
    for row in range(groups.size):
        at = np.uint64(row)
        lengths[np.uint64(groups[at])] += offsets[np.uint64(row + 1)] - offsets[at]
