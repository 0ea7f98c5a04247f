"""Code points and where they lie in UTF-8, which is taken to be valid."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernelmill.kernels.text.jitting import helper
from kernelmill.kernels.text.pointers import count_ones, lowest_one, ranges_mask, without_lowest

_ONE, _ZERO = np.uint64(1), np.uint64(0)

_following = ranges_mask((0x80, 0xBF))  # bytes that start no character
_high = ranges_mask((0x80, 0xFF))


@helper
def low_bits(count: Any) -> Any:
    """The u64 whose lowest `count` bits are set; all for 64 and more."""
    return (_ONE << np.uint64(count)) - _ONE if count < 64 else ~_ZERO


@helper
def all_ascii(data: Any, size: Any) -> Any:
    """True if none of `size` bytes is >= 0x80."""
    at = 0
    while at + 256 <= size:  # the four masks become one test
        if _high(data, at) | _high(data, at + 64) | _high(data, at + 128) | _high(data, at + 192) != _ZERO:
            return False
        at += 256
    while at < size:
        if _high(data, at) & low_bits(size - at) != _ZERO:
            return False
        at += 64
    return True


@helper
def size_at(data: Any, at: Any) -> Any:
    """The bytes of the character that starts at `at`."""
    lead = data[at]
    return 1 if lead < 0x80 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4


@helper
def start_before(data: Any, at: Any) -> Any:
    """Where the character that ends before `at` starts."""
    at -= 1
    while data[at] & 0xC0 == 0x80:
        at -= 1
    return at


@helper
def decode(data: Any, at: Any) -> Any:
    """The code point of the character that starts at `at`."""
    lead = np.int64(data[at])
    if lead < 0x80:
        return lead
    second = np.int64(data[at + 1]) & 0x3F
    if lead < 0xE0:
        return (lead & 0x1F) << 6 | second
    third = np.int64(data[at + 2]) & 0x3F
    if lead < 0xF0:
        return (lead & 0x0F) << 12 | second << 6 | third
    return (lead & 0x07) << 18 | second << 12 | third << 6 | (np.int64(data[at + 3]) & 0x3F)


@helper
def encode(point: Any, out: Any, to: Any) -> Any:
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


@helper
def count_points(data: Any, size: Any) -> Any:
    """The characters of `size` bytes that end where a character does."""
    count, at = size, 0
    while at + 64 <= size:
        count -= count_ones(_following(data, at))
        at += 64
    if at < size:
        count -= count_ones(_following(data, at) & low_bits(size - at))
    return count


@helper
def offset_of(data: Any, size: Any, index: Any) -> Any:
    """Where character `index`, counted from 0, starts; `size` if there are no more than `index`."""
    at = 0
    while at < size:
        starts = ~_following(data, at) & low_bits(size - at)
        count = count_ones(starts)
        if index < count:
            for _ in range(index):
                starts = without_lowest(starts)
            return at + lowest_one(starts)
        index -= count
        at += 64
    return size


@helper
def length_of(text: Any) -> Any:
    """The characters of a text."""
    return text._size if text._is_ascii else count_points(text._data, text._size)
