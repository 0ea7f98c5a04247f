"""What the scheduler is told (events, in the past tense) and what it orders (actions). Pure values.

An event that cannot have happened is refused with IllegalEvent and changes nothing. On a cluster such an event may come
from a peer that was cut off, and is answered and counted; in one process it is a bug.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from kernelmill.engine.errors import Code, InternalError
from kernelmill.engine.ids import AttemptId


class WorkerJoined(msgspec.Struct, frozen=True):
    """A worker of this name, present in no earlier session, takes up to `slots` attempts at a time.

    What lies on its host is near it; an empty name is a host of its own.
    """

    worker: str
    slots: int
    host: str = ""


class WorkerLost(msgspec.Struct, frozen=True):
    """The worker's session is over: its attempts will report no more, and the outputs it holds cannot be read.

    silent_s: for how long nothing had been heard of it; what it holds may come back for that much less time.
    """

    worker: str
    silent_s: float = 0.0


class WorkerDrained(msgspec.Struct, frozen=True):
    """The worker shall get no new work; what it runs goes on, and what it holds can be read."""

    worker: str


class SlotsChanged(msgspec.Struct, frozen=True):
    """The worker now takes `slots` attempts at a time; with fewer than it runs, nothing is cancelled.

    An event's answer already fills the slots it frees: where the next stage may use fewer, say so before that event.
    """

    worker: str
    slots: int


class AttemptFinished(msgspec.Struct, frozen=True):
    """The attempt's output is complete and can be read."""

    attempt: AttemptId


class AttemptFailed(msgspec.Struct, frozen=True):
    """The attempt ended without output, also because it was cancelled.

    retryable: False ends the job at once (errors of input and of user code in a local run).
    charged: whether it uses the task's budget; False where the task is not to blame (a lost block, a full disk).
    If it failed over a lost input, OutputLost of that input comes first, or the answer starts it on the same input.
    """

    attempt: AttemptId
    retryable: bool = True
    charged: bool = True


class OutputLost(msgspec.Struct, frozen=True):
    """The output of this attempt is damaged or gone for good; it is never used again, even if it comes back."""

    attempt: AttemptId


class OutputFound(msgspec.Struct, frozen=True):
    """The worker, back in a new session, holds this output of an attempt that the scheduler no longer follows.

    `worker` is empty for an output that no worker holds: part files in the job's staging.
    """

    attempt: AttemptId
    worker: str


class AttemptFound(msgspec.Struct, frozen=True):
    """The worker runs this attempt, which the scheduler does not follow: of an earlier session, or an earlier master.

    The answer is CancelAttempt, and nothing is followed, unless the task is open and has no live attempt. It counts
    against the worker's slots, beyond them if need be.
    """

    attempt: AttemptId
    worker: str


class CancelRequested(msgspec.Struct, frozen=True):
    """The user wants the job to stop. Too late once it is done: then nothing happens."""


class TimePassed(msgspec.Struct, frozen=True):
    """Nothing happened but time: sent when next_deadline() is reached."""


Event = (
    WorkerJoined
    | WorkerLost
    | WorkerDrained
    | SlotsChanged
    | AttemptFinished
    | AttemptFailed
    | OutputLost
    | OutputFound
    | AttemptFound
    | CancelRequested
    | TimePassed
)


class Outcome(Enum):
    """How a job ended."""

    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class StartAttempt(msgspec.Struct, frozen=True):
    """Run this attempt on this worker; `backup` tells that another attempt at the task is running already."""

    attempt: AttemptId
    worker: str
    backup: bool = False


class CancelAttempt(msgspec.Struct, frozen=True):
    """Stop this attempt. Its slot counts as taken until AttemptFinished, AttemptFailed or WorkerLost is heard."""

    attempt: AttemptId


class DropOutput(msgspec.Struct, frozen=True):
    """Delete what this attempt made: another attempt's output counts, or none is wanted."""

    attempt: AttemptId


class FinishStage(msgspec.Struct, frozen=True):
    """All outputs of the stage are there. Said again when it is completed anew after a loss."""

    stage: int


class FinishJob(msgspec.Struct, frozen=True):
    """The job ended. `culprit` is the attempt whose failure ended a failed one.

    DONE: every output of the last stages is there, cancelled rivals may still be running. Until the runner has put the
    result in a safe place, WorkerLost and OutputLost may take it back; the job then goes on and finishes once more.
    FAILED, CANCELLED: no attempt is running any more.
    """

    outcome: Outcome
    culprit: AttemptId | None = None


Action = StartAttempt | CancelAttempt | DropOutput | FinishStage | FinishJob


class IllegalEvent(InternalError):
    """KM0901. The event cannot have happened in this state; the scheduler did not change."""

    def __init__(self, event: Event, state: str) -> None:
        super().__init__(Code.INTERNAL, f"{event} is not legal: {state}", hint="report this with the job's event log")
        self.event, self.state = event, state
