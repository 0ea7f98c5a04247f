"""Rows of the journal and the chain of digests that ties each to all before it. Pure.

    digest(0)   = xxh3-128 of format, cluster id and master secret
    digest(seq) = xxh3-128 of digest(seq - 1), then seq, epoch, at, kind, length of job (little endian), job, body

So a row that was changed, left out, doubled or moved does not fit, nor do the rows of another journal. A tail that is
missing is not seen here: `head.py` keeps the name of the last record in a file of its own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import xxhash

from kernelmill.cluster.journal.records import FORMAT, Record, decode_record
from kernelmill.engine.errors import Code, KernelmillError, error

_HEAD = struct.Struct("<qqqqq")


class Row(NamedTuple):
    """A row of the table `events`. `at_ms` is for people and is never used; `job` is empty for an epoch."""

    seq: int
    epoch: int
    at_ms: int
    kind: int
    job: bytes
    body: bytes
    digest: bytes


class Event(NamedTuple):
    """A checked row with its record."""

    row: Row
    record: Record


def first_digest(cluster: bytes, secret: bytes) -> bytes:
    """What the first row is chained to."""
    return xxhash.xxh3_128_digest(struct.pack("<q", FORMAT) + cluster + secret)


def digest_of(before: bytes, seq: int, epoch: int, at_ms: int, kind: int, job: bytes, body: bytes) -> bytes:
    """The digest of a row that comes after the digest `before`."""
    return xxhash.xxh3_128_digest(before + _HEAD.pack(seq, epoch, at_ms, kind, len(job)) + job + body)


def checked(rows: Iterable[tuple[object, ...]], digest: bytes, where: str) -> Iterator[Event]:
    """Yield the rows of a journal as events, in order. Raises KM0611 at the first one that is not as it was written.

    `digest` is that of the row before the first, `where` names the file.
    """
    expected = 1
    for values in rows:
        row = _typed(values, expected, where)
        if row.seq != expected:
            raise corrupt(where, expected, f"there is none; the next one is {row.seq}")
        digest = digest_of(digest, *row[:6])
        if digest != row.digest:
            raise corrupt(where, row.seq, "its bytes do not match its digest")
        try:
            record = decode_record(row.kind, row.body)
        except ValueError as problem:
            raise corrupt(where, row.seq, str(problem)) from problem
        yield Event(row, record)
        expected += 1


def _typed(values: tuple[object, ...], seq: int, where: str) -> Row:
    match values:
        case (int(found), int(epoch), int(at_ms), int(kind), bytes(job), bytes(body), bytes(digest)):
            return Row(found, epoch, at_ms, kind, job, body, digest)
    raise corrupt(where, seq, "its columns have other types")


def corrupt(where: str, seq: int, what: str) -> KernelmillError:
    """KM0611 for a record of the journal."""
    hint = "restore the state folder from a copy, or start with an empty one; outputs that are published stay whole"
    return error(Code.JOURNAL_CORRUPT, f"record {seq} of the journal: {what}", where=where, hint=hint)
