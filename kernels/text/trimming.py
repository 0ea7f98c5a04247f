"""strip, lstrip, rstrip: of whitespace or of given characters."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernelmill.kernels.text.comparing import equal_bytes
from kernelmill.kernels.text.jitting import helper
from kernelmill.kernels.text.pieces import piece
from kernelmill.kernels.text.pointers import byte_mask
from kernelmill.kernels.text.points import low_bits, size_at, start_before
from kernelmill.kernels.text.registering import NONE, method
from kernelmill.kernels.text.texttype import TEXT
from kernelmill.kernels.text.whitespace import end_before_spaces, first_beyond_spaces

_ZERO = np.uint64(0)


@helper
def _has(chars: Any, data: Any, at: Any, size: Any) -> Any:
    """True if one of the characters is the one of `size` bytes at `at`."""
    if size == 1 and chars._size <= 64:
        return byte_mask(chars._data, 0, data[at]) & low_bits(chars._size) != _ZERO
    i = 0
    while i < chars._size:
        if equal_bytes(chars._data, i, data, at, size):
            return True
        i += size_at(chars._data, i)
    return False


@helper
def _first_beyond(text: Any, chars: Any) -> Any:
    at = 0
    while at < text._size:
        size = size_at(text._data, at)
        if not _has(chars, text._data, at, size):
            break
        at += size
    return at


@helper
def _end_before(text: Any, chars: Any, start: Any) -> Any:
    at = text._size
    while at > start:
        before = start_before(text._data, at)
        if not _has(chars, text._data, before, at - before):
            break
        at = before
    return at


@method("strip", TEXT, NONE)
@helper
def strip(text: Any, chars: Any = None) -> Any:
    """text.strip()"""
    start = first_beyond_spaces(text._data, 0, text._size)
    return piece(text, start, end_before_spaces(text._data, start, text._size))


@method("lstrip", TEXT, NONE)
@helper
def lstrip(text: Any, chars: Any = None) -> Any:
    """text.lstrip()"""
    return piece(text, first_beyond_spaces(text._data, 0, text._size), text._size)


@method("rstrip", TEXT, NONE)
@helper
def rstrip(text: Any, chars: Any = None) -> Any:
    """text.rstrip()"""
    return piece(text, 0, end_before_spaces(text._data, 0, text._size))


@method("strip", TEXT, TEXT)
@helper
def strip_of(text: Any, chars: Any) -> Any:
    """text.strip(chars)"""
    start = _first_beyond(text, chars)
    return piece(text, start, _end_before(text, chars, start))


@method("lstrip", TEXT, TEXT)
@helper
def lstrip_of(text: Any, chars: Any) -> Any:
    """text.lstrip(chars)"""
    return piece(text, _first_beyond(text, chars), text._size)


@method("rstrip", TEXT, TEXT)
@helper
def rstrip_of(text: Any, chars: Any) -> Any:
    """text.rstrip(chars)"""
    return piece(text, 0, _end_before(text, chars, 0))
