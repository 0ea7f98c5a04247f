"""Rows of a task apart by sub-partition, so that each can be read by itself, as often as it is asked for.

Dividing takes one pass; what does not fit in little memory lies in a spill file (the grace join of Kitsuregawa, Tanaka
and Moto-oka, New Generation Computing 1, 1983).
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from kernelmill.engine.batch import concatenated
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.recut import recut
from kernelmill.engine.exec.taskinputs import sub_partitions
from kernelmill.engine.io.rowbytes import bytes_of
from kernelmill.engine.shuffle.spillfile import SpillFile, SpillPlace

HELD_BYTES_MAX = 32 << 20
"""Rows that are held while they are divided; what is left at the end stays in memory."""

Batches = Iterator[pa.RecordBatch]


class RowsApart:
    """The rows of `batches` in `pieces` sub-partitions by the hash of `keys`, each in the order in which they came.

    Use it in a `with`: leaving it gives the disk back. Raises KM0402 where that is full.
    """

    def __init__(self, batches: Batches, keys: tuple[str, ...], pieces: int, context: TaskContext) -> None:
        self._context = context
        self._file: SpillFile | None = None
        self._places: list[list[SpillPlace]] = [[] for _ in range(pieces)]
        self._held: list[list[pa.RecordBatch]] = [[] for _ in range(pieces)]
        size = 0
        for batch in batches:
            context.check_cancelled()
            for piece, rows in sub_partitions(batch, keys, pieces):
                self._held[piece].append(rows)
            size += bytes_of(batch.columns)
            if size > HELD_BYTES_MAX:
                self._spill()
                size = 0

    def __enter__(self) -> RowsApart:
        return self

    def __exit__(self, *_: object) -> None:
        self._held = []
        if self._file is not None:
            self._file.close()

    def rows(self, piece: int) -> Batches:
        """The rows of one piece."""
        return recut(self._pieces_of(piece))

    def _pieces_of(self, piece: int) -> Batches:
        for place in self._places[piece]:
            assert self._file is not None
            yield from self._file.read(place)
        yield from self._held[piece]

    def _spill(self) -> None:
        for held, places in zip(self._held, self._places, strict=True):
            if not held:
                continue
            if self._file is None:
                self._file = self._context.spill_file(held[0].schema)
            places.append(self._file.append([concatenated(held)]))
            held.clear()
