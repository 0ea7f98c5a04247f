"""What the parts of the master's machine share: state, the queue of facts that are not durable, and orders to peers.

Two rules hold here for all of them. A fact goes into the ledger when it is ordered and has its effect when it is
durable (`record`, `effects_until`). Every scheduler is told through `tell`, which turns its actions into the master's.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from typing import Final

import msgspec

from kernelmill.cluster.master import events as out
from kernelmill.cluster.master import jobs as states
from kernelmill.cluster.master.facts import Committing, Fact, JobEnded, RolledBack
from kernelmill.cluster.master.failures import Failure
from kernelmill.cluster.master.jobs import AttemptRun, JobRun
from kernelmill.cluster.master.ledger import COMMITTING, Ledger
from kernelmill.cluster.master.sessions import DRAINING, Session, SessionBook
from kernelmill.engine.ids import AttemptId, TaskId
from kernelmill.engine.plan.stages import EdgeKind
from kernelmill.engine.schedule import events as schedule
from kernelmill.engine.schedule.attempts import Numbers
from kernelmill.engine.schedule.state import BackupPolicy

SealOf = Callable[[str, AttemptId, int, str], bytes]
"""(job, attempt, gen, worker) -> seal: an HMAC under the master's secret, with a function's promise to be pure."""

TEXT_MAX: Final = 8000  # of what is written down and sent: a little less than a text may have

Voided = tuple[tuple[int, int, int], ...]


class MasterSettings(msgspec.Struct, frozen=True):
    """The master's times in seconds, and its caps; the defaults are those of CLUSTER.md."""

    suspect_s: float = 3.0
    lost_s: float = 5.0
    disconnect_s: float = 1.0
    rejoin_grace_s: float = 5.0
    recovery_s: float = 2.0
    no_workers_s: float = 60.0
    output_stuck_s: float = 60.0
    pause_retry_s: float = 5.0
    assign_repeat_s: float = 2.0
    share_s: float = 0.1
    peers_s: float = 0.2
    disk_free_bytes_min: int = 256 << 20
    jobs_per_client_max: int = 64
    rollbacks_max: int = 3
    backups: BackupPolicy | None = BackupPolicy()


# Counters of what peers did that was not legal, or late; the simulation asserts that each was seen.
FORGED: Final = "forged seal"
STRANGE: Final = "no such session, job or task"
ZOMBIE: Final = "zombie discarded"


class Desk:
    """The shared state. Only the machine's own modules touch it."""

    def __init__(self, ledger: Ledger, seal_of: SealOf, settings: MasterSettings) -> None:
        self.ledger, self.seal_of, self.settings = ledger, seal_of, settings
        self.sessions = SessionBook(settings.suspect_s, settings.lost_s, settings.disconnect_s)
        self.jobs: dict[str, JobRun] = {}  # live ones, and those whose last attempts are being stopped
        self.numbers = Numbers()
        self.now = float("-inf")
        self.out: list[out.Action] = []
        self.seen: Counter[str] = Counter()
        self.ordered = self.durable = 0  # numbers of Record
        self.queue: deque[tuple[int, Fact, Voided]] = deque()
        self.recovering_until_s: float | None = None
        self.awaited: set[str] = set()  # workers without whom recovering goes on until then
        self.dirty: dict[str, None] = {}  # workers whose slots must be shared out anew, in order
        self.share_all_at_s: float | None = None
        self.peers_at_s: float | None = None
        self.unstaffed_since_s: float | None = None
        self.is_journal_full = False

    # The journal.

    def record(self, *facts: Fact) -> None:
        """Order facts, in one transaction; the ledger has them from here on, the world when they are durable."""
        self.ordered += 1
        for fact in facts:
            voided: Voided = ()
            if isinstance(fact, RolledBack):
                voided = tuple(self.ledger.jobs[fact.job].commits_downstream_of(fact.stage))
            self.ledger.apply(fact)
            self.queue.append((self.ordered, fact, voided))
        self.out.append(out.Record(self.ordered, facts))

    # Orders to peers.

    def session_of(self, worker: str, session: int) -> Session | None:
        """Find the session that a message belongs to; without one the worker is told to say HELLO."""
        found = self.sessions.get(worker)
        if found is not None and found.id == session:
            if self.sessions.hear(found, self.now):
                self.dirty[worker] = None
            return found
        self.seen[STRANGE] += 1
        self.out.append(out.Refuse(worker, "NO_SESSION", "say HELLO"))
        return None

    def discard(self, worker: str, job: str, attempt: AttemptId) -> None:
        """Tell a worker that an attempt does not count, if it is here; if not, its next HELLO tells it."""
        session = self.sessions.get(worker)
        if session is not None:
            self.out.append(out.Discard(worker, session.id, job, attempt))

    def acknowledge(self, worker: str, job: str, attempt: AttemptId) -> None:
        """Tell a worker that an attempt counts, if it is here; if not, it says DONE again."""
        session = self.sessions.get(worker)
        if session is not None:
            self.out.append(out.CommitAck(worker, session.id, job, attempt))

    # Schedulers.

    def tell(self, job: JobRun, event: schedule.Event, holder: str = "") -> None:
        """Tell a job's scheduler, and do what it answers; outputs to drop are those of `holder`."""
        was_hungry = job.scheduler.has_ready_tasks
        for action in job.scheduler.handle(event, self.now):
            match action:
                case schedule.StartAttempt():
                    self._start(job, action)
                case schedule.CancelAttempt():
                    self.cancel(job, action.attempt)
                case schedule.DropOutput():
                    self.discard(holder, job.id, action.attempt)
                case schedule.FinishStage():
                    self._publish_inputs(job, action.stage)
                case schedule.FinishJob():
                    self._finish(job, action)
        if len(self.jobs) > 1:
            if was_hungry != job.scheduler.has_ready_tasks and self.share_all_at_s is None:
                self.share_all_at_s = self.now + self.settings.share_s
            if holder:
                self.dirty[holder] = None

    def _start(self, job: JobRun, action: schedule.StartAttempt) -> None:
        attempt, worker = action.attempt, action.worker
        session = self.sessions.get(worker)
        assert session is not None, f"{worker} is not here"
        run = AttemptRun(attempt, worker, job.ledger.stages[attempt.task.stage].gen, states.ASSIGNED, self.now)
        self.follow(job, run)
        if action.backup:
            self.seen["backup started"] += 1
        self.assign(job, run, session)

    def assign(self, job: JobRun, run: AttemptRun, session: Session) -> None:
        """Send an attempt to its worker, after the places of its inputs."""
        task = run.id.task
        inputs = self.tell_inputs(job, task.stage, session)
        self.tell_pairs_of(job, run, session)
        trouble = job.troubles.get((task.stage, task.index))
        poison = job.ledger.poison.get((task.stage, task.index), ())
        run.poison = len(poison)
        seal = run.seal = run.seal or self.seal_of(job.id, run.id, run.gen, run.worker)
        is_isolating = bool(poison) or (trouble is not None and trouble.is_isolating)
        self.out.append(out.Assign(run.worker, session.id, job.id, run.id, run.gen, seal, inputs, poison, is_isolating))
        run.assigned_s = self.now

    def tell_inputs(self, job: JobRun, stage: int, session: Session) -> tuple[tuple[int, int], ...]:
        """Make sure that the worker was told of a stage's inputs in their newest version; return those versions.

        While an output is missing nothing is told: the next version comes with it, and whoever waits for this one
        takes that instead.
        """
        versions = []
        for source in job.ledger.wide_sources[stage]:
            version, made = job.versions.get(source, 0), job.ledger.stages[source]
            if made.committed == made.sheet.tasks and session.inputs_told.get((job.id, source), 0) < version:
                session.inputs_told[job.id, source] = version
                self.out.append(out.TellInputs(session.worker, session.id, job.id, source, version))
            versions.append((source, version))
        return tuple(versions)

    def tell_pairs_of(self, job: JobRun, run: AttemptRun, session: Session) -> None:
        """Tell the worker of those outputs that only this task reads, as far as they are there."""
        task = run.id.task
        for edge in job.sheet.stages[task.stage].inputs:
            winner = job.ledger.stages[edge.source].winners[task.index] if edge.kind is EdgeKind.ONE_TO_ONE else -1
            if winner >= 0:
                holder = self.ledger.holder_of(job.ledger, edge.source, task.index)
                self.out.append(out.TellPair(run.worker, session.id, job.id, edge.source, task.index, winner, holder))

    def tell_pair(self, job: JobRun, stage: int, task: int) -> None:
        """Tell the readers of one output of its new place."""
        for reader in job.ledger.paired_readers[stage]:
            for run in job.runs_at(reader, task):
                session = self.sessions.get(run.worker)
                if session is not None:
                    self.tell_pairs_of(job, run, session)

    def cancel(self, job: JobRun, attempt: AttemptId) -> None:
        """Stop an attempt that is not wanted; one whose commit is being recorded is decided by that."""
        run = job.attempts.get(attempt.number)
        if run is None:
            return  # one that came back with its worker and was not taken: Welcome leaves it out
        run.move(states.UNWANTED)
        session = self.sessions.get(run.worker)
        if run.state == states.STOPPING and session is not None:
            self.out.append(out.Cancel(run.worker, session.id, job.id, attempt))

    def void(self, job: JobRun, run: AttemptRun) -> None:
        """Stop an attempt whose output must not count, though its task is still wanted."""
        run.is_void = True
        self.cancel(job, run.id)

    def end_attempt(self, job: JobRun, run: AttemptRun, *, charged: bool = False, retryable: bool = True) -> None:
        """Forget an attempt that ended without output, and let its task be tried again."""
        job.remove(run)
        self.tell(job, schedule.AttemptFailed(run.id, retryable, charged), run.worker)

    def _publish_inputs(self, job: JobRun, stage: int) -> None:
        readers = [reader for reader in job.ledger.readers[stage] if stage in job.ledger.wide_sources[reader]]
        if not readers:
            return
        job.versions[stage] = job.versions.get(stage, 0) + 1
        for run in job.attempts.values():
            if run.id.task.stage in readers and (session := self.sessions.get(run.worker)) is not None:
                self.tell_inputs(job, run.id.task.stage, session)

    # Jobs.

    def _finish(self, job: JobRun, action: schedule.FinishJob) -> None:
        if action.outcome is schedule.Outcome.DONE:
            # A roll-back that is ordered and not durable makes the result void: its effect opens the tasks again.
            if job.ledger.state != COMMITTING and job.ledger.is_complete:
                self.record(Committing(job.id, job.ledger.winners()))
                job.move(states.SINKS_COMMITTED)
                for cause in [cause for cause in job.pauses if cause != Failure.JOURNAL_FULL.value]:
                    del job.pauses[cause]
                if job.pauses:
                    job.move(states.CAUSE_CAME)
            return
        if not job.code:
            task = action.culprit.task if action.culprit is not None else TaskId(0, 0)
            failure, text, problem = job.trouble_of(task.stage, task.index).last
            job.code, job.text, job.problem = failure.value, f"task {task}: {text}", problem
        is_cancelled = job.code == Failure.CANCELLED.value
        self.end_job(job, states.ATTEMPTS_OVER, states.CANCELLED if is_cancelled else states.FAILED)

    def end_job(self, job: JobRun, cause: str, state: str, made: out.Published | None = None) -> None:
        """Order the record of a job's end, with what was published if anything was."""
        job.move(cause, state)
        job.publish_since_s = None
        job.text = job.text[:TEXT_MAX]
        left = (made.rows, made.size_bytes, made.manifest_xxh3) if made is not None else (0, 0, b"")
        self.record(JobEnded(job.id, state, job.code, job.text, job.problem, *left))
        self.share_all_soon()

    def stop_job(self, job: JobRun, code: Failure, text: str) -> None:
        """Stop a job that no retry can mend, or that was cancelled; its end is recorded when nothing runs."""
        if job.code or job.state not in (states.SUBMITTED, states.RUNNING, states.PAUSED):
            return
        if job.ledger.state == COMMITTING:
            return
        job.code, job.text = code.value, text
        job.move(states.STOPPED)
        self.tell(job, schedule.CancelRequested())

    def pause(self, job: JobRun, cause: Failure, until_s: float | None = None) -> None:
        """Give a job no new work until the cause is gone, or the time has come to try again."""
        if job.state in (states.RUNNING, states.PAUSED, states.COMMITTING):
            self.seen["paused"] += cause.value not in job.pauses
            job.pauses[cause.value] = until_s
            job.move(states.CAUSE_CAME)
            self.share_all_soon()

    def resume(self, job: JobRun, cause: Failure) -> None:
        """Note that a cause is gone; with the last one the job goes on where it was."""
        if cause.value not in job.pauses:
            return
        del job.pauses[cause.value]
        if job.pauses or job.state != states.PAUSED:
            return
        self.seen["resumed"] += 1
        is_committing = job.ledger.state == COMMITTING
        job.move(states.CAUSE_GONE, states.COMMITTING if is_committing else states.RUNNING)
        self.share_all_soon()
        if is_committing and job.publish_since_s is None:
            self.order_publishing(job)

    def order_publishing(self, job: JobRun) -> None:
        """Let the storage process publish, or go on where another left off; not before JOB_COMMITTING is durable."""
        if not any(isinstance(fact, Committing) and fact.job == job.id for _, fact, _ in self.queue):
            job.publish_since_s = self.now
            self.out.append(out.Publish(job.id, job.ledger.winners()))

    def follow(self, job: JobRun, run: AttemptRun) -> None:
        """Follow an attempt from now on; once one runs that reads blocks, nothing may wait at workers any more."""
        job.add(run)
        if job.ahead and job.readers_running:
            self.take_ahead(job)

    def take_ahead(self, job: JobRun) -> None:
        """Give a job no more than slots from now on, before another event starts what would have to wait."""
        job.ahead = 0
        for worker, grant in job.grants.items():
            session = self.sessions.get(worker)
            if session is not None and grant > session.slots:
                job.grants[worker] = session.slots
                self.tell(job, schedule.SlotsChanged(worker, session.slots))
        self.share_all_soon()

    def share_all_soon(self) -> None:
        """Share all slots out anew when this event is over."""
        self.share_all_at_s = self.now

    def declare_lost(self, session: Session, why: str, silent_s: float = 0.0) -> None:
        """End a session, after so long a silence: the only way in which one ends."""
        self.seen[f"session lost: {why}"] += 1
        self.sessions.remove(session)
        self.note_peers()
        self.dirty.pop(session.worker, None)
        self.lost_fit(session.worker)
        for job in list(self.jobs.values()):
            if job.grants.pop(session.worker, None) is None:
                continue
            for run in job.runs_on(session.worker):
                job.remove(run)
            self.tell(job, schedule.WorkerLost(session.worker, silent_s))

    def withholds(self, job: JobRun, worker: str) -> bool:
        """Whether a worker gets none of a job's work because it cannot run it, and others may."""
        return worker in job.unfit and self.has_fit(job)

    def has_fit(self, job: JobRun) -> bool:
        """Whether there are workers which may be able to run a job."""
        return any(each.worker not in job.unfit and each.state != DRAINING for each in self.sessions)

    def lost_fit(self, worker: str) -> None:
        """A worker takes no more work: jobs that only it could run are to be tried elsewhere again, and fail there."""
        if any(job.unfit and worker not in job.unfit for job in self.jobs.values()):
            self.share_all_soon()

    def note_peers(self) -> None:
        """Tell all of a change of sessions soon; many changes at once are told once."""
        if self.peers_at_s is None:
            self.peers_at_s = self.now + self.settings.peers_s
