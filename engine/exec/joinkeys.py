"""Keys of a join: the build side's are numbered, those of probe rows looked up. Many threads may look up at once."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from kernelmill.engine.batch import Bytes, Words, is_string_like, key_words, plain, strings_view, validity_bytes
from kernelmill.engine.exec.keys import encode_rows, turned
from kernelmill.kernels import joining, keytable
from kernelmill.kernels.table import NO_MASK, Groups, KeyTable

_DIRECT_SPAN_LEAST, _DIRECT_SPAN_MAX = 1 << 16, 1 << 27


class Finder(Protocol):
    """Tells the group of each row's key, `joining.NO_GROUP` for one that the build side does not have.

    `groups` is how many numbers there are.
    """

    groups: int

    def find(self, columns: list[pa.Array[Any]], rows: int) -> Groups:
        """The groups of `rows` rows whose keys are these columns."""


def number_keys(
    columns: list[pa.Array[Any]], rows: int, nulls_equal: bool, numbers_a_row: int
) -> tuple[Finder, Groups]:
    """Number the keys of a build side of `rows` rows: what finds them, and the group of each row.

    Integers are numbered by their distance from the least if that takes at most so many numbers a row, or few at all.
    """
    if not columns:
        every = _EveryRow()
        return every, every.find([], rows)
    words = _words_for(_opened(columns), nulls_equal)
    if words is None:
        texts = _ByText(nulls_equal)
        return texts, texts.number(columns, rows)
    direct = _direct_finder(words, columns, numbers_a_row)
    if direct is not None:
        return direct, direct.find(columns, rows)
    table = _ByWord(words)
    return table, table.number(columns, rows)


def null_rows(columns: list[pa.Array[Any]]) -> Bytes:
    """One byte a row, not 0 where any of the columns is null; empty if none is."""
    marks = NO_MASK
    for column in columns:
        valid = validity_bytes(column)
        if valid.size:
            marks = (valid == 0).view(np.uint8) | (marks if marks.size else np.uint8(0))
    return marks


def _opened(columns: list[pa.Array[Any]]) -> list[pa.Array[Any]]:
    """Key columns as they are looked up: dictionaries as their values, decimals as bytes."""
    return [turned(plain(column)) for column in columns]


class _EveryRow:
    """One group for all rows: of a join without keys."""

    groups = 1

    def find(self, columns: list[pa.Array[Any]], rows: int) -> Groups:
        """All of them are in it."""
        return np.zeros(rows, np.int32)


class _Words(Protocol):
    """Makes one 64-bit word of a row's keys; `nulls_are_key`: a row that is not valid has a key all the same."""

    nulls_are_key: bool

    def of(self, columns: list[pa.Array[Any]]) -> tuple[Words, Bytes]:
        """The word of each row, and whether it is valid: empty if all are."""


class _OneColumn:
    """The words of one fixed-width column."""

    def __init__(self, nulls_equal: bool) -> None:
        self.nulls_are_key = nulls_equal

    def of(self, columns: list[pa.Array[Any]]) -> tuple[Words, Bytes]:
        """They are its values."""
        (column,) = _opened(columns)
        return key_words(column), validity_bytes(column)


class _Packed:
    """Several columns of integers in one word, by their distances from the least of the build side.

    Of each column: the least value and how many different distances there are; a null, if nulls are equal, is one more.
    """

    nulls_are_key = False

    def __init__(self, lows: list[np.uint64], spans: list[int], nulls_equal: bool) -> None:
        self._lows, self._spans, self._nulls_equal = lows, spans, nulls_equal

    def of(self, columns: list[pa.Array[Any]]) -> tuple[Words, Bytes]:
        """A row with a value outside the build side's ranges is not valid: it has no match."""
        packed, valid = np.zeros(len(columns[0]), np.uint64), np.ones(len(columns[0]), np.bool_)
        for column, low, span in zip(_opened(columns), self._lows, self._spans, strict=True):
            distances, validity = key_words(column) - low, validity_bytes(column)
            fits = distances < np.uint64(span)
            if validity.size:
                fits &= validity != 0
                if self._nulls_equal:
                    distances = np.where(validity != 0, distances, np.uint64(span))
                    fits |= validity == 0
            valid &= fits
            packed = packed * np.uint64(span + 1) + distances
        return packed, NO_MASK if valid.all() else valid.view(np.uint8)


def _words_for(columns: list[pa.Array[Any]], nulls_equal: bool) -> _Words | None:
    """What makes words of keys, None for keys that must be texts."""
    if any(is_string_like(column.type) for column in columns):
        return None
    if len(columns) == 1:
        return _OneColumn(nulls_equal)
    if any(pa.types.is_floating(column.type) for column in columns):
        return None
    ranges = [_range_of(key_words(column), validity_bytes(column)) for column in columns]
    spans = [high - low + 1 for low, high in ranges]
    if math.prod(span + 1 for span in spans) >= 1 << 63:
        return None
    return _Packed([_word(low) for low, _ in ranges], spans, nulls_equal)


def _range_of(words: Words, validity: Bytes) -> tuple[int, int]:
    """The least and the greatest of the valid words, as int64; 0 and -1 if there are none."""
    signed = words.view(np.int64)
    if validity.size:
        signed = signed[validity != 0]
    return (int(signed.min()), int(signed.max())) if signed.size else (0, -1)


def _word(value: int) -> np.uint64:
    return np.uint64(value & 0xFFFFFFFFFFFFFFFF)


class _Direct:
    """Groups of integers, dates and the like by their distance from the least; the last one is the nulls', if equal."""

    def __init__(self, words: _Words, base: np.uint64, span: int) -> None:
        self._words, self._base, self._span = words, base, span
        self.groups = span + words.nulls_are_key
        self._null_group = span if words.nulls_are_key else joining.NO_GROUP

    def find(self, columns: list[pa.Array[Any]], rows: int) -> Groups:
        """One look at each value."""
        groups = np.empty(rows, np.int32)
        joining.find_direct(*self._words.of(columns), self._base, self._span, self._null_group, groups)
        return groups


def _direct_finder(words: _Words, columns: list[pa.Array[Any]], numbers_a_row: int) -> _Direct | None:
    if pa.types.is_floating(plain(columns[0]).type):
        return None
    values, validity = words.of(columns)
    low, high = _range_of(values, validity)
    if high - low >= min(max(_DIRECT_SPAN_LEAST, numbers_a_row * values.size), _DIRECT_SPAN_MAX):
        return None
    return _Direct(words, _word(low), high - low + 1)


class _ByWord:
    """Groups of words by a key table, whose numbers are in first-seen order."""

    def __init__(self, words: _Words) -> None:
        self._words, self._table = words, KeyTable()
        self.groups = 0

    def number(self, columns: list[pa.Array[Any]], rows: int) -> Groups:
        """Add the keys of all build rows; their groups."""
        groups: Groups = np.empty(rows, np.int32)
        values, validity = self._words.of(columns)
        self._table.reset_unbounded(groups=rows, key_bytes=0)
        self._table.group_words(values, validity, 0, groups)
        self.groups = len(self._table)
        return self._checked(groups, validity)

    def find(self, columns: list[pa.Array[Any]], rows: int) -> Groups:
        """Look each key up; the table is only read."""
        groups, table = np.empty(rows, np.int32), self._table
        values, validity = self._words.of(columns)
        keys = np.empty(4 * keytable.CHUNK_ROWS, np.uint64)
        joining.find_words(values, validity, table.seed, keys, table.slots, table.rows, table.arena, groups)
        return self._checked(groups, validity)

    def _checked(self, groups: Groups, validity: Bytes) -> Groups:
        if validity.size and not self._words.nulls_are_key:
            groups[validity == 0] = joining.NO_GROUP
        return groups


class _ByText:
    """Groups of texts by a key table; several columns are one text a row."""

    def __init__(self, nulls_equal: bool) -> None:
        self._nulls_equal, self._table = nulls_equal, KeyTable()
        self.groups = 0

    def number(self, columns: list[pa.Array[Any]], rows: int) -> Groups:
        """Add the keys of all build rows; their groups."""
        columns = _opened(columns)
        groups: Groups = np.empty(rows, np.int32)
        data, offsets, validity = _strings(columns)
        self._table.reset_unbounded(groups=rows, key_bytes=data.size)
        self._table.group_strings(data, offsets, validity, 0, groups)
        self.groups = len(self._table)
        return self._without_nulls(columns, groups)

    def find(self, columns: list[pa.Array[Any]], rows: int) -> Groups:
        """Look each key up; the table is only read."""
        columns = _opened(columns)
        groups, table = np.empty(rows, np.int32), self._table
        room = np.empty(4 * keytable.CHUNK_ROWS, np.uint64), np.empty(keytable.SCRATCH_SIZE, np.int32)
        joining.find_strings(*_strings(columns), table.seed, *room, table.slots, table.rows, table.arena, groups)
        return self._without_nulls(columns, groups)

    def _without_nulls(self, columns: list[pa.Array[Any]], groups: Groups) -> Groups:
        marks = NO_MASK if self._nulls_equal else null_rows(columns)
        if marks.size:
            groups[marks != 0] = joining.NO_GROUP
        return groups


class FirstSeen:
    """Finds the first key that comes twice in a stream of batches."""

    def __init__(self, nulls_equal: bool) -> None:
        self._nulls_equal, self._table = nulls_equal, KeyTable()
        self._table.reset_unbounded(groups=1 << 16, key_bytes=0)

    def repeated(self, columns: list[pa.Array[Any]], rows: int) -> int | None:
        """The first row whose key came before, in this batch or an earlier one; null keys count if they are equal."""
        columns = _opened(columns)
        groups: Groups = np.empty(rows, np.int32)
        before = len(self._table)
        if _is_text(columns):
            self._table.group_strings(*_strings(columns), 0, groups)
        else:
            self._table.group_words(key_words(columns[0]), validity_bytes(columns[0]), 0, groups)
        marks = NO_MASK if self._nulls_equal else null_rows(columns)
        kept = np.flatnonzero(marks == 0) if marks.size else np.arange(rows)
        groups = groups[kept]
        _, firsts = np.unique(groups, return_index=True)
        is_again = groups < before
        is_again |= ~np.isin(np.arange(groups.size), firsts)
        found = np.flatnonzero(is_again)
        return int(kept[found[0]]) if found.size else None


def _is_text(columns: list[pa.Array[Any]]) -> bool:
    """Whether keys are looked up as strings: several columns are one string a row."""
    return len(columns) > 1 or is_string_like(columns[0].type)


def _strings(columns: list[pa.Array[Any]]) -> tuple[Bytes, np.ndarray[Any, np.dtype[np.int32]], Bytes]:
    if len(columns) > 1:
        return (*encode_rows(columns), NO_MASK)
    return (*strings_view(columns[0]), validity_bytes(columns[0]))
