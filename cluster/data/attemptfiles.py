"""The files, or the pack, in which a map attempt leaves an output, and the reading of a block wherever it lies."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache, partial
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
from kernelmill.cluster.data.packs import PACKED_BYTES_MAX, Packed, PackReader, PackWriter
from kernelmill.cluster.openfiles import check_range, open_file, read_into
from kernelmill.engine.durable import output_errors
from kernelmill.engine.errors import Code, error
from kernelmill.engine.exec.rowsums import RowSums, row_sums
from kernelmill.engine.remembering import remembered
from kernelmill.engine.shuffle.block import decode_piece, encode_piece
from kernelmill.engine.shuffle.piecehead import head_sum_of
from kernelmill.engine.shuffle.writer import OnDisk, in_pieces

_DOING = "writing shuffle blocks"
ELSEWHERE = OnDisk(Path(), pa.schema([]), [])
"""What an output became whose index says all that anybody here asks of it."""


class AttemptFile:
    """The data and index file of one output of an attempt: new files, visible to readers once the index is whole.

    Without rows there is no data file. With a pack the output goes there instead if it is small: the two files, and
    what `make_folder` makes, are not made at all then.

    They are not made durable: after a crash of the host what is missing or damaged is found by checksums, and made
    again. charge: told of bytes before they are written; raises KM0402 where there are too many.
    """

    def __init__(
        self,
        stem: str,
        id_: OutputId,
        schema: pa.Schema,
        partitions: int,
        charge: Callable[[int], None],
        *,
        pack: PackWriter | None = None,
        make_folder: Callable[[], None] = lambda: None,
    ) -> None:
        self._stem, self._id, self._schema, self._charge = stem, id_, schema, charge
        self._pack, self._make_folder = pack, make_folder
        self._blocks: list[list[Piece]] = [[] for _ in range(partitions)]
        self._is_finished = False
        self._held: list[pa.Buffer | bytes] = []  # what may go into a pack
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
            if self._pack is not None and self.bytes + length > PACKED_BYTES_MAX:
                self._pack = None
                self._write_chunks(self._held)
                self._held = []
            if self._pack is not None:
                self._held += chunks
            else:
                self._write_chunks(chunks)
            sums = RowSums()
            for batch in piece:
                sums = sums.plus(row_sums(batch))
            head_sum = head_sum_of(memoryview(chunks[0]))
            self._blocks[partition].append(Piece(self.bytes, length, sums.rows, size, sums.sum, sums.xor, head_sum))
            self.bytes += length

    def _write_chunks(self, chunks: Sequence[pa.Buffer | bytes]) -> None:
        if not chunks:
            return
        with output_errors(_DOING, self._stem):
            if self._file is None:
                self._make_folder()
                self._file = open(self._stem + DATA, "xb", buffering=1 << 20)  # noqa: SIM115 - see finish
            for chunk in chunks:
                self._file.write(chunk)

    def finish(self) -> OnDisk:
        """Write the index: the output is there."""
        index = encode_index(self._id, _bytes_of(self._schema), self._blocks)
        if self._pack is not None:
            self._pack.add(self._id.attempt, self._id.output, index, self._held)
            self._held = []
        else:
            with output_errors(_DOING, self._stem):
                if self._file is not None:
                    self._file.close()
                else:
                    self._make_folder()
                with open(self._stem + INDEX, "xb") as file:
                    file.write(index)
        self._is_finished = True
        return ELSEWHERE

    def discard(self) -> None:
        """Remove what was not finished. Does nothing after `finish`."""
        if self._is_finished:
            return
        self._held = []
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

    is_foreign: another host made it, so its offsets and texts are looked at too before a kernel reads them. packs: who
    has the file open, if it is a pack.
    """

    path: str
    base: int
    schema: pa.Schema
    pieces: list[Piece]
    is_foreign: bool
    packs: PackReader | None = None

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
        if self.packs is not None:
            yield from self._decoded(self._read_pack)
            return
        try:
            handle = open_file(self.path)
        except OSError as problem:
            raise _unreadable(problem, self.path) from problem
        try:
            yield from self._decoded(partial(_read_buffer, handle))
        finally:
            os.close(handle)

    def _read_pack(self, offset: int, length: int) -> pa.Buffer:
        assert self.packs is not None
        return _read_buffer(self.packs.handle(self.path), offset, length)

    def _decoded(self, read: Callable[[int, int], pa.Buffer]) -> Iterator[pa.RecordBatch]:
        for piece in self.pieces:
            where = f"{self.path}, byte {self.base + piece.offset}"
            try:
                data = read(self.base + piece.offset, piece.length)
                batches = decode_piece(data, self.schema, where=where, check=piece.check)
                for batch in batches if self.is_foreign else ():
                    batch.validate(full=True)
            except (OSError, pa.ArrowException) as problem:
                raise _unreadable(problem, where) from problem
            yield from batches


def _read_buffer(handle: int, offset: int, length: int) -> pa.Buffer:
    """Bytes of an open file in memory of their own: what becomes of the file after they are checked changes nothing."""
    check_range(handle, offset, length)  # before so much memory is asked for
    buffer = pa.allocate_buffer(length)
    read_into(handle, offset, memoryview(buffer))
    return buffer


def block_in_place(stem: str, id_: OutputId, partition: int) -> Block:
    """A block in the folder of the attempt that made it. Raises KM0605, or FileNotFoundError if it is not there."""
    path = stem + INDEX
    try:
        index = read_index(path)
    except FileNotFoundError:
        raise
    except OSError as problem:
        raise _unreadable(problem, path) from problem
    return _block(stem + DATA, 0, index, id_, partition, path, is_foreign=False)


def block_in_pack(reader: PackReader, packed: Packed, id_: OutputId, partition: int) -> Block:
    """A block in a pack. Raises KM0605, or FileNotFoundError if the pack is gone."""
    try:
        index = reader.index(packed)
    except FileNotFoundError:
        raise
    except OSError as problem:
        raise _unreadable(problem, packed.path) from problem
    block = _block(packed.path, packed.base, index, id_, partition, packed.path, is_foreign=False)
    return block._replace(packs=reader)


def block_of_stream(path: str, id_: OutputId, partition: int) -> Block:
    """A block that was fetched into a file. Raises KM0605."""
    try:
        with open(open_file(path), "rb") as file:
            head = file.read(HEAD_BYTES)
            length = index_length(head, where=path)
            check_range(file.fileno(), 0, length)
            index = decode_index(head + file.read(length - HEAD_BYTES), where=path)
    except OSError as problem:
        raise _unreadable(problem, path) from problem
    return _block(path, length, index, id_, partition, path, is_foreign=True)


def _block(
    path: str, base: int, index: BlockIndex, id_: OutputId, partition: int, where: str, *, is_foreign: bool
) -> Block:
    if index.id != id_:
        raise error(Code.CORRUPT_BLOCK, f"these are the blocks of {index.id}, not of {id_}", where=where)
    try:
        pieces = index.pieces(partition)
    except IndexError:
        what = f"{index.partitions} partitions, and number {partition} was asked for"
        raise error(Code.CORRUPT_BLOCK, what, where=where, hint="report this") from None
    try:
        schema = _schema_of(index.schema)
    except (OSError, pa.ArrowException) as problem:
        raise _unreadable(problem, where) from problem
    return Block(path, base, schema, pieces, is_foreign)


@remembered
def _bytes_of(schema: pa.Schema) -> bytes:
    return schema.serialize().to_pybytes()


@lru_cache(maxsize=64)
def _schema_of(data: bytes) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(data))


def _unreadable(problem: Exception, where: str) -> Exception:
    what = f"a shuffle block cannot be read: {problem}"
    return error(Code.CORRUPT_BLOCK, what, where=where, hint="check that disk")
