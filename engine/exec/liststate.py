"""list: all values of a group, in the order of their rows. On both sides of a shuffle a list column comes out.

Values are kept as they come, beside the numbers of their groups, and brought in order of group when they are asked for,
by one random write each. So a key is written once for each task, not once for each of its values.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.batch import buffer_of, fixed_view, validity_buffer, validity_bytes
from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.exec.exchange import take_columns
from kernelmill.kernels import listing
from kernelmill.kernels.partitioning import order_by_partition
from kernelmill.kernels.table import NO_MASK, Groups

_ELEMENTS_MAX = (1 << 31) - 1
Column = tuple[Any, NDArray[np.uint8]]
_Numbers = NDArray[np.uint32]


class Lists:
    """The lists of all groups, of type `dtype`; `merging`: what comes are lists to be joined, else their elements."""

    def __init__(self, name: str, dtype: pa.DataType, *, merging: bool) -> None:
        self._name, self._type, self._merging = name, dtype, merging
        self._groups: list[_Numbers] = []
        self._columns: list[pa.Array[Any]] = []
        self._made: pa.Array[Any] | None = None
        self.held_bytes = 0
        """Bytes of the values that are held, and of their groups' numbers."""

    def view(self, columns: list[pa.Array[Any]]) -> list[Column]:
        """See State."""
        return [(columns[0], NO_MASK)]

    def add(self, groups: Groups, used: int, columns: list[Column]) -> None:
        """See State."""
        values = _own(columns[0][0])
        self._groups.append(groups.astype(np.uint32))
        self._columns.append(values)
        self.held_bytes += values.nbytes + groups.nbytes

    def partial(self, first: int, last: int) -> list[pa.Array[Any]]:
        """See State."""
        return self.finished(first, last)

    def finished(self, first: int, last: int) -> list[pa.Array[Any]]:
        """See State. Raises KM0401 where all lists together pass 2^31 elements, or 2 GiB of text."""
        if self._made is None:
            try:
                self._made = self._lists(last)
            except pa.ArrowInvalid as problem:  # int32 offsets end at 2 GiB of text
                raise self._too_long("more than 2 GiB of text") from problem
        return [self._made.slice(first, last - first)]

    def longest(self) -> tuple[int, int]:
        """The group with the most values, and how many these are."""
        groups = np.concatenate(self._groups)
        sizes = [np.diff(_offsets(column)) for column in self._columns] if self._merging else None
        rows = np.bincount(groups, None if sizes is None else np.concatenate(sizes))
        return int(rows.argmax()), int(rows.max())

    def clear(self, groups: int) -> None:
        """See State."""
        self._groups.clear()
        self._columns.clear()
        self._made = None
        self.held_bytes = 0

    def _lists(self, used: int) -> pa.Array[Any]:
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
            listing.add_run_lengths(groups, _offsets(column), sizes)
        total = int(sizes.sum())
        if total > _ELEMENTS_MAX:
            raise self._too_long(f"{total:,} values")
        ends = np.cumsum(sizes)
        offsets = np.zeros(sizes.size + 1, np.int32)
        offsets[1:] = ends
        values = self._values(column, groups, rows, ends - sizes, total)
        made: pa.Array[Any] = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), values, type=self._type)
        return made

    def _values(
        self, column: Any, groups: _Numbers, rows: NDArray[np.int64], starts: NDArray[np.int64], total: int
    ) -> pa.Array[Any]:
        """The elements of all lists in order of group."""
        elements = column.values if self._merging else column
        if not elements.null_count and _is_word(elements.type):
            words, out = fixed_view(elements, np.uint64), np.empty(total, np.uint64)
            if self._merging:
                listing.scatter_runs(groups, _offsets(column), words, starts, out)
            else:
                listing.scatter_words(groups, words, starts, out)
            return pa.Array.from_buffers(elements.type, total, [None, buffer_of(out)], 0)
        order = np.empty(groups.size, np.uint32)
        order_by_partition(groups, np.cumsum(rows) - rows, order)
        taken: Any = take_columns([column], order)[0]
        values: pa.Array[Any] = taken.flatten() if self._merging else taken
        return values

    def _too_long(self, what: str) -> KernelmillError:
        hint = "raise partitions=, or reduce a key's values to less than a list"
        return error(Code.MEMORY_LIMIT, f"the lists {self._name!r} of one partition hold {what}", hint=hint)


def _is_word(dtype: pa.DataType) -> bool:
    return pa.types.is_primitive(dtype) and dtype.bit_width == 64


def _own(column: pa.Array[Any]) -> pa.Array[Any]:
    """The column in memory of its own where it may lie in a stage that is written again."""
    if not _is_word(column.type):
        return column
    valid = validity_bytes(column)
    nulls = int(valid.size - np.count_nonzero(valid))
    words = fixed_view(column, np.uint64).copy()
    return pa.Array.from_buffers(column.type, len(column), [validity_buffer(valid, nulls), buffer_of(words)], nulls)


def _offsets(lists: Any) -> NDArray[np.int32]:
    """Where the rows' elements lie in `lists.values`."""
    offsets: NDArray[np.int32] = np.asarray(lists.offsets)
    return offsets
