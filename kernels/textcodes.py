"""Texts of a Parquet column: codes numbered anew by first use, and the least and the greatest of many texts."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernelmill.kernels._jit import helper, i32_in, i32_out, i64, i64_out, kernel, u8_in, void
from kernelmill.kernels.intrinsics import byte_swapped, load_u64

UNUSED = -1

_EIGHT, _ZERO = 8, np.uint64(0)


@kernel(i64(i32_in, u8_in, i32_in, i64, i32_out, i32_out))
def number_by_use(codes: Any, validity: Any, meanings: Any, used: Any, numbers: Any, out: Any) -> Any:
    """Number codes in the order in which rows use them first; returns how many numbers there are now.

    Shapes: codes i32[n]; validity u8[n] or empty; meanings i32[codes there are]: what each code stands for; numbers
    i32[things they stand for], UNUSED before, goes on from call to call; `used` of them are taken; out i32[n], filled,
    0 for nulls.
    """
    masked = validity.size != 0
    for row in range(codes.size):
        if masked and validity[row] == 0:
            out[row] = 0
            continue
        meaning = np.uint64(meanings[np.uint64(codes[row])])
        number = np.int64(numbers[meaning])
        if number < 0:
            number = used
            numbers[meaning] = np.int32(number)
            used += 1
        out[row] = np.int32(number)
    return used


@helper
def _head(data: Any, start: Any, size: Any) -> Any:
    """The first 8 bytes of a text as a word of the same order, zeros behind its end."""
    if size == 0:
        return _ZERO
    if start + _EIGHT <= data.size:
        word = byte_swapped(load_u64(data, start))
        return word if size >= _EIGHT else (word >> np.uint64(64 - 8 * size)) << np.uint64(64 - 8 * size)
    word = _ZERO
    for k in range(min(size, _EIGHT)):
        word |= np.uint64(data[np.uint64(start + k)]) << np.uint64(56 - 8 * k)
    return word


@helper
def _is_before(data: Any, start: Any, size: Any, other: Any, other_size: Any) -> Any:
    """Whether the text at `start` comes before the one at `other`, by bytes."""
    for k in range(min(size, other_size)):
        a, b = data[np.uint64(start + k)], data[np.uint64(other + k)]
        if a != b:
            return a < b
    return size < other_size


@kernel(void(u8_in, i32_in, u8_in, i64_out))
def least_and_greatest(data: Any, offsets: Any, validity: Any, found: Any) -> None:
    """Find the rows of the least and of the greatest text, by bytes: found[0] and found[1], -1 if there is none.

    Shapes: offsets i32[n + 1]; validity u8[n] or empty; found i64[2].
    """
    masked = validity.size != 0
    found[0] = found[1] = -1
    low = high = _ZERO
    for row in range(offsets.size - 1):
        if masked and validity[row] == 0:
            continue
        start = np.int64(offsets[row])
        size = np.int64(offsets[row + 1]) - start
        word = _head(data, start, size)
        if found[0] < 0:
            found[0] = found[1] = row
            low = high = word
            continue
        if word <= low:
            least = np.int64(offsets[found[0]])
            if word < low or _is_before(data, start, size, least, np.int64(offsets[found[0] + 1]) - least):
                found[0], low = row, word
        if word >= high:
            most = np.int64(offsets[found[1]])
            if word > high or _is_before(data, most, np.int64(offsets[found[1] + 1]) - most, start, size):
                found[1], high = row, word
