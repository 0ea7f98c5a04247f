"""n_unique: the distinct values of each group. On both sides of a shuffle a list of them comes out.

Pairs of group and value are keys of a table of their own; what is numbered for the first time counts.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from kernelmill.engine.exec.dense import Column, Dense, fixed_array
from kernelmill.engine.exec.exchange import take_columns
from kernelmill.engine.exec.keys import decode_rows, encode_rows
from kernelmill.engine.exec.listwords import offsets_of
from kernelmill.kernels.partitioning import order_by_partition
from kernelmill.kernels.table import NO_MASK, Groups, KeyTable

_FIRST_PAIRS, _FIRST_BYTES = 1 << 12, 1 << 16


class Distinct:
    """The distinct values, of type `dtype`, of all groups; `merging`: what comes are lists of them."""

    copies = 2

    def __init__(self, dtype: pa.DataType | None, *, merging: bool) -> None:
        self._type, self._merging = dtype, merging
        self._counts, self._pairs = Dense(np.int64), KeyTable()
        self._pairs.reset_unbounded(groups=_FIRST_PAIRS, key_bytes=_FIRST_BYTES)
        self._empty_bytes = self._pairs.nbytes

    @property
    def held_bytes(self) -> int:
        """Bytes by which the table of pairs has grown: an empty one has its room whatever a job may hold."""
        return max(0, self._pairs.nbytes - self._empty_bytes)

    def view(self, columns: list[pa.Array[Any]]) -> list[Column]:
        """See State."""
        return [(columns[0], NO_MASK)]

    def add(self, groups: Groups, used: int, columns: list[Column]) -> None:
        """See State."""
        values = columns[0][0]
        if self._merging:
            groups = np.repeat(groups, np.diff(offsets_of(values)))
            values = values.flatten()
        if not len(values):
            return
        known = len(self._pairs)
        numbers = np.empty(groups.size, np.int32)
        data, offsets = encode_rows([pa.array(groups), values])
        self._pairs.group_strings(data, offsets, NO_MASK, 0, numbers)
        counts = self._counts.cover(used)
        # numbers are given in the order of rows: one above all before it is new
        highest = np.maximum.accumulate(numbers)
        fresh = np.flatnonzero(numbers > np.maximum(np.concatenate(([known - 1], highest[:-1])), known - 1))
        np.add.at(counts, groups[fresh], 1)

    def partial(self, first: int, last: int) -> list[pa.Array[Any]]:
        """See State."""
        assert self._type is not None
        counts = self._counts.cover(last)[first:last]
        groups, values = self._columns(self._type)
        parts = groups.view(np.uint32)
        every = np.bincount(parts, minlength=last)
        order = np.empty(parts.size, np.uint32)
        starts = np.cumsum(every) - every
        order_by_partition(parts, starts.copy(), order)
        begin = int(starts[first]) if parts.size else 0
        taken = take_columns([values], order[begin : begin + int(counts.sum())])[0]
        offsets = np.zeros(last - first + 1, np.int32)
        np.cumsum(counts, out=offsets[1:])
        made: Any = pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), taken, type=pa.list_(self._type))
        return [made]

    def finished(self, first: int, last: int) -> list[pa.Array[Any]]:
        """See State."""
        return [fixed_array(self._counts.cover(last)[first:last].copy(), pa.int64())]

    def clear(self, groups: int) -> None:
        """See State."""
        self._counts.clear(min(groups, self._counts.values.size))
        self._pairs.clear()

    def _columns(self, dtype: pa.DataType) -> tuple[Any, pa.Array[Any]]:
        """The groups and the values of all pairs, in the order in which they were first seen."""
        data, offsets, _, _ = self._pairs.strings(0, len(self._pairs))
        groups, values = decode_rows(data, offsets, [pa.int32(), dtype])
        return np.asarray(groups), values
