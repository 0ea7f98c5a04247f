"""Lists of values of 64 bits without nulls: what waits to become lists is copied once as it comes and once into place.

Both kinds give the lists of a range of groups in any order of these, so nothing has to be brought in order afterwards.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.batch import buffer_of, fixed_view
from kernelmill.kernels import listing
from kernelmill.kernels.table import Groups, Order

_FIRST_ROWS = 1 << 16
_ROOM_ROWS = 3 << 20
"""Rows that a map task has when its lists are flushed, and some more: it is reserved at once, for a copy of what has
come so far would touch as much memory again. What is not used of it takes none."""


def is_word(dtype: pa.DataType) -> bool:
    """True for the types whose values are kept as words: numbers, times and the like of 64 bits."""
    return pa.types.is_primitive(dtype) and dtype.bit_width == 64


class WordRoom:
    """Where words wait, with the groups they belong to. One a thread, used again from task to task."""

    def __init__(self) -> None:
        self.words: NDArray[np.uint64] = np.empty(_FIRST_ROWS, np.uint64)
        self.groups: Order = np.empty(_FIRST_ROWS, np.uint32)

    def fit(self, rows: int, used: int) -> None:
        """Make room for `rows`, and keep the first `used` of those that are there."""
        if rows > self.words.size:
            words, groups = self.words, self.groups
            size = max(rows, 2 * words.size, _ROOM_ROWS)
            self.words, self.groups = np.empty(size, np.uint64), np.empty(size, np.uint32)
            self.words[:used], self.groups[:used] = words[:used], groups[:used]


class _Words(ABC):
    """How many words each group has; the lists are made of them by `_scatter`."""

    def __init__(self, dtype: Any) -> None:
        self._type = dtype
        self._lengths: NDArray[np.int64] = np.zeros(1 << 12, np.int64)
        self.held_bytes = 0

    def _cover(self, groups: int) -> NDArray[np.int64]:
        if groups > self._lengths.size:
            grown = np.zeros(max(groups, 2 * self._lengths.size), np.int64)
            grown[: self._lengths.size] = self._lengths
            self._lengths = grown
        return self._lengths

    def longest(self) -> tuple[int, int]:
        """The group with the most values, and how many these are."""
        return int(self._lengths.argmax()), int(self._lengths.max())

    def lists(self, first: int, last: int, order: Order | None, elements_max: int) -> pa.Array[Any] | int:
        """The lists of groups first + order, or of all in [first, last); their elements' number if over the limit."""
        groups = last - first
        placed = np.arange(groups, dtype=np.uint32) if order is None else order
        offsets, next_slot = np.empty(groups + 1, np.int32), np.empty(groups, np.int64)
        total = int(listing.place_lists(self._cover(last), first, placed, offsets, next_slot))
        if total > elements_max:
            return total
        out = np.empty(total, np.uint64)
        self._scatter(first, next_slot, out)
        values: pa.Array[Any] = pa.Array.from_buffers(self._type.value_type, total, [None, buffer_of(out)], 0)
        return pa.Array.from_buffers(self._type, groups, [None, buffer_of(offsets)], 0, children=[values])

    @abstractmethod
    def _scatter(self, first: int, next_slot: NDArray[np.int64], out: NDArray[np.uint64]) -> None:
        """Put the words of the groups from `first` on to where `next_slot` says that each group's go on in `out`."""

    def clear(self, groups: int) -> None:
        """Forget all words, of `groups` groups."""
        self._lengths[:groups] = 0
        self.held_bytes = 0


class WordRows(_Words):
    """Words row by row."""

    def __init__(self, dtype: Any, room: WordRoom) -> None:
        super().__init__(dtype)
        self._room, self._rows = room, 0

    def takes(self, column: pa.Array[Any]) -> bool:
        """True if the column has no nulls."""
        return not column.null_count

    def add(self, groups: Groups, used: int, column: pa.Array[Any]) -> None:
        """Take the values of these groups' rows, `used` groups being known; they are copied."""
        start, self._rows = self._rows, self._rows + groups.size
        self._room.fit(self._rows, start)
        held_groups, held_words = self._room.groups[start : self._rows], self._room.words[start : self._rows]
        listing.hold_words(groups, fixed_view(column, np.uint64), held_groups, held_words, self._cover(used))
        self.held_bytes += groups.nbytes + held_words.nbytes

    def columns(self) -> Iterator[tuple[Order, pa.Array[Any]]]:
        """What was added, with its groups."""
        words = self._room.words[: self._rows].copy()
        buffers = [None, buffer_of(words)]
        yield self._room.groups[: self._rows].copy(), pa.Array.from_buffers(self._type.value_type, self._rows, buffers)

    def clear(self, groups: int) -> None:
        """See _Words."""
        super().clear(groups)
        self._rows = 0

    def _scatter(self, first: int, next_slot: NDArray[np.int64], out: NDArray[np.uint64]) -> None:
        rows = self._rows
        listing.scatter_words(self._room.groups[:rows], self._room.words[:rows], first, next_slot, out)


class WordRuns(_Words):
    """Lists of words, to be joined by group. They are kept as they came, not copied before they are."""

    def __init__(self, dtype: Any) -> None:
        super().__init__(dtype)
        self._added: list[tuple[Order, Any]] = []

    def takes(self, column: Any) -> bool:
        """True if neither lists nor their elements have nulls."""
        return not column.null_count and not column.values.null_count

    def add(self, groups: Groups, used: int, column: Any) -> None:
        """Take the lists of these groups' rows, `used` groups being known."""
        own = groups.astype(np.uint32)
        listing.add_run_lengths(own, offsets_of(column), self._cover(used))
        self._added.append((own, column))
        self.held_bytes += own.nbytes + column.nbytes

    def columns(self) -> Iterator[tuple[Order, pa.Array[Any]]]:
        """What was added, with its groups."""
        yield from self._added

    def clear(self, groups: int) -> None:
        """See _Words."""
        super().clear(groups)
        self._added.clear()

    def _scatter(self, first: int, next_slot: NDArray[np.int64], out: NDArray[np.uint64]) -> None:
        for groups, column in self._added:
            words = fixed_view(column.values, np.uint64)
            listing.scatter_runs(groups, offsets_of(column), words, first, next_slot, out)


def offsets_of(lists: Any) -> NDArray[np.int32]:
    """Where the rows' elements lie in `lists.values`."""
    offsets: NDArray[np.int32] = np.asarray(lists.offsets)
    return offsets
