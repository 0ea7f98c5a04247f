"""Lines of text where the reader has them: for compiled functions, which need no column of copies."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.batch import array_of_strings
from kernelmill.kernels import gathering
from kernelmill.kernels.lines import BEYOND_ASCII
from kernelmill.kernels.table import NO_MASK

Places = NDArray[np.int32]
PLACE = np.int32(~BEYOND_ASCII & 0x7FFFFFFF)
"""The bits of a line's start that are its place."""


class LinesInPlace:
    """Lines data[starts[r]:ends[r]] of a block, UTF-8 all of it, valid until the next batch is asked for.

    Stands for a RecordBatch of `schema`, one column of strings without nulls, and makes one of those rows that are
    wanted as such. data u8, 64 bytes readable past the last line; starts and ends as `find_lines` gives them.
    """

    def __init__(self, schema: pa.Schema, data: NDArray[np.uint8], starts: Places, ends: Places) -> None:
        self.schema, self.num_rows = schema, starts.size
        self._data, self._starts, self._ends = data, starts, ends

    @property
    def arguments(self) -> list[Any]:
        """The driver's arguments for the column: see `usercode.column_parameters`."""
        return [self._data, self._starts, self._ends, NO_MASK, True]

    def slice(self, first: int, rows: int) -> pa.RecordBatch:
        """These rows as a batch of their own."""
        places = np.empty(2 * rows, np.int32)
        places[::2], places[1::2] = self._starts[first : first + rows] & PLACE, self._ends[first : first + rows]
        every_other = np.arange(0, 2 * rows, 2, dtype=np.uint32)
        offsets = np.empty(rows + 1, np.int32)
        size = gathering.gather_string_lengths(places, every_other, 0, rows, offsets)
        copied = np.empty(size + gathering.SLACK_BYTES, np.uint8)
        gathering.gather_strings(self._data, places, every_other, 0, rows, offsets, copied)
        column = array_of_strings(copied, offsets, NO_MASK, 0, pa.string())
        return pa.RecordBatch.from_arrays([column], schema=self.schema)

    def batch(self) -> pa.RecordBatch:
        """All rows as a batch."""
        return self.slice(0, self.num_rows)
