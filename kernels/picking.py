"""Pick one row a group: the first, the last, or the one with the least word. Its values are taken afterwards.

picks[group] says which row a group has: 0 none, n + 1 the row n of those that are held, -(r + 1) row r of the rows at
hand. So a group whose row is replaced again and again in one batch is taken from once.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernelmill.kernels._jit import i32_in, i64, i64_out, kernel, u8_in, u32_out, u64_in, u64_out, void


@kernel(void(i32_in, u8_in, i64_out))
def pick_first(groups: Any, validity: Any, picks: Any) -> None:
    """Pick the first valid row of each group that has none. Shapes: groups i32[n]; validity u8[n] or empty."""
    masked = validity.size != 0
    for row in range(groups.size):
        group = np.uint64(groups[row])
        if picks[group] == 0 and not (masked and validity[row] == 0):
            picks[group] = -(row + 1)


@kernel(void(i32_in, u8_in, i64_out))
def pick_last(groups: Any, validity: Any, picks: Any) -> None:
    """Pick the last valid row of each group."""
    masked = validity.size != 0
    for row in range(groups.size):
        if not (masked and validity[row] == 0):
            picks[np.uint64(groups[row])] = -(row + 1)


@kernel(i64(i32_in, i64, u32_out))
def first_rows(groups: Any, used: Any, rows: Any) -> Any:
    """List the first row of each group from number `used` on, numbered as they come; returns how many they are.

    Shapes: groups i32[n]; rows u32[n], filled as far as needed.
    """
    count = 0
    for row in range(groups.size):
        if groups[row] == used + count:
            rows[count] = np.uint32(row)
            count += 1
    return count


@kernel(void(i32_in, u64_in, u8_in, u64_out, i64_out))
def pick_least(groups: Any, words: Any, validity: Any, least: Any, picks: Any) -> None:
    """Pick the first valid row with the smallest word of each group, which is kept in least[group]."""
    masked = validity.size != 0
    for row in range(groups.size):
        if masked and validity[row] == 0:
            continue
        group = np.uint64(groups[row])
        if picks[group] == 0 or words[row] < least[group]:
            least[group] = words[row]
            picks[group] = -(row + 1)


@kernel(i64(i32_in, i64, i64_out, u32_out))
def settle_picks(groups: Any, held: Any, picks: Any, rows: Any) -> Any:
    """List the picked rows of those at hand, and number them from `held` on in picks; returns how many they are.

    Shapes: groups i32[n]; rows u32[n], filled as far as needed, ascending.
    """
    count = 0
    for row in range(groups.size):
        group = np.uint64(groups[row])
        if picks[group] == -(row + 1):
            rows[count] = np.uint32(row)
            count += 1
            picks[group] = held + count
    return count
