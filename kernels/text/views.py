"""Texts for and from the driver of a user function: over a buffer, and back to a pointer and a length."""
# mypy: allow-untyped-calls

from __future__ import annotations

from typing import Any

import numpy as np

from kernelmill.kernels.lines import BEYOND_ASCII
from kernelmill.kernels.text.integers import written_int
from kernelmill.kernels.text.jitting import helper
from kernelmill.kernels.text.pointers import address_of, bytes_of, words_of
from kernelmill.kernels.text.points import all_ascii
from kernelmill.kernels.text.strings import string_to_arena
from kernelmill.kernels.text.texttype import make_text

_PLACE = ~BEYOND_ASCII & 0xFFFFFFFF
"""The bits of an int32 place without that one."""


@helper
def text_of(buffer: Any, start: Any, length: Any, is_ascii: Any, arena_state: Any) -> Any:
    """Make the Text over buffer[start:start + length].

    Shapes: buffer u8 of valid UTF-8, SLACK_BYTES readable past the text; arena_state i64[4] as in arena.py. Units:
    bytes. `is_ascii` may be False for ASCII, at a cost in speed. The caller keeps both arrays alive.
    """
    return make_text(bytes_of(buffer, start), length, is_ascii, words_of(arena_state))


@helper
def text_of_row(buffer: Any, start: Any, stop: Any, is_told: Any, arena_state: Any) -> Any:
    """Make the Text over buffer[start:stop], as `text_of` does.

    With `is_told` it is ASCII unless BEYOND_ASCII is added to `start`. Else it is looked at: that makes slices,
    indexes and len of those that are cheap, most of them in any text.
    """
    at = np.int64(start) & _PLACE
    data, size = bytes_of(buffer, at), stop - at
    return make_text(data, size, start >= 0 if is_told else all_ascii(data, size), words_of(arena_state))


@helper
def is_ascii(buffer: Any, start: Any, stop: Any) -> Any:
    """True if no byte of buffer[start:stop] is >= 0x80; SLACK_BYTES past it must be readable."""
    return all_ascii(bytes_of(buffer, start), stop - start)


@helper
def address(text: Any) -> Any:
    """The address of a Text's first byte."""
    return address_of(text._data)


@helper
def size(text: Any) -> Any:
    """The bytes of a Text."""
    return text._size


@helper
def text_of_str(string: Any, arena_state: Any) -> Any:
    """Make the Text of one of numba's own strings (`unicode_type`), such as `str(5)` or an if/else of two literals."""
    return string_to_arena(string, words_of(arena_state))


@helper
def text_of_int(value: Any, arena_state: Any) -> Any:
    """Make the Text of an int64's decimal digits, as `str(value)` does."""
    return written_int(value, words_of(arena_state))
