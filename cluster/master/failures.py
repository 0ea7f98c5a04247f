"""Why attempts end and jobs stop: the codes of CLUSTER.md section 8, and what each costs."""

from __future__ import annotations

from enum import Enum
from typing import Final

from kernelmill.cluster.fields import Origin, Problem


class Failure(Enum):
    """A code from where it arises to the user; the value is its name between processes."""

    USER_ERROR = "USER_ERROR"
    SIGNALLED = "SIGNALLED"
    OOM_KILLED = "OOM_KILLED"
    HUNG = "HUNG"
    WORKER_LOST = "WORKER_LOST"
    CANCELLED = "CANCELLED"
    FETCH_UNREACHABLE = "FETCH_UNREACHABLE"
    CORRUPT_BLOCK = "CORRUPT_BLOCK"
    DISK_FULL = "DISK_FULL"
    OUTPUT_FULL = "OUTPUT_FULL"
    INPUT_CHANGED = "INPUT_CHANGED"
    INPUT_CORRUPT = "INPUT_CORRUPT"
    POISON = "POISON"
    REJECT_LIMIT = "REJECT_LIMIT"
    NONDETERMINISTIC = "NONDETERMINISTIC"
    CODE_REFUSED = "CODE_REFUSED"
    PART_DAMAGED = "PART_DAMAGED"
    ROOT_MISSING = "ROOT_MISSING"
    WORKER_SMALL = "WORKER_SMALL"
    NO_WORKERS = "NO_WORKERS"
    JOURNAL_FULL = "JOURNAL_FULL"
    OUTPUT_STUCK = "OUTPUT_STUCK"
    OUTPUT_EXISTS = "OUTPUT_EXISTS"
    OUTPUT_LOST = "OUTPUT_LOST"
    PROTOCOL = "PROTOCOL"


class Reaction(Enum):
    """What a failed attempt does to its task and job."""

    CHARGED = "tried again; uses the task's budget"
    FREE = "tried again; the task is not to blame"
    EXCLUDES = "tried again; the worker gets no work until its disk has room"
    UNFIT = "tried on workers that do not fail so; none of the job's work goes there, but where nobody is left"
    PAUSES = "tried again when the job goes on"
    ISOLATED = "the rows are named"
    ENDS_JOB = "no retry can mend it"


REACTIONS: Final[dict[Failure, Reaction]] = {
    Failure.USER_ERROR: Reaction.CHARGED,
    Failure.SIGNALLED: Reaction.CHARGED,
    Failure.OOM_KILLED: Reaction.CHARGED,
    Failure.HUNG: Reaction.CHARGED,
    Failure.PROTOCOL: Reaction.CHARGED,
    Failure.CANCELLED: Reaction.FREE,
    Failure.FETCH_UNREACHABLE: Reaction.FREE,
    Failure.CORRUPT_BLOCK: Reaction.FREE,
    Failure.DISK_FULL: Reaction.EXCLUDES,
    Failure.ROOT_MISSING: Reaction.UNFIT,
    Failure.WORKER_SMALL: Reaction.UNFIT,
    Failure.CODE_REFUSED: Reaction.UNFIT,  # its clock, its code key, its packages: others may have better ones
    Failure.OUTPUT_FULL: Reaction.PAUSES,
    Failure.POISON: Reaction.ISOLATED,
    Failure.INPUT_CHANGED: Reaction.ENDS_JOB,
    Failure.INPUT_CORRUPT: Reaction.ENDS_JOB,
    Failure.PART_DAMAGED: Reaction.ENDS_JOB,
}

SLOT_KILLERS: Final = frozenset({Failure.SIGNALLED, Failure.OOM_KILLED, Failure.HUNG})
ISOLATE_AFTER_WORKERS: Final = 2  # the same batch failed on so many
ISOLATE_AFTER_KILLS: Final = 3  # or the task killed so many slots


def reaction_to(code: str) -> tuple[Failure, Reaction]:
    """Look a worker's code up; one that no attempt can fail with counts as PROTOCOL."""
    try:
        failure = Failure(code)
    except ValueError:
        failure = Failure.PROTOCOL
    if failure not in REACTIONS:
        failure = Failure.PROTOCOL
    return failure, REACTIONS[failure]


class Trouble:
    """What went wrong with one task so far, and which of its records are left out; few tasks have any."""

    __slots__ = ("is_isolating", "kills", "last", "workers_of_batch")

    def __init__(self) -> None:
        self.kills = 0
        self.workers_of_batch: dict[int, set[str]] = {}
        self.is_isolating = False
        self.last: tuple[Failure, str, Problem | None] = (Failure.WORKER_LOST, "its worker was lost", None)

    def is_known(self, failure: Failure, problem: Problem | None) -> bool:
        """Whether a function raised just what it raised the last time: it will do so wherever it runs."""
        return failure is Failure.USER_ERROR and problem is not None and problem == self.last[2]

    def note_free(self, failure: Failure, text: str, problem: Problem | None) -> None:
        """Note a failure that the task is not to blame for: it is what is told if nothing else comes to be known."""
        if REACTIONS.get(self.last[0]) is not Reaction.CHARGED:
            self.last = failure, text, problem

    def note(self, failure: Failure, text: str, worker: str, batch: int, problem: Problem | None = None) -> None:
        """Note a charged failure, and isolate the task from now on if its rows are to blame."""
        self.last = failure, text, problem
        self.kills += failure in SLOT_KILLERS
        if batch >= 0:
            self.workers_of_batch.setdefault(batch, set()).add(worker)
        if self.kills >= ISOLATE_AFTER_KILLS or any(
            len(workers) >= ISOLATE_AFTER_WORKERS for workers in self.workers_of_batch.values()
        ):
            self.is_isolating = True


def describe(origins: tuple[Origin, ...]) -> str:
    """Name the first record to blame, as an error's text does."""
    first = origins[0]
    return f"group {first.key_xxh3.hex()}" if first.key_xxh3 else f"file {first.file}, at {first.at}, row {first.row}"
