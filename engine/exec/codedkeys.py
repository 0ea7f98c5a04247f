"""Several key columns of few values: their rows are numbered by codes, and the key table sees each combination once.

Dictionary columns have codes already; of words that span little the code is the distance from the least. The table's
groups, and their order, are the same as without.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from kernelmill.engine.batch import fixed_view, is_string_like, is_word_like, key_words, plain, validity_bytes
from kernelmill.engine.exec.dense import CHUNK_ROWS, Column
from kernelmill.kernels import keycodes
from kernelmill.kernels.table import Groups

ROWS_MIN = 1 << 10
"""Fewer rows are looked up one by one."""
_NUMBERS_MAX = 1 << 20
_ROWS_PER_NUMBER = 2  # more numbers would find too few rows each

Columns = list[Any]
Numbering = Callable[[Columns, Groups], int]
"""Gives the rows of some columns their groups; returns the first row that is not done: the table wants a flush."""


class _Coded(NamedTuple):
    """A key column: how many values have codes, and the first of them, or the dictionary; null comes behind them."""

    values: int
    base: np.uint64
    dictionary: pa.Array[Any] | None


class CodedKeys:
    """Numbers for all combinations of the codes of some columns, and the groups of those that came."""

    def __init__(self, coded: list[_Coded]) -> None:
        self._coded = coded
        self._direct: Groups = np.full(_numbers(coded), keycodes.NEW, np.int32)

    @classmethod
    def of(cls, columns: Columns) -> CodedKeys | None:
        """What fits these columns; None if they have too many combinations, or a column has no codes."""
        if len(columns[0]) < ROWS_MIN:
            return None
        most = min(_NUMBERS_MAX, len(columns[0]) // _ROWS_PER_NUMBER)
        coded: list[_Coded] = []
        for column in columns:
            one = _coded(column, most)
            if one is None:
                return None
            coded.append(one)
            if _numbers(coded) > most:
                return None
        return cls(coded)

    def fits(self, columns: Columns) -> bool:
        """True if the codes of these columns mean what they meant before."""
        for column, one in zip(columns, self._coded, strict=True):
            values = column.dictionary if _has_codes(column) else None
            if (values is None) != (one.dictionary is None):
                return False
            if values is not None and not same_dictionary(values, one.dictionary):
                return False
        return True

    def group(self, columns: Columns, groups: Groups, numbering: Numbering) -> int:
        """Number the rows, the new combinations by `numbering`; returns the first row not done, as that does."""
        views = [self._view(column, one) for column, one in zip(columns, self._coded, strict=True)]
        numbers, fresh = np.empty(CHUNK_ROWS, np.int32), np.empty(CHUNK_ROWS, np.uint32)
        for first in range(0, groups.size, CHUNK_ROWS):
            own = groups[first : first + CHUNK_ROWS]
            numbers[:] = 0
            self._mix(views, first, numbers[: own.size])
            count = keycodes.known_groups(numbers[: own.size], self._direct, own, fresh)
            if not count:
                continue
            found = np.empty(count, np.int32)
            rows: Any = pa.array(first + fresh[:count].astype(np.int64))
            done = numbering([column.take(rows) for column in columns], found)
            keycodes.settle_groups(numbers[: own.size], fresh[:count], found, done, self._direct, own)
            if done < count:
                return first + int(fresh[done])
        return groups.size

    def _view(self, column: Any, one: _Coded) -> Column:
        if one.dictionary is None:
            values = plain(column)
            return key_words(values), validity_bytes(values)
        indices = column.indices.cast(pa.int32())
        return fixed_view(indices, np.int32), validity_bytes(indices)

    def _mix(self, views: list[Column], first: int, numbers: Groups) -> None:
        """Fill in the numbers of the rows from `first` on."""
        stride, last = 1, first + numbers.size
        for (values, valid), one in zip(views, self._coded, strict=True):
            part = values[first:last], valid[first:last] if valid.size else valid
            if one.dictionary is None:
                keycodes.mix_words(*part, one.base, one.values, stride, numbers)
            else:
                keycodes.mix_codes(*part, one.values, stride, numbers)
            stride *= one.values + 1


def _numbers(coded: list[_Coded]) -> int:
    numbers = 1
    for one in coded:
        numbers *= one.values + 1
    return numbers


def _has_codes(column: Any) -> bool:
    return isinstance(column, pa.DictionaryArray) and is_string_like(column.type.value_type)


def _coded(column: Any, most: int) -> _Coded | None:
    if _has_codes(column):
        return _Coded(len(column.dictionary), np.uint64(0), column.dictionary)
    values = plain(column)
    if not is_word_like(values.type) or pa.types.is_floating(values.type):
        return None
    words, valid = key_words(values).view(np.int64), validity_bytes(values)
    if valid.size:
        words = words[valid != 0]
    if not words.size:
        return _Coded(0, np.uint64(0), None)
    low, high = int(words.min()), int(words.max())
    if high - low >= most:
        return None
    return _Coded(high - low + 1, np.uint64(low & 0xFFFFFFFFFFFFFFFF), None)


def same_dictionary(first: Any, second: Any) -> bool:
    """Tell by buffers, not values, whether codes mean the same: batches of a row group share them."""
    if len(first) != len(second) or first.offset != second.offset:
        return False
    places = [[buffer and (buffer.address, buffer.size) for buffer in array.buffers()] for array in (first, second)]
    return bool(places[0] == places[1])
