"""Whitespace as `str` knows it, and split() at it: the edges in a 64-byte mask of word bytes, one after the other."""
# mypy: allow-untyped-calls

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types

from kernelmill.kernels._llvm import llvm
from kernelmill.kernels.intrinsics import SOON_BYTES
from kernelmill.kernels.text.jitting import apart, helper, made_when_called, merged
from kernelmill.kernels.text.pieces import SPACED, iterates, maker
from kernelmill.kernels.text.pointers import (
    PUT_WORDS,
    WORDS,
    count_ones,
    lowest_one,
    put_ones,
    ranges_mask,
    soon_read,
    without_lowest,
)
from kernelmill.kernels.text.points import low_bits, start_before

_ZERO, _ONE, _TOP, _BITS = np.uint64(0), np.uint64(1), np.uint64(63), np.uint64(64)

_ascii_spaces = ranges_mask((9, 13), (28, 32))
_space_leads = ranges_mask((0xC2, 0xC2), (0xE1, 0xE3))  # first bytes of whitespace beyond ASCII, among others

spaced = maker(SPACED)


@helper
def is_ascii_space(byte: Any) -> Any:
    """True for ASCII whitespace."""
    return 9 <= byte <= 13 or 28 <= byte <= 32


@helper
def wide_space_size(data: Any, at: Any) -> Any:
    """The bytes of the whitespace beyond ASCII that starts at `at`; 0 if none does.

    U+0085, 00A0, 1680, 2000-200A, 2028, 2029, 202F, 205F, 3000.
    """
    lead, second = data[at], data[at + 1]
    if lead == 0xC2:
        return 2 if second == 0x85 or second == 0xA0 else 0
    if lead < 0xE1 or lead > 0xE3:
        return 0
    third = data[at + 2]
    if lead == 0xE1:
        return 3 if second == 0x9A and third == 0x80 else 0
    if lead == 0xE3:
        return 3 if second == 0x80 and third == 0x80 else 0
    if second == 0x81:
        return 3 if third == 0x9F else 0
    return 3 if second == 0x80 and (third <= 0x8A or third == 0xA8 or third == 0xA9 or third == 0xAF) else 0


@helper
def first_beyond_spaces(data: Any, at: Any, stop: Any) -> Any:
    """Where the first byte that is not of whitespace lies, from `at` on; `stop` if there is none."""
    while at < stop:
        if data[at] < 0x80:
            size = 1 if is_ascii_space(data[at]) else 0
        else:
            size = wide_space_size(data, at)
        if size == 0:
            return at
        at += size
    return stop


@helper
def end_before_spaces(data: Any, start: Any, at: Any) -> Any:
    """Where the whitespace that ends at `at` begins, not before `start`."""
    while at > start:
        if data[at - 1] < 0x80:
            if not is_ascii_space(data[at - 1]):
                return at
            at -= 1
        else:
            before = start_before(data, at)
            if wide_space_size(data, before) == 0:
                return at
            at = before
    return at


@apart
def _with_wide_spaces(data: Any, at: Any, leads: Any, spaces: Any, spilled: Any) -> Any:
    """The mask `spaces` with whitespace beyond ASCII; and of the last one the bits that fall into the next block."""
    spaces |= spilled
    spilled = _ZERO
    while leads != _ZERO:
        i = lowest_one(leads)
        leads = without_lowest(leads)
        size = wide_space_size(data, at + i)
        if size != 0:
            bits = low_bits(size)
            spaces |= bits << np.uint64(i)
            if i + size > 64:
                spilled = bits >> (_BITS - np.uint64(i))
    return spaces, spilled


@merged
def _word_edges(text: Any, at: Any, carry: Any, spilled: Any) -> Any:
    """Bits where words start and end by turns, in 64 bytes; whether a word goes on; whitespace in the next block."""
    data = text._data
    spaces = _ascii_spaces(data, at)
    inside = low_bits(text._size - at)
    if not text._is_ascii:
        leads = _space_leads(data, at) & inside
        if leads | spilled != _ZERO:
            spaces, spilled = _with_wide_spaces(data, at, leads, spaces, spilled)
    words = ~spaces & inside
    return words ^ (words << _ONE | carry), words >> _TOP, spilled


_STEP_EDGES = 8


@helper
def put_ones_in_turn(bits: Any, base: Any, entries: Any, at: Any) -> None:
    """As `put_ones`, for any processor."""
    # Eight a step, needed or not: the loop's end is guessed right far more often than with one a step.
    for first in range(at, at + count_ones(bits), _STEP_EDGES):
        for i in range(_STEP_EDGES):
            entries[first + i] = base + lowest_one(bits)
            bits = without_lowest(bits)


@merged
def _put_edges(edges: Any, base: Any, room: Any, count: Any) -> None:
    """As `put_ones`, in the way that is fast here."""


@made_when_called(_put_edges)
def _fast_here() -> Any:
    packs = "+avx512vbmi2" in llvm().machine()[2].split(",")

    def put(edges: Any, base: Any, room: Any, count: Any) -> None:
        put_ones(edges, base, room, count)

    def put_in_turn(edges: Any, base: Any, room: Any, count: Any) -> None:
        put_ones_in_turn(edges, base, room, count)

    return put if packs else put_in_turn


_FILL_BYTES = 128
"""Bytes looked through at a time: most lines of prose at once, and not much in vain where the first word is wanted."""
_ROOM_WORDS = _FILL_BYTES + 1 + PUT_WORDS


@merged
def _fill(text: Any, at: Any, carry: Any, spilled: Any, room: Any, count: Any) -> Any:
    """Put the edges of the next bytes behind the `count` in `room`; returns how many there are, and the state after."""
    size = text._size
    last = min(size, at + _FILL_BYTES)
    while at < last:
        soon_read(text._data, at + SOON_BYTES)
        edges, carry, spilled = _word_edges(text, at, carry, spilled)
        _put_edges(edges, at, room, count)
        count += count_ones(edges)
        at += 64
    if at >= size and count & 1 == 1:  # a word that ends with the text, at a block's end
        room[count] = size
        count += 1
    return count, at, carry, spilled


@helper
def _begin(pieces: Any, room: Any) -> Any:
    return room, 0, 0, 0, _ZERO, _ZERO, pieces._option


@merged
def _step(pieces: Any, state: Any) -> Any:
    """The next word; the state: room with edges, the next of them, their end, block, carry, spilled bits, cuts left."""
    room, following, count, at, carry, spilled, left = state
    text = pieces._text
    while following + 1 >= count:
        if at >= text._size:
            return False, 0, 0, state
        room[0] = room[following]  # the start of a word whose end is not found yet, if there is one
        count, at, carry, spilled = _fill(text, at, carry, spilled, room, count - following)
        following = 0
    start, stop = room[following], room[following + 1]
    following += 2
    if left >= 0:
        if left == 0:
            stop, at, following = text._size, text._size, count
        left -= 1
    return True, start, stop, (room, following, count, at, carry, spilled, left)


_STATE = types.Tuple((WORDS, types.int64, types.int64, types.int64, types.uint64, types.uint64, types.int64))
iterates(SPACED, _STATE, _begin, _step, _ROOM_WORDS)


@helper
def count_words(text: Any) -> Any:
    """len(text.split())"""
    edge_count, at, carry, spilled = 0, 0, _ZERO, _ZERO
    while at < text._size:
        edges, carry, spilled = _word_edges(text, at, carry, spilled)
        edge_count += count_ones(edges)
        at += 64
    return (edge_count + 1) >> 1  # a word that ends with the text at a block's end has no second edge
