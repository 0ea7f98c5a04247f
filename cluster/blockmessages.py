"""What readers and holders of blocks, or of job parts, say to each other, see messages.py. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from kernelmill.cluster.fields import (
    AttemptKey,
    Bounded,
    Gen,
    JobId,
    Number,
    OutputNumber,
    Partition,
    Sha256,
    StageNumber,
    TaskIndex,
)

FETCH_BYTES_MAX = 1 << 20
"""Bytes that one Fetch may ask for in all."""


class BlockRange(Bounded, frozen=True, tag=1):
    """Bytes of one partition's stream of one map attempt."""

    job: JobId
    stage: StageNumber
    gen: Gen
    map_task: TaskIndex
    attempt: AttemptKey
    output: OutputNumber
    partition: Partition
    offset: Number
    length: Annotated[int, Meta(ge=0, le=FETCH_BYTES_MAX)]


class PartRange(Bounded, frozen=True, tag=2):
    """Bytes of a job part."""

    sha256: Sha256
    offset: Number
    length: Annotated[int, Meta(ge=0, le=FETCH_BYTES_MAX)]


class Fetch(Bounded, frozen=True, tag=40):
    """Send these ranges, one after the other in one body; the asking is the credit."""

    request: Number
    ticket: Annotated[bytes, Meta(max_length=16)]  # empty for parts: the session is the right
    ranges: Annotated[tuple[BlockRange | PartRange, ...], Meta(min_length=1, max_length=1024)]


class Chunk(Bounded, frozen=True, tag=41):
    """The answer to a Fetch; if OK one frame with `length` bytes comes after it.

    `total_bytes` is the length of all that the last range's stream or part has.
    """

    request: Number
    status: Literal["OK", "GONE", "DENIED", "CORRUPT", "BUSY"]
    length: Annotated[int, Meta(ge=0, le=FETCH_BYTES_MAX)]
    total_bytes: Number
