"""A shuffle block: the rows that one map attempt made for one partition, as bytes.

A block is one piece or several: rows are written as they are made, so that an attempt need not hold them all. A map
attempt's data file is the pieces of its blocks back to back, in the order in which they were written; no rows have no
bytes. A piece:

    offset  bytes
    0       4    magic "KMB1"
    4       4    number of record batches, u32
    8       8    rows, u64
    16      8    body length in bytes, u64
    24      8    xxh3-64 of the body, u64
    32      8    xxh3-64 of the 32 bytes before, u64
    40      ...  body: for each record batch its length (u64) and its Arrow IPC message (8-byte aligned)

All numbers are little-endian. The schema is not in the block: the index holds it once. The index file:

    0       4    magic "KMI2"
    4       4    schema length in bytes, u32
    8       4    number of partitions, u32
    12      4    number of pieces, u32
    16      ...  Arrow IPC schema message
    then         for each piece: partition, offset, length in the data file, rows, and bytes in memory (5 x u64); in the
                 order of partitions, those of a block in the order of its rows
    last    8    xxh3-64 of all before, u64
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

import pyarrow as pa
import xxhash

from kernelmill.engine.errors import Code, error
from kernelmill.engine.shuffle.piecehead import HEAD, HEAD_BYTES, PIECE_MAGIC, SUM, check_piece, corrupt

_INDEX_HEAD = struct.Struct("<4sIII")
_PLACE = struct.Struct("<QQQQQ")
_INDEX_MAGIC = b"KMI2"
_CORRUPT_HINT = "check that disk; run again"


class Place(NamedTuple):
    """A piece in its data file, its rows, and its bytes as they were in memory."""

    offset: int
    length: int
    rows: int
    bytes: int


def encode_piece(batches: Sequence[pa.RecordBatch]) -> list[pa.Buffer | bytes]:
    """The bytes of these rows in chunks, header first; nothing is copied into one buffer. No rows: no bytes."""
    rows = sum(batch.num_rows for batch in batches)
    if not rows:
        return []
    chunks: list[pa.Buffer | bytes] = []
    hasher = xxhash.xxh3_64()
    body_bytes = 0
    for batch in batches:
        message = batch.serialize()
        for chunk in (SUM.pack(message.size), message):
            hasher.update(chunk)
            chunks.append(chunk)
        body_bytes += SUM.size + message.size
    head = HEAD.pack(PIECE_MAGIC, len(batches), rows, body_bytes, hasher.intdigest())
    return [head + SUM.pack(xxhash.xxh3_64_intdigest(head)), *chunks]


def decode_piece(
    data: pa.Buffer, schema: pa.Schema, *, where: str, check: Callable[..., tuple[int, int]] | None = None
) -> list[pa.RecordBatch]:
    """The record batches of a piece, over the memory of `data`. Raises KM0605 before any byte is believed.

    check: as `check_piece`, for who knows more of the piece than that it is one or nothing.
    """
    if data.size == 0 and check is None:
        return []
    view = memoryview(data)
    count, rows = (check or check_piece)(view, where=where)
    batches, at = [], HEAD_BYTES
    for _ in range(count):
        (length,) = SUM.unpack(view[at : at + SUM.size])
        batches.append(pa.ipc.read_record_batch(data.slice(at + SUM.size, length), schema))
        at += SUM.size + length
    if sum(batch.num_rows for batch in batches) != rows:
        raise corrupt("its rows are not as many as its header says", where)
    return batches


def encode_index(schema: pa.Schema, blocks: Sequence[Sequence[Place]]) -> bytes:
    """The bytes of an index file; `blocks` are the pieces of each partition."""
    schema_bytes = schema.serialize().to_pybytes()
    placed = [_PLACE.pack(part, *place) for part, places in enumerate(blocks) for place in places]
    body = _INDEX_HEAD.pack(_INDEX_MAGIC, len(schema_bytes), len(blocks), len(placed)) + schema_bytes + b"".join(placed)
    return body + SUM.pack(xxhash.xxh3_64_intdigest(body))


def decode_index(data: bytes, *, where: str) -> tuple[pa.Schema, list[list[Place]]]:
    """The schema, and the pieces of each partition in the data file. Raises KM0605."""
    body, tail = data[: -SUM.size], data[-SUM.size :]
    intact = len(data) >= _INDEX_HEAD.size + SUM.size and SUM.unpack(tail)[0] == xxhash.xxh3_64_intdigest(body)
    if not intact or body[:4] != _INDEX_MAGIC:
        raise error(Code.CORRUPT_BLOCK, "the index of shuffle blocks is corrupt", where=where, hint=_CORRUPT_HINT)
    _, schema_bytes, partitions, _ = _INDEX_HEAD.unpack(body[: _INDEX_HEAD.size])
    at = _INDEX_HEAD.size + schema_bytes
    schema = pa.ipc.read_schema(pa.py_buffer(body[_INDEX_HEAD.size : at]))
    blocks: list[list[Place]] = [[] for _ in range(partitions)]
    for part, *place in _PLACE.iter_unpack(body[at:]):
        blocks[part].append(Place(*place))
    return schema, blocks
