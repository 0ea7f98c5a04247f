"""Several key columns of a merge, kept as they came: of each group the row that was its first.

The rows that a key table needs of several columns are bytes, and to make columns of these again cost a second for 10^7
groups by six keys. A batch whose rows are all new is not even copied.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from kernelmill.engine.exec.exchange import take_columns
from kernelmill.kernels import picking
from kernelmill.kernels.table import Groups


class KeptKeys:
    """The keys of groups 0, 1, 2..., in pieces."""

    def __init__(self) -> None:
        self._pieces: list[list[pa.Array[Any]]] = []
        self._ends: list[int] = []

    @staticmethod
    def may_keep(fields: Sequence[pa.Field[Any]]) -> bool:
        """True for several keys whose equal values are the same bits: not for floats, -0.0 being 0.0."""
        return len(fields) > 1 and not any(pa.types.is_floating(field.type) for field in fields)

    def add(self, columns: Sequence[pa.Array[Any]], groups: Groups, used: int) -> None:
        """Keep those rows whose group is new: the first of each from `used` on, which come in order."""
        rows = np.empty(groups.size, np.uint32)
        count = int(picking.first_rows(groups, used, rows))
        if count:
            is_all = count == groups.size
            self._pieces.append(list(columns) if is_all else take_columns(list(columns), rows[:count]))
            self._ends.append(used + count)

    def columns(self, first: int, last: int) -> list[pa.Array[Any]]:
        """The keys of groups [first, last), of which there is one at least."""
        parts: list[list[pa.Array[Any]]] = []
        for number in range(bisect_right(self._ends, first), len(self._ends)):
            end = self._ends[number]
            begin = end - len(self._pieces[number][0])
            if begin >= last:
                break
            start, stop = max(first, begin) - begin, min(last, end) - begin
            parts.append([column.slice(start, stop - start) for column in self._pieces[number]])
        if len(parts) == 1:
            return parts[0]
        return [pa.concat_arrays(list(column)) for column in zip(*parts, strict=True)]

    def clear(self) -> None:
        """Forget all groups."""
        self._pieces.clear()
        self._ends.clear()
