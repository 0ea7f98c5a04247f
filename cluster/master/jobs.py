"""A job at the master: its ledger, its scheduler, its attempts, and the table of its states.

    SUBMITTED    JOB is not durable yet
    RUNNING      its scheduler gets slots
    PAUSED       for one reason or more; goes on by itself when the last is gone
    COMMITTING   JOB_COMMITTING is durable or ordered; the storage process publishes
    ENDING       failed or cancelled, and its attempts are being stopped; for others it runs still
    COMMITTED, FAILED, CANCELLED   ordered or durable; the record's turn decides who is told

An attempt has a record while it may report; of those that ended, the ledger knows what matters.

    ASSIGNED     ASSIGN was sent; repeated if BEATs do not show it
    RUNNING      ACCEPT was heard, or the worker brought it along
    STOPPING     CANCEL was sent; repeated until the end is reported
    DONE         its commit is being recorded
    NAMING       its poison rows are being recorded
"""

from __future__ import annotations

from math import ceil
from typing import Any, Final

from kernelmill.cluster.fields import Problem
from kernelmill.cluster.master.failures import Trouble
from kernelmill.cluster.master.ledger import ENDS, JobLedger
from kernelmill.engine.ids import AttemptId
from kernelmill.engine.schedule.attempts import Numbers
from kernelmill.engine.schedule.machine import Scheduler
from kernelmill.engine.schedule.placement import Near
from kernelmill.engine.schedule.state import BackupPolicy, Policy, StageShape

SUBMITTED: Final = "SUBMITTED"
RUNNING: Final = "RUNNING"
PAUSED: Final = "PAUSED"
COMMITTING: Final = "COMMITTING"
ENDING: Final = "ENDING"
COMMITTED, FAILED, CANCELLED = ENDS

# What moves a job.
JOB_DURABLE: Final = "JOB_DURABLE"
CAUSE_CAME: Final = "CAUSE_CAME"
CAUSE_GONE: Final = "CAUSE_GONE"
SINKS_COMMITTED: Final = "SINKS_COMMITTED"
FILE_BAD: Final = "FILE_BAD"
PUBLISHED: Final = "PUBLISHED"
STOPPED: Final = "STOPPED"  # a failure that no retry mends, or a cancel
ATTEMPTS_OVER: Final = "ATTEMPTS_OVER"  # the scheduler says that nothing runs any more
PUBLISHING_FAILED: Final = "PUBLISHING_FAILED"

NEXT_JOB: Final[dict[tuple[str, str], tuple[str, ...]]] = {  # to several: the caller knows which
    (SUBMITTED, JOB_DURABLE): (RUNNING,),
    (RUNNING, CAUSE_CAME): (PAUSED,),
    (PAUSED, CAUSE_CAME): (PAUSED,),
    (COMMITTING, CAUSE_CAME): (PAUSED,),
    (PAUSED, CAUSE_GONE): (RUNNING, COMMITTING),
    (RUNNING, SINKS_COMMITTED): (COMMITTING,),
    (PAUSED, SINKS_COMMITTED): (COMMITTING,),  # what ran when the cause came may end
    (COMMITTING, FILE_BAD): (RUNNING,),
    (PAUSED, FILE_BAD): (RUNNING,),
    (COMMITTING, PUBLISHED): (COMMITTED,),
    (PAUSED, PUBLISHED): (COMMITTED,),
    (RUNNING, STOPPED): (ENDING,),
    (PAUSED, STOPPED): (ENDING,),
    (SUBMITTED, STOPPED): (ENDING,),
    (RUNNING, ATTEMPTS_OVER): (FAILED,),  # the scheduler's budget was spent
    (PAUSED, ATTEMPTS_OVER): (FAILED,),
    (ENDING, ATTEMPTS_OVER): (FAILED, CANCELLED),
    (COMMITTING, PUBLISHING_FAILED): (FAILED,),
    (PAUSED, PUBLISHING_FAILED): (FAILED,),
}

ASSIGNED: Final = "ASSIGNED"
STOPPING: Final = "STOPPING"
DONE: Final = "DONE"
NAMING: Final = "NAMING"

# What moves an attempt; those that end it have no target, for its record goes.
ACCEPTED: Final = "ACCEPTED"
REPORTED_DONE: Final = "REPORTED_DONE"
NAMED_POISON: Final = "NAMED_POISON"
UNWANTED: Final = "UNWANTED"
ENDED: Final = "ENDED"  # committed, failed, discarded, or lost with its session

NEXT_ATTEMPT: Final[dict[tuple[str, str], str | None]] = {
    (ASSIGNED, ACCEPTED): RUNNING,
    (RUNNING, ACCEPTED): RUNNING,
    (STOPPING, ACCEPTED): STOPPING,
    (DONE, ACCEPTED): DONE,  # late
    (NAMING, ACCEPTED): NAMING,
    (ASSIGNED, REPORTED_DONE): DONE,  # its ACCEPT was lost
    (RUNNING, REPORTED_DONE): DONE,
    (ASSIGNED, NAMED_POISON): NAMING,
    (RUNNING, NAMED_POISON): NAMING,
    (ASSIGNED, UNWANTED): STOPPING,
    (RUNNING, UNWANTED): STOPPING,
    (STOPPING, UNWANTED): STOPPING,
    (DONE, UNWANTED): DONE,  # its record decides
    (NAMING, UNWANTED): NAMING,
    (ASSIGNED, ENDED): None,
    (RUNNING, ENDED): None,
    (STOPPING, ENDED): None,
    (DONE, ENDED): None,
    (NAMING, ENDED): None,
}


# Attempts that a worker is given beyond its slots, while tasks are so short that the way to the master would be most
# of their time: they wait at the worker. As many as cover AHEAD_MS, which is what a busy disk takes for a commit, and
# at most AHEAD_MAX a slot, and half of a slot's share of what is left; a power of two, so that grants do not follow
# each task's time. Only tasks that read no blocks, while none runs that does: a map that must run again would wait at
# its worker behind the very reader that waits for it (the simulation's 53rd seed).
AHEAD_MS: Final = 32.0
AHEAD_TASK_MS_MAX: Final = 100.0
AHEAD_MAX: Final = 64
AHEAD_BRISK: Final = 16
_AHEAD_SAMPLES: Final = 8


class AttemptRun:
    """An attempt that may still report."""

    __slots__ = ("assigned_s", "gen", "id", "is_void", "poison", "seal", "state", "worker")

    def __init__(self, attempt: AttemptId, worker: str, gen: int, state: str, assigned_s: float) -> None:
        self.id, self.worker, self.gen, self.state, self.assigned_s = attempt, worker, gen, state, assigned_s
        self.poison = 0  # how many rows of its task it was told to leave out
        self.is_void = False  # a roll-back or a poison row: its output must not count
        self.seal = b""  # as it was sent; empty if the attempt came along with its worker

    def move(self, cause: str) -> None:
        """Follow the table; KeyError is a bug of the caller."""
        state = NEXT_ATTEMPT[self.state, cause]
        if state is not None:
            self.state = state


class JobRun:
    """A live job, or one that ended and whose last attempts are being stopped."""

    def __init__(
        self,
        ledger: JobLedger,
        numbers: Numbers,
        backups: BackupPolicy | None,
        rejoin_grace_s: float,
        near: Near | None = None,
    ) -> None:
        sheet = ledger.sheet
        self.ledger, self.sheet, self.id = ledger, sheet, sheet.job
        self.state = SUBMITTED
        self.pauses: dict[str, float | None] = {}  # cause -> when to try again, or None: until it is gone
        self.code = self.text = ""  # why it is ending
        self.problem: Problem | None = None
        shapes = tuple(StageShape(stage.tasks, stage.inputs, durable=not stage.partitions) for stage in sheet.stages)
        policy = Policy(max_attempts=sheet.attempts_max, rejoin_grace_s=rejoin_grace_s, backups=backups)
        self.scheduler = Scheduler(shapes, policy, numbers=numbers, near=near)
        self.attempts: dict[int, AttemptRun] = {}
        self.runs_of_worker: dict[str, set[int]] = {}
        self.runs_of_task: dict[tuple[int, int], set[int]] = {}
        self.pending: set[tuple[int, int]] = set()  # tasks whose commit is ordered and not durable
        self.troubles: dict[tuple[int, int], Trouble] = {}
        self.culprit = (0, 0)  # the task that failed last
        self.versions: dict[int, int] = {}  # stage -> version of its INPUTS
        self.unreachable: dict[int, tuple[str, float]] = {}  # source attempt -> who said so first, and when
        self.publish_since_s: float | None = None
        self.rows_read = [0] * len(sheet.stages)  # by committed attempts of this master, for people
        self.bytes_read = [0] * len(sheet.stages)
        self.failures = [0] * len(sheet.stages)  # attempts
        self.ahead = 0  # attempts a slot that may wait at a worker
        self.readers_running = 0
        self._task_ms = [0.0] * len(sheet.stages)  # mean of late, and of how many
        self._timed = [0] * len(sheet.stages)
        self.counter_names = {
            each.name for stage in ledger.stages for aside in stage.asides.values() for each in aside.counters
        }
        self.grants: dict[str, int] = {}  # slots by worker, as the scheduler was told
        self.unfit: set[str] = set()  # workers that cannot run it, whatever the task

    @property
    def is_over(self) -> bool:
        """Whether it reached an end."""
        return self.state in ENDS

    @property
    def is_schedulable(self) -> bool:
        """Whether its scheduler may start attempts."""
        return self.state == RUNNING

    def move(self, cause: str, target: str | None = None) -> None:
        """Follow the table; KeyError is a bug of the caller. A target is named where there are several."""
        targets = NEXT_JOB[self.state, cause]
        assert target in targets if target else len(targets) == 1, (self.state, cause, target)
        self.state = target or targets[0]

    def add(self, run: AttemptRun) -> None:
        """Follow an attempt."""
        assert run.id.number not in self.attempts, "an attempt's number is used twice (S3)"
        self.attempts[run.id.number] = run
        self.readers_running += bool(self.sheet.stages[run.id.task.stage].inputs)
        self.runs_of_worker.setdefault(run.worker, set()).add(run.id.number)
        self.runs_of_task.setdefault((run.id.task.stage, run.id.task.index), set()).add(run.id.number)

    def remove(self, run: AttemptRun) -> None:
        """Forget an attempt that ended."""
        run.move(ENDED)
        del self.attempts[run.id.number]
        self.readers_running -= bool(self.sheet.stages[run.id.task.stage].inputs)
        _leave(self.runs_of_worker, run.worker, run.id.number)
        _leave(self.runs_of_task, (run.id.task.stage, run.id.task.index), run.id.number)

    def runs_on(self, worker: str) -> list[AttemptRun]:
        """The attempts on a worker, as they are now."""
        return [self.attempts[number] for number in sorted(self.runs_of_worker.get(worker, ()))]

    def runs_at(self, stage: int, task: int) -> list[AttemptRun]:
        """The attempts at a task, as they are now."""
        return [self.attempts[number] for number in sorted(self.runs_of_task.get((stage, task), ()))]

    def note_time(self, stage: int, millis: int) -> bool:
        """Note how long a task ran; tell whether `ahead` is another one now."""
        self._timed[stage] += 1
        share = max(1 / self._timed[stage], 1 / _AHEAD_SAMPLES)
        self._task_ms[stage] += share * (millis - self._task_ms[stage])
        before, mean_ms = self.ahead, self._task_ms[stage] + 0.5  # whole ones are counted
        is_short = self._timed[stage] >= _AHEAD_SAMPLES and mean_ms < AHEAD_TASK_MS_MAX
        is_last = self.ledger.stages[stage].committed == self.sheet.stages[stage].tasks
        is_free = not self.sheet.stages[stage].inputs and not self.readers_running and not is_last
        ahead = 1 << (ceil(AHEAD_MS / mean_ms) - 1).bit_length()
        left = self.sheet.stages[stage].tasks - self.ledger.stages[stage].committed - len(self.attempts)
        slots = max(self.scheduler.slots // (1 + before), 1)
        while ahead > max(left // (2 * slots), 1):  # or one worker would have all that is left
            ahead >>= 1
        self.ahead = min(AHEAD_MAX, ahead) if is_short and is_free else 0
        return self.ahead != before

    def trouble_of(self, stage: int, task: int) -> Trouble:
        """The task's troubles, made on first use."""
        return self.troubles.setdefault((stage, task), Trouble())


def _leave(index: dict[Any, set[int]], key: Any, number: int) -> None:
    numbers = index[key]
    numbers.discard(number)
    if not numbers:
        del index[key]
