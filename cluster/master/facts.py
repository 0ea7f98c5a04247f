"""What the master writes to its journal before anybody may rely on it. Pure values; a ledger is the fold of them.

These are the machine's values; journal/records has their shapes on disk, translate_facts makes one of the other.

Every fact but EpochBegun names its job. A task's output is its attempt's: `attempt` is a number that no
other attempt of any job or epoch has: its upper half is the epoch, its lower half a count (`attempt_epoch`).
"""

from __future__ import annotations

from typing import Final

import msgspec

from kernelmill.cluster.fields import Count, Origin, OutputFile, Problem
from kernelmill.cluster.journal.records import JobAccepted
from kernelmill.cluster.journal.records import JobEnded as Ended
from kernelmill.engine.plan.stages import Edge

VECTOR_BYTES: Final = 32  # of one partition: bytes, rows, sum, xor; four little-endian u64
ATTEMPT_BITS: Final = 32

# Limits of a sheet (CLUSTER.md section 3): what the master keeps in memory follows from them.
TASKS_MAX: Final = 1 << 20
PARTITIONS_MAX: Final = 1 << 14
JOB_TASKS_MAX: Final = 1 << 21  # of all stages
CELLS_MAX: Final = 1 << 23  # tasks x partitions, of all stages


def attempt_epoch(attempt: int) -> int:
    """Tell in which epoch an attempt was first assigned."""
    return attempt >> ATTEMPT_BITS


class StageSheet(msgspec.Struct, frozen=True):
    """What the master knows of a stage: its tasks, the partitions of each of its outputs (none: files), its inputs."""

    tasks: int
    partitions: tuple[int, ...] = ()
    inputs: tuple[Edge, ...] = ()

    @property
    def cells(self) -> int:
        """Partitions of all outputs together: the length of a task's vector."""
        return sum(self.partitions)


class JobSheet(msgspec.Struct, frozen=True):
    """A submitted job. `digest` is the signature of its spec; `accepted` what the client sent, if it came from one.

    on_bad: "error" ends the job at the first poison row, "reject" sets up to `rejects_max` of them aside.
    fail_without_workers: end the job where it would be paused for want of workers.
    """

    job: str
    client: str
    digest: bytes
    stages: tuple[StageSheet, ...]
    on_bad: str = "error"
    rejects_max: int = 1000
    attempts_max: int = 4
    fail_without_workers: bool = False
    accepted: JobAccepted | None = None


class EpochBegun(msgspec.Struct, frozen=True):
    """A master started. `life` is random, `epoch` one above all earlier ones."""

    epoch: int
    life: bytes


class JobSubmitted(msgspec.Struct, frozen=True):
    """The job exists."""

    sheet: JobSheet


class TaskCommitted(msgspec.Struct, frozen=True):
    """The attempt's output is the task's. `vector` holds VECTOR_BYTES a partition; files have none.

    Counters and rejects are by name and by reason; the rejects lie in a file of their own in the staging.
    """

    job: str
    stage: int
    gen: int
    task: int
    attempt: int
    worker: str
    data_bytes: int = 0
    vector: bytes = b""
    files: tuple[OutputFile, ...] = ()
    rejects: tuple[Count, ...] = ()
    counters: tuple[Count, ...] = ()
    reject_files: tuple[OutputFile, ...] = ()


class OutputLost(msgspec.Struct, frozen=True):
    """That attempt's output is dead for ever, even if its holder comes back with it."""

    job: str
    stage: int
    gen: int
    task: int
    attempt: int
    reason: str


class RolledBack(msgspec.Struct, frozen=True):
    """Attempt `new` made other rows than `old` had: every commit downstream of the stage is void, gen+1 there."""

    job: str
    stage: int
    task: int
    old: int
    new: int


class Poisoned(msgspec.Struct, frozen=True):
    """All attempts at the task leave out this record from now on."""

    job: str
    stage: int
    task: int
    origin: Origin
    code: str
    text: str


class Committing(msgspec.Struct, frozen=True):
    """The job's result is the files of these attempts: (stage, task, attempt), in order."""

    job: str
    winners: tuple[tuple[int, int, int], ...]


class JobEnded(msgspec.Struct, frozen=True):
    """The job is over: state COMMITTED, FAILED or CANCELLED, with why, or with what was published."""

    job: str
    state: str
    code: str = ""
    text: str = ""
    problem: Problem | None = None
    rows: int = 0
    size_bytes: int = 0
    manifest_xxh3: bytes = b""


class JobRemembered(msgspec.Struct, frozen=True):
    """A job that ended before the journal was made anew, and all that is left of it."""

    job: str
    ended: Ended


class JobForgotten(msgspec.Struct, frozen=True):
    """The client wants to hear no more of its ended job."""

    job: str


Fact = (
    EpochBegun
    | JobSubmitted
    | TaskCommitted
    | OutputLost
    | RolledBack
    | Poisoned
    | Committing
    | JobEnded
    | JobRemembered
    | JobForgotten
)
