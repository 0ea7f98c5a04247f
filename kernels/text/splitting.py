"""split, rsplit, splitlines, partition. Forward ones find their pieces when asked, backward ones at once."""

from __future__ import annotations

from typing import Any

from kernelmill.kernels.text.arena import allocate_words
from kernelmill.kernels.text.comparing import equal_bytes
from kernelmill.kernels.text.jitting import helper
from kernelmill.kernels.text.pieces import NO_LIMIT, make_table, piece
from kernelmill.kernels.text.pointers import address_of
from kernelmill.kernels.text.points import start_before
from kernelmill.kernels.text.registering import BOOL, INT, NONE, method
from kernelmill.kernels.text.searching import find_bytes, rfind_bytes
from kernelmill.kernels.text.separated import lines, separated
from kernelmill.kernels.text.texttype import TEXT, make_text
from kernelmill.kernels.text.whitespace import end_before_spaces, is_ascii_space, spaced, wide_space_size


@helper
def arena_of(one: Any, other: Any) -> Any:
    """The arena of either text: string literals have none."""
    return one._arena if address_of(one._arena) != 0 else other._arena


@helper
def in_arena_of(text: Any, other: Any) -> Any:
    """The text, with the arena of the other one if it has none."""
    return make_text(text._data, text._size, text._is_ascii, arena_of(text, other))


@method("split", TEXT, NONE, INT)
@helper
def split(text: Any, sep: Any = None, maxsplit: Any = NO_LIMIT) -> Any:
    """text.split(None, maxsplit)"""
    return spaced(text, text, maxsplit)


@method("split", TEXT, TEXT, INT)
@helper
def split_at(text: Any, sep: Any, maxsplit: Any = NO_LIMIT) -> Any:
    """text.split(sep, maxsplit)"""
    if sep._size == 0:
        raise ValueError("empty separator")
    return separated(in_arena_of(text, sep), sep, maxsplit)


@method("splitlines", TEXT, BOOL)
@helper
def splitlines(text: Any, keepends: Any = False) -> Any:
    """text.splitlines(keepends)"""
    return lines(text, text, 1 if keepends else 0)


# Backwards -----------------------------------------------------------------------------------------------------------


@helper
def _word_before(text: Any, stop: Any) -> Any:
    """Start and end of the last word before `stop`; (-1, -1) if there is none."""
    data = text._data
    stop = end_before_spaces(data, 0, stop)
    at = stop
    while at > 0:
        if data[at - 1] < 0x80:
            if is_ascii_space(data[at - 1]):
                break
            at -= 1
        else:
            before = start_before(data, at)
            if wide_space_size(data, before) != 0:
                break
            at = before
    return (at, stop) if stop > 0 else (-1, -1)


@helper
def _put_words(text: Any, maxsplit: Any, entries: Any, count: Any) -> Any:
    """Find the pieces of rsplit(None, maxsplit) from the last on; put them before entries[2 * count] unless it is 0."""
    found, stop = 0, text._size
    while stop >= 0:
        if found == maxsplit:
            start, stop = 0, end_before_spaces(text._data, 0, stop)
            start = 0 if stop > 0 else -1
        else:
            start, stop = _word_before(text, stop)
        if start < 0:
            break
        found += 1
        if count > 0:
            entries[2 * (count - found)], entries[2 * (count - found) + 1] = start, stop - start
        stop = start if found <= maxsplit or maxsplit < 0 else -1
    return found


@helper
def _put_fields(text: Any, sep: Any, maxsplit: Any, entries: Any, count: Any) -> Any:
    """As `_put_words`, for rsplit(sep, maxsplit)."""
    found, stop = 0, text._size
    while stop >= 0:
        cut = -1 if found == maxsplit else rfind_bytes(text._data, 0, stop, sep._data, sep._size)
        start = cut + sep._size if cut >= 0 else 0
        found += 1
        if count > 0:
            entries[2 * (count - found)], entries[2 * (count - found) + 1] = start, stop - start
        stop = cut
    return found


@method("rsplit", TEXT, NONE, INT)
@helper
def rsplit(text: Any, sep: Any = None, maxsplit: Any = NO_LIMIT) -> Any:
    """text.rsplit(None, maxsplit)"""
    count = _put_words(text, maxsplit, text._arena, 0)
    entries = allocate_words(text._arena, 2 * count)
    _put_words(text, maxsplit, entries, count)
    return make_table(text, entries, count, 2)


@method("rsplit", TEXT, TEXT, INT)
@helper
def rsplit_at(text: Any, sep: Any, maxsplit: Any = NO_LIMIT) -> Any:
    """text.rsplit(sep, maxsplit)"""
    if sep._size == 0:
        raise ValueError("empty separator")
    arena = arena_of(text, sep)
    count = _put_fields(text, sep, maxsplit, arena, 0)
    entries = allocate_words(arena, 2 * count)
    _put_fields(text, sep, maxsplit, entries, count)
    return make_table(in_arena_of(text, sep), entries, count, 2)


# Around one separator, and without one end ---------------------------------------------------------------------------


@method("partition", TEXT, TEXT)
@helper
def partition(text: Any, sep: Any) -> Any:
    """text.partition(sep)"""
    if sep._size == 0:
        raise ValueError("empty separator")
    text = in_arena_of(text, sep)
    size = text._size
    cut = find_bytes(text._data, 0, size, sep._data, sep._size)
    if cut < 0:
        return text, piece(text, size, size), piece(text, size, size)
    return piece(text, 0, cut), piece(text, cut, cut + sep._size), piece(text, cut + sep._size, size)


@method("rpartition", TEXT, TEXT)
@helper
def rpartition(text: Any, sep: Any) -> Any:
    """text.rpartition(sep)"""
    if sep._size == 0:
        raise ValueError("empty separator")
    text = in_arena_of(text, sep)
    size = text._size
    cut = rfind_bytes(text._data, 0, size, sep._data, sep._size)
    if cut < 0:
        return piece(text, 0, 0), piece(text, 0, 0), text
    return piece(text, 0, cut), piece(text, cut, cut + sep._size), piece(text, cut + sep._size, size)


@method("removeprefix", TEXT, TEXT)
@helper
def removeprefix(text: Any, prefix: Any) -> Any:
    """text.removeprefix(prefix)"""
    size = prefix._size
    if size <= text._size and equal_bytes(text._data, 0, prefix._data, 0, size):
        return piece(text, size, text._size)
    return text


@method("removesuffix", TEXT, TEXT)
@helper
def removesuffix(text: Any, suffix: Any) -> Any:
    """text.removesuffix(suffix)"""
    rest = text._size - suffix._size
    if rest >= 0 and equal_bytes(text._data, rest, suffix._data, 0, suffix._size):
        return piece(text, 0, rest)
    return text
