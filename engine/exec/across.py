"""Rows of several batches in one order, without bringing the batches together first: wide values are copied once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from kernelmill.engine.batch import buffer_of, view_of
from kernelmill.engine.exec.exchange import Rows, RowSource, fixed_width
from kernelmill.kernels import gathering


def take_across(columns: Sequence[pa.Array[Any]], rows: Rows) -> pa.Array[Any]:
    """These rows, in this order, of pieces of one column, which are numbered one piece behind the other."""
    width = fixed_width(columns[0].type)
    if len(columns) == 1 or width < gathering.PLACED_BYTES_MIN or any(column.null_count for column in columns):
        return RowSource(columns[0] if len(columns) == 1 else pa.concat_arrays(columns)).take(rows)
    held = [(buffer, column) for column in columns if len(column) and (buffer := column.buffers()[-1]) is not None]
    if not held:
        return columns[0]
    first = held[0][0]
    places = [
        np.arange(column.offset, column.offset + len(column), dtype=np.int64) * width + (buffer.address - first.address)
        for buffer, column in held
    ]
    out = np.empty(rows.size * width, np.uint8)
    gathering.gather_fixed_at(view_of(first, np.uint8), np.concatenate(places), width, rows, out)
    return pa.Array.from_buffers(columns[0].type, rows.size, [None, buffer_of(out)], 0)
