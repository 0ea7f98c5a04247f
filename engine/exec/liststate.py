"""list: all values of a group, in the order of their rows. On both sides of a shuffle a list column comes out.

Values are kept as they come, beside the numbers of their groups, and brought in order of group when they are asked for.
So a key is written once for each task, not once for each of its values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from kernelmill.engine.batch import Bytes, buffer_of, fixed_view, validity_buffer, validity_bytes
from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.exec.exchange import take_columns
from kernelmill.engine.exec.listwords import WordRoom, WordRows, WordRuns, is_word, offsets_of
from kernelmill.kernels import listing
from kernelmill.kernels.partitioning import order_by_partition
from kernelmill.kernels.table import NO_MASK, Groups, Order

_ELEMENTS_MAX = (1 << 31) - 1
_COPIES, _WORD_COPIES = 3, 2  # as they came, in order of group, and of any values in one column between
Column = tuple[Any, Bytes]


class Lists:
    """The lists of all groups, of type `dtype`; `merging`: what comes are lists to be joined, else their elements.

    room: where values wait that are merely copied; one of its own without.
    """

    def __init__(self, name: str, dtype: Any, *, merging: bool, room: WordRoom | None = None) -> None:
        self._name, self._type, self._merging = name, dtype, merging
        self._words: WordRows | WordRuns | None = None
        if is_word(dtype.value_type):
            self._words = WordRuns(dtype) if merging else WordRows(dtype, room or WordRoom())
        self._any = _AnyValues(dtype, merging=merging)

    @property
    def copies(self) -> int:
        """See Holds."""
        return _WORD_COPIES if self.are_words else _COPIES

    @property
    def held_bytes(self) -> int:
        """Bytes of the values that are held, and of their groups' numbers."""
        return self._any.held_bytes + (self._words.held_bytes if self._words is not None else 0)

    @property
    def are_words(self) -> bool:
        """True if all values so far have 64 bits and none is null."""
        return self._words is not None

    def view(self, columns: list[pa.Array[Any]]) -> list[Column]:
        """See State."""
        return [(columns[0], NO_MASK)]

    def add(self, groups: Groups, used: int, columns: list[Column]) -> None:
        """See State."""
        column = columns[0][0]
        if self._words is not None and not self._words.takes(column):
            for own, earlier in self._words.columns():
                self._any.add(own, earlier)
            self._words = None
        if self._words is not None:
            self._words.add(groups, used, column)
        else:
            self._any.add(groups.astype(np.uint32), column)

    def partial(self, first: int, last: int) -> list[pa.Array[Any]]:
        """See State."""
        return self.finished(first, last)

    def finished(self, first: int, last: int) -> list[pa.Array[Any]]:
        """See State. Raises KM0401 where all lists together pass 2^31 elements, or 2 GiB of text."""
        return [self._lists(first, last, None)]

    def placed(self, first: int, last: int, order: Order) -> pa.Array[Any]:
        """The lists of groups first + order, which are all in [first, last). Raises as `finished`."""
        return self._lists(first, last, order)

    def longest(self) -> tuple[int, int]:
        """The group with the most values, and how many these are."""
        return self._words.longest() if self._words is not None else self._any.longest()

    def clear(self, groups: int) -> None:
        """See State."""
        if self._words is not None:
            self._words.clear(groups)
        self._any.clear()

    def _lists(self, first: int, last: int, order: Order | None) -> pa.Array[Any]:
        if self._words is not None:
            made = self._words.lists(first, last, order, _ELEMENTS_MAX)
        else:
            made = self._any.lists(first, last, _ELEMENTS_MAX)
        if isinstance(made, int):
            raise self._too_long(f"{made:,} values" if made else "more than 2 GiB of text")
        return made if order is None or self._words is not None else take_columns([made], order)[0]

    def _too_long(self, what: str) -> KernelmillError:
        hint = "raise partitions=, or reduce a key's values to less than a list"
        return error(Code.MEMORY_LIMIT, f"the lists {self._name!r} of one partition hold {what}", hint=hint)


class _AnyValues:
    """Lists of values of any type, nulls among them."""

    def __init__(self, dtype: pa.DataType, *, merging: bool) -> None:
        self._type, self._merging = dtype, merging
        self._groups: list[Order] = []
        self._columns: list[pa.Array[Any]] = []
        self._made: pa.Array[Any] | None = None
        self.held_bytes = 0

    def add(self, groups: Order, column: pa.Array[Any]) -> None:
        """Take the rows of these groups; the array of groups is kept."""
        values = column if self._merging else _own(column)
        self._groups.append(groups)
        self._columns.append(values)
        self.held_bytes += values.nbytes + groups.nbytes

    def longest(self) -> tuple[int, int]:
        """The group with the most values, and how many these are."""
        groups = np.concatenate(self._groups)
        sizes = [np.diff(offsets_of(column)) for column in self._columns] if self._merging else None
        rows = np.bincount(groups, None if sizes is None else np.concatenate(sizes))
        return int(rows.argmax()), int(rows.max())

    def clear(self) -> None:
        """Forget all values."""
        self._groups.clear()
        self._columns.clear()
        self._made = None
        self.held_bytes = 0

    def lists(self, first: int, last: int, elements_max: int) -> pa.Array[Any] | int:
        """The lists of groups [first, last); the number of all elements if over the limit, 0 for 2 GiB of text."""
        if self._made is None:
            try:
                made = self._all(last, elements_max)
            except pa.ArrowInvalid:  # int32 offsets end at 2 GiB of text
                return 0
            if isinstance(made, int):
                return made
            self._made = made
        return self._made.slice(first, last - first)

    def _all(self, used: int, elements_max: int) -> pa.Array[Any] | int:
        """The lists of all groups that there are, at least `used`."""
        if not self._columns:
            empty: pa.Array[Any] = pa.array([[]] * used, self._type)
            return empty
        groups = np.concatenate(self._groups)
        column: Any = self._columns[0] if len(self._columns) == 1 else pa.concat_arrays(self._columns)
        rows = np.bincount(groups, minlength=used)
        sizes = rows
        if self._merging:
            sizes = np.zeros(rows.size, np.int64)
            listing.add_run_lengths(groups, offsets_of(column), sizes)
        total = int(sizes.sum())
        if total > elements_max:
            return total
        offsets = np.zeros(sizes.size + 1, np.int32)
        np.cumsum(sizes, out=offsets[1:])
        order = np.empty(groups.size, np.uint32)
        order_by_partition(groups, np.cumsum(rows) - rows, order)
        taken: Any = take_columns([column], order)[0]
        values: pa.Array[Any] = taken.flatten() if self._merging else taken
        made: pa.Array[Any] = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, type=self._type)
        return made


def _own(column: pa.Array[Any]) -> pa.Array[Any]:
    """The column in memory of its own where it may lie in a stage that is written again."""
    if not is_word(column.type):
        return column
    valid = validity_bytes(column)
    nulls = int(valid.size - np.count_nonzero(valid))
    words = fixed_view(column, np.uint64).copy()
    return pa.Array.from_buffers(column.type, len(column), [validity_buffer(valid, nulls), buffer_of(words)], nulls)
