"""Rows of several batches in one order, without bringing the batches together first: wide values are copied once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from kernelmill.engine.batch import Bytes, buffer_of, new_array, view_of
from kernelmill.engine.exec.exchange import Rows, RowSource, fixed_width
from kernelmill.kernels import gathering


def held_bytes(batch: pa.RecordBatch) -> int:
    """Bytes that a batch's rows take while `Across` has them: what it must bring together lies there twice."""
    return sum(column.nbytes * (1 if _stays(column) else 2) for column in batch.columns)


def _stays(column: pa.Array[Any]) -> bool:
    return fixed_width(column.type) >= gathering.PLACED_BYTES_MIN and not column.null_count


class Across:
    """The rows of some batches of one schema, numbered one batch behind the other, ready to be gathered."""

    def __init__(self, batches: Sequence[pa.RecordBatch]) -> None:
        self._schema = batches[0].schema
        columns = [[batch.column(number) for batch in batches] for number in range(len(self._schema))]
        self._sources = [_source(pieces) for pieces in columns]

    def take(self, rows: Rows) -> pa.RecordBatch:
        """These rows, in this order."""
        return pa.RecordBatch.from_arrays([source.take(rows) for source in self._sources], schema=self._schema)


class _Pieces:
    """A column of wide values in several pieces, none of them null."""

    def __init__(self, pieces: Sequence[pa.Array[Any]], width: int) -> None:
        self._pieces, self._width = pieces, width
        data = [_data(piece, width) for piece in pieces]
        self._base, base = data[0], data[0].ctypes.data
        self._places = np.empty(sum(map(len, pieces)), np.int64)
        first = 0
        for part in data:
            start, rows = part.ctypes.data - base, part.size // width
            self._places[first : first + rows] = np.arange(start, start + part.size, width, dtype=np.int64)
            first += rows

    def take(self, rows: Rows) -> pa.Array[Any]:
        """The values of these rows."""
        out = new_array(rows.size * self._width, np.uint8)
        gathering.gather_fixed_at(self._base, self._places, self._width, rows, out)
        return pa.Array.from_buffers(self._pieces[0].type, rows.size, [None, buffer_of(out)], 0)


def _data(piece: pa.Array[Any], width: int) -> Bytes:
    buffer = piece.buffers()[-1]
    assert buffer is not None
    return view_of(buffer, np.uint8, piece.offset * width, len(piece) * width)


def _source(pieces: Sequence[pa.Array[Any]]) -> RowSource | _Pieces:
    filled = [piece for piece in pieces if len(piece)] or pieces[:1]
    if len(filled) == 1:
        return RowSource(filled[0])
    if all(map(_stays, filled)):
        return _Pieces(filled, fixed_width(filled[0].type))
    return RowSource(pa.concat_arrays(filled))
