"""The states of first, last, min_by and max_by: one row of each group, of whose column of any type the value is kept.

Values of picked rows are taken batch by batch and held; those that were replaced since are dropped when they are many.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from kernelmill.engine.batch import fixed_view, numbers_of, validity_bytes
from kernelmill.engine.exec.dense import Column, Dense, fixed_array
from kernelmill.engine.exec.exchange import take_columns
from kernelmill.kernels import picking
from kernelmill.kernels.orderedwords import ordered_words
from kernelmill.kernels.table import NO_MASK, Groups, Order

_SPARE_ROWS = 1 << 16
_WORST = np.uint64(0xFFFFFFFFFFFFFFFF)


class Picks:
    """The picked rows of all groups: `kind` is first, last, min_by or max_by.

    dtype: the type of the values; by: that of the other column.
    """

    copies = 3  # as they came, all in one, and in order of group

    def __init__(self, kind: str, dtype: pa.DataType, by: pa.DataType | None = None, *, merging: bool) -> None:
        self._kind, self._types, self._merging = kind, [dtype, by or pa.null()], merging
        self._is_by = kind in ("min_by", "max_by")
        self._picks, self._least = Dense(np.int64), Dense(np.uint64)
        self._held: list[list[pa.Array[Any]]] = []  # of each batch the columns: values, and what they are picked by
        self._rows = 0
        self.held_bytes = 0

    def view(self, columns: list[pa.Array[Any]]) -> list[Column]:
        """See State."""
        if not self._is_by:
            has = fixed_view(columns[1], np.uint8) if self._merging else NO_MASK
            return [(columns[0], has)]
        numbers = numbers_of(columns[1])
        words = ordered_words(numbers)
        if self._kind == "max_by":
            words = ~words
        if numbers.dtype == np.float64:
            words = np.where(np.isnan(numbers), _WORST, words)  # NaN is taken where there is nothing else
        return [(columns[0], NO_MASK), (columns[1], NO_MASK), (words, validity_bytes(columns[1]))]

    def add(self, groups: Groups, used: int, columns: list[Column]) -> None:
        """See State."""
        picks = self._picks.cover(used)
        if self._is_by:
            picking.pick_least(groups, *columns[2], self._least.cover(used), picks)
        else:
            pick = picking.pick_first if self._kind == "first" else picking.pick_last
            pick(groups, columns[0][1], picks)
        rows = np.empty(groups.size, np.uint32)
        count = picking.settle_picks(groups, self._rows, picks, rows)
        if not count:
            return
        self._hold(take_columns([values for values, _ in columns[: 1 + self._is_by]], rows[:count]))
        if self._rows > 2 * used + _SPARE_ROWS:
            self._compact(used)

    def partial(self, first: int, last: int) -> list[pa.Array[Any]]:
        """See State."""
        picked = self._picks.cover(last)[first:last]
        columns = self._of_groups(first, last)
        return columns if self._is_by else [*columns, fixed_array((picked > 0).view(np.uint8), pa.uint8())]

    def finished(self, first: int, last: int) -> list[pa.Array[Any]]:
        """See State."""
        return self._of_groups(first, last)[:1]

    def clear(self, groups: int) -> None:
        """See State."""
        self._picks.clear(min(groups, self._picks.values.size))
        self._held, self._rows, self.held_bytes = [], 0, 0

    def _hold(self, columns: list[pa.Array[Any]]) -> None:
        self._held.append(columns)
        self._rows += len(columns[0])
        self.held_bytes += sum(column.nbytes for column in columns)

    def _all(self) -> list[Any]:
        """The columns of all rows that are held."""
        if len(self._held) > 1:
            self._held = [[pa.concat_arrays(list(parts)) for parts in zip(*self._held, strict=True)]]
        return self._held[0] if self._held else []

    def _compact(self, used: int) -> None:
        picks = self._picks.cover(used)
        groups = np.flatnonzero(picks[:used])
        order: Order = (picks[groups] - 1).astype(np.uint32)
        kept = take_columns(self._all(), order)
        self._held, self._rows, self.held_bytes = [], 0, 0
        self._hold(kept)
        picks[groups] = np.arange(1, groups.size + 1)

    def _of_groups(self, first: int, last: int) -> list[pa.Array[Any]]:
        """The columns of these groups; null where nothing was picked."""
        picked = self._picks.cover(last)[first:last]
        held = self._all()
        if not held:
            types: list[Any] = self._types[: 1 + self._is_by]
            return [pa.nulls(last - first, dtype) for dtype in types]
        if picked.all():
            return take_columns(held, (picked - 1).astype(np.uint32))
        rows = pa.array(np.maximum(picked - 1, 0).astype(np.uint32), mask=picked == 0)
        return [column.take(rows) for column in held]
