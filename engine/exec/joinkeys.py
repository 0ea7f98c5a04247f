"""Keys of a join: the build side's are numbered, those of probe rows looked up. Many threads may look up at once."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from kernelmill.engine.batch import Bytes, is_string_like, key_words, plain, strings_view, validity_bytes
from kernelmill.engine.exec.keys import encode_rows
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
    first = plain(columns[0])
    if len(columns) == 1 and not is_string_like(first.type) and not pa.types.is_floating(first.type):
        direct = _direct_finder(first, nulls_equal, numbers_a_row)
        if direct is not None:
            return direct, direct.find([first], rows)
    table = _TableFinder(nulls_equal)
    return table, table.number(columns, rows)


def null_rows(columns: list[pa.Array[Any]]) -> Bytes:
    """One byte a row, not 0 where any of the columns is null; empty if none is."""
    marks = NO_MASK
    for column in columns:
        valid = validity_bytes(column)
        if valid.size:
            marks = (valid == 0).view(np.uint8) | (marks if marks.size else np.uint8(0))
    return marks


class _EveryRow:
    """One group for all rows: of a join without keys."""

    groups = 1

    def find(self, columns: list[pa.Array[Any]], rows: int) -> Groups:
        """All of them are in it."""
        return np.zeros(rows, np.int32)


class _Direct:
    """Groups of integers, dates and the like by their distance from the least; the last one is the nulls', if equal."""

    def __init__(self, base: np.uint64, span: int, nulls_equal: bool) -> None:
        self._base, self._span = base, span
        self.groups = span + nulls_equal
        self._null_group = span if nulls_equal else joining.NO_GROUP

    def find(self, columns: list[pa.Array[Any]], rows: int) -> Groups:
        """One look at each value."""
        column, groups = plain(columns[0]), np.empty(rows, np.int32)
        words, validity = key_words(column), validity_bytes(column)
        joining.find_direct(words, validity, self._base, self._span, self._null_group, groups)
        return groups


def _direct_finder(column: pa.Array[Any], nulls_equal: bool, numbers_a_row: int) -> _Direct | None:
    words, validity = key_words(column).view(np.int64), validity_bytes(column)
    if validity.size:
        words = words[validity != 0]
    if not words.size:
        return _Direct(np.uint64(0), 0, nulls_equal)
    low, high = int(words.min()), int(words.max())
    if high - low >= min(max(_DIRECT_SPAN_LEAST, numbers_a_row * words.size), _DIRECT_SPAN_MAX):
        return None
    return _Direct(np.uint64(low & 0xFFFFFFFFFFFFFFFF), high - low + 1, nulls_equal)


class _TableFinder:
    """Groups of keys of any type by a key table, whose numbers are in first-seen order."""

    def __init__(self, nulls_equal: bool) -> None:
        self._nulls_equal, self._table = nulls_equal, KeyTable()
        self.groups = 0

    def number(self, columns: list[pa.Array[Any]], rows: int) -> Groups:
        """Add the keys of all build rows; their groups."""
        columns = [plain(column) for column in columns]
        groups: Groups = np.empty(rows, np.int32)
        size = sum(column.nbytes for column in columns) + 16 * rows if _is_text(columns) else 0
        self._table.reset_unbounded(groups=rows, key_bytes=size)
        if _is_text(columns):
            data, offsets, validity = _strings(columns)
            self._table.group_strings(data, offsets, validity, 0, groups)
        else:
            self._table.group_words(key_words(columns[0]), validity_bytes(columns[0]), 0, groups)
        self.groups = len(self._table)
        return self._without_nulls(columns, groups)

    def find(self, columns: list[pa.Array[Any]], rows: int) -> Groups:
        """Look each key up; the table is only read."""
        columns = [plain(column) for column in columns]
        groups, table = np.empty(rows, np.int32), self._table
        keys = np.empty(4 * keytable.CHUNK_ROWS, np.uint64)
        at = table.slots, table.rows, table.arena, groups
        if _is_text(columns):
            scratch = np.empty(keytable.SCRATCH_SIZE, np.int32)
            joining.find_strings(*_strings(columns), table.seed, keys, scratch, *at)
        else:
            joining.find_words(key_words(columns[0]), validity_bytes(columns[0]), table.seed, keys, *at)
        return self._without_nulls(columns, groups)

    def _without_nulls(self, columns: list[pa.Array[Any]], groups: Groups) -> Groups:
        if not self._nulls_equal:
            marks = null_rows(columns)
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
        columns = [plain(column) for column in columns]
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
