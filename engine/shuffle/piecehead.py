"""The head of a piece of a shuffle block, and the check of a piece as bytes. No Arrow: a supervisor does it too."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import xxhash

from kernelmill.engine.errors import Code, KernelmillError, error

HEAD = struct.Struct("<4sIQQQ")
SUM = struct.Struct("<Q")
HEAD_BYTES = HEAD.size + SUM.size
PIECE_MAGIC = b"KMB1"


def check_piece(data: memoryview, *, where: str) -> tuple[int, int]:
    """How many record batches and rows a piece has. Raises KM0605 unless all its bytes are as they were written."""
    return check_chunks(iter((data[:HEAD_BYTES], data[HEAD_BYTES:])), len(data), where=where)


def check_chunks(chunks: Iterator[bytes | memoryview], length: int, *, where: str) -> tuple[int, int]:
    """As `check_piece`, of a piece of this length that is not in memory as a whole: its head comes alone, first."""
    if length < HEAD_BYTES:
        raise corrupt(f"{length} bytes are less than a header", where)
    first = bytes(next(chunks, b""))
    if len(first) != HEAD_BYTES:
        raise corrupt("its header is cut off", where)
    head = first[: HEAD.size]
    magic, count, rows, body_bytes, body_sum = HEAD.unpack(head)
    (head_sum,) = SUM.unpack(first[HEAD.size :])
    if magic != PIECE_MAGIC or head_sum != xxhash.xxh3_64_intdigest(head):
        raise corrupt("its header does not match its checksum", where)
    if length != HEAD_BYTES + body_bytes:
        raise corrupt(f"{length - HEAD_BYTES} bytes of body where {body_bytes} were written", where)
    body = xxhash.xxh3_64()
    for chunk in chunks:
        body.update(chunk)
    if body.intdigest() != body_sum:
        raise corrupt("its body does not match its checksum", where)
    return count, rows


def head_sum_of(data: bytes | memoryview) -> int:
    """The checksum of a piece's head, which stands for all of it: the body's checksum is in the head."""
    found: int = SUM.unpack_from(data, HEAD.size)[0]
    return found


def corrupt(what: str, where: str) -> KernelmillError:
    """KM0605 for a piece."""
    hint = "check that disk; run again"
    return error(Code.CORRUPT_BLOCK, f"shuffle block is corrupt: {what}", where=where, hint=hint)
