"""Rows of several batches in one order, without bringing the batches together first: wide values are copied once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from kernelmill.engine.batch import Bytes, view_of
from kernelmill.engine.exec.exchange import Rows, RowSource, fixed_width
from kernelmill.engine.exec.picked import PickedRows, stays
from kernelmill.engine.exec.reused import Reused
from kernelmill.kernels import gathering

SortedBatch = pa.RecordBatch | PickedRows


def held_bytes(batch: SortedBatch) -> int:
    """Bytes that a batch's rows take while `Across` has them: what it must bring together lies there twice."""
    if isinstance(batch, PickedRows):
        return held_bytes(batch.placed) + batch.apart_bytes
    return sum(column.nbytes * (1 if stays(column) else 2) for column in batch.columns)


class Across:
    """The rows of some batches of one schema, numbered one batch behind the other, ready to be gathered.

    Wide values are gathered into memory that `reused` lends.
    """

    def __init__(self, batches: Sequence[SortedBatch], reused: Reused) -> None:
        self._schema = batches[0].schema
        columns = [_columns(batch) for batch in batches]
        self._sources = [_source(pieces, reused) for pieces in zip(*columns, strict=True)]

    def take(self, rows: Rows) -> pa.RecordBatch:
        """These rows, in this order."""
        return pa.RecordBatch.from_arrays([source.take(rows) for source in self._sources], schema=self._schema)


class _Piece(NamedTuple):
    """A column of a batch: all values, or those of some rows."""

    values: pa.Array[Any]
    rows: Rows | None

    @property
    def size(self) -> int:
        return len(self.values) if self.rows is None else self.rows.size

    def gathered(self) -> pa.Array[Any]:
        return self.values if self.rows is None else RowSource(self.values).take(self.rows)


def _columns(batch: SortedBatch) -> list[_Piece]:
    if not isinstance(batch, PickedRows):
        return [_Piece(column, None) for column in batch.columns]
    moved, apart = iter(batch.placed.columns), batch.apart
    return [
        _Piece(apart[number], batch.rows) if number in apart else _Piece(next(moved), None)
        for number in range(len(batch.schema))
    ]


class _Pieces:
    """A column of wide values in several pieces, none of them null."""

    def __init__(self, pieces: Sequence[_Piece], width: int, reused: Reused) -> None:
        self._pieces, self._width, self._reused = pieces, width, reused
        data = [_data(piece.values, width) for piece in pieces]
        self._base, base = data[0], data[0].ctypes.data
        self._places = np.empty(sum(piece.size for piece in pieces), np.int64)
        first = 0
        for piece, part in zip(pieces, data, strict=True):
            start, places = part.ctypes.data - base, self._places[first : first + piece.size]
            if piece.rows is None:
                places[:] = np.arange(start, start + part.size, width, dtype=np.int64)
            else:
                np.multiply(piece.rows, np.int64(width), out=places, dtype=np.int64)
                places += start
            first += piece.size

    def take(self, rows: Rows) -> pa.Array[Any]:
        """The values of these rows."""
        lent = self._reused.lend(rows.size * self._width)
        gathering.gather_fixed_at(self._base, self._places, self._width, rows, lent.bytes)
        return pa.Array.from_buffers(self._pieces[0].values.type, rows.size, [None, lent.buffer], 0)


def _data(piece: pa.Array[Any], width: int) -> Bytes:
    buffer = piece.buffers()[-1]
    assert buffer is not None
    return view_of(buffer, np.uint8, piece.offset * width, len(piece) * width)


def _source(pieces: Sequence[_Piece], reused: Reused) -> RowSource | _Pieces:
    filled = [piece for piece in pieces if piece.size] or pieces[:1]
    if len(filled) == 1 and filled[0].rows is None:
        return RowSource(filled[0].values)
    if all(stays(piece.values) for piece in filled) and any(piece.size for piece in filled):
        return _Pieces(filled, fixed_width(filled[0].values.type), reused)
    return RowSource(pa.concat_arrays([piece.gathered() for piece in filled]))
