"""Lower case: ASCII in place, and UTF-8 through a table of code points; both 64 bytes at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernelmill.kernels._jit import helper, i64, kernel, u8_in, u8_out, u32_in
from kernelmill.kernels.intrinsics import copy_lower_ascii, trailing_zeros_or_64
from kernelmill.kernels.utf8 import sequence_length

LOWER_TABLE_SIZE = 0x20000
"""Code points that the table of `lower_utf8` covers; none beyond has a lower case."""


def lowered_bytes_max(byte_count: int) -> int:
    """The output bytes that `lower_utf8` needs for `byte_count` bytes: two may become three, and stores are 64 wide."""
    return byte_count + byte_count // 2 + 64


@helper
def _lower_byte(byte: Any) -> Any:
    return byte | 0x20 if 65 <= byte <= 90 else byte


@kernel(i64(u8_out, i64, i64))
def lower_ascii(data: Any, start: Any, stop: Any) -> Any:
    """Make A-Z in data[start:stop] a-z in place; returns where the first byte >= 0x80 is, -1 if there is none.

    Bytes >= 0x80 stay, and all A-Z are lowered, before and after them. Needs no slack.
    """
    first_high = -1
    at = start
    while at + 64 <= stop:
        high = copy_lower_ascii(data, at, data, at)
        if high != np.uint64(0) and first_high < 0:
            first_high = at + trailing_zeros_or_64(high)
        at += 64
    for i in range(at, stop):
        byte = data[i]
        if byte >= 0x80 and first_high < 0:
            first_high = i
        data[i] = _lower_byte(byte)
    return first_high


@helper
def _decode(data: Any, at: Any, size: Any) -> Any:
    """The code point of a sequence of 2 to 4 bytes."""
    first, second = np.int64(data[at]), np.int64(data[at + 1]) & 0x3F
    if size == 2:
        return (first & 0x1F) << 6 | second
    third = np.int64(data[at + 2]) & 0x3F
    if size == 3:
        return (first & 0x0F) << 12 | second << 6 | third
    return (first & 0x07) << 18 | second << 12 | third << 6 | (np.int64(data[at + 3]) & 0x3F)


@helper
def _encode(point: Any, out: Any, to: Any) -> Any:
    """Write a code point; returns its bytes."""
    if point < 0x80:
        out[to] = point
        return 1
    if point < 0x800:
        out[to] = 0xC0 | point >> 6
        out[to + 1] = 0x80 | (point & 0x3F)
        return 2
    if point < 0x10000:
        out[to] = 0xE0 | point >> 12
        out[to + 1] = 0x80 | (point >> 6 & 0x3F)
        out[to + 2] = 0x80 | (point & 0x3F)
        return 3
    out[to] = 0xF0 | point >> 18
    out[to + 1] = 0x80 | (point >> 12 & 0x3F)
    out[to + 2] = 0x80 | (point >> 6 & 0x3F)
    out[to + 3] = 0x80 | (point & 0x3F)
    return 4


@kernel(i64(u8_in, i64, i64, u8_out, u32_in))
def lower_utf8(data: Any, start: Any, stop: Any, out: Any, table: Any) -> Any:
    """Write data[start:stop] in lower case to the head of `out`; returns the bytes written.

    Shapes: data u8, no slack needed; out u8 of lowered_bytes_max(stop - start) bytes or more; table u32, the lower code
    point of each code point below its size, others stay. Bytes that are no UTF-8 are copied as they are.
    """
    at, to = start, 0
    while at < stop:
        if at + 64 <= stop:
            ascii_bytes = trailing_zeros_or_64(copy_lower_ascii(data, at, out, to))
            at += ascii_bytes
            to += ascii_bytes
        while at < stop and (data[at] >= 0x80 or at + 64 > stop):
            size = sequence_length(data, at, stop)
            if size < 2:
                for i in range(max(1, -size)):
                    out[to + i] = _lower_byte(data[at + i])
                at += max(1, -size)
                to += max(1, -size)
                continue
            point = _decode(data, at, size)
            if point < table.size:
                point = np.int64(table[point])
            at += size
            to += _encode(point, out, to)
    return to
