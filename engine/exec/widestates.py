"""States over values that are no words: the least and greatest of text, bytes and decimals, and sums of decimals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from kernelmill.engine.batch import (
    array_of_strings,
    buffer_of,
    is_string_like,
    strings_view,
    validity_bytes,
)
from kernelmill.engine.errors import Code, error
from kernelmill.engine.exec.dense import Column, Dense
from kernelmill.engine.exec.fixedbytes import from_ordered_bytes, ordered_bytes, wide_words
from kernelmill.kernels import leaststrings
from kernelmill.kernels.table import NO_MASK, Groups

_FIRST_BYTES = 1 << 16
_STRINGS_BYTES_MAX = (1 << 31) - 1 - 64


class ExtremeBytes:
    """min and max of text, bytes and decimals: null where no value was seen."""

    copies = 0  # no more than what is merged at once, which is bounded

    def __init__(self, name: str, dtype: pa.DataType, *, largest: bool) -> None:
        self._name, self._type, self._sign = name, dtype, -1 if largest else 1
        self._starts, self._sizes = Dense(np.int64), Dense(np.int64)
        self._arena, self._state = np.empty(_FIRST_BYTES, np.uint8), np.zeros(1, np.int64)

    @property
    def held_bytes(self) -> int:
        """Bytes of the strings that are held, and of those that were replaced."""
        return int(self._state[leaststrings.ARENA_USED])

    def view(self, columns: list[pa.Array[Any]]) -> list[Column]:
        """See State."""
        return [(ordered_bytes(columns[0]), NO_MASK)]

    def add(self, groups: Groups, used: int, columns: list[Column]) -> None:
        """See State."""
        column = columns[0][0]
        data, offsets = strings_view(column)
        validity = validity_bytes(column)
        starts, sizes, row = self._starts.cover(used), self._sizes.cover(used), 0
        while True:
            row = leaststrings.keep_least_strings(
                groups, data, offsets, validity, row, self._sign, starts, sizes, self._arena, self._state
            )
            if row == groups.size:
                return
            self._make_room(int(offsets[row + 1]) - int(offsets[row]), used)

    def partial(self, first: int, last: int) -> list[pa.Array[Any]]:
        """See State."""
        return self.finished(first, last)

    def finished(self, first: int, last: int) -> list[pa.Array[Any]]:
        """See State. Raises KM0401 where the strings of these groups pass 2 GiB."""
        starts, sizes = self._starts.cover(last)[first:last], self._sizes.cover(last)[first:last]
        data, offsets = self._joined(starts, sizes)
        seen = (sizes > 0).view(np.uint8)
        narrow = self._type if is_string_like(self._type) else pa.binary()
        made = array_of_strings(data, offsets, seen, int(seen.size - np.count_nonzero(seen)), narrow)
        return [from_ordered_bytes(made, self._type)]

    def clear(self, groups: int) -> None:
        """See State."""
        self._sizes.clear(min(groups, self._sizes.values.size))
        self._state[:] = 0

    def _joined(self, starts: Any, sizes: Any) -> tuple[Any, Any]:
        total = int(np.maximum(sizes - 1, 0).sum())
        if total > _STRINGS_BYTES_MAX:
            what = f"the values {self._name!r} of one partition hold {total:,} bytes"
            raise error(Code.MEMORY_LIMIT, what, hint="raise partitions=")
        data, offsets = np.empty(total, np.uint8), np.empty(sizes.size + 1, np.int32)
        leaststrings.join_strings(self._arena, starts, sizes, total, offsets, data)
        return data, offsets

    def _make_room(self, more: int, used: int) -> None:
        """Drop what was replaced, and have room for half as much again, and for `more` bytes."""
        starts, sizes = self._starts.cover(used)[:used], self._sizes.cover(used)[:used]
        data, offsets = self._joined(starts, sizes)
        starts[:] = offsets[:-1]
        self._arena = np.empty(max(2 * data.size, _FIRST_BYTES) + more, np.uint8)
        self._arena[: data.size] = data
        self._state[leaststrings.ARENA_USED] = data.size


class SumDecimals:
    """Sums of decimals of 128 bits, exact; one that leaves 38 digits is KM0208."""

    def __init__(self, name: str, dtype: Any) -> None:
        self._name, self._type = name, dtype
        self._sums = Dense(np.uint64)

    def view(self, columns: list[pa.Array[Any]]) -> list[Column]:
        """See State."""
        return [(wide_words(columns[0]).reshape(-1, 2), validity_bytes(columns[0]))]

    def add(self, groups: Groups, used: int, columns: list[Column]) -> None:
        """See State."""
        values, validity = columns[0]
        if leaststrings.add_wide_integers(groups, values.reshape(-1), validity, self._sums.cover(2 * used)) >= 0:
            raise self._overflow()

    def partial(self, first: int, last: int) -> list[pa.Array[Any]]:
        """See State."""
        words = self._sums.cover(2 * last)[2 * first : 2 * last].copy()
        return [pa.Array.from_buffers(self._type, last - first, [None, buffer_of(words)], 0)]

    def finished(self, first: int, last: int) -> list[pa.Array[Any]]:
        """See State."""
        made = self.partial(first, last)
        try:
            made[0].validate(full=True)
        except pa.ArrowInvalid as exc:
            raise self._overflow() from exc
        return made

    def clear(self, groups: int) -> None:
        """See State."""
        self._sums.clear(min(2 * groups, self._sums.values.size))

    def _overflow(self) -> Exception:
        hint = "cast the column to float64 before summing, if an approximate sum will do"
        return error(Code.OVERFLOW, f"the sum {self._name!r} of a group leaves {self._type}", hint=hint)
