"""What happens in a job, as one typed stream: progress reads it now, the event log, page and reports later.

An event holds no time: whoever keeps a log stamps it on arrival, so that pure code can make events too.
Sinks are called from several threads at once and must return quickly.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from kernelmill.engine.ids import AttemptId

COMPILE_KERNELS = "compile kernels"


class StageInfo(msgspec.Struct, frozen=True):
    """A stage as it was planned. `input_bytes` counts bytes as they lie in files; 0 for a stage that reads blocks."""

    number: int
    label: str
    tasks: int
    input_bytes: int = 0


class Event(msgspec.Struct, frozen=True, tag=True):
    """Something that happened; the tag on the wire is the class's name."""


class JobStarted(Event, frozen=True):
    """The plan is fixed and its first task is about to run."""

    job_id: str
    stages: tuple[StageInfo, ...]
    threads: int
    memory_bytes: int


class PhaseStarted(Event, frozen=True):
    """Work outside tasks that may take long began, or came to its next piece, which `detail` names.

    `name` is what people read. The phase COMPILE_KERNELS starts anew for each kernel that is compiled, `detail` being
    the kernel's name, and ends once; kernels that come from the cache make no event.
    """

    name: str
    detail: str = ""


class PhaseEnded(Event, frozen=True):
    """The phase of this name ended after `seconds`; `detail` says what it did, such as "9 compiled"."""

    name: str
    seconds: float
    detail: str = ""


class StageStarted(Event, frozen=True):
    """The first task of a stage is about to run."""

    stage: int


class TaskStarted(Event, frozen=True):
    """An attempt at a task began to run on `worker`."""

    attempt: AttemptId
    worker: str = ""


class TaskProgress(Event, frozen=True):
    """A running attempt has read `bytes_done` bytes of its input in all, as they lie in the files."""

    attempt: AttemptId
    bytes_done: int


class TaskFinished(Event, frozen=True):
    """An attempt is done and its output counts: `rows` rows of `bytes` bytes."""

    attempt: AttemptId
    rows: int = 0
    bytes: int = 0


class TaskFailed(Event, frozen=True):
    """An attempt failed with error `code`; `will_retry` says whether the task runs again."""

    attempt: AttemptId
    code: str
    what: str
    will_retry: bool = False


class SpillWritten(Event, frozen=True):
    """`bytes` bytes of shuffle blocks or run files went to disk."""

    bytes: int
    stage: int | None = None


class JobFinished(Event, frozen=True):
    """The job is over: `outcome` is done, failed or cancelled; `rows` and `bytes` are those of its output."""

    outcome: str
    rows: int = 0
    bytes: int = 0
    seconds: float = 0.0


AnyEvent = (
    JobStarted
    | PhaseStarted
    | PhaseEnded
    | StageStarted
    | TaskStarted
    | TaskProgress
    | TaskFinished
    | TaskFailed
    | SpillWritten
    | JobFinished
)
"""Every event, for decoders: `msgspec.json.decode(line, type=AnyEvent)`."""

Sink = Callable[[Event], None]
"""Where events go. It must not raise: a sink that fails would fail the job it only watches."""


def fan_out(*sinks: Sink) -> Sink:
    """Make one sink of several; each event reaches them in this order."""

    def emit(event: Event) -> None:
        for sink in sinks:
            sink(event)

    return emit
