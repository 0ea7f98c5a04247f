"""The master: a pure state machine around one scheduler a job. A shell gives it events and the time.

    actions = master.handle(event, now)     events.py lists both; `now`: seconds, any monotonic clock
    deadline = master.next_deadline()       send TimePassed then, if nothing came before
    master.check()                          asserts every invariant; for tests

    master = Master(ledger, seal_of)        ledger: that of the journal's facts, in order; an empty one for a new one
    actions = master.start(epoch, life, now)   peers may be let in when its Record is Recorded

There is no clock, chance, thread, socket or file in here, and no secret: `seal_of` makes and checks seals. What a peer
says and cannot be is answered, counted in `seen`, and changes nothing. What the shell says and cannot be raises.

desk.py is the shared state; sessions.py, jobs.py and engine/schedule hold the tables of states; ledger.py is what the
journal says. registrations.py, commits.py and lives.py take the events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from kernelmill.cluster.fields import Count, OutputFile
from kernelmill.cluster.journal.records import JobAccepted
from kernelmill.cluster.master import commits, lives, registrations
from kernelmill.cluster.master import events as told
from kernelmill.cluster.master import jobs as states
from kernelmill.cluster.master.desk import Desk, MasterSettings, SealOf, Voided
from kernelmill.cluster.master.facts import (
    ATTEMPT_BITS,
    Committing,
    EpochBegun,
    JobEnded,
    JobForgotten,
    JobSheet,
    JobSubmitted,
    OutputLost,
    Poisoned,
    RolledBack,
    TaskCommitted,
)
from kernelmill.cluster.master.failures import Failure
from kernelmill.cluster.master.invariants import check_master
from kernelmill.cluster.master.ledger import COMMITTING, Ledger
from kernelmill.cluster.master.sharing import share
from kernelmill.engine.errors import Code, error
from kernelmill.engine.ids import AttemptId, TaskId
from kernelmill.engine.schedule.events import TimePassed

_ON: Final[dict[type, Callable[[Desk, Any], None]]] = {
    told.HelloReceived: registrations.on_hello,
    told.BeatReceived: registrations.on_beat,
    told.AcceptReceived: registrations.on_accept,
    told.ByeReceived: registrations.on_bye,
    told.PeerGone: registrations.on_gone,
    told.PeerDisconnected: registrations.on_disconnected,
    told.DrainRequested: registrations.on_drain,
    told.DoneReceived: commits.on_done,
    told.FailedReceived: commits.on_failed,
    told.FetchFailedReceived: commits.on_fetch_failed,
    told.SubmitReceived: lives.on_submit,
    told.CancelReceived: lives.on_cancel,
    told.ForgetReceived: lives.on_forget,
    told.Published: lives.on_published,
    told.PublishFailed: lives.on_publish_failed,
}

_AFTER: Final[dict[type, Callable[[Desk, Any, Voided], None]]] = {
    EpochBegun: lambda desk, fact, voided: None,
    JobSubmitted: lives.after_submit,
    TaskCommitted: commits.after_commit,
    OutputLost: commits.after_loss,
    RolledBack: commits.after_roll_back,
    Poisoned: commits.after_poison,
    Committing: lives.after_committing,
    JobEnded: lives.after_end,
    JobForgotten: lambda desk, fact, voided: None,
}


class Master:
    """Decides for all jobs: which attempt runs where, what counts, what is lost, when a job is over."""

    def __init__(self, ledger: Ledger, seal_of: SealOf, settings: MasterSettings | None = None) -> None:
        for job in [name for name in ledger.ended if name in ledger.jobs]:
            ledger.let_go(job)
        self._desk = Desk(ledger, seal_of, settings if settings is not None else MasterSettings())
        self.seen = self._desk.seen

    def start(self, epoch: int, life: bytes, now: float, expected: Iterable[str] = ()) -> list[told.Action]:
        """Begin an epoch: go on with the journal's jobs, and hear for a while who is there before work is given out.

        The while is over at once when all `expected` workers are there: those that may come, as far as that is known.
        """
        desk = self._begin(now)
        desk.record(EpochBegun(epoch, life))
        desk.numbers.next = epoch << ATTEMPT_BITS
        for job in desk.ledger.jobs.values():
            lives.restore(desk, job)
        if desk.jobs:
            desk.recovering_until_s = now + desk.settings.recovery_s
            desk.awaited = set(expected)
        return desk.out

    def handle(self, event: told.Event, now: float) -> list[told.Action]:
        """Take one event, return what is to be done, in order."""
        desk = self._begin(now)
        peers = desk.sessions.peers_version
        match event:
            case told.Recorded():
                self._take_recorded(event.number)
            case told.JournalFilled() | told.JournalFreed():
                self._take_journal_state(isinstance(event, told.JournalFilled))
            case told.TimePassed():
                self._pass_time()
            case _:
                _ON[type(event)](desk, event)
        self._settle(is_staff_changed=peers != desk.sessions.peers_version)
        return desk.out

    def next_deadline(self) -> float | None:
        """Tell when TimePassed has something to do, on the clock of `now`; None if only other events do."""
        desk = self._desk
        due = [desk.sessions.next_deadline(), desk.recovering_until_s, desk.share_all_at_s, desk.peers_at_s]
        is_waiting = False
        for job in desk.jobs.values():
            due.append(job.scheduler.next_deadline())
            due += job.pauses.values()
            if job.publish_since_s is not None and Failure.OUTPUT_STUCK.value not in job.pauses:
                due.append(job.publish_since_s + desk.settings.output_stuck_s)
            is_working = job.state in (states.RUNNING, states.PAUSED) and job.ledger.state != COMMITTING
            is_waiting |= is_working and Failure.NO_WORKERS.value not in job.pauses
        if desk.unstaffed_since_s is not None and is_waiting:
            due.append(desk.unstaffed_since_s + desk.settings.no_workers_s)
        return min((at for at in due if at is not None), default=None)

    @property
    def is_brisk(self) -> bool:
        """Whether a job's tasks are so short that workers have many ahead, and nobody waits for a millisecond."""
        return any(job.ahead >= states.AHEAD_BRISK for job in self._desk.jobs.values())

    def inputs_of(self, job: str, stage: int) -> list[tuple[int, int, str, int]]:
        """List a stage's committed outputs that have rows as (map task, attempt, holder, bytes of the largest block).

        It is what TellInputs sends, by the page; of outputs without rows only `without_rows` tells.
        """
        ledger = self._desk.ledger
        known = ledger.jobs[job]
        winners, sizes = known.stages[stage].winners, known.stages[stage].block_bytes
        holder_of = ledger.holder_of
        return [
            (task, number, holder_of(known, stage, task), size)
            for task, (number, size) in enumerate(zip(winners, sizes, strict=True))
            if number >= 0 and size
        ]

    def without_rows(self, job: str, stage: int) -> bytes:
        """Tell which committed outputs of a stage have no rows: a bit for each map task, the lowest of a byte first."""
        known = self._desk.ledger.jobs[job].stages[stage]
        bits = bytearray(-(-len(known.winners) // 8))
        for task, (number, size) in enumerate(zip(known.winners, known.block_bytes, strict=True)):
            if number >= 0 and not size:
                bits[task >> 3] |= 1 << (task & 7)
        return bytes(bits)

    def block_bytes_of(self, job: str, stage: int, task: int) -> int:
        """Tell how many bytes the largest block of a committed map task has."""
        return self._desk.ledger.jobs[job].stages[stage].block_bytes[task]

    def is_live(self, job: str) -> bool:
        """Tell whether a job has not ended, or its last attempts have not."""
        return job in self._desk.jobs

    def gen_of(self, job: str, stage: int) -> int:
        """Tell how often a stage of a live job was rolled back."""
        return self._desk.ledger.jobs[job].stages[stage].gen

    def version_of(self, job: str, stage: int) -> int:
        """Tell the newest version of a stage's inputs; 0 before the first."""
        return self._desk.jobs[job].versions.get(stage, 0)

    def sheet_of(self, job: str) -> JobSheet:
        """What was submitted, of a live job."""
        return self._desk.ledger.jobs[job].sheet

    def attempts_on(self, worker: str, job: str) -> list[AttemptId]:
        """List the attempts of a live job that a worker was given and that have not ended."""
        return [run.id for run in self._desk.jobs[job].runs_on(worker)]

    def peers(self) -> list[str]:
        """List the workers that have a session: what TellPeers sends, with the endpoints that the shell knows."""
        return [session.worker for session in self._desk.sessions]

    def has_job(self, job: str, client: str | None = None) -> bool:
        """Tell whether a job is known, and is this client's if one is named."""
        owner = lives.owner_of(self._desk, job)
        return owner != "" and client in (None, owner)

    def has_too_many_jobs(self, client: str) -> str:
        """What to say to a client that may have no further live job; empty if it may."""
        return lives.too_many_jobs(self._desk, client)

    def is_ended(self, job: str) -> bool:
        """Tell whether a job's end is durable."""
        return job in self._desk.ledger.ended and not self._is_unrecorded(job)

    @property
    def desk(self) -> Desk:
        """The state, for answers.py to read; nobody outside may change it."""
        return self._desk

    def files_left(self, job: str) -> list[tuple[int, int, int, tuple[OutputFile, ...]]]:
        """List what publishing a live job takes: (stage, task, attempt, files) of all winners that left files."""
        return list(self._desk.ledger.jobs[job].files_left())

    def counters_of(self, job: str) -> tuple[Count, ...]:
        """Add up the counters of a live job's commits."""
        return self._desk.ledger.jobs[job].sums()[0]

    def accepted_jobs(self) -> dict[str, JobAccepted]:
        """What clients sent, of jobs that have not ended."""
        jobs = self._desk.ledger.jobs.items()
        return {name: job.sheet.accepted for name, job in jobs if job.sheet.accepted is not None}

    def parts_in_use(self) -> set[bytes]:
        """The sha256 of all parts of live jobs."""
        accepted = (job.sheet.accepted for job in self._desk.ledger.jobs.values())
        return {part.sha256 for one in accepted if one is not None for part in one.parts}

    def state_of(self, job: str) -> str:
        """Tell a job's state; KeyError for one that never was."""
        run = self._desk.jobs.get(job)
        return run.state if run is not None else self._desk.ledger.ended[job].state

    def winner_of(self, job: str, task: TaskId) -> AttemptId | None:
        """Tell whose output of a task is committed, or being committed."""
        number = self._desk.ledger.jobs[job].stages[task.stage].winners[task.index]
        return AttemptId(task, number) if number >= 0 else None

    def check(self) -> None:
        """Assert every invariant. Takes time in all tasks."""
        check_master(self._desk)

    def _begin(self, now: float) -> Desk:
        desk = self._desk
        desk.now = max(desk.now, now)
        desk.out = []
        return desk

    def _take_recorded(self, number: int) -> None:
        desk = self._desk
        if number > desk.ordered:
            raise error(Code.INTERNAL, f"Recorded({number}), and {desk.ordered} is the last Record", hint="report this")
        while desk.queue and desk.queue[0][0] <= number:
            _, fact, voided = desk.queue.popleft()
            _AFTER[type(fact)](desk, fact, voided)
        desk.durable = max(desk.durable, number)

    def _take_journal_state(self, is_full: bool) -> None:
        desk = self._desk
        desk.is_journal_full = is_full
        for job in list(desk.jobs.values()):
            if is_full:
                desk.pause(job, Failure.JOURNAL_FULL)
            else:
                desk.resume(job, Failure.JOURNAL_FULL)

    def _pass_time(self) -> None:
        desk = self._desk
        if desk.recovering_until_s is not None and desk.recovering_until_s <= desk.now:
            desk.recovering_until_s = None
            desk.share_all_soon()
        lives.pass_time(desk)
        for job in list(desk.jobs.values()):
            due_s = job.scheduler.next_deadline()
            if due_s is not None and due_s <= desk.now:
                desk.tell(job, TimePassed())

    def _settle(self, is_staff_changed: bool) -> None:
        """Do what is due whatever came: sessions that are over, jobs to forget, slots to share out."""
        desk = self._desk
        for session in desk.sessions.take_silent(desk.now):
            desk.dirty[session.worker] = None
        for session in desk.sessions.overdue(desk.now):
            desk.declare_lost(session, "silent", session.silence_s(desk.now))
            is_staff_changed = True
        for name, job in [*desk.jobs.items()] if self._is_any_over() else []:
            if job.is_over and not job.attempts and not job.pending and not self._is_unrecorded(name):
                del desk.jobs[name]
                if name in desk.ledger.jobs:
                    desk.ledger.let_go(name)
                desk.share_all_soon()
        if is_staff_changed or desk.dirty or desk.share_all_at_s is not None:
            lives.watch_staff(desk)
        self._share_out()
        if desk.peers_at_s is not None and desk.peers_at_s <= desk.now:
            desk.peers_at_s = None
            desk.out.append(told.TellPeers(desk.sessions.peers_version))

    def _share_out(self) -> None:
        """Share out the slots of all workers, or of those for whom something changed, until nothing changes more."""
        desk = self._desk
        while desk.dirty or (desk.share_all_at_s is not None and desk.share_all_at_s <= desk.now):
            if desk.share_all_at_s is not None and desk.share_all_at_s <= desk.now:
                desk.share_all_at_s = None
                desk.dirty.clear()
                for session in desk.sessions:
                    share(desk, session)
            else:
                found = desk.sessions.get(desk.dirty.popitem()[0])
                if found is not None:
                    share(desk, found)

    def _is_any_over(self) -> bool:
        return any(job.is_over for job in self._desk.jobs.values())

    def _is_unrecorded(self, name: str) -> bool:
        return any(isinstance(fact, JobEnded) and fact.job == name for _, fact, _ in self._desk.queue)
