"""OutputWriter: takes the rows of one output of a map task as they are made, and keeps them when the task is done.

While they fit into what the job has for blocks they stay in memory. Once they do not, what is there goes to the disk
and what comes after follows it, piece by piece: a task never holds an output that is larger than that.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Protocol

import pyarrow as pa

from kernelmill.engine.batch import batch_bytes
from kernelmill.engine.durable import output_errors
from kernelmill.engine.shuffle.block import Place, encode_index, encode_piece
from kernelmill.engine.shuffle.room import Room

PIECE_BYTES_MAX = 8 << 20
"""Rows that wait for the disk, and those of a piece unless a single batch has more; a reader holds one at a time."""
_DOING = "spilling shuffle blocks"


class Ungathered(Protocol):
    """Rows that are still where they were made, apart from one another: `gathered` brings them together."""

    @property
    def num_rows(self) -> int:
        """How many rows there are."""

    @property
    def nbytes(self) -> int:
        """Bytes of these rows, brought together."""

    def gathered(self) -> pa.RecordBatch:
        """The rows as a batch."""


HeldRows = pa.RecordBatch | Ungathered
"""Rows of an output in memory."""


class InMemory(NamedTuple):
    """An output that stayed in memory: the batches of each partition, and their bytes."""

    schema: pa.Schema
    partitions: list[list[HeldRows]]
    sizes: list[int]


def gathered(rows: HeldRows) -> pa.RecordBatch:
    """Rows of an output as a batch."""
    return rows if isinstance(rows, pa.RecordBatch) else rows.gathered()


class OnDisk(NamedTuple):
    """An output on disk: its files but for their suffix, and the pieces of each partition."""

    stem: Path
    schema: pa.Schema
    blocks: list[list[Place]]


class PutResult(NamedTuple):
    """What an output came to: rows, bytes in memory form, and the bytes written to disk (0: it stayed in memory)."""

    rows: int
    bytes: int
    spilled_bytes: int


class PieceFile(Protocol):
    """Where an output's rows are written piece by piece: BlockFile, or a cluster's file with more in its index."""

    bytes: int

    def write(self, partition: int, batches: Sequence[pa.RecordBatch]) -> None:
        """Write rows behind those of the partition that are there. Raises KM0402 for a full disk."""

    def finish(self) -> OnDisk:
        """Make what was written readable, whole."""

    def discard(self) -> None:
        """Remove what was not finished. Does nothing after `finish`."""


class BlockFile:
    """The data file and index file of one output, under other names until `finish`. Leaving its `with` discards them.

    charge: told of bytes before they are written; raises KM0402 where there are too many.
    """

    def __init__(self, stem: Path, schema: pa.Schema, partitions: int, charge: Callable[[int], None]) -> None:
        self._stem, self._schema, self._charge = stem, schema, charge
        unfinished = stem.with_name(f"{stem.name}-{os.urandom(8).hex()}")  # another attempt may write as well
        self._data, self._index = unfinished.with_suffix(".data.new"), unfinished.with_suffix(".index.new")
        self._blocks: list[list[Place]] = [[] for _ in range(partitions)]
        self.bytes = 0
        with output_errors(_DOING, str(stem)):
            self._file = open(self._data, "wb", buffering=1 << 20)  # noqa: SIM115 - held while the task runs

    def __enter__(self) -> BlockFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.discard()

    def write(self, partition: int, batches: Sequence[pa.RecordBatch]) -> None:
        """Write rows behind those of the partition that are there. Raises KM0402 for a full disk."""
        for piece, size in in_pieces(batches):
            chunks = encode_piece(piece)
            length = sum(map(len, chunks))
            self._charge(length)
            with output_errors(_DOING, str(self._stem)):
                for chunk in chunks:
                    self._file.write(chunk)
            rows = sum(batch.num_rows for batch in piece)
            self._blocks[partition].append(Place(self.bytes, length, rows, size))
            self.bytes += length

    def finish(self) -> OnDisk:
        """Write the index, and give both files their names: what another attempt left there is replaced."""
        with output_errors(_DOING, str(self._stem)):
            self._file.close()
            self._index.write_bytes(encode_index(self._schema, self._blocks))
            os.replace(self._data, self._stem.with_suffix(".data"))
            os.replace(self._index, self._stem.with_suffix(".index"))
        return OnDisk(self._stem, self._schema, self._blocks)

    def discard(self) -> None:
        """Remove what was not finished. Does nothing after `finish`."""
        with suppress(OSError):  # what a full disk did not take
            self._file.close()
        for file in (self._data, self._index):
            file.unlink(missing_ok=True)


class OutputWriter:
    """One output of a map task while the task runs: `add` its rows, then `close`. Used by one thread, in a `with`.

    Nothing of it can be read before it is closed; leaving the `with` without leaves nothing. `new_file` makes its file
    if it needs one, `keep` takes what it became. is_shared: others read the file, so there must be one.
    """

    def __init__(
        self,
        schema: pa.Schema,
        partitions: int,
        room: Room,
        new_file: Callable[[], PieceFile],
        keep: Callable[[InMemory | OnDisk], None],
        *,
        is_shared: bool,
    ) -> None:
        self._schema, self._room, self._new_file, self._keep = schema, room, new_file, keep
        self._held: list[list[HeldRows]] = [[] for _ in range(partitions)]
        self._sizes = [0] * partitions
        self._rows = self._held_bytes = self._taken_bytes = 0
        self._file = new_file() if is_shared else None

    def __enter__(self) -> OutputWriter:
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.discard()
        self._held = []
        self._give_memory()

    def add(self, partition: int, batch: HeldRows) -> None:
        """Take rows behind those of the partition that were added. Raises KM0402 if they do not fit the disk either."""
        if not batch.num_rows:
            return
        size = int(batch.nbytes)
        if self._file is None:
            if self._room.take_memory(size):
                self._taken_bytes += size
            else:
                self._file = self._new_file()
                self._write_held()
                self._give_memory()
        self._held[partition].append(batch)
        self._sizes[partition] += size
        self._rows += batch.num_rows
        self._held_bytes += size
        if self._file is not None and self._held_bytes >= PIECE_BYTES_MAX:
            self._write_held()

    def close(self) -> PutResult:
        """Keep the output, whole. Raises KM0402 if the disk is full."""
        size = sum(self._sizes)
        if self._file is None:
            self._keep(InMemory(self._schema, self._held, self._sizes))
            self._held, self._taken_bytes = [], 0  # the memory goes with the output
            return PutResult(self._rows, size, 0)
        self._write_held()
        self._keep(self._file.finish())
        return PutResult(self._rows, size, self._file.bytes)

    def _write_held(self) -> None:
        assert self._file is not None
        for partition, batches in enumerate(self._held):
            self._held[partition] = []
            self._file.write(partition, [gathered(batch) for batch in batches])
        self._held_bytes = 0

    def _give_memory(self) -> None:
        self._room.give_memory(self._taken_bytes)
        self._taken_bytes = 0


def in_pieces(batches: Sequence[pa.RecordBatch]) -> Iterator[tuple[list[pa.RecordBatch], int]]:
    """The batches in runs of at most 8 MiB, or of one that is larger, each with its bytes."""
    piece: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        added = batch_bytes(batch)
        if piece and size + added > PIECE_BYTES_MAX:
            yield piece, size
            piece, size = [], 0
        piece.append(batch)
        size += added
    if piece:
        yield piece, size
