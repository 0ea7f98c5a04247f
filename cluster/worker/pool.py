"""The processes of a worker, as its machine knows them, and the table of their states.

    STARTING  the process was started and has not said anything
    SPARE     it has imported all and knows no job
    OPENING   it checks and opens a job
    IDLE      it has a job and runs nothing
    BUSY      it runs an attempt
    CLOSING   its job is over: it gives back what it held of it, and is a spare again
    DYING     it was killed, or refused its job; its death has not been seen

A process that opened a job with code of a user's opens no other: it ends with that job. One whose jobs had none is as
clean as a new one, and serves the next job. Spares wait for the next job, so that it need not wait for imports.
"""

from __future__ import annotations

from typing import Final

from kernelmill.cluster.fields import AttemptName, JobId

STARTING: Final = "STARTING"
SPARE: Final = "SPARE"
OPENING: Final = "OPENING"
IDLE: Final = "IDLE"
BUSY: Final = "BUSY"
CLOSING: Final = "CLOSING"
DYING: Final = "DYING"

# What moves a slot; DIED removes it from any state.
READY: Final = "READY"
JOB_GIVEN: Final = "JOB_GIVEN"
JOB_OPENED: Final = "JOB_OPENED"
TASK_GIVEN: Final = "TASK_GIVEN"
TASK_OVER: Final = "TASK_OVER"
JOB_OVER: Final = "JOB_OVER"
KILLED: Final = "KILLED"

NEXT_SLOT: Final[dict[tuple[str, str], str]] = {
    (STARTING, READY): SPARE,
    (SPARE, JOB_GIVEN): OPENING,
    (OPENING, JOB_OPENED): IDLE,
    (IDLE, TASK_GIVEN): BUSY,
    (BUSY, TASK_OVER): IDLE,
    (IDLE, JOB_OVER): CLOSING,
    (CLOSING, READY): SPARE,
    (STARTING, KILLED): DYING,
    (SPARE, KILLED): DYING,
    (OPENING, KILLED): DYING,
    (IDLE, KILLED): DYING,
    (BUSY, KILLED): DYING,
    (CLOSING, KILLED): DYING,
    (DYING, KILLED): DYING,
}


class Slot:
    """One process. `attempt` is what it runs, or what it opens its job for; `writer` is whose lines come out of it.

    line: the attempts that it was given behind that one. takes_more: what it runs is such that others may be.
    is_used: it has opened a job. is_clean: nothing of a user's ran in it, and no task failed in it.
    """

    __slots__ = (
        "attempt",
        "is_asked",
        "is_clean",
        "is_used",
        "job",
        "killed_for",
        "killed_text",
        "line",
        "number",
        "since_s",
        "state",
        "takes_more",
        "told",
        "writer",
    )

    def __init__(self, number: int, now: float) -> None:
        self.number, self.state, self.since_s = number, STARTING, now
        self.job: JobId | None = None
        self.attempt: AttemptName | None = None
        self.line: list[AttemptName] = []
        self.takes_more = False
        self.is_asked = False  # to give some of the line back
        self.writer: AttemptName | None = None  # also after its end: lines come by another pipe, and later
        self.is_used, self.is_clean = False, True
        self.killed_for = self.killed_text = ""  # the failure that its attempt is reported with, and what to say of it
        self.told: dict[int, tuple[int, int]] = {}  # stage -> (session's count, version) of the inputs it was sent

    @property
    def given(self) -> list[AttemptName]:
        """All attempts that it has, in the order in which it runs them."""
        return [self.attempt, *self.line] if self.attempt is not None else []

    def move(self, cause: str, now: float) -> None:
        """Follow the table; KeyError is a bug of the caller."""
        self.state, self.since_s = NEXT_SLOT[self.state, cause], now


_BOUND, _FRESH = frozenset({OPENING, IDLE, BUSY}), frozenset({STARTING, SPARE, CLOSING})


class Pool:
    """All processes, by number. Who is started or killed is decided here, by whom is not."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.slots: dict[int, Slot] = {}
        self._next = 0

    def add(self, now: float) -> Slot:
        """Make a slot for a process that is to be started."""
        slot = Slot(self._next, now)
        self._next += 1
        self.slots[slot.number] = slot
        return slot

    def in_state(self, *states: str) -> list[Slot]:
        """The slots in one of these states, the oldest first."""
        return [slot for slot in self.slots.values() if slot.state in states]

    def spare_for(self, has_code: bool) -> Slot | None:
        """A spare for a job: one that is warm for a job without code, a new one for a job after which it ends."""
        return min(self.in_state(SPARE), key=lambda slot: slot.is_used == has_code, default=None)

    def idle_of(self, job: JobId) -> Slot | None:
        """A slot that has this job and runs nothing."""
        return next((slot for slot in self.slots.values() if slot.state == IDLE and slot.job == job), None)

    @property
    def room(self) -> int:
        """How many more attempts may run: those that are being ended count until they have ended."""
        room = self.size
        for slot in self.slots.values():
            if slot.state == BUSY or slot.state == OPENING:
                room -= 1
        return room

    def missing(self, wanted: int) -> int:
        """How many processes to start if `wanted` attempts wait for one, and how many more for what comes next.

        There are as many spares as slots that have no job, at least one; and at most 2 * size + 1 processes.
        """
        bound = fresh = 0
        for slot in self.slots.values():
            bound += slot.state in _BOUND
            fresh += slot.state in _FRESH
        target = max(wanted, self.size - bound, 1)
        return max(0, min(target - fresh, 2 * self.size + 1 - bound - fresh))

    def least_used(self, keep: JobId) -> Slot | None:
        """The idle slot of another job that has been idle for longest: it makes room for a new process."""
        idle = [slot for slot in self.in_state(IDLE) if slot.job != keep]
        return min(idle, key=lambda slot: slot.since_s, default=None)
