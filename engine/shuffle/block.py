"""A shuffle block: the rows that one map attempt made for one partition, as bytes.

A map attempt's data file is its blocks back to back, in partition order; a block of no rows has no bytes. A block:

    offset  bytes
    0       4    magic "KMB1"
    4       4    number of record batches, u32
    8       8    rows, u64
    16      8    body length in bytes, u64
    24      8    xxh3-64 of the body, u64
    32      8    xxh3-64 of the 32 bytes before, u64
    40      ...  body: for each record batch its length (u64) and its Arrow IPC message (8-byte aligned)

All numbers are little-endian. The schema is not in the block: the index holds it once. The index file:

    0       4    magic "KMI1"
    4       4    schema length in bytes, u32
    8       4    number of partitions, u32
    12      4    zero
    16      ...  Arrow IPC schema message
    then         for each partition: offset, length in the data file, rows, and bytes in memory of its block (4 x u64)
    last    8    xxh3-64 of all before, u64
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pyarrow as pa
import xxhash

from kernelmill.engine.errors import Code, error

_HEAD = struct.Struct("<4sIQQQ")
_SUM = struct.Struct("<Q")
_INDEX_HEAD = struct.Struct("<4sIII")
_PLACE = struct.Struct("<QQQQ")
_BLOCK_MAGIC, _INDEX_MAGIC = b"KMB1", b"KMI1"
_CORRUPT_HINT = "check that disk; run again"
HEAD_BYTES = _HEAD.size + _SUM.size

Place = tuple[int, int, int, int]
"""Offset and length of a block in its data file, its rows, and its bytes as they were in memory."""


def encode_block(batches: Sequence[pa.RecordBatch]) -> list[pa.Buffer | bytes]:
    """The block's bytes in pieces, header first; nothing is copied into one buffer. No rows: no pieces."""
    rows = sum(batch.num_rows for batch in batches)
    if not rows:
        return []
    pieces: list[pa.Buffer | bytes] = []
    hasher = xxhash.xxh3_64()
    body_bytes = 0
    for batch in batches:
        message = batch.serialize()
        for piece in (_SUM.pack(message.size), message):
            hasher.update(piece)
            pieces.append(piece)
        body_bytes += _SUM.size + message.size
    head = _HEAD.pack(_BLOCK_MAGIC, len(batches), rows, body_bytes, hasher.intdigest())
    return [head + _SUM.pack(xxhash.xxh3_64_intdigest(head)), *pieces]


def decode_block(data: pa.Buffer, schema: pa.Schema, *, where: str) -> list[pa.RecordBatch]:
    """The record batches of a block, over the memory of `data`. Raises KM0605 before any byte is believed."""

    def corrupt(what: str) -> Exception:
        return error(Code.CORRUPT_BLOCK, f"shuffle block is corrupt: {what}", where=where, hint=_CORRUPT_HINT)

    if data.size == 0:
        return []
    if data.size < HEAD_BYTES:
        raise corrupt(f"{data.size} bytes are less than a header")
    view = memoryview(data)
    head = bytes(view[: _HEAD.size])
    magic, count, rows, body_bytes, body_sum = _HEAD.unpack(head)
    (head_sum,) = _SUM.unpack(view[_HEAD.size : HEAD_BYTES])
    if magic != _BLOCK_MAGIC or head_sum != xxhash.xxh3_64_intdigest(head):
        raise corrupt("its header does not match its checksum")
    if data.size != HEAD_BYTES + body_bytes:
        raise corrupt(f"{data.size - HEAD_BYTES} bytes of body where {body_bytes} were written")
    if xxhash.xxh3_64_intdigest(view[HEAD_BYTES:]) != body_sum:
        raise corrupt("its body does not match its checksum")
    batches, at = [], HEAD_BYTES
    for _ in range(count):
        (length,) = _SUM.unpack(view[at : at + _SUM.size])
        batches.append(pa.ipc.read_record_batch(data.slice(at + _SUM.size, length), schema))
        at += _SUM.size + length
    if sum(batch.num_rows for batch in batches) != rows:
        raise corrupt("its rows are not as many as its header says")
    return batches


def encode_index(schema: pa.Schema, places: Sequence[Place]) -> bytes:
    """The bytes of an index file."""
    schema_bytes = schema.serialize().to_pybytes()
    head = _INDEX_HEAD.pack(_INDEX_MAGIC, len(schema_bytes), len(places), 0)
    body = head + schema_bytes + b"".join(_PLACE.pack(*place) for place in places)
    return body + _SUM.pack(xxhash.xxh3_64_intdigest(body))


def decode_index(data: bytes, *, where: str) -> tuple[pa.Schema, list[Place]]:
    """The schema and the places of a data file's blocks. Raises KM0605."""
    body, tail = data[: -_SUM.size], data[-_SUM.size :]
    intact = len(data) >= _INDEX_HEAD.size + _SUM.size and _SUM.unpack(tail)[0] == xxhash.xxh3_64_intdigest(body)
    if not intact or body[:4] != _INDEX_MAGIC:
        raise error(Code.CORRUPT_BLOCK, "the index of shuffle blocks is corrupt", where=where, hint=_CORRUPT_HINT)
    _, schema_bytes, partitions, _ = _INDEX_HEAD.unpack(body[: _INDEX_HEAD.size])
    at = _INDEX_HEAD.size + schema_bytes
    schema = pa.ipc.read_schema(pa.py_buffer(body[_INDEX_HEAD.size : at]))
    return schema, [_PLACE.unpack(body[at + i * _PLACE.size : at + (i + 1) * _PLACE.size]) for i in range(partitions)]
