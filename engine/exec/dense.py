"""Dense arrays by group number, and columns made of them: what the states of aggregates are built of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.batch import Bytes, buffer_of


class Dense:
    """A dense array by group number that grows with the groups; new entries are 0."""

    def __init__(self, dtype: Any) -> None:
        self.values: NDArray[Any] = np.zeros(1 << 10, dtype)

    def cover(self, groups: int) -> NDArray[Any]:
        """The array, made long enough for `groups`."""
        if groups > self.values.size:
            grown = np.zeros(max(groups, 2 * self.values.size), self.values.dtype)
            grown[: self.values.size] = self.values
            self.values = grown
        return self.values

    def clear(self, groups: int) -> None:
        """Zero the first `groups` entries."""
        self.values[:groups] = 0


Column = tuple[Any, Bytes]
"""Values, an array of numpy or for lists of Arrow, and one validity byte a row (empty: all valid)."""


def fixed_array(
    values: NDArray[Any], dtype: pa.DataType, bits: pa.Buffer | None = None, nulls: int = 0
) -> pa.Array[Any]:
    """A column of fixed width over `values`, with these validity bits."""
    return pa.Array.from_buffers(dtype, len(values), [bits, buffer_of(np.ascontiguousarray(values))], nulls)
