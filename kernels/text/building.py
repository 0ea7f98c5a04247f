"""Methods that write a text from others: +, *, join, replace, zfill, ljust, rjust, center, expandtabs."""

from __future__ import annotations

import operator
from typing import Any

from kernelmill.kernels.text.arena import ADDRESS, USED, allocate
from kernelmill.kernels.text.comparing import equal
from kernelmill.kernels.text.jitting import helper, user_function
from kernelmill.kernels.text.pointers import SLACK_BYTES, address_of, copy_64, copy_bytes
from kernelmill.kernels.text.points import count_points, length_of, size_at
from kernelmill.kernels.text.registering import END, INT, TextIterator, Texts, TextsOnce, function, method
from kernelmill.kernels.text.searching import count_bytes, find_bytes
from kernelmill.kernels.text.splitting import arena_of
from kernelmill.kernels.text.strings import with_arena
from kernelmill.kernels.text.texttype import TEXT, constant, make_text

_space = constant(" ")


@helper
def put(data: Any, out: Any, to: Any, size: Any) -> Any:
    """Copy `size` bytes to out[to:], fresh bytes with slack; returns where they end."""
    if size <= SLACK_BYTES:
        copy_64(data, 0, out, to)
    else:
        copy_bytes(data, 0, out, to, size)
    return to + size


@helper
def concatenated(a: Any, b: Any, arena: Any) -> Any:
    """a + b; where `a` is what was written last, it is continued in place, so that `s += x` in a loop is linear."""
    is_ascii = a._is_ascii and b._is_ascii
    if a._size == 0 or b._size == 0:
        one = b if a._size == 0 else a
        return make_text(one._data, one._size, is_ascii, arena)
    if address_of(arena) != 0 and address_of(a._data) + a._size == arena[ADDRESS] + arena[USED]:
        put(b._data, allocate(arena, b._size), 0, b._size)
        return make_text(a._data, a._size + b._size, is_ascii, arena)
    out = allocate(arena, a._size + b._size)
    put(b._data, out, put(a._data, out, 0, a._size), b._size)
    return make_text(out, a._size + b._size, is_ascii, arena)


@function(operator.iadd, TEXT, TEXT)
@function(operator.add, TEXT, TEXT)
@helper
def concat(a: Any, b: Any) -> Any:
    """a + b"""
    return concatenated(a, b, arena_of(a, b))


@function(operator.imul, TEXT, INT)
@function(operator.mul, TEXT, INT)
@helper
def repeat(text: Any, times: Any) -> Any:
    """text * times"""
    if times == 1:
        return text
    size = text._size
    if times <= 0 or size == 0:
        return make_text(text._data, 0, True, text._arena)
    out = allocate(text._arena, size * times if times < (1 << 46) // size + 1 else -1)
    to = 0
    for _ in range(times):
        to = put(text._data, out, to, size)
    return make_text(out, to, text._is_ascii, text._arena)


@function(operator.mul, INT, TEXT)
@helper
def repeated(times: Any, text: Any) -> Any:
    """times * text"""
    return repeat(text, times)


@method("join", TEXT, Texts)
@helper
def join(sep: Any, texts: Any) -> Any:
    """sep.join(texts)"""
    count, size, is_ascii, arena = 0, 0, sep._is_ascii, sep._arena
    for text in texts:
        count += 1
        size += text._size
        is_ascii = is_ascii and text._is_ascii
        if address_of(arena) == 0:
            arena = text._arena
    if count == 0:
        return make_text(sep._data, 0, True, arena)
    out = allocate(arena, size + sep._size * (count - 1))
    to = 0
    for text in texts:
        if count < 0:
            to = put(sep._data, out, to, sep._size)
        count = -1
        to = put(text._data, out, to, text._size)
    return make_text(out, to, is_ascii, arena)


@method("join", TEXT, TextsOnce)
@helper
def join_once(sep: Any, texts: Any) -> Any:
    """sep.join(texts) in one pass: each text is put behind the one before, nothing else taking bytes meanwhile."""
    out, total, is_ascii, arena = sep._data, 0, sep._is_ascii, sep._arena
    is_first = True
    for text in texts:
        if address_of(arena) == 0:
            arena = text._arena
        size = text._size if is_first else sep._size + text._size
        part = allocate(arena, size)
        if is_first:
            out, is_first = part, False
            put(text._data, part, 0, text._size)
        else:
            put(text._data, part, put(sep._data, part, 0, sep._size), text._size)
        is_ascii = is_ascii and text._is_ascii
        total += size
    return make_text(out, total, is_ascii or total == 0, arena)


@method("join", TEXT, TextIterator)
@user_function
def join_iterated(sep: Any, texts: Any) -> Any:
    """sep.join(texts) of an iterator, whose steps may take bytes of the arena: so it is gone through first."""
    return join(sep, list(texts))


# replace -------------------------------------------------------------------------------------------------------------


@helper
def _interleaved(text: Any, new: Any, limit: Any, arena: Any) -> Any:
    """text.replace("", new, limit): `new` before each character and at the end."""
    times = min(limit, count_points(text._data, text._size) + 1)
    out = allocate(arena, text._size + times * new._size)
    at, to = 0, 0
    for i in range(times):
        if i > 0:
            size = size_at(text._data, at)
            for _ in range(size):
                out[to] = text._data[at]
                at, to = at + 1, to + 1
        to = put(new._data, out, to, new._size)
    copy_bytes(text._data, at, out, to, text._size - at)
    return make_text(out, to + text._size - at, text._is_ascii and new._is_ascii, arena)


@method("replace", TEXT, TEXT, TEXT, INT)
@helper
def replace(text: Any, old: Any, new: Any, count: Any = -1) -> Any:
    """text.replace(old, new, count); the text itself where nothing is to be replaced"""
    limit = count if count >= 0 else END
    arena = arena_of(with_arena(text, old), new)
    if limit == 0 or equal(old, new):
        return make_text(text._data, text._size, text._is_ascii, arena)
    if old._size == 0:
        return _interleaved(text, new, limit, arena)
    size = text._size
    found = find_bytes(text._data, 0, size, old._data, old._size)
    if found < 0:
        return make_text(text._data, text._size, text._is_ascii, arena)
    times = min(limit, count_bytes(text._data, found, size, old._data, old._size))
    out = allocate(arena, size + times * (new._size - old._size))
    at, to = 0, 0
    for i in range(times):
        if i > 0:
            found = find_bytes(text._data, at, size, old._data, old._size)
        copy_bytes(text._data, at, out, to, found - at)
        to = put(new._data, out, to + found - at, new._size)
        at = found + old._size
    copy_bytes(text._data, at, out, to, size - at)
    return make_text(out, to + size - at, text._is_ascii and new._is_ascii, arena)


# To a width ----------------------------------------------------------------------------------------------------------


@helper
def _padded(text: Any, left: Any, right: Any, fill: Any) -> Any:
    size = text._size + (left + right) * fill._size
    out = allocate(text._arena, size)
    to = 0
    for _ in range(left):
        to = put(fill._data, out, to, fill._size)
    to = put(text._data, out, to, text._size)
    for _ in range(right):
        to = put(fill._data, out, to, fill._size)
    return make_text(out, size, text._is_ascii and fill._is_ascii, text._arena)


@helper
def _missing(text: Any, width: Any, fill: Any) -> Any:
    if length_of(fill) != 1:
        raise TypeError("The fill character must be exactly one character long")
    return max(0, width - length_of(text))


@method("ljust", TEXT, INT, TEXT)
@helper
def ljust(text: Any, width: Any, fill: Any) -> Any:
    """text.ljust(width, fill)"""
    missing = _missing(text, width, fill)
    return text if missing == 0 else _padded(text, 0, missing, fill)


@method("rjust", TEXT, INT, TEXT)
@helper
def rjust(text: Any, width: Any, fill: Any) -> Any:
    """text.rjust(width, fill)"""
    missing = _missing(text, width, fill)
    return text if missing == 0 else _padded(text, missing, 0, fill)


@method("center", TEXT, INT, TEXT)
@helper
def center(text: Any, width: Any, fill: Any) -> Any:
    """text.center(width, fill); of an odd number the left gets more if the width is odd"""
    missing = _missing(text, width, fill)
    left = missing // 2 + (missing & width & 1)
    return text if missing == 0 else _padded(text, left, missing - left, fill)


@method("ljust", TEXT, INT)
@helper
def ljust_with_spaces(text: Any, width: Any) -> Any:
    """text.ljust(width)"""
    return ljust(text, width, _space())


@method("rjust", TEXT, INT)
@helper
def rjust_with_spaces(text: Any, width: Any) -> Any:
    """text.rjust(width)"""
    return rjust(text, width, _space())


@method("center", TEXT, INT)
@helper
def center_with_spaces(text: Any, width: Any) -> Any:
    """text.center(width)"""
    return center(text, width, _space())


@method("zfill", TEXT, INT)
@helper
def zfill(text: Any, width: Any) -> Any:
    """text.zfill(width)"""
    missing = width - length_of(text)
    if missing <= 0:
        return text
    size = text._size + missing
    out = allocate(text._arena, size)
    at = 1 if text._size > 0 and (text._data[0] == 43 or text._data[0] == 45) else 0  # a sign stays in front
    if at == 1:
        out[0] = text._data[0]
    for i in range(missing):
        out[at + i] = 48
    copy_bytes(text._data, at, out, at + missing, text._size - at)
    return make_text(out, size, text._is_ascii, text._arena)
