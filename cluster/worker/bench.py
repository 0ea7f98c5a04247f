"""What the parts of the worker's machine share: its state, and the ways in which an attempt or a job ends here."""

from __future__ import annotations

from collections import Counter, deque
from itertools import islice
from typing import Final

import msgspec

from kernelmill.cluster.fields import (
    AttemptName,
    JobId,
    Nonce,
    PeerName,
    Problem,
    Secret,
    TaskKey,
    Versions,
    Word,
)
from kernelmill.cluster.messages import Accept, Done, Failed, Lines, Spec, Welcome, WorkerToMaster
from kernelmill.cluster.worker import attempts as states
from kernelmill.cluster.worker import events as out
from kernelmill.cluster.worker import pool as slots
from kernelmill.cluster.worker.attempts import Attempt
from kernelmill.cluster.worker.events import Sample, Want
from kernelmill.cluster.worker.inputs import InputBook, pair_frame
from kernelmill.cluster.worker.pool import Pool, Slot
from kernelmill.cluster.worker.slotframes import BlockWanted, CancelTask, CloseJob, RunTask, SourceInputs
from kernelmill.cluster.worker.watch import COMPILE_S, START_S, Watch
from kernelmill.engine.errors import Code

CONNECTING: Final = "CONNECTING"
GREETING: Final = "GREETING"
REGISTERED: Final = "REGISTERED"

# What a failure of the worker's own finding is called to the user; others say it themselves.
PROBLEM_CODES: Final = {
    "SIGNALLED": Code.TASK_LOST,
    "HUNG": Code.TASK_LOST,
    "OOM_KILLED": Code.MEMORY_LIMIT,
    "DISK_FULL": Code.DISK_FULL,
    "CANCELLED": Code.CANCELLED,
    "FETCH_UNREACHABLE": Code.TASK_LOST,
    "CORRUPT_BLOCK": Code.CORRUPT_BLOCK,
    "PART_DAMAGED": Code.PART_DAMAGED,
}


class Identity(msgspec.Struct, frozen=True):
    """What a worker says of itself in HELLO; `nonce` is of this process."""

    name: PeerName
    nonce: Nonce
    versions: Versions
    host: Word
    data_port: int
    slots: int
    memory_bytes: int
    ticket_key: Secret

    def __repr__(self) -> str:
        return f"Identity(name={self.name!r}, slots={self.slots})"


class WorkerSettings(msgspec.Struct, frozen=True):
    """The worker's times in seconds, and its caps; the defaults are those of CLUSTER.md."""

    beat_s: float = 1.0
    silent_s: float = 5.0
    hello_s: float = 2.0
    refused_s: float = 0.5
    back_off_s_min: float = 0.1
    back_off_s_max: float = 2.0
    orphan_s: float = 3600.0
    cancel_grace_s: float = 2.0
    inputs_s: float = 5.0
    start_s: float = START_S
    hung_s: float = 30.0
    hung_batches: float = 10.0
    compile_s: float = COMPILE_S
    stopped_s: float = 3.0
    refetch_s: float = 3.0
    parts_s_max: float = 8.0  # between two tries to fetch the parts of a job
    resaid_max: int = 256
    waiting_max: int = 128  # attempts a slot
    line_max: int = 24  # attempts that stand in line in a slot's process
    starts_failed_max: int = 5
    lines_max: int = 128
    slot_rss_bytes_max: int = 1 << 62


class JobHere(msgspec.Struct):
    """A job that has attempts or files here. `spec` is None for one of which only files are left.

    bring_at_s: before that its parts are not asked for again, which could not be had `misses` times.
    """

    spec: Spec | None = None
    has_parts: bool = False
    is_bringing: bool = False
    misses: int = 0
    bring_at_s: float = 0.0


class WantHere(msgspec.Struct):
    """An open want of a slot: what the slot asked for, what is fetched for it, and why it cannot be had so far."""

    frame: BlockWanted
    want: Want | None  # None: nothing is being fetched
    code: str
    since_s: float
    is_renewed: bool = False  # the master has named its place again since the fetch began


class Bench:
    """The shared state. Only the machine's own modules touch it."""

    def __init__(self, me: Identity, settings: WorkerSettings, now: float) -> None:
        self.me, self.settings = me, settings
        self.now = now
        self.out: list[out.Action] = []
        self.seen: Counter[str] = Counter()
        # The session.
        self.link = CONNECTING
        self.session, self.epoch, self.life = b"", 0, b"\0" * 8
        self.count = 0  # of HELLOs
        self.heard_s = self.linked_s = self.beat_s = now
        self.back_off_s = settings.back_off_s_min
        self.chance = 0.5
        self.reconnect_at_s: float | None = None
        self.hello_at_s: float | None = None
        self.is_refused = False  # the last HELLO was, for a reason that may pass
        self.orphan_since_s: float | None = now
        self.welcomes: dict[int, Welcome] = {}
        self.is_draining = False
        self.is_over = False
        # Work.
        self.attempts: dict[AttemptName, Attempt] = {}
        self.open: dict[AttemptName, Attempt] = {}  # those that are not HELD: what is looked through each second
        self.stopping: dict[AttemptName, Attempt] = {}  # those whose slot is killed if they do not end
        self.waiting: dict[AttemptName, float] = {}  # since when, oldest first
        self.jobs: dict[JobId, JobHere] = {}
        self.pool = Pool(me.slots)
        self.starts_failed = 0
        self.start_at_s = now
        self.inputs = InputBook()
        self.wants: dict[int, dict[tuple[int, int, int, int], WantHere]] = {}  # slot -> (stage, map, output, part)
        self.fetching: Counter[Want] = Counter()
        self.watches: dict[int, Watch] = {}
        self.lines: dict[AttemptName, deque[str]] = {}
        self.sample = Sample(0, 0, ())
        self.resaid: AttemptName | None = None  # where the last beat's round of DONEs ended

    # Messages.

    def send(self, body: WorkerToMaster) -> None:
        """Send in this session; without one, nothing: the next HELLO says what there is."""
        if self.link == REGISTERED:
            self.out.append(out.Send(self.session, body))

    def say_again(self, attempt: Attempt) -> None:
        """Say how an attempt ended, and before that what it wrote: with its last task a job is over for the master."""
        said: Done | Failed | None = attempt.done if attempt.state == states.DONE else attempt.failed
        if said is not None:
            self.say_lines(attempt.name)
            self.send(said)

    def say_lines(self, name: AttemptName) -> None:
        """Say what an attempt wrote since the last time."""
        lines = self.lines.pop(name, None)
        if lines:
            self.send(Lines(name, tuple(islice(lines, self.settings.lines_max))))

    # Attempts.

    def add(self, attempt: Attempt) -> None:
        """Follow an attempt."""
        self.attempts[attempt.name] = self.open[attempt.name] = attempt

    def job_of(self, job: JobId) -> JobHere:
        """A job's record, made on first use."""
        return self.jobs.setdefault(job, JobHere())

    def start(self, attempt: Attempt, slot: Slot) -> None:
        """Let a slot that has the job run an attempt, after it was told of the inputs."""
        assert slot.job == attempt.name.job
        slot.attempt = slot.writer = attempt.name
        slot.takes_more = self.may_stand_in_line(attempt, slot)
        for frame in self._inputs_for(attempt, slot):
            self.out.append(out.TellSlot(slot.number, frame))
        slot.move(slots.TASK_GIVEN, self.now)
        self.watches[slot.number] = Watch(self.now)
        self._give(attempt, slot)

    def may_stand_in_line(self, attempt: Attempt, slot: Slot) -> bool:
        """Tell whether an attempt may be in one process with others: none of them waits, or can harm the others.

        Of users' functions what they print, and what process they end, must be that of one attempt.
        """
        spec, assign = self.jobs[attempt.name.job].spec, attempt.assign
        assert spec is not None and assign is not None
        is_plain = not assign.is_isolating and not spec.sheet.stages[attempt.name.stage].inputs
        return slot.is_clean and is_plain

    def line_up(self, attempt: Attempt, slot: Slot) -> None:
        """Give a slot that is busy an attempt of its job, for later."""
        assert slot.takes_more and slot.job == attempt.name.job
        slot.line.append(attempt.name)
        self._give(attempt, slot)

    def _give(self, attempt: Attempt, slot: Slot) -> None:
        assign = attempt.assign
        assert assign is not None
        attempt.slot = slot.number
        task = TaskKey(attempt.name.job, attempt.name.stage, attempt.gen, attempt.name.index)
        run = RunTask(attempt.name.attempt, task, assign.left_out, assign.is_isolating)
        self.out.append(out.TellSlot(slot.number, run))
        attempt.move(states.STARTED)
        del self.waiting[attempt.name]

    def _inputs_for(self, attempt: Attempt, slot: Slot) -> list[SourceInputs]:
        spec = self.jobs[attempt.name.job].spec
        assert spec is not None
        frames: list[SourceInputs] = []
        job, told = attempt.name.job, set()
        for edge in spec.sheet.stages[attempt.name.stage].inputs:
            if edge.source in told:
                continue
            told.add(edge.source)
            pair = self.inputs.pair_of(job, edge.source, attempt.name.index) if edge.kind == "one_to_one" else None
            if pair is not None:
                frames.append(pair_frame(pair))
                continue
            version = self.count, self.inputs.version_of(job, edge.source)
            if slot.told.get(edge.source) != version:
                slot.told[edge.source] = version
                frames.extend(self.inputs.frames(job, edge.source))
        return frames

    def fail(self, attempt: Attempt, code: str, text: str) -> None:
        """End an attempt without output, for a reason that is not its task's."""
        self.end_failed(attempt, Failed(attempt.name, code, "", self.problem(code, text), None, ()), states.BROKE)

    def problem(self, code: str, text: str) -> Problem:
        """The error that the user sees for a failure of the worker's own finding."""
        return Problem(PROBLEM_CODES.get(code, Code.INTERNAL).value.wire, text, f"worker {self.me.name}", "")

    def end_failed(self, attempt: Attempt, failed: Failed, cause: str) -> None:
        """End an attempt without output, and say so."""
        self.leave_slot(attempt)
        if not attempt.move(cause):
            self.remove(attempt)
            return
        attempt.failed = failed
        self.say_again(attempt)

    def leave_slot(self, attempt: Attempt) -> None:
        """Nothing runs for this attempt any more: its slot is free, if it still lives; its wants are void."""
        self.waiting.pop(attempt.name, None)
        slot = self.pool.slots.get(attempt.slot) if attempt.slot is not None else None
        attempt.slot = attempt.stop_at_s = None
        self.stopping.pop(attempt.name, None)
        if slot is None or attempt.name not in slot.given:
            return
        slot.is_asked = False
        if attempt.name != slot.attempt:
            slot.line.remove(attempt.name)
            return
        self.watches.pop(slot.number, None)
        self.drop_wants(slot.number)
        slot.attempt = slot.line.pop(0) if slot.line else None
        if slot.attempt is not None:
            slot.writer = slot.attempt
            self.watches[slot.number] = Watch(self.now)
        elif slot.state == slots.BUSY:
            slot.move(slots.TASK_OVER, self.now)

    def discard(self, attempt: Attempt) -> None:
        """Nothing of an attempt counts: end it, delete it."""
        if not attempt.move(states.DISCARDED):
            self.leave_slot(attempt)
            self.remove(attempt)
        elif attempt.state == states.ENDING:
            self.stop(attempt)

    def stop(self, attempt: Attempt) -> None:
        """Tell a slot to end what it runs, and note when it is killed if it does not."""
        if attempt.stop_at_s is None and attempt.slot is not None:
            attempt.stop_at_s = self.now + self.settings.cancel_grace_s
            self.stopping[attempt.name] = attempt
            self.out.append(out.TellSlot(attempt.slot, CancelTask(attempt.name.attempt)))

    def remove(self, attempt: Attempt) -> None:
        """Forget an attempt and delete what it left."""
        assert attempt.slot is None, f"{attempt.name} is still in a slot"
        self._forget(attempt)
        self.out.append(out.DeleteAttempt(attempt.name))

    def _forget(self, attempt: Attempt) -> None:
        del self.attempts[attempt.name]
        self.open.pop(attempt.name, None)

    # Slots.

    def kill(self, slot: Slot, failure: str = "", text: str = "") -> None:
        """Kill a slot; its attempt is reported with `failure` and `text` when its death is seen."""
        if slot.state != slots.DYING:
            slot.killed_for, slot.killed_text = failure, text
            slot.move(slots.KILLED, self.now)
            self.out.append(out.KillSlot(slot.number))

    def free(self, slot: Slot) -> None:
        """A slot's job is over, or has to give way: it is a spare again if it may serve another job, else it ends."""
        if slot.state != slots.IDLE or not slot.is_clean:
            self.kill(slot)
            return
        slot.move(slots.JOB_OVER, self.now)
        slot.job = slot.writer = None
        slot.told.clear()
        self.out.append(out.TellSlot(slot.number, CloseJob()))

    def drop_wants(self, slot: int) -> None:
        """Void all wants of a slot."""
        for here in self.wants.pop(slot, {}).values():
            self.forget_want(here)

    def forget_want(self, here: WantHere) -> None:
        """Stop fetching for a want, unless another slot wants the same."""
        if here.want is None:
            return
        self.fetching[here.want] -= 1
        if not self.fetching[here.want]:
            del self.fetching[here.want]
            self.out.append(out.ForgetBlock(here.want))
        here.want = None

    # Jobs.

    def drop_job(self, job: JobId) -> None:
        """A job is over: end what runs of it, delete all files of it."""
        for slot in list(self.pool.slots.values()):
            if slot.job == job:
                self.free(slot)
        for attempt in [each for each in self.attempts.values() if each.name.job == job]:
            self.leave_slot(attempt)
            self._forget(attempt)
        self.inputs.forget(job)
        if self.jobs.pop(job, None) is not None:
            self.out.append(out.DeleteJob(job))

    def accept(self, attempt: Attempt) -> None:
        """Say that an attempt is in hand."""
        self.send(Accept(attempt.name))
