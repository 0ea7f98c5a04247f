"""Rows with several keys of few values each: one small number a row stands for all of them.

A row's number is the sum of the codes of its columns, each times its stride, as in an array of as many dimensions. So
a row whose keys came before is found in `direct` by one look, and only the first row of each number goes to the table.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernelmill.kernels._jit import i32_in, i32_out, i64, kernel, u8_in, u32_in, u32_out, u64, u64_in, void

NO_NUMBER = -1
"""The number of a row with a value beyond those that have codes: such rows are looked up one by one."""

NEW = -1
"""What `direct` holds for numbers that no row had yet."""


@kernel(void(i32_in, u8_in, i64, i64, i32_out))
def mix_codes(codes: Any, validity: Any, values: Any, stride: Any, numbers: Any) -> None:
    """Add a dictionary column to the numbers: its codes are those below `values`, null is `values`.

    Shapes: codes i32[n], validity u8[n] or empty, numbers i32[n].
    """
    masked = validity.size != 0
    last = np.uint64(values)
    step = np.int32(stride)
    for row in range(numbers.size):
        at = np.uint64(row)
        code = last if masked and validity[at] == 0 else np.uint64(np.int64(codes[at]))
        if code > last or numbers[at] < 0:
            numbers[at] = NO_NUMBER
        else:
            numbers[at] += np.int32(code) * step


@kernel(void(u64_in, u8_in, u64, i64, i64, i32_out))
def mix_words(words: Any, validity: Any, base: Any, values: Any, stride: Any, numbers: Any) -> None:
    """As `mix_codes`, of a column of words: those from `base` on have codes, `values` of them."""
    masked = validity.size != 0
    last = np.uint64(values)
    step = np.int32(stride)
    for row in range(numbers.size):
        at = np.uint64(row)
        code = words[at] - base
        if masked and validity[at] == 0:
            code = last
        elif code >= last:
            numbers[at] = NO_NUMBER
            continue
        if numbers[at] >= 0:
            numbers[at] += np.int32(code) * step


@kernel(i64(i32_in, i32_out, i32_out, u32_out))
def known_groups(numbers: Any, direct: Any, groups: Any, fresh: Any) -> Any:
    """Fill the groups of rows whose number came before; lists the other rows in `fresh` and returns how many they are.

    A row behind the first of its number, and that row itself, get -2 - i for now, where fresh[i] is that first row.
    Shapes: numbers, groups i32[n]; direct i32[d], d above all numbers; fresh u32[n].
    """
    count = 0
    for row in range(numbers.size):
        at = np.uint64(row)
        number = numbers[at]
        if number < 0:
            group = np.int32(-2 - count)
            fresh[count] = row
            count += 1
        else:
            group = direct[np.uint64(number)]
            if group == NEW:
                group = np.int32(-2 - count)
                direct[np.uint64(number)] = group
                fresh[count] = row
                count += 1
        groups[at] = group
    return count


@kernel(void(i32_in, u32_in, i32_in, i64, i32_out, i32_out))
def settle_groups(numbers: Any, fresh: Any, found: Any, done: Any, direct: Any, groups: Any) -> None:
    """Put in what the table told: found[i] is the group of row fresh[i], for the first `done` of them.

    The numbers of the other rows in `fresh` are new again, and rows from fresh[done] on keep no groups.
    """
    for i in range(fresh.size):
        number = numbers[np.uint64(fresh[i])]
        if number >= 0:
            direct[np.uint64(number)] = found[i] if i < done else NEW
    last = groups.size if done >= fresh.size else np.int64(fresh[done])
    for row in range(last):
        at = np.uint64(row)
        if groups[at] < NEW:
            groups[at] = found[np.uint64(-2 - groups[at])]
