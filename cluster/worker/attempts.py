"""The attempts that a worker has, and the table of their states.

WAITING   assigned; its job's parts, its inputs or a slot are not there yet
RUNNING   a slot has it, or it stands in line there
STOPPING  the master wants it no more: its end is reported, as FAILED if it has not ended otherwise
ENDING    nothing of it counts: its slot is to end it, and nothing is reported
DONE      its output is complete and noted on the disk; DONE is said each second until it is answered
HELD      answered: its blocks are served until the job ends
FAILED    it ended without output; FAILED is said each second until it is answered
"""

from __future__ import annotations

from typing import Final

from kernelmill.cluster.fields import AttemptName
from kernelmill.cluster.messages import Assign, Done, Failed, HeldAttempt
from kernelmill.cluster.worker.events import SlotSample

WAITING: Final = "WAITING"
RUNNING: Final = "RUNNING"
STOPPING: Final = "STOPPING"
ENDING: Final = "ENDING"
DONE: Final = "DONE"
HELD: Final = "HELD"
FAILED: Final = "FAILED"

# What moves an attempt.
STARTED: Final = "STARTED"
FINISHED: Final = "FINISHED"
BROKE: Final = "BROKE"
CANCELLED: Final = "CANCELLED"
RETURNED: Final = "RETURNED"  # by a slot in which it stood in line
ANSWERED: Final = "ANSWERED"
ASKED_AGAIN: Final = "ASKED_AGAIN"  # a master that has no record of it says so in its Welcome
DISCARDED: Final = "DISCARDED"

OVER: Final = None

NEXT_ATTEMPT: Final[dict[tuple[str, str], str | None]] = {
    (WAITING, STARTED): RUNNING,
    (WAITING, BROKE): FAILED,
    (WAITING, CANCELLED): FAILED,
    (WAITING, DISCARDED): OVER,
    (RUNNING, FINISHED): DONE,
    (RUNNING, BROKE): FAILED,
    (RUNNING, RETURNED): WAITING,
    (RUNNING, CANCELLED): STOPPING,
    (RUNNING, DISCARDED): ENDING,
    (STOPPING, FINISHED): DONE,  # it was faster than its cancel: the master decides
    (STOPPING, BROKE): FAILED,
    (STOPPING, CANCELLED): STOPPING,
    (STOPPING, DISCARDED): ENDING,
    (ENDING, FINISHED): OVER,
    (ENDING, BROKE): OVER,
    (ENDING, DISCARDED): ENDING,
    (DONE, ANSWERED): HELD,
    (DONE, CANCELLED): DONE,
    (DONE, ASKED_AGAIN): DONE,
    (DONE, DISCARDED): OVER,
    (HELD, ANSWERED): HELD,
    (HELD, CANCELLED): HELD,
    (HELD, ASKED_AGAIN): DONE,
    (HELD, DISCARDED): OVER,
    (FAILED, CANCELLED): FAILED,
    (FAILED, ASKED_AGAIN): FAILED,
    (FAILED, DISCARDED): OVER,
}

IN_SLOT: Final = frozenset({RUNNING, STOPPING, ENDING})
"""States in which a slot is busy with the attempt."""
IN_HAND: Final = frozenset({WAITING, RUNNING, STOPPING, FAILED})
"""What HELLO names as running: not ended, or ended without output."""
REPORTED: Final = IN_HAND | {DONE}
"""What BEAT names: all that the master owes a word for, or still expects one of."""


class Attempt:
    """One attempt. `assign` is None for one that an earlier life of this worker left on the disk."""

    __slots__ = ("assign", "done", "failed", "gen", "name", "sample", "seal", "slot", "state", "stop_at_s", "tickets")

    def __init__(self, name: AttemptName, gen: int, seal: bytes, state: str) -> None:
        self.name, self.gen, self.seal, self.state = name, gen, seal, state
        self.assign: Assign | None = None
        self.done: Done | None = None
        self.failed: Failed | None = None
        self.slot: int | None = None  # that has it, or that is opening its job for it
        self.sample: SlotSample | None = None
        self.stop_at_s: float | None = None  # when its slot is killed, if it does not end
        self.tickets: dict[tuple[int, int, str], bytes] = {}  # (stage, output, holder)

    def move(self, cause: str) -> bool:
        """Follow the table; tell whether the attempt is still one. KeyError is a bug of the caller."""
        target = NEXT_ATTEMPT[self.state, cause]
        if target is OVER:
            return False
        self.state = target
        return True

    @property
    def held(self) -> HeldAttempt:
        """How HELLO names it."""
        return HeldAttempt(self.name, self.gen, self.seal)


def assigned(assign: Assign) -> Attempt:
    """A new attempt."""
    attempt = Attempt(assign.attempt, assign.gen, assign.seal, WAITING)
    attempt.assign = assign
    attempt.tickets = {(each.stage, each.output, each.holder): each.ticket for each in assign.tickets}
    return attempt


def found(done: Done) -> Attempt:
    """An attempt whose output and note an earlier life left: the next master decides."""
    attempt = Attempt(done.attempt, done.gen, done.seal, DONE)
    attempt.done = done
    return attempt
