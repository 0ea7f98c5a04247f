"""Bounded types and small records that messages and the journal share. Pure values; nothing here is ever longer than
its bound, so a message of 1 MiB cannot grow into much more memory.

Whole numbers end at 2^63 - 1 (msgspec checks no larger bound); what is random and only ever compared is bytes. There
are no floats: seconds are whole milliseconds, so that equal messages have equal bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

TASKS_MAX = 1 << 20
"""Tasks of one stage."""
PARTITIONS_MAX = 1 << 14
"""Partitions of one stage's output."""
OUTPUTS_MAX = 64
"""Outputs of one stage."""
PART_BYTES_MAX = 64 << 20
"""Bytes of one job part: plan, inputs and splits, or a function's blob."""

COUNTS_MAX = 1024
"""Names of counters, or reasons of rejects, of one task or job."""
COUNT_NAMES_BYTES_MAX = 128 << 10
"""Bytes of all these names in UTF-8: with its vectors, counters and rejects a Done is well below a message's bound."""

_I63 = (1 << 63) - 1
COUNT_MAX = _I63
"""The largest count; the smallest is as far below 0."""

JobId = Annotated[bytes, Meta(min_length=16, max_length=16)]
ClusterId = Annotated[bytes, Meta(min_length=16, max_length=16)]
Life = Annotated[bytes, Meta(min_length=8, max_length=8)]
Session = Annotated[bytes, Meta(max_length=8)]  # empty until WELCOME
Nonce = Annotated[bytes, Meta(min_length=16, max_length=16)]
Seal = Annotated[bytes, Meta(min_length=16, max_length=16)]
TicketBytes = Annotated[bytes, Meta(min_length=16, max_length=16)]
Secret = Annotated[bytes, Meta(min_length=32, max_length=32)]
Sha256 = Annotated[bytes, Meta(min_length=32, max_length=32)]
Signature = Annotated[bytes, Meta(min_length=32, max_length=32)]
Xxh3 = Annotated[bytes, Meta(min_length=16, max_length=16)]
PublicKey = Annotated[bytes, Meta(min_length=40, max_length=40)]  # as Z85

Epoch = Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]
Gen = Annotated[int, Meta(ge=0, le=(1 << 32) - 1)]
Number = Annotated[int, Meta(ge=0, le=_I63)]
StageNumber = Annotated[int, Meta(ge=0, lt=1 << 16)]
TaskIndex = Annotated[int, Meta(ge=0, lt=TASKS_MAX)]
TaskBits = Annotated[bytes, Meta(max_length=TASKS_MAX // 8)]
"""A bit for each task of a stage, the lowest of a byte first; those beyond its end are not set."""
TaskCount = Annotated[int, Meta(ge=0, le=TASKS_MAX)]
Partition = Annotated[int, Meta(ge=0, lt=PARTITIONS_MAX)]
PartitionCount = Annotated[int, Meta(ge=0, le=PARTITIONS_MAX)]
OutputNumber = Annotated[int, Meta(ge=0, lt=OUTPUTS_MAX)]
Port = Annotated[int, Meta(ge=0, le=65535)]  # 0: none, for ipc

PEER_NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}\Z"
PeerName = Annotated[str, Meta(pattern=PEER_NAME_PATTERN)]
CodeName = Annotated[str, Meta(pattern=r"^[A-Z][A-Z_]{0,63}\Z")]  # wire name of engine.errors.Code
Word = Annotated[str, Meta(max_length=256)]
CheckBytes = Annotated[bytes, Meta(min_length=8, max_length=8)]  # a sum or xor of row checksums, little endian
Text = Annotated[str, Meta(max_length=8192)]


class Bounded(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A record sent as an array of its fields: all are there, in this order, and no more."""


class AttemptKey(Bounded, frozen=True, order=True):
    """One try at a task in a cluster: the master's epoch and its counter. Never used again, and a file name."""

    epoch: Epoch
    number: Number

    def __str__(self) -> str:
        return f"{self.epoch}-{self.number}"


class AttemptName(Bounded, frozen=True, order=True):
    """An attempt with its job and task: all that a peer needs who has not heard of it before."""

    job: JobId
    stage: StageNumber
    index: TaskIndex
    attempt: AttemptKey

    def __str__(self) -> str:
        return f"{self.stage}.{self.index}#{self.attempt}"


class TaskKey(Bounded, frozen=True, order=True):
    """A task of a job: `gen` counts how often a rollback made its stage void."""

    job: JobId
    stage: StageNumber
    gen: Gen
    index: TaskIndex


class Place(Bounded, frozen=True):
    """A path as (root, relative parts): each process knows by its own settings where the root lies."""

    root: PeerName
    parts: Annotated[tuple[Word, ...], Meta(max_length=64)]


class Origin(Bounded, frozen=True, order=True):
    """A row of a task: which of its split's files, the row group or byte offset there, and the row in that.

    For a group of a user's reduce all three are 0 and `key_xxh3` is the xxh3-128 of its key, which is empty otherwise.
    Small, for an assignment carries all rows that it must leave out; a text for people says the names.
    """

    file: Annotated[int, Meta(ge=0, lt=1 << 20)]
    at: Number
    row: Number
    key_xxh3: Annotated[bytes, Meta(max_length=16)]


class Poison(Bounded, frozen=True):
    """A row that no attempt of its task may touch."""

    origin: Origin
    code: CodeName
    text: Text


class BlocksOutput(Bounded, frozen=True, tag=1):
    """A map attempt's data file: its length and (bytes, rows, sum, xor), 32 bytes a partition, packed.

    With several outputs the partitions of all of them come one after the other.
    """

    size_bytes: Number
    vectors: Annotated[bytes, Meta(max_length=32 * PARTITIONS_MAX)]


class OutputFile(Bounded, frozen=True):
    """A closed file: name within its attempt's folder, size, xxh3-128 of all of it and of its last 64 KiB."""

    name: Word
    rows: Number
    size_bytes: Number
    xxh3: Xxh3
    tail_xxh3: Xxh3


Files = Annotated[tuple[OutputFile, ...], Meta(max_length=OUTPUTS_MAX)]


class FilesOutput(Bounded, frozen=True, tag=2):
    """The files that an attempt left in its own folder of the output's staging."""

    files: Files


class Count(Bounded, frozen=True):
    """A user's counter, or the rejects for one reason."""

    name: Word
    count: Annotated[int, Meta(ge=-_I63, le=_I63)]


Counts = Annotated[tuple[Count, ...], Meta(max_length=COUNTS_MAX)]


def names_bytes(names: Iterable[str]) -> int:
    """The bytes of names, which COUNT_NAMES_BYTES_MAX bounds."""
    return sum(len(name.encode()) for name in names)


class TaskRecord(Bounded, frozen=True):
    """What an attempt made: its counters, rejects by reason, its blocks or files, and the file of rejects if any."""

    counters: Counts
    rejects: Counts
    output: BlocksOutput | FilesOutput
    reject_files: Annotated[tuple[OutputFile, ...], Meta(max_length=1)]


class Consumed(Bounded, frozen=True):
    """What an attempt read over one edge: from how many map tasks, each counted once, and their rows, sum and xor."""

    maps: TaskCount
    rows: Number
    sum: CheckBytes
    xor: CheckBytes


class Problem(Bounded, frozen=True):
    """An error of engine.errors between processes: its code's wire name and its three texts."""

    code: CodeName
    what: Text
    where: Text
    hint: Text


class Versions(Bounded, frozen=True):
    """The versions that output bytes depend on; all members of a cluster have the same."""

    kernelmill: Word
    python: Word
    pyarrow: Word
    numba: Word
    numpy: Word


class SheetEdge(Bounded, frozen=True):
    """One input of a stage, as the master must know it."""

    source: StageNumber
    kind: Literal["hash", "range", "gather", "one_to_one", "broadcast"]
    output: OutputNumber


class SheetStage(Bounded, frozen=True):
    """One stage, as the master must know it: its operators stay in a part. Its number is its place in the list."""

    label: Word
    tasks: TaskCount
    partitions: Annotated[tuple[PartitionCount, ...], Meta(max_length=OUTPUTS_MAX)]  # of each output; none: files
    inputs: Annotated[tuple[SheetEdge, ...], Meta(max_length=64)]


class Policy(Bounded, frozen=True):
    """What is to be done about bad rows, an old output and code that is not signed."""

    on_bad: Literal["error", "reject"]
    rejects_max: Number
    mode: Literal["error", "overwrite"]
    code: Literal["signed", "registered"]
    verify_output: Literal["tail", "full"]
    attempts_max: Annotated[int, Meta(ge=1, le=32)]
    fails_without_workers: bool  # where it would be paused


class Sheet(Bounded, frozen=True):
    """A job as its master sees it: the shape of its stages, where the output goes, policies and versions."""

    stages: Annotated[tuple[SheetStage, ...], Meta(min_length=1, max_length=1024)]
    output: Place
    policy: Policy
    versions: Versions


class JobPart(Bounded, frozen=True):
    """A part of a job, which lies beside the journal under its sha256; the fingerprints of inputs are such a part."""

    role: Literal["plan", "inputs", "code", "table"]
    sha256: Sha256
    size_bytes: Annotated[int, Meta(ge=0, le=PART_BYTES_MAX)]


JobParts = Annotated[tuple[JobPart, ...], Meta(max_length=1024)]


def has_code(parts: JobParts) -> bool:
    """Whether a job brings anything that is unpickled: without, a process that opens it runs no code of a user's."""
    return any(part.role == "code" for part in parts)


JobState = Literal[
    "SUBMITTED", "RUNNING", "PAUSED", "COMMITTING", "COMMITTED", "FAILED", "CANCELLED"
]  # as in the master's machine


Page = Annotated[int, Meta(ge=0, lt=1 << 16)]
"""The number of a page of a long message, from 0."""
Pages = Annotated[int, Meta(ge=1, le=1 << 16)]
"""How many pages there are."""
