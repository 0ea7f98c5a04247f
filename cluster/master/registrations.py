"""What workers say of themselves: HELLO, BEAT, ACCEPT, BYE, and that they cannot be reached.

HELLO brings a full snapshot and Welcome answers with one; no differences are negotiated. After that commands are
level-triggered: a BEAT says what the worker has, and whatever differs from what is wanted is ordered again.
"""

from __future__ import annotations

from kernelmill.cluster.master import events as out
from kernelmill.cluster.master import jobs as states
from kernelmill.cluster.master.balance import take_back
from kernelmill.cluster.master.commits import is_sealed
from kernelmill.cluster.master.desk import STRANGE, ZOMBIE, Desk
from kernelmill.cluster.master.events import (
    AcceptReceived,
    BeatReceived,
    ByeReceived,
    DrainRequested,
    Held,
    HelloReceived,
    PeerDisconnected,
    PeerGone,
)
from kernelmill.cluster.master.jobs import AttemptRun, JobRun
from kernelmill.cluster.master.sessions import DRAINING, Session
from kernelmill.engine.schedule import events as schedule

Named = list[tuple[str, int]]


def on_hello(desk: Desk, event: HelloReceived) -> None:
    """Begin a session, and say what of the worker's snapshot is still wanted."""
    old = desk.sessions.get(event.worker)
    if event.epoch_seen > desk.ledger.epoch:
        text = f"{event.worker} knows epoch {event.epoch_seen}, this journal {desk.ledger.epoch}: it is an old copy"
        desk.out.append(out.Refuse(event.worker, "JOURNAL_BEHIND", text))
        desk.seen["journal behind"] += 1
        return
    if old is not None and old.nonce != event.nonce:
        desk.out.append(out.Refuse(event.worker, "NAME_TAKEN", "another process of this name is not lost yet"))
        desk.seen["name taken"] += 1
        return
    if old is not None and old.count >= event.count:
        desk.seen["late HELLO"] += 1  # from a connection that broke: its snapshot is older than the session
        return
    if old is not None:
        desk.declare_lost(old, "displaced")
    if desk.recovering_until_s is not None and desk.awaited == {event.worker}:
        desk.recovering_until_s = desk.now  # the last one
    desk.awaited.discard(event.worker)
    session = Session(event.worker, event.session, event.nonce, event.count, event.slots, event.host)
    desk.sessions.register(session, desk.now)
    desk.note_peers()
    take_disk(desk, session, event.disk_free_bytes)
    for job in desk.jobs.values():
        if job.state != states.SUBMITTED:
            join(desk, job, session)
    place = len(desk.out)  # Welcome goes before all that is said in this session
    keep, hold, resend = _sift(desk, event)
    welcome = out.Welcome(event.worker, event.session, event.count, tuple(keep), tuple(hold), tuple(resend))
    desk.out.insert(place, welcome)
    for job in desk.jobs.values():
        for run in job.runs_on(event.worker):
            desk.tell_inputs(job, run.id.task.stage, session)
            desk.tell_pairs_of(job, run, session)
    desk.dirty[event.worker] = None


def join(desk: Desk, job: JobRun, session: Session) -> None:
    """Make a worker known to a job's scheduler, without slots until they are shared out."""
    job.grants[session.worker] = 0
    job.unfit.discard(session.worker)  # it may have been started anew, with what it lacked
    desk.tell(job, schedule.WorkerJoined(session.worker, 0, session.host))
    if session.state == DRAINING:
        desk.tell(job, schedule.WorkerDrained(session.worker))


def _sift(desk: Desk, event: HelloReceived) -> tuple[Named, Named, Named]:
    keep: Named = []
    hold: Named = []
    resend: Named = []
    for held in event.running:
        job = _job_of(desk, held, event.worker)
        if job is not None and _adopt(desk, job, held, event.worker):
            keep.append((held.job, held.attempt.number))
    for held in event.done:
        job = _job_of(desk, held, event.worker)
        if job is None:
            continue
        name, task = (held.job, held.attempt.number), held.attempt.task
        stage = job.ledger.stages[task.stage]
        if stage.winners[task.index] == held.attempt.number:
            if (task.stage, task.index) in job.pending:
                resend.append(name)
            elif _hold(desk, job, held, event.worker):
                hold.append(name)
        elif _adopt(desk, job, held, event.worker):
            resend.append(name)
        else:
            desk.seen[ZOMBIE] += 1
    return keep, hold, resend


def _job_of(desk: Desk, held: Held, worker: str) -> JobRun | None:
    job = desk.jobs.get(held.job)
    if job is None or worker not in job.grants:
        return None
    return job if is_sealed(desk, job, held.attempt, held.gen, held.seal, worker) else None


def _adopt(desk: Desk, job: JobRun, held: Held, worker: str) -> bool:
    """Go on with an attempt of an earlier session or epoch, unless it is void or its task needs it no more."""
    task, number = held.attempt.task, held.attempt.number
    stage = job.ledger.stages[task.stage]
    is_wanted = held.gen == stage.gen and number not in stage.dead and (task.stage, task.index) not in job.pending
    # An attempt that began before a row of its task was left out would leave out fewer than the others (S11).
    if not is_wanted or number in job.attempts or (task.stage, task.index) in job.ledger.poison:
        return False
    if job.is_over or job.state == states.ENDING:
        return False
    desk.tell(job, schedule.AttemptFound(held.attempt, worker), worker)
    if not job.scheduler.is_running(held.attempt):
        return False
    desk.follow(job, AttemptRun(held.attempt, worker, held.gen, states.RUNNING, desk.now))
    desk.seen["attempt adopted"] += 1
    return True


def _hold(desk: Desk, job: JobRun, held: Held, worker: str) -> bool:
    if not job.sheet.stages[held.attempt.task.stage].partitions:
        return True  # files: they lie in the staging, whoever wrote them
    was_open = job.scheduler.is_open(held.attempt.task)
    desk.tell(job, schedule.OutputFound(held.attempt, worker), worker)
    is_held = job.scheduler.winner_of(held.attempt.task) == held.attempt
    desk.seen["output re-adopted"] += is_held
    desk.seen["output taken back while it was made again"] += is_held and was_open
    return is_held


def on_beat(desk: Desk, event: BeatReceived) -> None:
    """Compare what a worker has with what is wanted of it, and order the difference again."""
    session = desk.session_of(event.worker, event.session)
    if session is None:
        return
    take_disk(desk, session, event.disk_free_bytes)
    in_hand = set(event.attempts)
    for job in desk.jobs.values():
        for run in job.runs_on(event.worker):
            if run.state == states.ASSIGNED and (job.id, run.id.number) in in_hand:
                run.move(states.ACCEPTED)
            if run.state == states.STOPPING:
                desk.out.append(out.Cancel(event.worker, session.id, job.id, run.id))
            elif run.state == states.RUNNING and (job.id, run.id.number) not in in_hand:
                desk.seen["attempt vanished"] += 1  # BEATs come in order, behind one that had it, its ACCEPT or WELCOME
                desk.end_attempt(job, run)
            elif _is_lost_on_its_way(desk, job, run, in_hand):
                desk.seen["ASSIGN repeated"] += 1
                desk.assign(job, run, session)
        take_back(desk, job, session)
    for name in event.jobs:
        if name not in desk.jobs:
            desk.out.append(out.Drop(event.worker, session.id, name))
    if session.state == DRAINING:
        is_free = not any(job.scheduler.needs_worker(event.worker) for job in desk.jobs.values())
        desk.out.append(out.Drain(event.worker, session.id, is_free))


def _is_lost_on_its_way(desk: Desk, job: JobRun, run: AttemptRun, in_hand: set[tuple[str, int]]) -> bool:
    if run.state != states.ASSIGNED or (job.id, run.id.number) in in_hand:
        return False
    return run.assigned_s + desk.settings.assign_repeat_s <= desk.now


def take_disk(desk: Desk, session: Session, free_bytes: int) -> None:
    """Note the free space of a worker's disk, and give it work again once there is enough."""
    session.disk_free_bytes = free_bytes
    is_full = free_bytes < desk.settings.disk_free_bytes_min
    if is_full != session.is_disk_full:
        session.is_disk_full = is_full
        desk.dirty[session.worker] = None


def on_accept(desk: Desk, event: AcceptReceived) -> None:
    """Note that an attempt runs."""
    session = desk.session_of(event.worker, event.session)
    if session is None:
        return
    job = desk.jobs.get(event.job)
    run = job.attempts.get(event.attempt.number) if job is not None else None
    if run is None or run.id != event.attempt or run.worker != event.worker:
        desk.seen[STRANGE] += 1  # ended before its ACCEPT came
        return
    run.move(states.ACCEPTED)


def on_bye(desk: Desk, event: ByeReceived) -> None:
    """End the session of a worker that leaves."""
    session = desk.session_of(event.worker, event.session)
    if session is not None:
        desk.declare_lost(session, "bye")


def on_gone(desk: Desk, event: PeerGone) -> None:
    """End the session of a worker that cannot be reached."""
    session = desk.sessions.get(event.worker)
    if session is not None and session.id == event.session:
        desk.declare_lost(session, event.why, session.silence_s(desk.now))


def on_disconnected(desk: Desk, event: PeerDisconnected) -> None:
    """Give a worker whose connection ended a second, and no new work till then."""
    session = desk.sessions.get(event.worker)
    if session is not None and session.id == event.session:
        desk.sessions.disconnect(session, desk.now)
        desk.dirty[session.worker] = None


def on_drain(desk: Desk, event: DrainRequested) -> None:
    """Give a worker no new work; its next BEAT is answered with Drain."""
    session = desk.sessions.get(event.worker)
    if session is None:
        desk.seen[STRANGE] += 1
        return
    desk.sessions.drain(session)
    desk.lost_fit(event.worker)
    for job in desk.jobs.values():
        if event.worker in job.grants:
            desk.tell(job, schedule.WorkerDrained(event.worker))
    desk.dirty[event.worker] = None
