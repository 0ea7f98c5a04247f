"""Columns as the drivers of compiled functions take them, and the arena in which such functions make texts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.batch import numbers_of, strings_view, validity_bytes
from kernelmill.engine.errors import Code, error
from kernelmill.kernels import usermaps
from kernelmill.kernels.usercode import TEXT_SLACK_BYTES

ARENA_BYTES = 1 << 20
ARENA_BYTES_MAX = 1 << 30


class Arena:
    """Bytes for texts that a compiled function makes; `state` is what a driver takes."""

    def __init__(self) -> None:
        self.state: NDArray[np.int64] = np.zeros(4, np.int64)
        self.grow(ARENA_BYTES)

    def grow(self, size: int) -> None:
        """Make room for `size` bytes of new texts; those that were made are lost."""
        if size > ARENA_BYTES_MAX:
            raise error(Code.MEMORY_LIMIT, "one record makes more than 1 GiB of text", hint="make less a record")
        self._bytes: NDArray[np.uint8] = np.empty(size + 8, np.uint8)
        self.state[:] = (self._bytes.ctypes.data + 7 & -8, size, 0, 0)

    def grows(self) -> bool:
        """Make room if that is what a driver's failure was for; then it is to be tried again."""
        wanted = int(self.state[usermaps.ARENA_WANTED])
        if wanted:
            self.grow(2 * int(self.state[1]) + wanted)
        return bool(wanted)


def driver_columns(columns: Iterable[pa.Array[Any]]) -> list[Any]:
    """The arguments for these columns: see `usercode.column_parameters`."""
    arguments: list[Any] = []
    for column in columns:
        if pa.types.is_string(column.type):
            data, offsets = strings_view(column)
            first, end = int(offsets[0]), int(offsets[-1])
            if data.size < end + TEXT_SLACK_BYTES:
                padded = np.zeros(end - first + TEXT_SLACK_BYTES, np.uint8)
                padded[: end - first] = data[first:end]
                data, offsets, first, end = padded, offsets - offsets[0], 0, end - first
            is_ascii = int(data[first:end].max(initial=0)) < 0x80
            arguments += [data, offsets[:-1], offsets[1:], validity_bytes(column), is_ascii]
        elif pa.types.is_boolean(column.type):
            arguments += [np.asarray(column.cast(pa.uint8()).fill_null(0)), validity_bytes(column)]
        else:
            wide = pa.float64() if pa.types.is_floating(column.type) else pa.int64()
            # pyarrow loads its functions, for 0.1 s, at the first cast
            same = column if column.type == wide else column.cast(wide)
            arguments += [numbers_of(same), validity_bytes(column)]
    return arguments
