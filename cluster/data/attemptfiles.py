"""The files in which a map attempt leaves an output, and the reading of one of its blocks, wherever it lies."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

import pyarrow as pa

from kernelmill.cluster.data.blockindex import (
    DATA,
    HEAD_BYTES,
    INDEX,
    BlockIndex,
    OutputId,
    Piece,
    decode_index,
    encode_index,
    index_length,
    read_index,
    vector_of,
)
from kernelmill.engine.durable import output_errors
from kernelmill.engine.errors import Code, error
from kernelmill.engine.exec.rowsums import RowSums, row_sums
from kernelmill.engine.shuffle.block import Place, decode_piece, encode_piece
from kernelmill.engine.shuffle.piecehead import head_sum_of
from kernelmill.engine.shuffle.writer import OnDisk, in_pieces

_DOING = "writing shuffle blocks"


class AttemptFile:
    """The data and index file of one output of an attempt: new files, visible to readers once the index is whole.

    Without rows there is no data file.

    They are not made durable: after a crash of the host what is missing or damaged is found by checksums, and made
    again. charge: told of bytes before they are written; raises KM0402 where there are too many.
    """

    def __init__(
        self, stem: str, id_: OutputId, schema: pa.Schema, partitions: int, charge: Callable[[int], None]
    ) -> None:
        self._stem, self._id, self._schema, self._charge = stem, id_, schema, charge
        self._blocks: list[list[Piece]] = [[] for _ in range(partitions)]
        self._is_finished = False
        self.bytes = 0
        self._file: IO[bytes] | None = None

    def write(self, partition: int, batches: Sequence[pa.RecordBatch]) -> None:
        """Write rows behind those of the partition that are there. Raises KM0402 for a full disk."""
        for piece, size in in_pieces(batches):
            chunks = encode_piece(piece)
            if not chunks:
                continue  # no rows
            length = sum(map(len, chunks))
            self._charge(length)
            with output_errors(_DOING, self._stem):
                if self._file is None:
                    self._file = open(self._stem + DATA, "xb", buffering=1 << 20)  # noqa: SIM115 - see finish
                for chunk in chunks:
                    self._file.write(chunk)
            sums = RowSums()
            for batch in piece:
                sums = sums.plus(row_sums(batch))
            head_sum = head_sum_of(memoryview(chunks[0]))
            self._blocks[partition].append(Piece(self.bytes, length, sums.rows, size, sums.sum, sums.xor, head_sum))
            self.bytes += length

    def finish(self) -> OnDisk:
        """Write the index: the output is there."""
        with output_errors(_DOING, self._stem):
            if self._file is not None:
                self._file.close()
            with open(self._stem + INDEX, "xb") as index:
                index.write(encode_index(self._id, self._schema.serialize().to_pybytes(), self._blocks))
        self._is_finished = True
        return OnDisk(Path(self._stem), self._schema, [[Place(*piece[:4]) for piece in own] for own in self._blocks])

    def discard(self) -> None:
        """Remove what was not finished. Does nothing after `finish`."""
        if self._is_finished:
            return
        with suppress(OSError):  # what a full disk did not take
            if self._file is not None:
                self._file.close()
        for suffix in (DATA, INDEX):
            Path(self._stem + suffix).unlink(missing_ok=True)

    def vectors(self) -> bytes:
        """(bytes, rows, sum, xor) of all partitions, packed, as a task's record has them."""
        return b"".join(map(vector_of, self._blocks))


class Block(NamedTuple):
    """One partition of one output: a file, where pieces begin in it, and the pieces.

    is_foreign: another host made it, so its offsets and texts are looked at too before a kernel reads them.
    """

    path: str
    base: int
    schema: pa.Schema
    pieces: list[Piece]
    is_foreign: bool

    @property
    def sums(self) -> RowSums:
        """Rows and checksums of all its rows, as the index says."""
        found = RowSums()
        for piece in self.pieces:
            found = found.plus(RowSums(piece.rows, piece.sum, piece.xor))
        return found

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Its batches in order; each piece is checked as a whole before any row of it is given. Raises KM0605."""
        if not self.pieces:
            return
        try:
            file = pa.OSFile(os.fsencode(self.path), "rb")  # type: ignore[arg-type]  # a name need not be UTF-8
        except OSError as problem:
            raise _unreadable(problem, self.path) from problem
        with file:
            for piece in self.pieces:
                where = f"{self.path}, byte {self.base + piece.offset}"
                try:
                    file.seek(self.base + piece.offset)
                    data = file.read_buffer(piece.length)
                    batches = decode_piece(data, self.schema, where=where, check=piece.check)
                    for batch in batches if self.is_foreign else ():
                        batch.validate(full=True)
                except (OSError, pa.ArrowException) as problem:
                    raise _unreadable(problem, where) from problem
                yield from batches


def block_in_place(stem: str, id_: OutputId, partition: int) -> Block:
    """A block in the folder of the attempt that made it. Raises KM0605, or FileNotFoundError if it is not there."""
    path = stem + INDEX
    try:
        index = read_index(path)
    except FileNotFoundError:
        raise
    except OSError as problem:
        raise _unreadable(problem, path) from problem
    if index.id != id_:
        raise error(Code.CORRUPT_BLOCK, f"these are the blocks of {index.id}, not of {id_}", where=path)
    return _block(stem + DATA, 0, index, partition, path, is_foreign=False)


def block_of_stream(path: str, id_: OutputId, partition: int) -> Block:
    """A block that was fetched into a file. Raises KM0605."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
            length = index_length(head, where=path)
            index = decode_index(head + file.read(length - HEAD_BYTES), where=path)
    except OSError as problem:
        raise _unreadable(problem, path) from problem
    if index.id != id_:
        raise error(Code.CORRUPT_BLOCK, f"these are the blocks of {index.id}, not of {id_}", where=path)
    return _block(path, length, index, partition, path, is_foreign=True)


def _block(path: str, base: int, index: BlockIndex, partition: int, where: str, *, is_foreign: bool) -> Block:
    try:
        pieces = index.pieces(partition)
    except IndexError:
        what = f"{index.partitions} partitions, and number {partition} was asked for"
        raise error(Code.CORRUPT_BLOCK, what, where=where, hint="report this") from None
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(index.schema))
    except (OSError, pa.ArrowException) as problem:
        raise _unreadable(problem, where) from problem
    return Block(path, base, schema, pieces, is_foreign)


def _unreadable(problem: Exception, where: str) -> Exception:
    what = f"a shuffle block cannot be read: {problem}"
    return error(Code.CORRUPT_BLOCK, what, where=where, hint="check that disk")
