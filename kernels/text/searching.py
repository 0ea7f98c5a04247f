"""find, index, count, in, startswith, endswith: offsets of a part, told in code points."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from kernelmill.kernels.text.comparing import equal_bytes
from kernelmill.kernels.text.jitting import apart, helper, merged
from kernelmill.kernels.text.pointers import byte_mask, leading_zeros, lowest_one, without_lowest
from kernelmill.kernels.text.points import count_points, length_of, low_bits, offset_of
from kernelmill.kernels.text.registering import END, INT, JustText, MixedTuple, TextTuple, function, method
from kernelmill.kernels.text.texttype import TEXT

_ZERO = np.uint64(0)


@helper
def find_bytes(data: Any, start: Any, stop: Any, part: Any, size: Any) -> Any:
    """Where `size` bytes of `part`, 1 or more, first lie within data[start:stop]; -1 if nowhere.

    Source: generic SIMD search by first and last byte, Mula, http://0x80.pl/articles/simd-strfind.html
    """
    last = stop - size
    first_byte, last_byte = part[0], part[size - 1]
    at = start
    while at <= last:
        found = byte_mask(data, at, first_byte)
        if size > 1:
            found &= byte_mask(data, at + size - 1, last_byte)
        found &= low_bits(last - at + 1)
        while found != _ZERO:
            here = at + lowest_one(found)
            if size <= 2 or equal_bytes(data, here + 1, part, 1, size - 2):
                return here
            found = without_lowest(found)
        at += 64
    return -1


@helper
def rfind_bytes(data: Any, start: Any, stop: Any, part: Any, size: Any) -> Any:
    """As `find_bytes`, where it last lies."""
    last_byte = part[size - 1]
    last = stop - size
    while last >= start:
        at = max(start, last - 63)
        found = byte_mask(data, at + size - 1, last_byte) & low_bits(last - at + 1)
        while found != _ZERO:
            top = 63 - leading_zeros(found)
            if equal_bytes(data, at + top, part, 0, size - 1):
                return at + top
            found &= low_bits(top)
        last = at - 1
    return -1


@helper
def count_bytes(data: Any, start: Any, stop: Any, part: Any, size: Any) -> Any:
    """How often `size` bytes of `part`, 1 or more, lie within data[start:stop] without overlap."""
    count = 0
    at = find_bytes(data, start, stop, part, size)
    while at >= 0:
        count += 1
        at = find_bytes(data, at + size, stop, part, size)
    return count


@helper
def byte_range(text: Any, start: Any, stop: Any) -> Any:
    """Offsets of the characters start:stop as `str` clips them; (1, 0, False) where start > len(text) or > stop."""
    if start == 0 and stop == END:
        return 0, text._size, True
    length = END if start >= 0 and stop == END else length_of(text)
    if start < 0:
        start = max(0, start + length)
    if stop < 0:
        stop = max(0, stop + length)
    if start > stop:
        return 1, 0, False
    if text._is_ascii:
        return (start, min(stop, text._size), True) if start <= text._size else (1, 0, False)
    begin = offset_of(text._data, text._size, start)
    if begin == text._size and start > length_of(text):
        return 1, 0, False
    end = text._size if stop >= text._size else offset_of(text._data, text._size, stop)
    return begin, end, True


@helper
def _index_at(text: Any, offset: Any) -> Any:
    return offset if text._is_ascii or offset < 0 else count_points(text._data, offset)


@method("find", TEXT, TEXT, INT, INT)
@merged
def find(text: Any, part: Any, start: Any = 0, stop: Any = END) -> Any:
    """text.find(part, start, stop)"""
    if start == 0 and stop == END and part._size > 0:
        return _index_at(text, find_bytes(text._data, 0, text._size, part._data, part._size))
    return _find_within(text, part, start, stop)


@apart
def _find_within(text: Any, part: Any, start: Any, stop: Any) -> Any:
    begin, end, is_range = byte_range(text, start, stop)
    if not is_range:
        return -1
    if part._size == 0:
        return _index_at(text, begin)
    return _index_at(text, find_bytes(text._data, begin, end, part._data, part._size))


@method("rfind", TEXT, TEXT, INT, INT)
@helper
def rfind(text: Any, part: Any, start: Any = 0, stop: Any = END) -> Any:
    """text.rfind(part, start, stop)"""
    begin, end, is_range = byte_range(text, start, stop)
    if not is_range:
        return -1
    if part._size == 0:
        return _index_at(text, end)
    return _index_at(text, rfind_bytes(text._data, begin, end, part._data, part._size))


@method("index", TEXT, TEXT, INT, INT)
@helper
def index(text: Any, part: Any, start: Any = 0, stop: Any = END) -> Any:
    """text.index(part, start, stop)"""
    found = find(text, part, start, stop)
    if found < 0:
        raise ValueError("substring not found")
    return found


@method("rindex", TEXT, TEXT, INT, INT)
@helper
def rindex(text: Any, part: Any, start: Any = 0, stop: Any = END) -> Any:
    """text.rindex(part, start, stop)"""
    found = rfind(text, part, start, stop)
    if found < 0:
        raise ValueError("substring not found")
    return found


@method("count", TEXT, TEXT, INT, INT)
@helper
def count(text: Any, part: Any, start: Any = 0, stop: Any = END) -> Any:
    """text.count(part, start, stop)"""
    begin, end, is_range = byte_range(text, start, stop)
    if not is_range:
        return 0
    if part._size == 0:
        return count_points(text._data, end) - count_points(text._data, begin) + 1
    return count_bytes(text._data, begin, end, part._data, part._size)


@function(operator.contains, TEXT, TEXT)
@helper
def contains(text: Any, part: Any) -> Any:
    """part in text"""
    return part._size == 0 or find_bytes(text._data, 0, text._size, part._data, part._size) >= 0


@method("startswith", TEXT, TEXT, INT, INT)
@helper
def startswith(text: Any, part: Any, start: Any = 0, stop: Any = END) -> Any:
    """text.startswith(part, start, stop)"""
    begin, end, is_range = byte_range(text, start, stop)
    return is_range and part._size <= end - begin and equal_bytes(text._data, begin, part._data, 0, part._size)


@method("endswith", TEXT, TEXT, INT, INT)
@helper
def endswith(text: Any, part: Any, start: Any = 0, stop: Any = END) -> Any:
    """text.endswith(part, start, stop)"""
    begin, end, is_range = byte_range(text, start, stop)
    size = part._size
    return is_range and size <= end - begin and equal_bytes(text._data, end - size, part._data, 0, size)


@method("startswith", TEXT, TextTuple, INT, INT)
@helper
def startswith_any(text: Any, parts: Any, start: Any = 0, stop: Any = END) -> Any:
    """text.startswith((part, ...), start, stop)"""
    for part in parts:  # noqa: SIM110 - numba has no any()
        if startswith(text, part, start, stop):
            return True
    return False


@method("endswith", TEXT, TextTuple, INT, INT)
@helper
def endswith_any(text: Any, parts: Any, start: Any = 0, stop: Any = END) -> Any:
    """text.endswith((part, ...), start, stop)"""
    for part in parts:  # noqa: SIM110 - numba has no any()
        if endswith(text, part, start, stop):
            return True
    return False


@function(operator.contains, MixedTuple, JustText)
@helper
def is_among(parts: Any, text: Any) -> Any:
    """text in (part, ...)"""
    for part in parts:  # noqa: SIM110 - numba has no any()
        if part == text:
            return True
    return False
