"""The states of quantile, top_k and bottom_k: lists of numbers, of which those of some ranks are the result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.batch import (
    Bytes,
    array_of_words,
    buffer_of,
    fixed_view,
    numbers_of,
    validity_buffer,
    validity_bytes,
)
from kernelmill.engine.exec.dense import Column, Dense, chunked, fixed_array
from kernelmill.engine.exec.liststate import Lists
from kernelmill.engine.exec.listwords import WordRoom, offsets_of
from kernelmill.engine.exec.momentstates import floats_of
from kernelmill.kernels import ranking
from kernelmill.kernels.orderedwords import ordered_words, values_of_words
from kernelmill.kernels.table import NO_MASK, Groups

_FLOATS = pa.list_(pa.float64())


def _known(column: Column, groups: Groups) -> tuple[NDArray[Any], Groups]:
    """Values that are not null, with their groups."""
    values, validity = column
    if not validity.size:
        return values, groups
    kept = np.flatnonzero(validity)
    return values[kept], groups[kept]


class Quantiles(Lists):
    """The share `q` of each group's values, all of which are held: exact. NaN is greatest; null of no values."""

    def __init__(self, name: str, q: float, interpolation: str, *, merging: bool, room: WordRoom | None = None) -> None:
        super().__init__(name, _FLOATS, merging=merging, room=room)
        self._q, self._interpolation = q, interpolation

    def view(self, columns: list[pa.Array[Any]]) -> list[Column]:
        """See State."""
        return super().view(columns) if self._merging else [(floats_of(columns[0]), validity_bytes(columns[0]))]

    def add(self, groups: Groups, used: int, columns: list[Column]) -> None:
        """See State."""
        if self._merging:
            super().add(groups, used, columns)
            return
        values, groups = _known(columns[0], groups)
        super().add(groups, used, [(fixed_array(values, pa.float64()), NO_MASK)])

    def partial(self, first: int, last: int) -> list[pa.Array[Any]]:
        """See State."""
        return [self._lists(first, last, None)]

    def finished(self, first: int, last: int) -> list[pa.Array[Any]]:
        """See State."""
        lists: Any = self._lists(first, last, None)
        offsets = offsets_of(lists)
        sizes = np.diff(offsets).astype(np.int64)
        base = int(offsets[0])
        words = ordered_words(fixed_view(lists.values, np.float64)[base : int(offsets[-1])])
        ranks, share = _places(self._q, self._interpolation, sizes)
        found, following = np.zeros(sizes.size, np.uint64), np.zeros(sizes.size, np.uint64)
        ranking.select_ranks(words, offsets - np.int32(base), ranks, found, following)
        low, high = (values_of_words(one, np.float64) for one in (found, following))
        with np.errstate(invalid="ignore"):
            between = low + (high - low) * share
        values = np.where((share == 0) | (low == high), low, between)
        valid = sizes > 0
        nulls = int(valid.size - np.count_nonzero(valid))
        return [fixed_array(values, pa.float64(), validity_buffer(valid.view(np.uint8), nulls), nulls)]


def _places(q: float, interpolation: str, sizes: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The rank of the value below the wanted place in lists of these sizes, and how far towards the next that is."""
    last = np.maximum(sizes - 1, 0)
    exact = last * q
    whole = np.floor(exact)
    none = np.zeros(sizes.size)
    match interpolation:
        case "lower":
            ranks, share = whole, none
        case "higher":
            ranks, share = np.ceil(exact), none
        case "nearest":
            ranks, share = np.floor(exact + 0.5), none
        case "equiprobable":
            ranks, share = np.maximum(np.ceil(sizes * q) - 1, 0), none
        case "midpoint":
            ranks, share = whole, np.where(exact > whole, 0.5, 0.0)
        case _:
            ranks, share = whole, exact - whole
    return np.clip(ranks.astype(np.int64), 0, last), share


class _Ranked(ABC):
    """The `k` greatest or least values of each group, in order. Nulls are left out, NaN is greatest."""

    def __init__(self, name: str, dtype: Any, k: int, *, greatest: bool, merging: bool) -> None:
        self._name, self._type, self._k = name, dtype, k
        self._greatest, self._merging = greatest, merging
        self._numpy: Any = np.dtype(np.int64)

    def view(self, columns: list[pa.Array[Any]]) -> list[Column]:
        """See State."""
        if self._merging:
            return [(columns[0], NO_MASK)]
        return [self._numbers(columns[0])]

    def add(self, groups: Groups, used: int, columns: list[Column]) -> None:
        """See State."""
        if self._merging:
            lists = columns[0][0]
            groups = np.repeat(groups, np.diff(offsets_of(lists)))
            columns = [self._numbers(lists.flatten())]
        for own, ((numbers, validity),) in chunked(groups, columns):
            words = ordered_words(numbers)
            self._add(own, used, ~words if self._greatest else words, validity)

    def partial(self, first: int, last: int) -> list[pa.Array[Any]]:
        """See State."""
        return self.finished(first, last)

    def finished(self, first: int, last: int) -> list[pa.Array[Any]]:
        """See State."""
        words, lengths = self._kept_words(first, last)
        offsets = np.zeros(lengths.size + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        numbers = values_of_words(~words if self._greatest else words, self._numpy)
        values = array_of_words(numbers.view(np.uint64), NO_MASK, 0, self._type.value_type)
        buffers = [None, buffer_of(offsets.astype(np.int32))]
        return [pa.Array.from_buffers(self._type, lengths.size, buffers, 0, children=[values])]

    @abstractmethod
    def _add(self, groups: Groups, used: int, words: NDArray[np.uint64], validity: Bytes) -> None:
        """Take words, the least of which are kept."""

    @abstractmethod
    def _kept_words(self, first: int, last: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """The words of these groups in order, one group's behind the other's, and how many each has."""

    def _numbers(self, column: pa.Array[Any]) -> Column:
        numbers = numbers_of(column)
        self._numpy = numbers.dtype
        return numbers, validity_bytes(column)


class RankedFew(_Ranked):
    """Few values a group, in room for `k` of each."""

    copies = 2

    def __init__(self, name: str, dtype: Any, k: int, *, greatest: bool, merging: bool) -> None:
        super().__init__(name, dtype, k, greatest=greatest, merging=merging)
        self._kept, self._lengths = Dense(np.uint64), Dense(np.int64)
        self.held_bytes = 0

    def clear(self, groups: int) -> None:
        """See State."""
        self._lengths.clear(min(groups, self._lengths.values.size))
        self.held_bytes = 0

    def _add(self, groups: Groups, used: int, words: NDArray[np.uint64], validity: Bytes) -> None:
        kept, lengths = self._kept.cover(used * self._k), self._lengths.cover(used)
        ranking.keep_least_words(groups, words, validity, self._k, kept, lengths)
        self.held_bytes = 8 * used * self._k

    def _kept_words(self, first: int, last: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        lengths = self._lengths.cover(last)[first:last]
        out = np.empty(int(lengths.sum()), np.uint64)
        ranking.join_kept(lengths, self._k, self._kept.cover(last * self._k)[first * self._k :], out)
        return out, lengths


class RankedMany(_Ranked):
    """Any number of values a group: all are held, and sorted when they are asked for."""

    copies = 4

    def __init__(self, name: str, dtype: Any, k: int, *, greatest: bool, merging: bool) -> None:
        super().__init__(name, dtype, k, greatest=greatest, merging=merging)
        self._lists = Lists(name, pa.list_(pa.uint64()), merging=False)

    @property
    def held_bytes(self) -> int:
        """See Holds."""
        return self._lists.held_bytes

    def clear(self, groups: int) -> None:
        """See State."""
        self._lists.clear(groups)

    def _add(self, groups: Groups, used: int, words: NDArray[np.uint64], validity: Bytes) -> None:
        words, groups = _known((words, validity), groups)
        self._lists.add(groups, used, [(fixed_array(words, pa.uint64()), NO_MASK)])

    def _kept_words(self, first: int, last: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        lists: Any = self._lists.finished(first, last)[0]
        offsets = offsets_of(lists).astype(np.int64)
        sizes = np.diff(offsets)
        words = fixed_view(lists.values, np.uint64)[offsets[0] : offsets[-1]]
        of = np.repeat(np.arange(sizes.size), sizes)
        places = np.arange(words.size) - np.repeat(offsets[:-1] - offsets[0], sizes)
        return words[np.lexsort((words, of))[places < self._k]], np.minimum(sizes, self._k)
