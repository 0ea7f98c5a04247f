"""text[i] and text[start:stop:step], counted in code points."""

from __future__ import annotations

import operator
from typing import Any

from numba import types

from kernelmill.kernels.text.arena import allocate, give_back
from kernelmill.kernels.text.jitting import helper
from kernelmill.kernels.text.pieces import piece
from kernelmill.kernels.text.pointers import moved
from kernelmill.kernels.text.points import count_points, offset_of, size_at, start_before
from kernelmill.kernels.text.registering import INT, function
from kernelmill.kernels.text.texttype import TEXT, make_text

_BACKWARD_MAX = 16  # characters from the end that are counted backwards


@helper
def _offset_from(data: Any, size: Any, index: Any) -> Any:
    """Where a character lies whose index may count from the end, as in [index:]; 0 before all, `size` after all."""
    if index >= 0:
        return offset_of(data, size, index)
    if index >= -_BACKWARD_MAX:
        at = size
        while index < 0 and at > 0:
            at = start_before(data, at)
            index += 1
        return at
    return offset_of(data, size, max(0, index + count_points(data, size)))


@function(operator.getitem, TEXT, INT)
@helper
def character(text: Any, index: Any) -> Any:
    """text[index]"""
    if text._is_ascii:
        at = index if index >= 0 else index + text._size
    elif index < 0 and -index > text._size:
        at = -1
    else:
        at = _offset_from(text._data, text._size, index)
        if index < 0 and at == 0 and count_points(text._data, text._size) != -index:
            at = -1
    if at < 0 or at >= text._size:
        raise IndexError("string index out of range")
    return piece(text, at, at + (1 if text._is_ascii else size_at(text._data, at)))


@function(operator.getitem, TEXT, types.slice2_type)
@helper
def sliced(text: Any, part: Any) -> Any:
    """text[start:stop]"""
    return slice_of(text, part.start, part.stop)


@helper
def slice_of(text: Any, start: Any, stop: Any) -> Any:
    """text[start:stop], END standing for no stop"""
    size = text._size
    if text._is_ascii:
        begin = start if start >= 0 else start + size
        end = stop if stop >= 0 else stop + size
        begin, end = min(max(begin, 0), size), min(max(end, 0), size)
    else:
        begin = _offset_from(text._data, size, start)
        end = size if stop >= size else _offset_from(text._data, size, stop)
    return piece(text, begin, max(begin, end))


@function(operator.getitem, TEXT, types.slice3_type)
@helper
def sliced_by_steps(text: Any, part: Any) -> Any:
    """text[start:stop:step], a new text unless the step is 1"""
    length = count_points(text._data, text._size)
    start, stop, step = part.indices(length)
    if step == 1:
        return slice_of(text, start, max(start, stop))
    count = max(0, (stop - start + step - (1 if step > 0 else -1)) // step)
    if count == 0:
        return piece(text, 0, 0)
    out = allocate(text._arena, min(4 * count, text._size))
    at, to = offset_of(text._data, text._size, start), 0
    for i in range(count):
        if i > 0:
            at = at + step if length == text._size else _walked(text._data, at, step)
        for _ in range(size_at(text._data, at)):
            out[to] = text._data[at]
            at, to = at + 1, to + 1
        at = start_before(text._data, at)
    give_back(text._arena, moved(out, to))
    return make_text(out, to, text._is_ascii, text._arena)


@helper
def _walked(data: Any, at: Any, characters: Any) -> Any:
    for _ in range(characters):
        at += size_at(data, at)
    for _ in range(-characters):
        at = start_before(data, at)
    return at
