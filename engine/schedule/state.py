"""The scheduler's states as tables, and the records it keeps: a byte string per stage, an object per running attempt.

A task, one byte in its stage's record:

    WAITING      open; an input that a one-to-one edge reads is not there
    READY        open; may run as soon as the sources of all other edges are complete, and a slot is free
    RUNNING      open; one live attempt, or two where one is a backup
    DONE         its output is there
    UNAVAILABLE  its output's holder is lost, and may come back with it until the grace is over
    GONE         its output is not there, and nobody needs it

An attempt is LIVE until it ends, or STOPPING once CancelAttempt was ordered; what has ended is forgotten.
A worker is ABSENT, JOINED or DRAINING. A job ends DONE, FAILED or CANCELLED; FAILING and CANCELLING wait until its
attempts have ended.
"""

from __future__ import annotations

from array import array
from typing import Final

import msgspec

from kernelmill.engine.ids import AttemptId
from kernelmill.engine.plan.stages import Edge, StageGraph
from kernelmill.engine.schedule.events import (
    AttemptFailed,
    AttemptFinished,
    CancelRequested,
    SlotsChanged,
    WorkerDrained,
    WorkerJoined,
    WorkerLost,
)

# States of a task. All below DONE are open: an output is wanted and is not there.
WAITING: Final = 0
READY: Final = 1
RUNNING: Final = 2
DONE: Final = 3
UNAVAILABLE: Final = 4
GONE: Final = 5
TASK_STATES: Final = ("WAITING", "READY", "RUNNING", "DONE", "UNAVAILABLE", "GONE")

# What moves a task.
INPUTS_THERE: Final = "INPUTS_THERE"
INPUT_LOST: Final = "INPUT_LOST"
STARTED: Final = "STARTED"
ADOPTED: Final = "ADOPTED"  # a running attempt came back with its worker, or to a new master
FINISHED: Final = "FINISHED"
ATTEMPTS_ENDED: Final = "ATTEMPTS_ENDED"  # the last live one, without output
HOLDER_LOST: Final = "HOLDER_LOST"
OUTPUT_FOUND: Final = "OUTPUT_FOUND"
OUTPUT_LOST: Final = "OUTPUT_LOST"
DEMANDED: Final = "DEMANDED"  # a reader that is open again needs the output
FORGONE: Final = "FORGONE"  # its last open reader is done, or is itself forgone

NEXT_TASK: Final[dict[tuple[int, str], int]] = {
    (WAITING, INPUTS_THERE): READY,
    (READY, INPUT_LOST): WAITING,
    (READY, STARTED): RUNNING,
    (READY, ADOPTED): RUNNING,
    (WAITING, ADOPTED): RUNNING,  # it may have read all it needs
    (RUNNING, FINISHED): DONE,
    (RUNNING, ATTEMPTS_ENDED): WAITING,  # and READY at once if its inputs are there
    (DONE, HOLDER_LOST): UNAVAILABLE,
    (DONE, OUTPUT_LOST): GONE,
    (UNAVAILABLE, OUTPUT_FOUND): DONE,
    (UNAVAILABLE, OUTPUT_LOST): GONE,
    (GONE, DEMANDED): WAITING,
    (WAITING, OUTPUT_FOUND): DONE,
    (READY, OUTPUT_FOUND): DONE,
    (RUNNING, OUTPUT_FOUND): DONE,
    (GONE, OUTPUT_FOUND): DONE,
    (WAITING, FORGONE): GONE,
    (READY, FORGONE): GONE,
    (RUNNING, FORGONE): GONE,
}

# States of an attempt; all but the first two are ends.
LIVE: Final = "LIVE"
STOPPING: Final = "STOPPING"
FINISHED_FIRST: Final = "FINISHED_FIRST"
FAILED: Final = "FAILED"
LOST: Final = "LOST"
DISCARDED: Final = "DISCARDED"

NEXT_ATTEMPT: Final[dict[tuple[str, type], str]] = {
    (LIVE, AttemptFinished): FINISHED_FIRST,
    (LIVE, AttemptFailed): FAILED,
    (LIVE, WorkerLost): LOST,
    (STOPPING, AttemptFinished): DISCARDED,  # its rival came first: this output is thrown away
    (STOPPING, AttemptFailed): DISCARDED,
    (STOPPING, WorkerLost): DISCARDED,
}

# States of a worker.
ABSENT: Final = "ABSENT"
JOINED: Final = "JOINED"
DRAINING: Final = "DRAINING"

NEXT_WORKER: Final[dict[tuple[str, type], str]] = {
    (ABSENT, WorkerJoined): JOINED,
    (JOINED, SlotsChanged): JOINED,
    (JOINED, WorkerDrained): DRAINING,
    (JOINED, WorkerLost): ABSENT,
    (DRAINING, SlotsChanged): DRAINING,
    (DRAINING, WorkerDrained): DRAINING,
    (DRAINING, WorkerLost): ABSENT,
}

# States of the job, and what moves it.
JOB_RUNNING: Final = "RUNNING"
JOB_DONE: Final = "DONE"
JOB_FAILING: Final = "FAILING"
JOB_FAILED: Final = "FAILED"
JOB_CANCELLING: Final = "CANCELLING"
JOB_CANCELLED: Final = "CANCELLED"
RESULT_THERE: Final = "RESULT_THERE"
RESULT_LOST: Final = "RESULT_LOST"
BUDGET_SPENT: Final = "BUDGET_SPENT"  # or a failure that no retry can mend
ALL_ENDED: Final = "ALL_ENDED"

NEXT_JOB: Final[dict[tuple[str, str | type], str]] = {
    (JOB_RUNNING, RESULT_THERE): JOB_DONE,
    (JOB_RUNNING, BUDGET_SPENT): JOB_FAILING,
    (JOB_RUNNING, CancelRequested): JOB_CANCELLING,
    (JOB_DONE, RESULT_LOST): JOB_RUNNING,
    (JOB_DONE, CancelRequested): JOB_DONE,  # too late
    (JOB_FAILING, ALL_ENDED): JOB_FAILED,
    (JOB_FAILING, CancelRequested): JOB_FAILING,
    (JOB_FAILED, CancelRequested): JOB_FAILED,
    (JOB_CANCELLING, ALL_ENDED): JOB_CANCELLED,
    (JOB_CANCELLING, CancelRequested): JOB_CANCELLING,
    (JOB_CANCELLED, CancelRequested): JOB_CANCELLED,
}


class StageShape(msgspec.Struct, frozen=True):
    """What the scheduler knows of a stage: how many tasks, what they read, and whether outputs outlive their worker."""

    tasks: int
    inputs: tuple[Edge, ...] = ()
    durable: bool = False


def shapes_of(graph: StageGraph) -> tuple[StageShape, ...]:
    """Take from a stage graph what the scheduler needs; stages that write files leave durable outputs."""
    return tuple(StageShape(stage.tasks, stage.inputs, stage.partitions == 0) for stage in graph.stages)


class BackupPolicy(msgspec.Struct, frozen=True):
    """When a straggler gets a backup task (section 3.6 of the MapReduce paper).

    A running attempt is late once `done_share` of its stage is done and it has run for longer than `median_factor`
    times the median of the stage's finished attempts, and for at least `late_s_min`. Backups take at most
    `slots_share` of all slots, but one in any case, and only slots that no ready task can use.
    """

    done_share: float = 0.75
    median_factor: float = 2.0
    late_s_min: float = 5.0
    slots_share: float = 0.10


class Policy(msgspec.Struct, frozen=True):
    """How a scheduler reacts to what goes wrong; the defaults are a local run's.

    max_attempts: failures charged to a task that end the job. fruitless_max: the same for ends of any kind, charged or
    not, so that no task is tried for ever. exclude_after_tasks: a worker on which so many different tasks of a stage
    failed gets no more of that stage. rejoin_grace_s: how long a lost worker's outputs may come back with it.
    backups: None for no backup tasks.
    """

    max_attempts: int = 4
    fruitless_max: int = 32
    exclude_after_tasks: int = 2
    rejoin_grace_s: float = 0.0
    backups: BackupPolicy | None = None


class StageCounts(msgspec.Struct, frozen=True):
    """How many tasks of a stage are in which state."""

    waiting: int
    ready: int
    running: int
    done: int
    unavailable: int
    gone: int


class StageRecord:
    """A stage's tasks in 13 bytes each: a state, the attempt whose output counts, and the worker that holds it."""

    __slots__ = (
        "blocked",
        "counts",
        "durable",
        "holders",
        "low",
        "number",
        "paired_readers",
        "paired_sources",
        "states",
        "tasks",
        "wide_readers",
        "wide_sources",
        "winners",
    )

    def __init__(self, number: int, shape: StageShape) -> None:
        self.number, self.tasks, self.durable = number, shape.tasks, shape.durable
        self.states = bytearray(shape.tasks)
        self.winners = array("q", (-1,)) * shape.tasks  # attempt numbers; -1: none, or given from outside
        self.holders = array("i", (-1,)) * shape.tasks  # worker numbers; -1: held by no worker
        self.counts = [shape.tasks, 0, 0, 0, 0, 0]  # by state
        self.low = 0  # no READY task has a smaller index
        self.blocked = 0  # wide edges whose source is not complete
        self.paired_sources: list[StageRecord] = []  # one-to-one edges: task i reads task i
        self.wide_sources: list[StageRecord] = []  # all other edges: every task reads every source task
        self.paired_readers: list[StageRecord] = []
        self.wide_readers: list[StageRecord] = []

    @property
    def open_tasks(self) -> int:
        """Tasks whose output is wanted and not there."""
        return self.counts[WAITING] + self.counts[READY] + self.counts[RUNNING]

    @property
    def is_complete(self) -> bool:
        """Whether every output is there."""
        return self.counts[DONE] == self.tasks

    @property
    def is_last(self) -> bool:
        """Whether no stage reads it: its outputs are the job's, and needed until the job ends."""
        return not self.wide_readers and not self.paired_readers


class AttemptRecord:
    """An attempt that has not ended."""

    __slots__ = ("id", "is_backup", "is_late", "key", "rival", "started_s", "state", "worker")

    def __init__(self, attempt: AttemptId, key: int, worker: WorkerRecord, started_s: float, is_backup: bool) -> None:
        self.id, self.key, self.worker, self.started_s, self.is_backup = attempt, key, worker, started_s, is_backup
        self.state = LIVE
        self.rival: AttemptRecord | None = None  # the other live attempt at the same task
        self.is_late = False


class WorkerRecord:
    """A worker by name. `number` stays with the name, also over a loss; all else belongs to one session."""

    __slots__ = ("attempts", "failed_tasks", "grace_until_s", "host", "name", "number", "outputs", "slots", "state")

    def __init__(self, number: int, name: str) -> None:
        self.number, self.name, self.state, self.slots, self.host = number, name, ABSENT, 0, ""
        self.attempts: dict[int, AttemptRecord] = {}  # by number
        self.failed_tasks: dict[int, set[int]] = {}  # by stage: tasks that failed here and were charged for it
        self.outputs = array("q")  # keys of tasks whose outputs it took; some may have been superseded since
        self.grace_until_s: float | None = None  # set while outputs may come back

    @property
    def is_usable(self) -> bool:
        """Whether it may get work, now or when one of its attempts ends."""
        return self.state == JOINED and self.slots > 0


def key_of(stage: int, index: int) -> int:
    """Pack a task's stage and index into one number; `stage_and_index` takes it apart."""
    return stage << 32 | index


def stage_and_index(key: int) -> tuple[int, int]:
    """Take a packed task apart."""
    return key >> 32, key & 0xFFFFFFFF
