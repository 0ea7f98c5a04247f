"""lower, upper, casefold, title, capitalize, swapcase: ASCII 64 bytes at a time, the rest as `str` does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kernelmill.kernels.text.arena import allocate, give_back
from kernelmill.kernels.text.classifying import is_lower, is_upper, table_test
from kernelmill.kernels.text.jitting import apart, helper, made_when_called
from kernelmill.kernels.text.pieces import piece
from kernelmill.kernels.text.pointers import case_copier, lowest_one, moved, ranges_mask
from kernelmill.kernels.text.points import all_ascii, decode, encode, low_bits, size_at, start_before
from kernelmill.kernels.text.registering import method
from kernelmill.kernels.text.texttype import TEXT, make_text
from kernelmill.kernels.text.unicodetables import BLOCK_BITS, SEVERAL, case_table, is_case_ignorable, is_cased

_ZERO, _BLOCK = np.uint64(0), 1 << BLOCK_BITS
_CAPITAL_SIGMA, _SMALL_SIGMA, _FINAL_SIGMA = 0x3A3, 0x3C3, 0x3C2
_GROWTH_MAX = 3  # U+0390, 2 bytes, is 6 bytes in upper case

_capitals, _small_letters, _high = ranges_mask((65, 90)), ranges_mask((97, 122)), ranges_mask((0x80, 0xFF))
_copy_lowered, _copy_raised = case_copier("A", "Z"), case_copier("a", "z")
_cased, _case_ignorable = table_test(is_cased), table_test(is_case_ignorable)


def _case_writer(change: Callable[[str], str]) -> Any:
    """Make a helper `put(point, out, to) -> end` that writes what `change` makes of a character alone."""

    def put(point: Any, out: Any, to: Any) -> int:
        raise TypeError(point)

    put.__qualname__ = f"case_writer({change.__qualname__})"

    @made_when_called(put)
    def make() -> Any:
        numbers, blocks, records, points = case_table(change)

        def write(point: Any, out: Any, to: Any) -> Any:
            number = point >> BLOCK_BITS
            record: Any = 0
            if number < numbers.size:
                record = np.int64(records[blocks[numbers[number] * _BLOCK + (point & _BLOCK - 1)]])
            if record < SEVERAL:
                return to + encode(point + record, out, to)
            first = (record - SEVERAL) >> 2
            for i in range(record & 3):
                to += encode(np.int64(points[first + i]), out, to)
            return to

        return write

    return apart(put)


_put_lower, _put_upper = _case_writer(str.lower), _case_writer(str.upper)
_put_title, _put_folded = _case_writer(str.title), _case_writer(str.casefold)


@apart
def _is_final(text: Any, at: Any) -> Any:
    """True if the sigma at `at` ends a word: a cased letter before it and none behind, case-ignorables aside."""
    before = at
    point = 0
    while before > 0:
        before = start_before(text._data, before)
        point = decode(text._data, before)
        if not _case_ignorable(point):
            break
        point = 0
    if point == 0 or not _cased(point):
        return False
    behind = at + 2
    while behind < text._size:
        point = decode(text._data, behind)
        if not _case_ignorable(point):
            return not _cased(point)
        behind += size_at(text._data, behind)
    return True


@helper
def _put_lower_in(text: Any, at: Any, point: Any, out: Any, to: Any) -> Any:
    """Write a character of the text in lower case."""
    if point == _CAPITAL_SIGMA:
        return to + encode(_FINAL_SIGMA if _is_final(text, at) else _SMALL_SIGMA, out, to)
    return _put_lower(point, out, to)


@helper
def _finished(text: Any, out: Any, to: Any) -> Any:
    give_back(text._arena, moved(out, to))
    return make_text(out, to, text._is_ascii, text._arena)


@apart
def _lower_wide(text: Any) -> Any:
    """text.lower() where there is more than ASCII: runs of ASCII 64 bytes at a time."""
    data, size = text._data, text._size
    out = allocate(text._arena, size + (size >> 1))  # two bytes may become three
    at, to = 0, 0
    while at < size:
        _copy_lowered(data, at, out, to)
        run = min(size - at, lowest_one(_high(data, at)))
        at, to = at + run, to + run
        while at < size and data[at] >= 0x80:
            to = _put_lower_in(text, at, decode(data, at), out, to)
            at += size_at(data, at)
    return _finished(text, out, to)


@apart
def _upper_wide(text: Any) -> Any:
    data, size = text._data, text._size
    out = allocate(text._arena, size * _GROWTH_MAX)
    at, to = 0, 0
    while at < size:
        _copy_raised(data, at, out, to)
        run = min(size - at, lowest_one(_high(data, at)))
        at, to = at + run, to + run
        while at < size and data[at] >= 0x80:
            to = _put_upper(decode(data, at), out, to)
            at += size_at(data, at)
    return _finished(text, out, to)


@apart
def _folded_wide(text: Any) -> Any:
    data, size = text._data, text._size
    out = allocate(text._arena, size * _GROWTH_MAX)
    at, to = 0, 0
    while at < size:
        to = _put_folded(decode(data, at), out, to)
        at += size_at(data, at)
    return _finished(text, out, to)


@helper
def _lowered_ascii(text: Any) -> Any:
    out = allocate(text._arena, text._size)
    for at in range(0, text._size, 64):
        _copy_lowered(text._data, at, out, at)
    return make_text(out, text._size, True, text._arena)


@helper
def _raised_ascii(text: Any) -> Any:
    out = allocate(text._arena, text._size)
    for at in range(0, text._size, 64):
        _copy_raised(text._data, at, out, at)
    return make_text(out, text._size, True, text._arena)


@helper
def _first_lowered(text: Any) -> Any:
    """A place at or before the first byte that lower() may change; the size if there is none."""
    at = 0
    while at < text._size:
        found = _capitals(text._data, at)
        if not text._is_ascii:
            found |= _high(text._data, at)
        if found & low_bits(text._size - at) != _ZERO:
            return at
        at += 64
    return text._size


@helper
def _is_all_ascii(text: Any) -> Any:
    return text._is_ascii or all_ascii(text._data, text._size)


@method("lower", TEXT)
@helper
def lower(text: Any) -> Any:
    """text.lower(); the text itself if it is ASCII without capitals"""
    if _first_lowered(text) == text._size:
        return text
    return _lowered_ascii(text) if _is_all_ascii(text) else _lower_wide(text)


@method("casefold", TEXT)
@helper
def casefold(text: Any) -> Any:
    """text.casefold(); the text itself if it is ASCII without capitals"""
    if _first_lowered(text) == text._size:
        return text
    return _lowered_ascii(text) if _is_all_ascii(text) else _folded_wide(text)


@method("upper", TEXT)
@helper
def upper(text: Any) -> Any:
    """text.upper(); the text itself if it is ASCII without small letters"""
    at = 0
    while at < text._size:
        found = _small_letters(text._data, at) | _high(text._data, at)
        if found & low_bits(text._size - at) != _ZERO:
            return _raised_ascii(text) if _is_all_ascii(text) else _upper_wide(text)
        at += 64
    return text


@method("title", TEXT)
@helper
def title(text: Any) -> Any:
    """text.title()"""
    data, size = text._data, text._size
    out = allocate(text._arena, size * _GROWTH_MAX)
    at, to, after_cased = 0, 0, False
    while at < size:
        point = decode(data, at)
        to = _put_lower_in(text, at, point, out, to) if after_cased else _put_title(point, out, to)
        after_cased = _cased(point)
        at += size_at(data, at)
    return _finished(text, out, to)


@method("capitalize", TEXT)
@helper
def capitalize(text: Any) -> Any:
    """text.capitalize()"""
    data, size = text._data, text._size
    if size == 0:
        return piece(text, 0, 0)
    out = allocate(text._arena, size * _GROWTH_MAX)
    at, to = size_at(data, 0), _put_title(decode(data, 0), out, 0)
    while at < size:
        to = _put_lower_in(text, at, decode(data, at), out, to)
        at += size_at(data, at)
    return _finished(text, out, to)


@method("swapcase", TEXT)
@helper
def swapcase(text: Any) -> Any:
    """text.swapcase()"""
    data, size = text._data, text._size
    out = allocate(text._arena, size * _GROWTH_MAX)
    at, to = 0, 0
    while at < size:
        point = decode(data, at)
        if is_upper(point):
            to = _put_lower_in(text, at, point, out, to)
        elif is_lower(point):
            to = _put_upper(point, out, to)
        else:
            to += encode(point, out, to)
        at += size_at(data, at)
    return _finished(text, out, to)
