"""The facts that a master writes down, as bytes and back. Pure.

Only facts are written: jobs, commits, losses, poison, ends. Assignments, sessions and progress are not; whoever knows
them says them again. A kind keeps its number for ever, and its shape as long as FORMAT stays.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from kernelmill.cluster.fields import (
    TASKS_MAX,
    AttemptKey,
    Bounded,
    CodeName,
    Counts,
    Epoch,
    Gen,
    JobParts,
    Life,
    Number,
    PeerName,
    Place,
    Poison,
    Problem,
    Sheet,
    Signature,
    StageNumber,
    TaskIndex,
    TaskRecord,
    Text,
    Versions,
    Word,
)

FORMAT = 2
"""Version of all shapes here and of the tables they lie in."""


class EpochStarted(Bounded, frozen=True):
    """A master began; all records up to the next one of these are its own."""

    epoch: Epoch
    life: Life
    versions: Versions


class JobAccepted(Bounded, frozen=True):
    """A client's job, with all that the master needs to run it; its parts are durable already."""

    client: PeerName
    sheet: Sheet
    parts: JobParts
    signature: Signature
    expires_s: Number


class TaskCommitted(Bounded, frozen=True):
    """This attempt is its task's result in this generation."""

    stage: StageNumber
    gen: Gen
    task: TaskIndex
    attempt: AttemptKey
    worker: PeerName
    record: TaskRecord


class OutputLost(Bounded, frozen=True):
    """A committed attempt's output is gone: that attempt is dead for ever, even if its holder returns."""

    stage: StageNumber
    gen: Gen
    task: TaskIndex
    attempt: AttemptKey
    reason: Text


class RolledBack(Bounded, frozen=True):
    """A map gave other rows when it ran again: every commit downstream is void, and gen + 1 there."""

    stage: StageNumber
    task: TaskIndex
    old: AttemptKey
    new: AttemptKey


class Poisoned(Bounded, frozen=True):
    """From now on every attempt of this task leaves out this row."""

    stage: StageNumber
    task: TaskIndex
    poison: Poison


class JobCommitting(Bounded, frozen=True):
    """All sinks are committed: publish the files of these attempts, (stage, task, attempt) in order.

    There is no digest of the manifest: it follows from the winners' records.
    """

    winners: Annotated[tuple[tuple[StageNumber, TaskIndex, AttemptKey], ...], Meta(max_length=TASKS_MAX)]


class JobCommitted(Bounded, frozen=True):
    """The output is published: rows and bytes of its files, and the digest of its manifest."""

    rows: Number
    size_bytes: Number
    manifest_xxh3: Annotated[bytes, Meta(max_length=16)]


class JobFailed(Bounded, frozen=True):
    """The job ended without output; `code` is the master's word for it, `problem` the error that the client raises."""

    code: CodeName
    text: Text
    problem: Problem | None


class JobCancelled(Bounded, frozen=True):
    """A client ended the job."""

    text: Text


class JobEnded(Bounded, frozen=True):
    """All that is kept of an ended job; written by compaction alone, in place of the job's other records."""

    client: PeerName
    signature: Signature
    output: Place
    state: Literal["COMMITTED", "FAILED", "CANCELLED"]
    code: Word
    text: Text
    problem: Problem | None
    tasks: Number
    rows: Number
    size_bytes: Number
    manifest_xxh3: Annotated[bytes, Meta(max_length=16)]
    counters: Counts
    rejects: Counts


class JobForgotten(Bounded, frozen=True):
    """The client wants to hear no more of this ended job."""


Record = (
    EpochStarted
    | JobAccepted
    | TaskCommitted
    | OutputLost
    | RolledBack
    | Poisoned
    | JobCommitting
    | JobCommitted
    | JobFailed
    | JobCancelled
    | JobEnded
    | JobForgotten
)

KIND_OF: dict[type[Record], int] = {
    EpochStarted: 1,
    JobAccepted: 2,
    TaskCommitted: 3,
    OutputLost: 4,
    RolledBack: 5,
    Poisoned: 6,
    JobCommitting: 7,
    JobCommitted: 8,
    JobFailed: 9,
    JobCancelled: 10,
    JobEnded: 11,
    JobForgotten: 12,
}

_ENCODER = msgspec.msgpack.Encoder()
_DECODER_OF_KIND: dict[int, msgspec.msgpack.Decoder[Record]] = {
    kind: msgspec.msgpack.Decoder(record) for record, kind in KIND_OF.items()
}


def encode_record(record: Record) -> bytes:
    """The body of a record; its kind travels beside it."""
    return _ENCODER.encode(record)


def decode_record(kind: int, body: bytes) -> Record:
    """Read a body. Raises ValueError, which says what is wrong with it."""
    decoder = _DECODER_OF_KIND.get(kind)
    if decoder is None:
        raise ValueError(f"there is no record of kind {kind}")
    return decoder.decode(body)
