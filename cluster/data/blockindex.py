"""The index of a map attempt's output in a cluster: where each partition's pieces lie, and what is in them. No Arrow.

A map attempt leaves `<scratch>/<worker>/<job>/<attempt>/<output>.data` and `.index`. The data file is the pieces of
engine/shuffle/block back to back. The index, all numbers little-endian:

    offset  bytes
    0       4    magic "KMI4"
    4       4    schema length in bytes, u32
    8       4    number of partitions, u32
    12      4    number of pieces, u32
    16      16   job
    32      24   stage, gen, map task, output, epoch of the attempt, 0 (6 x u32)
    56      8    number of the attempt, u64
    64      ...  first piece of each partition, and the number of pieces (partitions + 1 x u32)
    then         Arrow IPC schema message
    then         for each piece: offset in the data file, length, rows, bytes in memory, sum and xor of its rows'
                 checksums, and the checksum of its head, which covers all of it, so that no whole piece is taken for
                 another (7 x u64); in the order of partitions, those of a partition in the order of its rows
    last    8    xxh3-64 of all before, u64

A partition travels as a stream: an index with the pieces of that partition alone, their offsets counted from its end,
then those pieces. What a reader spools is read as what lies in place.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

import xxhash

from kernelmill.cluster.fields import PARTITIONS_MAX, AttemptKey
from kernelmill.cluster.openfiles import check_range, open_file, read_range, size_of
from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.shuffle.piecehead import HEAD_BYTES as PIECE_HEAD_BYTES
from kernelmill.engine.shuffle.piecehead import check_chunks, check_piece, corrupt, head_sum_of

VECTOR = struct.Struct("<QQQQ")
"""Bytes, rows, sum and xor of a partition, as in a task's record."""
DATA, INDEX = ".data", ".index"
INDEX_BYTES_MAX = 256 << 20
"""What an index may take: some four million pieces."""
SCHEMA_BYTES_MAX = 16 << 20
"""What the schema of an output may take in its index: some 100,000 columns."""

_HEAD = struct.Struct("<4sIII16s6IQ")
_PIECE = struct.Struct("<7Q")
_SUM = struct.Struct("<Q")
_FIRST = struct.Struct("<I")
_MAGIC = b"KMI4"
_MODULUS = 1 << 64
_READ_BYTES = 1 << 20


class OutputId(NamedTuple):
    """Which output of which attempt; `gen` is that of its stage."""

    job: bytes
    stage: int
    gen: int
    task: int
    output: int
    attempt: AttemptKey


class Piece(NamedTuple):
    """A piece in its data file: `bytes` in memory form, sum and xor over its rows' checksums, checksum of its head."""

    offset: int
    length: int
    rows: int
    bytes: int
    sum: int
    xor: int
    head_sum: int

    def check(self, data: memoryview, *, where: str) -> tuple[int, int]:
        """How many record batches and rows these bytes have. Raises KM0605 unless they are this piece, unchanged."""
        counts = check_piece(data, where=where)
        self._check_head(data, counts[1], where)
        return counts

    def check_at(self, handle: int, at: int, *, where: str) -> None:
        """As `check`, of the bytes at `at` of an open file, a part in memory at a time. OSError if it ends before."""
        check_range(handle, at, self.length)
        head = read_range(handle, at, min(PIECE_HEAD_BYTES, self.length))
        end = at + self.length
        starts = range(at + len(head), end, _READ_BYTES)
        body = (read_range(handle, start, min(_READ_BYTES, end - start)) for start in starts)
        _, rows = check_chunks(chain((head,), body), self.length, where=where)
        self._check_head(head, rows, where)

    def _check_head(self, data: Any, rows: int, where: str) -> None:
        if head_sum_of(data) != self.head_sum or rows != self.rows:
            raise corrupt("it is not the one that was written here", where)


class BlockIndex:
    """An index that was read, and checked against its checksum; pieces are unpacked as they are asked for."""

    def __init__(self, id_: OutputId, schema: bytes, firsts: Sequence[int], pieces: bytes) -> None:
        self.id, self.schema, self._firsts, self._pieces = id_, schema, firsts, pieces

    @property
    def partitions(self) -> int:
        """How many partitions the output has."""
        return len(self._firsts) - 1

    def pieces(self, partition: int) -> list[Piece]:
        """The pieces of a partition. IndexError if there is none of this number."""
        if not 0 <= partition < self.partitions:
            raise IndexError(partition)
        start, stop = (self._firsts[at] * _PIECE.size for at in (partition, partition + 1))
        return [Piece(*fields) for fields in _PIECE.iter_unpack(self._pieces[start:stop])]

    def vectors(self) -> bytes:
        """(bytes, rows, sum, xor) of all partitions, packed."""
        return b"".join(vector_of(self.pieces(partition)) for partition in range(self.partitions))

    def stream_head(self, partition: int) -> bytes:
        """The index with which the stream of a partition begins."""
        pieces, at = [], 0
        for piece in self.pieces(partition):
            pieces.append(piece._replace(offset=at))
            at += piece.length
        blocks = [pieces if part == partition else [] for part in range(self.partitions)]
        return encode_index(self.id, self.schema, blocks)


def vector_of(pieces: Sequence[Piece]) -> bytes:
    """(bytes, rows, sum, xor) of a partition, packed."""
    size, rows, total, xor = 0, 0, 0, 0
    for piece in pieces:
        size, rows, total, xor = size + piece.length, rows + piece.rows, total + piece.sum, xor ^ piece.xor
    return VECTOR.pack(size, rows, total % _MODULUS, xor)


def encode_index(id_: OutputId, schema: bytes, blocks: Sequence[Sequence[Piece]]) -> bytes:
    """The bytes of an index; `blocks` are the pieces of each partition."""
    count = sum(map(len, blocks))
    key = id_.attempt
    numbers = id_.stage, id_.gen, id_.task, id_.output, key.epoch, 0, key.number
    parts = [_HEAD.pack(_MAGIC, len(schema), len(blocks), count, id_.job, *numbers)]
    at = 0
    for pieces in (*blocks, ()):
        parts.append(_FIRST.pack(at))
        at += len(pieces)
    parts.append(schema)
    parts += [_PIECE.pack(*piece) for pieces in blocks for piece in pieces]
    body = b"".join(parts)
    return body + _SUM.pack(xxhash.xxh3_64_intdigest(body))


def index_length(head: bytes, *, where: str) -> int:
    """The length of the index that begins with these bytes, `HEAD_BYTES` at least. Raises KM0605."""
    if len(head) < HEAD_BYTES or head[:4] != _MAGIC:
        raise corrupt_index(where)
    _, schema_bytes, partitions, count, *_ = _HEAD.unpack_from(head)
    return int(HEAD_BYTES + _FIRST.size * (partitions + 1) + schema_bytes + _PIECE.size * count + _SUM.size)


def decode_index(data: bytes, *, where: str) -> BlockIndex:
    """Read an index. Raises KM0605 before any byte of it is believed."""
    body, tail = data[: -_SUM.size], data[-_SUM.size :]
    if len(data) != index_length(data, where=where) or _SUM.unpack(tail)[0] != xxhash.xxh3_64_intdigest(body):
        raise corrupt_index(where)
    _, schema_bytes, partitions, count, job, stage, gen, task, output, epoch, _, number = _HEAD.unpack_from(body)
    firsts = struct.unpack_from(f"<{partitions + 1}I", body, HEAD_BYTES)
    at = HEAD_BYTES + _FIRST.size * (partitions + 1)
    if firsts[-1] != count or any(a > b for a, b in zip(firsts, firsts[1:], strict=False)):
        raise corrupt_index(where)
    id_ = OutputId(job, stage, gen, task, output, AttemptKey(epoch, number))
    return BlockIndex(id_, body[at : at + schema_bytes], firsts, body[at + schema_bytes :])


def read_index(path: str) -> BlockIndex:
    """Read an index file. Raises KM0605, or OSError if it cannot be read or is no regular file."""
    handle = open_file(path)
    try:
        size = size_of(handle)
        if size > INDEX_BYTES_MAX:
            raise corrupt_index(path)
        return decode_index(read_range(handle, 0, size), where=path)
    finally:
        os.close(handle)


def stream_ranges(head: bytes, pieces: Sequence[Piece], offset: int, length: int) -> Iterator[bytes | tuple[int, int]]:
    """What a stream's bytes [offset, offset + length) are: bytes of its head, or (offset, length) in the data file."""
    stop = offset + length
    if offset < len(head):
        yield head[offset:stop]
    at = len(head)
    for piece in pieces:
        first, last = max(offset, at), min(stop, at + piece.length)
        if first < last:
            yield piece.offset + first - at, last - first
        at += piece.length
        if at >= stop:
            return


def stream_bytes_max(block_bytes: int) -> int:
    """The length of the longest stream of a block of so many bytes: its pieces have a head each, its schema a bound."""
    pieces_max = block_bytes // PIECE_HEAD_BYTES
    firsts_bytes = _FIRST.size * (PARTITIONS_MAX + 1)
    return HEAD_BYTES + firsts_bytes + SCHEMA_BYTES_MAX + _PIECE.size * pieces_max + _SUM.size + block_bytes


def output_stem(scratch: str, holder: str, job: bytes, attempt: AttemptKey, output: int) -> str:
    """The path of an output's files but for their suffix: made of ids alone."""
    return f"{attempt_folder(scratch, holder, job, attempt)}/{output}"


def attempt_folder(scratch: str, holder: str, job: bytes, attempt: AttemptKey) -> str:
    """The folder in which an attempt leaves its blocks."""
    return f"{job_folder(scratch, holder, job)}/{attempt.epoch}-{attempt.number}"


@lru_cache(maxsize=256)
def job_folder(scratch: str, holder: str, job: bytes) -> str:
    """The folder in which a worker's attempts at a job leave their blocks."""
    return os.path.join(scratch, holder, job.hex())


def corrupt_index(where: str) -> KernelmillError:
    """KM0605 for an index."""
    return error(Code.CORRUPT_BLOCK, "the index of shuffle blocks is corrupt", where=where, hint="check that disk")


HEAD_BYTES = _HEAD.size
