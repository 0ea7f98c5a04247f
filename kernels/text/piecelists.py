"""Pieces as if they were the list that `str` gives: len, index, slice, in, and the table that makes an index cheap.

The first index into a short text finds the piece anew, and so does any small one. Else all pieces are listed in the
arena once, or a loop over `range(len(words))` would take time by the square; the arena's header holds which texts have
been listed or counted.
"""
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import operator
from typing import Any

from numba import types
from numba.extending import overload

from kernelmill.kernels.text.arena import allocate_words, header_of
from kernelmill.kernels.text.jitting import helper
from kernelmill.kernels.text.pieces import NO_LIMIT, SPACED, LazyPiecesType, PiecesType, TableType, make_table, piece
from kernelmill.kernels.text.pointers import address_of, words_at
from kernelmill.kernels.text.registering import INT, function
from kernelmill.kernels.text.texttype import TEXT
from kernelmill.kernels.text.whitespace import count_words

_SHORT_BYTES_MAX = 512  # of a text whose pieces may be found anew
_SMALL_INDEX_MAX = 4
_ASKED_ONCE = -1  # as a slot's _COUNT: nothing is known, but an index has been asked for before
_SLOTS, _SLOT_WORDS = 3, 8  # of the header; its last word tells which slot is the next to be taken
_NEXT_SLOT = 31
_DATA, _SIZE, _SEPARATOR, _SEPARATOR_SIZE, _OPTION, _KIND, _COUNT, _ENTRIES = range(_SLOT_WORDS)


def _kind_number(pieces):
    """Number of the kind of pieces; for compiled code only."""
    raise TypeError(pieces)


@overload(_kind_number)
def _kind_number_compiled(pieces):
    number = pieces.number
    return lambda pieces: number


@helper
def _slot_of(pieces: Any) -> Any:
    """The header's slot of these pieces, taken anew if there is none: its _COUNT and _ENTRIES are 0 if not known."""
    text, separator, kind = pieces._text, pieces._separator, _kind_number(pieces)
    data, cut_at = address_of(text._data), address_of(separator._data)
    header = header_of(text._arena)
    for number in range(_SLOTS):
        slot = words_at(address_of(header) + 8 * _SLOT_WORDS * number)
        if (
            slot[_DATA] == data and slot[_SIZE] == text._size and slot[_OPTION] == pieces._option
            and slot[_SEPARATOR] == cut_at and slot[_SEPARATOR_SIZE] == separator._size and slot[_KIND] == kind
        ):  # fmt: skip
            return slot
    slot = words_at(address_of(header) + 8 * _SLOT_WORDS * header[_NEXT_SLOT])
    header[_NEXT_SLOT] = (header[_NEXT_SLOT] + 1) % _SLOTS
    slot[_DATA], slot[_SIZE], slot[_OPTION], slot[_KIND] = data, text._size, pieces._option, kind
    slot[_SEPARATOR], slot[_SEPARATOR_SIZE] = cut_at, separator._size
    slot[_COUNT], slot[_ENTRIES] = 0, 0
    return slot


@helper
def _counted_one_by_one(pieces: Any) -> Any:
    count = 0
    for _ in pieces:
        count += 1
    return count


def _counted(pieces):
    """The number of pieces, found anew; for compiled code only."""
    raise TypeError(pieces)


@overload(_counted)
def _counted_compiled(pieces):
    if pieces != SPACED:
        return lambda pieces: _counted_one_by_one(pieces)
    return lambda pieces: count_words(pieces._text) if pieces._option == NO_LIMIT else _counted_one_by_one(pieces)


@helper
def listed(pieces: Any) -> Any:
    """The same pieces as a table."""
    text = pieces._text
    count = _counted(pieces)
    entries = allocate_words(text._arena, 2 * count)
    first = address_of(text._data)
    for i, found in enumerate(pieces):
        entries[2 * i], entries[2 * i + 1] = address_of(found._data) - first, found._size
    return make_table(text, entries, count, 2)


@helper
def _listed_once(pieces: Any, slot: Any) -> Any:
    """The same pieces as a table, which the slot of these pieces keeps."""
    if slot[_ENTRIES] == 0:
        table = listed(pieces)
        slot[_COUNT], slot[_ENTRIES] = table._option, address_of(table._entries)
    return make_table(pieces._text, words_at(slot[_ENTRIES]), slot[_COUNT], 2)


@helper
def _is_unlistable(pieces: Any) -> Any:
    return address_of(pieces._text._arena) == 0


@helper
def _item_of_table(table: Any, index: Any) -> Any:
    if index < 0:
        index += table._option
    if index < 0 or index >= table._option:
        raise IndexError("list index out of range")
    start = table._entries[index * table._stride]
    return piece(table._text, start, start + table._entries[index * table._stride + 1])


@helper
def _item_found_anew(pieces: Any, index: Any) -> Any:
    if index >= 0:
        for found in pieces:
            if index == 0:
                return found
            index -= 1
    raise IndexError("list index out of range")


@helper
def _slice_of_table(table: Any, part: Any) -> Any:
    start, stop, step = part.indices(table._option)
    count = max(0, (stop - start + step - (1 if step > 0 else -1)) // step)
    entries = words_at(address_of(table._entries) + 8 * start * table._stride)
    return make_table(table._text, entries, count, table._stride * step)


@function(len, LazyPiecesType)
@helper
def length(pieces: Any) -> Any:
    """len(text.split())"""
    if pieces._text._size <= _SHORT_BYTES_MAX or _is_unlistable(pieces):
        return _counted(pieces)
    slot = _slot_of(pieces)
    if slot[_COUNT] <= 0:
        slot[_COUNT] = _counted(pieces)
    return slot[_COUNT]


@function(operator.getitem, LazyPiecesType, INT)
@helper
def item(pieces: Any, index: Any) -> Any:
    """text.split()[index]"""
    if 0 <= index <= _SMALL_INDEX_MAX:
        return _item_found_anew(pieces, index)
    is_short = pieces._text._size <= _SHORT_BYTES_MAX
    if (is_short and index < 0) or _is_unlistable(pieces):
        index = index + _counted(pieces) if index < 0 else index
        return _item_found_anew(pieces, index)
    slot = _slot_of(pieces)
    if is_short and slot[_ENTRIES] == 0 and slot[_COUNT] != _ASKED_ONCE:
        slot[_COUNT] = _ASKED_ONCE
        return _item_found_anew(pieces, index)
    return _item_of_table(_listed_once(pieces, slot), index)


@function(operator.getitem, LazyPiecesType, types.SliceType)
@helper
def items(pieces: Any, part: Any) -> Any:
    """text.split()[start:stop:step]"""
    return _slice_of_table(listed(pieces), part)


@function(len, TableType)
@helper
def length_of_table(table: Any) -> Any:
    """len of pieces that are listed"""
    return table._option


@function(operator.getitem, TableType, INT)
@helper
def item_of_table(table: Any, index: Any) -> Any:
    """An index into pieces that are listed"""
    return _item_of_table(table, index)


@function(operator.getitem, TableType, types.SliceType)
@helper
def items_of_table(table: Any, part: Any) -> Any:
    """A slice of pieces that are listed"""
    return _slice_of_table(table, part)


@function(bool, PiecesType)
@helper
def is_filled(pieces: Any) -> Any:
    """bool(text.split())"""
    for _ in pieces:
        return True
    return False


@function(operator.truth, PiecesType)
@helper
def truth(pieces: Any) -> Any:
    """The test of `if text.split():`"""
    return is_filled(pieces)


@function(operator.not_, PiecesType)
@helper
def is_empty(pieces: Any) -> Any:
    """not text.split()"""
    return not is_filled(pieces)


@function(operator.contains, PiecesType, TEXT)
@helper
def contains(pieces: Any, text: Any) -> Any:
    """text in other.split()"""
    for found in pieces:  # noqa: SIM110 - numba has no any()
        if found == text:
            return True
    return False
