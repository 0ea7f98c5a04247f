"""isalpha, isdigit, isupper and their like."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from kernelmill.kernels.text.jitting import apart, helper, made_when_called, merged
from kernelmill.kernels.text.points import all_ascii, decode, size_at
from kernelmill.kernels.text.registering import method
from kernelmill.kernels.text.texttype import TEXT
from kernelmill.kernels.text.unicodetables import BLOCK_BITS, bits_of, continues_identifier, is_title

_ONE, _ZERO, _IN_BLOCK = np.uint64(1), np.uint64(0), 63


def table_test(holds: Callable[[str], bool]) -> Any:
    """Make a helper `test(point) -> bool` that looks `holds` up in its table."""

    def test(point: Any) -> bool:
        raise TypeError(point)

    test.__qualname__ = f"table_test({holds.__qualname__})"

    @made_when_called(test)
    def make() -> Any:
        numbers, words = bits_of(holds)

        def found(point: Any) -> Any:
            block = point >> BLOCK_BITS
            if block >= numbers.size:
                return False
            return words[numbers[block]] >> np.uint64(point & _IN_BLOCK) & _ONE != _ZERO

        return found

    return apart(test)


def _every_character(holds: Callable[[str], bool], of_empty: bool = False) -> Any:
    """Make a helper `test(text) -> bool`: True if the text is not empty and `holds` is true of every character."""
    ascii_set = sum(1 << point for point in range(128) if holds(chr(point)))
    low, high = np.uint64(ascii_set & (1 << 64) - 1), np.uint64(ascii_set >> 64)
    beyond_ascii = table_test(holds)

    def of_any_size(text: Any) -> Any:
        at, size = 0, text._size
        while at < size:
            byte = np.int64(text._data[at])
            if byte < 128:
                half = low if byte < 64 else high
                if half >> np.uint64(byte & _IN_BLOCK) & _ONE == _ZERO:
                    return False
                at += 1
            else:
                if not beyond_ascii(decode(text._data, at)):
                    return False
                at += size_at(text._data, at)
        return size > 0 or of_empty

    of_any_size.__qualname__ = f"every_character({holds.__qualname__})"
    apart(of_any_size)

    def test(text: Any) -> Any:
        byte = np.int64(text._data[0])  # of an empty text it is one of the slack's
        if text._size != 1 or byte >= 128:
            return of_any_size(text)
        half = low if byte < 64 else high  # chosen without a branch: spaces among letters come as they like
        return half >> np.uint64(byte & _IN_BLOCK) & _ONE != _ZERO

    test.__qualname__ = f"one_or_every_character({holds.__qualname__})"
    return merged(test)


is_upper, is_lower, is_title_case = table_test(str.isupper), table_test(str.islower), table_test(is_title)
_starts_name, _continues_name = table_test(str.isidentifier), table_test(continues_identifier)

for _name in ("isalpha", "isdecimal", "isdigit", "isnumeric", "isalnum", "isspace"):
    method(_name, TEXT)(_every_character(getattr(str, _name)))
method("isprintable", TEXT)(_every_character(str.isprintable, of_empty=True))


@method("isascii", TEXT)
@helper
def isascii(text: Any) -> Any:
    """text.isascii()"""
    return text._is_ascii or all_ascii(text._data, text._size)


@method("isupper", TEXT)
@helper
def isupper(text: Any) -> Any:
    """text.isupper()"""
    at, found = 0, False
    while at < text._size:
        point = decode(text._data, at)
        if is_lower(point) or is_title_case(point):
            return False
        found = found or is_upper(point)
        at += size_at(text._data, at)
    return found


@method("islower", TEXT)
@helper
def islower(text: Any) -> Any:
    """text.islower()"""
    at, found = 0, False
    while at < text._size:
        point = decode(text._data, at)
        if is_upper(point) or is_title_case(point):
            return False
        found = found or is_lower(point)
        at += size_at(text._data, at)
    return found


@method("istitle", TEXT)
@helper
def istitle(text: Any) -> Any:
    """text.istitle()"""
    at, found, after_cased = 0, False, False
    while at < text._size:
        point = decode(text._data, at)
        if is_upper(point) or is_title_case(point):
            if after_cased:
                return False
            after_cased, found = True, True
        elif is_lower(point):
            if not after_cased:
                return False
        else:
            after_cased = False
        at += size_at(text._data, at)
    return found


@method("isidentifier", TEXT)
@helper
def isidentifier(text: Any) -> Any:
    """text.isidentifier()"""
    at = 0
    while at < text._size:
        point = decode(text._data, at)
        if not (_continues_name(point) if at > 0 else _starts_name(point)):
            return False
        at += size_at(text._data, at)
    return text._size > 0
