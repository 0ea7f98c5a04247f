"""Slots that open a job: they have it, or refuse it; or it is refused for them, where they do not come to an end.

For a user's object is unpickled by code of its own.
"""

from __future__ import annotations

from typing import Final

from kernelmill.cluster.fields import JobId, Problem, has_code
from kernelmill.cluster.messages import Failed
from kernelmill.cluster.worker import attempts as states
from kernelmill.cluster.worker import events as out
from kernelmill.cluster.worker import pool as slots
from kernelmill.cluster.worker.attempts import Attempt
from kernelmill.cluster.worker.bench import Bench
from kernelmill.cluster.worker.pool import Slot
from kernelmill.cluster.worker.slotframes import JobOpened, JobRefused
from kernelmill.engine.errors import Code

PASSING: Final = slots.STARTING, slots.OPENING, slots.CLOSING
"""None of these states lasts."""
_REFUSALS: Final = {
    "INPUT_CHANGED": "INPUT_CHANGED",
    "DISK_FULL": "DISK_FULL",
    "BAD_SETTING": "ROOT_MISSING",
    "MEMORY_LIMIT": "WORKER_SMALL",
}
"""What the master does about a job that was not opened, by the error's code; others are CODE_REFUSED."""
_HUNG: Final = "no progress for too long"
_OPENING_HINT: Final = (
    "look at what opening them calls: __setstate__ and __reduce__ of objects that they hold, and the modules that they "
    "import; where that may well take so long, start workers with a longer --hung-after"
)
_MEMORY_HINT: Final = (
    "an object that they hold takes it: make it smaller, or give the workers more --memory, or fewer slots"
)


def on_job_opened(bench: Bench, slot: Slot, frame: JobOpened) -> None:
    """A slot may run what it opened the job for, or what else of the job waits."""
    slot.move(slots.JOB_OPENED, bench.now)
    attempt = bench.attempts.get(slot.attempt) if slot.attempt is not None else None
    slot.attempt = None
    if attempt is not None:
        attempt.slot = None  # `settle` starts it, unless another of its job waits for longer


def on_job_refused(bench: Bench, slot: Slot, frame: JobRefused) -> None:
    """No slot here may open this job: its signature, versions or parts, or this worker's roots or memory do not do."""
    code = _REFUSALS.get(frame.problem.code, "CODE_REFUSED")
    slot.attempt = None
    bench.kill(slot)
    for attempt in waiting_of(bench, frame.job):
        attempt.slot = None
        bench.end_failed(attempt, Failed(attempt.name, code, "", frame.problem, None, ()), states.BROKE)


def passing_s(bench: Bench, slot: Slot) -> float:
    """How long a slot may be in a state that does not last. Opening a job calls what its objects are unpickled by."""
    settings = bench.settings
    return max(settings.start_s, settings.hung_s) if slot.state == slots.OPENING else settings.start_s


def end_passing(bench: Bench, slot: Slot) -> None:
    """End a slot that stays in a state that does not last; if a job's own objects keep it there, refuse the job."""
    if not opens_code(bench, slot):
        bench.kill(slot, "HUNG", _HUNG)
        return
    bench.seen["opening hung"] += 1
    what = f"the job's functions were not opened within {passing_s(bench, slot):g} s"
    _refuse(bench, slot, Code.CODE_REFUSED, what, _OPENING_HINT)


def opens_code(bench: Bench, slot: Slot) -> bool:
    """Whether a slot unpickles what a job brings of its user's."""
    job = bench.jobs.get(slot.job) if slot.state == slots.OPENING and slot.job is not None else None
    return job is not None and job.spec is not None and has_code(job.spec.parts)


def refuse_for_memory(bench: Bench, slot: Slot, text: str) -> None:
    """Refuse the job that a slot opens, for it takes more memory than it may: on another worker there may be more."""
    what = f"a process that opens the job's functions {text}"
    _refuse(bench, slot, Code.MEMORY_LIMIT, what, _MEMORY_HINT)


def _refuse(bench: Bench, slot: Slot, code: Code, what: str, hint: str) -> None:
    assert slot.job is not None
    problem = Problem(code.value.wire, f"worker {bench.me.name}: {what}", "", hint)
    bench.out.append(out.Say(f"job {slot.job.hex()}: {what}"))
    on_job_refused(bench, slot, JobRefused(slot.job, problem))


def waiting_of(bench: Bench, job: JobId) -> list[Attempt]:
    """The attempts at a job's tasks that have not begun."""
    return [bench.attempts[name] for name in bench.waiting if name.job == job]
