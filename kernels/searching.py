"""Where rows belong among rows that are sorted: binary search by several columns, in the order of `sorting.argsort`.

Column by column a row's place is narrowed to the sorted rows that equal it so far. Merging sorted runs asks it for one
row in many; placing rows by range asks it for many rows among few.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kernelmill.kernels._jit import helper, i32_in, i64, i64_out, kernel, u8_in, u64_in, void
from kernelmill.kernels.orderedwords import Words, ordered_words
from kernelmill.kernels.sorting import SortKey, prefix

Places = NDArray[np.int64]
_NOTHING = np.zeros(0, np.uint8)


class SortedRows:
    """Rows in the order of `argsort(columns)`, ready to be searched."""

    def __init__(self, columns: Sequence[SortKey]) -> None:
        self._columns = columns
        self._words = [_words_of(column) for column in columns]
        self._classes = [_classes_of(column) for column in columns]
        self.rows = columns[0].rows
        self._prefixes: Words | None = None

    def counts_up_to(self, wanted: Sequence[SortKey]) -> Places:
        """For each wanted row how many of the sorted ones come before it or equal it."""
        ordered, other = self._columns[0], wanted[0]
        if len(self._columns) > 1 or ordered.descending or ordered.validity.size or other.validity.size:
            return self.bounds_of(wanted)[1]
        if not isinstance(ordered.values, tuple) or not isinstance(other.values, tuple):
            return self.bounds_of(wanted)[1]
        if self._prefixes is None:
            self._prefixes = _prefixes_of(*ordered.values)
        counts = np.empty(wanted[0].rows, np.int64)
        count_strings(*other.values, self._prefixes, *ordered.values, counts)
        return counts

    def bounds_of(self, wanted: Sequence[SortKey]) -> tuple[Places, Places]:
        """For each wanted row how many of the sorted ones come before it, and how many before it or equal it.

        `wanted` are rows by columns of the same types and directions.
        """
        rows = wanted[0].rows
        low, high = np.zeros(rows, np.int64), np.full(rows, self.rows, np.int64)
        for column, words, classes, other in zip(self._columns, self._words, self._classes, wanted, strict=True):
            if column.validity.size or other.validity.size:
                narrow_words(_classes_of(other), classes, low, high)
            if words is not None:
                other_words = _words_of(other)
                assert other_words is not None
                narrow_words(other_words, words, low, high)
            else:
                assert isinstance(column.values, tuple) and isinstance(other.values, tuple)
                valid = other.validity if other.validity.size else _NOTHING
                narrow_strings(*other.values, valid, *column.values, int(column.descending), low, high)
        return low, high


def _prefixes_of(data: NDArray[np.uint8], offsets: NDArray[np.int32]) -> Words:
    """The first 8 bytes of each string as a word, as `prefix` makes it; some hundred strings, for it is slow."""
    bounds = zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True)
    heads = (data[start : min(stop, start + 8)].tobytes() for start, stop in bounds)
    return np.array([int.from_bytes(head.ljust(8, b"\0"), "big") for head in heads], np.uint64)


def _classes_of(column: SortKey) -> Words:
    """1 for each value; 0 for a null if nulls come first, 2 if they come last."""
    if not column.validity.size:
        return np.ones(column.rows, np.uint64)
    return np.where(column.validity != 0, 1, 2 if column.nulls_last else 0).astype(np.uint64)


def _words_of(column: SortKey) -> Words | None:
    """Words in the order of a column's values, all nulls alike; None for strings."""
    if isinstance(column.values, tuple):
        return None
    words = ordered_words(column.values)
    if column.descending:
        words = ~words
    return np.where(column.validity != 0, words, np.uint64(0)) if column.validity.size else words


@kernel(void(u64_in, u64_in, i64_out, i64_out))
def narrow_words(wanted: Any, words: Any, low: Any, high: Any) -> None:
    """Narrow each row's range of sorted rows to those whose word is the wanted one.

    Shapes: wanted u64[n]; words u64[m]; low and high i64[n], narrowed in place. words[low[row]:high[row]] ascend; an
    empty range stays where the word would be inserted.
    """
    for row in range(wanted.size):
        word = wanted[row]
        first, last = low[row], high[row]
        while first < last:
            middle = (first + last) // 2
            if words[middle] < word:
                first = middle + 1
            else:
                last = middle
        low[row] = first
        last = high[row]
        while first < last:
            middle = (first + last) // 2
            if words[middle] <= word:
                first = middle + 1
            else:
                last = middle
        high[row] = first


@helper
def _compared(data: Any, start: Any, stop: Any, other: Any, other_start: Any, other_stop: Any) -> Any:
    """-1, 0 or 1: how the bytes data[start:stop] compare with other[other_start:other_stop]."""
    at, other_at = start, other_start
    while at < stop and other_at < other_stop:
        word, other_word = prefix(data, at, stop), prefix(other, other_at, other_stop)
        if word != other_word:
            return np.int64(-1) if word < other_word else np.int64(1)
        at += 8
        other_at += 8
    size, other_size = stop - start, other_stop - other_start
    if size == other_size:
        return np.int64(0)
    return np.int64(-1) if size < other_size else np.int64(1)


@kernel(void(u8_in, i32_in, u64_in, u8_in, i32_in, i64_out))
def count_strings(
    data: Any, offsets: Any, prefixes: Any, sorted_data: Any, sorted_offsets: Any, counts: Any
) -> None:  # fmt: skip
    """Count for each row the sorted strings that are not greater: by their first 8 bytes, by the rest where these tie.

    Shapes: data u8, no slack needed; offsets i32[n + 1]; the sorted ones u8 and i32[m + 1], ascending, prefixes u64[m]
    the first bytes of each; counts i64[n], filled.
    """
    for row in range(counts.size):
        start, stop = np.int64(offsets[row]), np.int64(offsets[row + 1])
        word = prefix(data, start, stop)
        first, left = np.int64(0), np.int64(prefixes.size)
        while left > 0:  # no branch to guess wrong: each step halves what is left
            half = (left + 1) >> 1
            first += half if prefixes[first + half - 1] < word else 0
            left -= half
        last, left = first, np.int64(prefixes.size) - first
        while left > 0 and prefixes[first] == word:
            half = (left + 1) >> 1
            last += half if prefixes[last + half - 1] == word else 0
            left -= half
        while first < last:
            middle = (first + last) // 2
            found = _compared(
                sorted_data, np.int64(sorted_offsets[middle]), np.int64(sorted_offsets[middle + 1]), data, start, stop
            )
            if found <= 0:
                first = middle + 1
            else:
                last = middle
        counts[row] = first


@kernel(void(u8_in, i32_in, u8_in, u8_in, i32_in, i64, i64_out, i64_out))
def narrow_strings(
    data: Any, offsets: Any, validity: Any, sorted_data: Any, sorted_offsets: Any, is_descending: Any, low: Any,
    high: Any,
) -> None:  # fmt: skip
    """Narrow each row's range of sorted rows to those whose bytes are the wanted ones; a null's stays as it is.

    Shapes: data u8, no slack needed; offsets i32[n + 1]; validity u8[n] or empty; the sorted ones u8 and i32[m + 1];
    low and high i64[n], narrowed in place; the strings of [low[row], high[row]) ascend, or descend as told.
    """
    for row in range(low.size):
        if validity.size != 0 and validity[row] == 0:
            continue
        start, stop = np.int64(offsets[row]), np.int64(offsets[row + 1])
        sign = np.int64(-1) if is_descending != 0 else np.int64(1)
        first, last = low[row], high[row]
        while first < last:
            middle = (first + last) // 2
            found = _compared(
                sorted_data, np.int64(sorted_offsets[middle]), np.int64(sorted_offsets[middle + 1]), data, start, stop
            )
            if found * sign < 0:
                first = middle + 1
            else:
                last = middle
        low[row] = first
        last = high[row]
        while first < last:
            middle = (first + last) // 2
            found = _compared(
                sorted_data, np.int64(sorted_offsets[middle]), np.int64(sorted_offsets[middle + 1]), data, start, stop
            )
            if found * sign <= 0:
                first = middle + 1
            else:
                last = middle
        high[row] = first
