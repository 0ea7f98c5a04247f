"""The states of var and corr: counts, means and sums of products of differences from the means."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.batch import numbers_of, validity_buffer, validity_bytes
from kernelmill.engine.exec.dense import Column, Dense, fixed_array, with_floats
from kernelmill.kernels import variance
from kernelmill.kernels.table import NO_MASK, Groups


def floats_of(column: pa.Array[Any]) -> NDArray[np.float64]:
    """A column of numbers as float64; what lies under nulls is undefined."""
    return numbers_of(column).astype(np.float64, copy=False)


class _Moments:
    """A count and some float64 columns for each group."""

    def __init__(self, floats: int, *, merging: bool) -> None:
        self._counts, self._merging = Dense(np.int64), merging
        self._floats = [Dense(np.float64) for _ in range(floats)]

    def _merged_view(self, columns: list[pa.Array[Any]]) -> list[Column]:
        counts: Column = (numbers_of(columns[0]).view(np.int64), NO_MASK)
        return [counts, *((floats_of(column), NO_MASK) for column in columns[1:])]

    def _held(self, used: int) -> list[NDArray[Any]]:
        return [self._counts.cover(used), *(dense.cover(used) for dense in self._floats)]

    def partial(self, first: int, last: int) -> list[pa.Array[Any]]:
        """See State."""
        counts, *floats = (held[first:last] for held in self._held(last))
        return [
            fixed_array(counts.astype(np.uint32), pa.uint32()),
            *(fixed_array(values.copy(), pa.float64()) for values in floats),
        ]

    def clear(self, groups: int) -> None:
        """See State."""
        for dense in (self._counts, *self._floats):
            dense.clear(min(groups, dense.values.size))


class Variance(_Moments):
    """var: the sum of squared differences from the mean, over the count less `ddof`; null where that is not above 0."""

    def __init__(self, ddof: int, *, merging: bool) -> None:
        super().__init__(2, merging=merging)
        self._ddof = ddof

    def view(self, columns: list[pa.Array[Any]]) -> list[Column]:
        """See State."""
        return self._merged_view(columns) if self._merging else [(numbers_of(columns[0]), validity_bytes(columns[0]))]

    def add(self, groups: Groups, used: int, columns: list[Column]) -> None:
        """See State."""
        if self._merging:
            variance.merge_moments(groups, *(values for values, _ in columns), *self._held(used))
            return
        held = self._held(used)
        for own, parts in with_floats(groups, columns):
            variance.add_moments(own, *parts[0], *held)

    def finished(self, first: int, last: int) -> list[pa.Array[Any]]:
        """See State."""
        counts, _, squares = (held[first:last] for held in self._held(last))
        valid = counts > self._ddof
        values = squares / np.where(valid, counts - self._ddof, 1)
        nulls = int(valid.size - np.count_nonzero(valid))
        return [fixed_array(values, pa.float64(), validity_buffer(valid.view(np.uint8), nulls), nulls)]


class Correlation(_Moments):
    """corr: NaN of fewer than two pairs, and where one side does not vary."""

    def __init__(self, *, merging: bool) -> None:
        super().__init__(5, merging=merging)

    def view(self, columns: list[pa.Array[Any]]) -> list[Column]:
        """See State."""
        if self._merging:
            return self._merged_view(columns)
        x, y = columns[:2]
        valid = [one for one in (validity_bytes(x), validity_bytes(y)) if one.size]
        both = valid[0] & valid[1] if len(valid) == 2 else valid[0] if valid else NO_MASK
        return [(numbers_of(x), both), (numbers_of(y), NO_MASK)]

    def add(self, groups: Groups, used: int, columns: list[Column]) -> None:
        """See State."""
        if self._merging:
            variance.merge_comoments(groups, *(values for values, _ in columns), *self._held(used))
            return
        held = self._held(used)
        for own, ((xs, validity), (ys, _)) in with_floats(groups, columns):
            variance.add_comoments(own, xs, ys, validity, *held)

    def finished(self, first: int, last: int) -> list[pa.Array[Any]]:
        """See State."""
        counts, _, _, x_squares, y_squares, products = (held[first:last] for held in self._held(last))
        with np.errstate(invalid="ignore", divide="ignore"):
            values = products / (np.sqrt(x_squares) * np.sqrt(y_squares))
        values[(counts < 2) | (x_squares == 0) | (y_squares == 0)] = np.nan
        # rounding may carry it a little too far
        return [fixed_array(np.clip(values, -1.0, 1.0), pa.float64())]
