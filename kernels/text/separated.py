"""split(separator), splitlines() and iteration over characters."""
# mypy: allow-untyped-calls

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from kernelmill.kernels.text.comparing import equal_bytes
from kernelmill.kernels.text.jitting import helper, merged
from kernelmill.kernels.text.pieces import CHARACTERS, LINES, SEPARATED, TABLE, iterates, maker
from kernelmill.kernels.text.pointers import byte_mask, lowest_one, ranges_mask, without_lowest
from kernelmill.kernels.text.points import low_bits, size_at

_ZERO = np.uint64(0)

_ascii_breaks = ranges_mask((10, 13), (28, 30))
_breaks_or_leads = ranges_mask((10, 13), (28, 30), (0xC2, 0xC2), (0xE2, 0xE2))

separated, lines = maker(SEPARATED), maker(LINES)


@helper
def _begin_fields(pieces: Any) -> Any:
    return -64, _ZERO, 0, pieces._option


@merged
def _next_field(pieces: Any, state: Any) -> Any:
    """The state: block, separators' first bytes in it, where the next field starts (-1: no more), cuts left."""
    at, candidates, start, left = state
    text, separator = pieces._text, pieces._separator
    size, width = text._size, separator._size
    if start < 0:
        return False, 0, 0, (at, candidates, start, left)
    while left != 0:
        while candidates == _ZERO:
            at += 64
            if at >= size:
                return True, start, size, (at, _ZERO, -1, 0)
            candidates = byte_mask(text._data, at, separator._data[0]) & low_bits(size - at)
        stop = at + lowest_one(candidates)
        candidates = without_lowest(candidates)
        if width == 1:
            return True, start, stop, (at, candidates, stop + 1, left - 1)
        if stop >= start and stop + width <= size and equal_bytes(text._data, stop, separator._data, 0, width):
            return True, start, stop, (at, candidates, stop + width, left - 1)
    return True, start, size, (at, _ZERO, -1, 0)


iterates(SEPARATED, types.Tuple((types.int64, types.uint64, types.int64, types.int64)), _begin_fields, _next_field)


@helper
def _break_size(data: Any, at: Any, size: Any) -> Any:
    """The bytes of the line break at `at`, 0 if it is none: \\n \\r \\r\\n \\v \\f \\x1c-\\x1e U+0085 U+2028 U+2029."""
    lead = data[at]
    if lead == 13:
        return 2 if at + 1 < size and data[at + 1] == 10 else 1
    if lead == 0xC2:
        return 2 if data[at + 1] == 0x85 else 0
    if lead == 0xE2:
        return 3 if data[at + 1] == 0x80 and (data[at + 2] == 0xA8 or data[at + 2] == 0xA9) else 0
    return 1


@helper
def _begin_lines(pieces: Any) -> Any:
    return -64, _ZERO, 0


@merged
def _next_line(pieces: Any, state: Any) -> Any:
    """The state: block, what may be breaks in it, where the next line starts."""
    at, candidates, start = state
    text = pieces._text
    size = text._size
    if start >= size:
        return False, 0, 0, state
    while True:
        while candidates == _ZERO:
            at += 64
            if at >= size:
                return True, start, size, (at, _ZERO, size)
            found = _ascii_breaks(text._data, at) if text._is_ascii else _breaks_or_leads(text._data, at)
            candidates = found & low_bits(size - at)
        stop = at + lowest_one(candidates)
        candidates = without_lowest(candidates)
        width = _break_size(text._data, stop, size) if stop >= start else 0  # the \n of \r\n lies before the start
        if width != 0:
            return True, start, stop + width * pieces._option, (at, candidates, stop + width)


iterates(LINES, types.Tuple((types.int64, types.uint64, types.int64)), _begin_lines, _next_line)


@helper
def _begin_characters(pieces: Any) -> Any:
    return (0,)


@merged
def _next_character(pieces: Any, state: Any) -> Any:
    """The state: where the next character starts."""
    (at,) = state
    text = pieces._text
    if at >= text._size:
        return False, 0, 0, (at,)
    stop = at + (1 if text._is_ascii else size_at(text._data, at))
    return True, at, stop, (stop,)


iterates(CHARACTERS, types.UniTuple(types.int64, 1), _begin_characters, _next_character)


@helper
def _begin_table(pieces: Any) -> Any:
    return (0,)


@merged
def _next_of_table(pieces: Any, state: Any) -> Any:
    """The state: pieces that have been passed."""
    (passed,) = state
    if passed >= pieces._option:
        return False, 0, 0, (passed,)
    start, size = pieces._entries[passed * pieces._stride], pieces._entries[passed * pieces._stride + 1]
    return True, start, start + size, (passed + 1,)


iterates(TABLE, types.UniTuple(types.int64, 1), _begin_table, _next_of_table)
