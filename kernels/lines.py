"""Cut a block of text into lines: Arrow offsets and the bytes without their separators, in one pass."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernelmill.kernels._jit import i32_out, i64, i64_in, i64_out, kernel, u8_in, u8_out
from kernelmill.kernels.intrinsics import SOON_BYTES, count_trailing_zeros, prefetch, range_mask
from kernelmill.kernels.utf8 import copy_64

_newline_mask, _beyond_ascii_mask = range_mask(10, 10), range_mask(0x80, 0xFF)
BEYOND_ASCII = -(1 << 31)
"""Is added to the place of a line that has a byte >= 0x80."""
_NONE, _ONE, _ALL = np.uint64(0), np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF)


@kernel(i64(u8_in, i64, i64, u8_out, i32_out, i64_out, i64_out))
def split_lines(data: Any, start: int, stop: int, out: Any, end_of_row: Any, start_of_row: Any, next_start: Any) -> int:
    r"""Cut [start, stop), which begins at a line, at each \n (a \r before it goes too); return the number of lines.

    Shapes: data u8[n], n >= stop + 64; out u8[m], m >= stop - start + 64; end_of_row i32[rows_max], where row r ends
    in `out`; start_of_row i64[rows_max], where it begins in `data`; next_start i64[1], where to go on: `stop` when
    all is done. Bytes after the last \n are a line. Units: bytes; `stop - start` < 2^31. Errors: none.
    """
    rows_max = end_of_row.size
    row, line, at, to = 0, start, start, 0
    while at < stop and row < rows_max:
        copy_64(data, at, out, to)
        window_stop = min(at + 64, stop)
        found = _newline_mask(data, at)
        if window_stop - at < 64:
            found &= _ALL >> np.uint64(64 - (window_stop - at))
        window = at
        while found != _NONE and row < rows_max:
            newline = window + count_trailing_zeros(found)
            found &= found - _ONE
            to += newline - at
            if newline > line and data[newline - 1] == 13:
                to -= 1
            start_of_row[row] = line
            end_of_row[row] = to
            row += 1
            at = line = newline + 1
            copy_64(data, at, out, to)  # the next line, or 64 bytes of it; what is too much is written over
        if row < rows_max:
            to += window_stop - at
            at = window_stop
    if line < stop and at >= stop and row < rows_max:
        start_of_row[row] = line
        end_of_row[row] = to
        row += 1
        line = stop
    next_start[0] = line
    return row


@kernel(i64(u8_in, i64, i64, i32_out, i32_out, i64_out))
def find_lines(data: Any, start: int, stop: int, start_of_row: Any, end_of_row: Any, found: Any) -> int:
    r"""Find the lines of [start, stop), which begins at a line, as `split_lines` cuts them; return their number.

    Shapes: data u8[n], n >= stop + 64; start_of_row, end_of_row i32[rows_max], where row r lies, counted from `start`,
    the start with BEYOND_ASCII if that is in it; found i64[1]: where to go on, `stop` when all is done. Units: bytes;
    `stop - start` < 2^31. Errors: none.
    """
    rows_max = end_of_row.size
    row, line, at, beyond = 0, start, start, _NONE  # beyond: bytes of the line from `line` on, if there are any
    while at < stop and row < rows_max:
        prefetch(data, at + SOON_BYTES)
        within = _ALL if stop - at >= 64 else _ALL >> np.uint64(64 - (stop - at))
        newlines = _newline_mask(data, at) & within
        beyond_here = _beyond_ascii_mask(data, at) & within
        while newlines != _NONE and row < rows_max:
            newline = at + count_trailing_zeros(newlines)
            before = ~newlines & (newlines - _ONE)
            newlines &= newlines - _ONE
            mark = BEYOND_ASCII if (beyond | (beyond_here & before)) != _NONE else 0
            beyond, beyond_here = _NONE, beyond_here & ~before
            start_of_row[row] = np.int32(line - start + mark)
            end_of_row[row] = np.int32(newline - start - (1 if newline > line and data[newline - 1] == 13 else 0))
            row += 1
            line = newline + 1
        beyond |= beyond_here
        at += 64
    if line < stop and at >= stop and row < rows_max:
        start_of_row[row] = np.int32(line - start + (BEYOND_ASCII if beyond != _NONE else 0))
        end_of_row[row] = np.int32(stop - start)
        row += 1
        line = stop
    found[0] = line
    return row


@kernel(i64(u8_in, i64, i64, u8_in, u8_out, i32_out, i64_out, i64_out))
def split_records(
    data: Any, start: int, stop: int, separator: Any, out: Any, end_of_row: Any, start_of_row: Any, next_start: Any
) -> int:
    """Cut [start, stop) at each `separator` (u8[k], k >= 1), leftmost first; otherwise as `split_lines`."""
    rows_max, width, first = end_of_row.size, separator.size, separator[0]
    row, line, at, to = 0, start, start, 0
    while at < stop and row < rows_max:
        found = data[at] == first and at + width <= stop
        if found:
            for place in range(1, width):
                if data[at + place] != separator[place]:
                    found = False
                    break
        if not found:
            out[to] = data[at]
            at += 1
            to += 1
            continue
        start_of_row[row] = line
        end_of_row[row] = to
        row += 1
        at += width
        line = at
    if line < stop and at >= stop and row < rows_max:
        start_of_row[row] = line
        end_of_row[row] = to
        row += 1
        line = stop
    next_start[0] = line
    return row


@kernel(i64(u8_in, i64, i64_in, i64, i64_out))
def count_characters_before(data: Any, start: int, places: Any, count: int, characters: Any) -> int:
    """For each of the first `count` places, rising, count the UTF-8 characters in data[start:place]; return the last.

    Shapes: places i64[>= count], characters i64[>= count], filled. A byte that is no continuation counts. Errors: none.
    """
    at, total = start, 0
    for index in range(count):
        for place in range(at, places[index]):
            total += int(data[place] & 0xC0 != 0x80)
        at = max(at, places[index])
        characters[index] = total
    return total
