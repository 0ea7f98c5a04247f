"""Batches cut where their rows say, not where memory did: what comes after a sort must not see how it was done (I1)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from kernelmill.engine.batch import concatenated
from kernelmill.engine.io.rowbytes import bytes_before, bytes_of

BATCH_ROWS_MAX = 1 << 16
BATCH_BYTES_MAX = 16 << 20


def recut(batches: Iterator[pa.RecordBatch], bytes_max: int | None = None) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of 64 Ki, or of as many as have `bytes_max` (16 MiB) of values, at least one.

    Where a batch ends depends on the rows alone, not on how they came.
    """
    rows_max, bytes_max = BATCH_ROWS_MAX, BATCH_BYTES_MAX if bytes_max is None else bytes_max
    waiting: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        start = 0
        while start < batch.num_rows:
            piece = batch.slice(start, rows_max - rows)
            piece_bytes = bytes_of(piece.columns)
            is_full = size + piece_bytes > bytes_max
            if is_full:
                sums = bytes_before(piece.columns, piece.num_rows)
                fits = int(np.searchsorted(sums, bytes_max - size, side="right")) - 1
                piece = piece.slice(0, max(fits, 0 if rows else 1))
                piece_bytes = int(sums[piece.num_rows])
            if piece.num_rows:
                waiting.append(piece)
            rows, size, start = rows + piece.num_rows, size + piece_bytes, start + piece.num_rows
            if is_full or rows == rows_max:
                yield _joined(waiting)
                waiting, rows, size = [], 0, 0
    if waiting:
        yield _joined(waiting)


def _joined(waiting: list[pa.RecordBatch]) -> pa.RecordBatch:
    return waiting[0] if len(waiting) == 1 else concatenated(waiting)
