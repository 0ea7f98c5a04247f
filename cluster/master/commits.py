"""What attempts report: DONE, FAILED and FETCH_FAILED, and what follows when the facts made of them are durable.

A DONE is judged by what it says and by its seal, not by the session it comes through: a worker that was cut off, or a
master that was killed in between, changes nothing. In this order: is it answered already; is it what was assigned; is
its task open in this gen; does what it read and wrote add up.
"""

from __future__ import annotations

from hmac import compare_digest

from kernelmill.cluster.fields import COUNT_NAMES_BYTES_MAX, COUNTS_MAX, Origin, names_bytes
from kernelmill.cluster.master import jobs as states
from kernelmill.cluster.master.desk import FORGED, STRANGE, ZOMBIE, Desk, Voided
from kernelmill.cluster.master.events import DoneReceived, FailedReceived, FetchFailedReceived
from kernelmill.cluster.master.facts import (
    VECTOR_BYTES,
    Fact,
    OutputLost,
    Poisoned,
    RolledBack,
    TaskCommitted,
    attempt_epoch,
)
from kernelmill.cluster.master.failures import Failure, Reaction, describe, reaction_to
from kernelmill.cluster.master.jobs import AttemptRun, JobRun
from kernelmill.cluster.master.ledger import bytes_of, rows_of
from kernelmill.engine.ids import AttemptId, TaskId
from kernelmill.engine.plan.stages import EdgeKind
from kernelmill.engine.schedule import events as schedule

POISON_MAX = 8192
"""Rows of one task that may be left out: as many as one Assign names."""


def on_done(desk: Desk, event: DoneReceived) -> None:
    """Judge a DONE, and order the record of one that counts."""
    if desk.session_of(event.worker, event.session) is None:
        return
    job = desk.jobs.get(event.job)
    if job is None:
        desk.seen[ZOMBIE] += 1
        desk.discard(event.worker, event.job, event.attempt)
        return
    if not is_sealed(desk, job, event.attempt, event.gen, event.seal, event.worker):
        return
    task, number = event.attempt.task, event.attempt.number
    stage = job.ledger.stages[task.stage]
    if stage.winners[task.index] == number:
        if (task.stage, task.index) not in job.pending:
            desk.acknowledge(event.worker, job.id, event.attempt)
        return
    run = job.attempts.get(number)
    is_ending = job.is_over or job.state == states.ENDING
    is_late = run is None and (task.stage, task.index) in job.ledger.poison
    if is_ending or is_late or number in stage.dead or event.gen != stage.gen or (run is not None and run.is_void):
        _reject(desk, job, run, event)
    elif (task.stage, task.index) in job.pending:
        desk.seen["two DONEs raced"] += 1  # said again in a second: by then the first is durable
    elif run is not None and run.state == states.NAMING:
        return  # nonsense of a peer: it has failed already
    elif not job.scheduler.is_open(task):
        _reject(desk, job, run, event)
    elif flaw := _flaw_of(job, event):
        desk.seen[flaw] += 1
        _reject(desk, job, run, event, charged=flaw == "malformed DONE")
    else:
        _commit(desk, job, run, event)


def is_sealed(desk: Desk, job: JobRun, attempt: AttemptId, gen: int, seal: bytes, worker: str) -> bool:
    """Tell whether this master, or one before it, assigned the attempt to that worker; count it if not."""
    task = attempt.task
    run = job.attempts.get(attempt.number)
    if run is not None and run.seal and (run.id, run.gen, run.worker) == (attempt, gen, worker):
        return compare_digest(seal, run.seal) or _forged(desk)
    is_task = 0 <= task.stage < len(job.sheet.stages) and 0 <= task.index < job.sheet.stages[task.stage].tasks
    if is_task and compare_digest(seal, desk.seal_of(job.id, attempt, gen, worker)):
        return True
    return _forged(desk)


def _forged(desk: Desk) -> bool:
    desk.seen[FORGED] += 1
    return False


def _reject(desk: Desk, job: JobRun, run: AttemptRun | None, event: DoneReceived, charged: bool = False) -> None:
    if run is None:
        desk.seen[ZOMBIE] += 1
    desk.discard(event.worker, job.id, event.attempt)
    if run is not None and run.state != states.DONE:
        desk.end_attempt(job, run, charged=charged)


def _flaw_of(job: JobRun, event: DoneReceived) -> str:
    """Say what does not add up; empty if all does (S6)."""
    task = event.attempt.task
    stage = job.sheet.stages[task.stage]
    if len(event.vector) != VECTOR_BYTES * stage.cells or len(event.consumed) != len(stage.inputs):
        return "malformed DONE"
    if stage.cells and (bytes_of(event.vector) != event.data_bytes or event.files):
        return "malformed DONE"
    # The totals stand while an output that was read is lost: if it comes back different, a roll-back voids the reader.
    for edge in stage.inputs:
        source = job.ledger.stages[edge.source]
        if edge.kind is EdgeKind.ONE_TO_ONE:
            is_there = bool(source.vectors[task.index])
        else:
            is_there = source.committed == source.sheet.tasks or all(source.vectors)
        if not is_there:
            return "consumed what is void"
    expected = job.ledger.expected(task.stage, task.index)
    consumed = [(each.maps, each.rows, each.sum, each.xor) for each in event.consumed]
    return "" if consumed == expected else "consumed other rows"


def _commit(desk: Desk, job: JobRun, run: AttemptRun | None, event: DoneReceived) -> None:
    task, number = event.attempt.task, event.attempt.number
    stage = job.ledger.stages[task.stage]
    job.counter_names.update(each.name for each in event.counters)
    if len(job.counter_names) > COUNTS_MAX or names_bytes(job.counter_names) > COUNT_NAMES_BYTES_MAX:
        bound = f"more than {COUNTS_MAX} counters, or {COUNT_NAMES_BYTES_MAX} bytes of names"
        desk.stop_job(job, Failure.USER_ERROR, f"{bound}: count by key, with a combine")
        _reject(desk, job, run, event)
        return
    facts: list[Fact] = []
    old = stage.winners[task.index]
    if old >= 0:
        facts.append(OutputLost(job.id, task.stage, stage.gen, task.index, old, "its holder did not come back"))
    earlier = stage.vectors[task.index] if stage.sheet.cells else b""
    if earlier and rows_of(earlier) != rows_of(event.vector):
        if stage.rollbacks >= desk.settings.rollbacks_max:
            _reject(desk, job, run, event)
            desk.stop_job(job, Failure.NONDETERMINISTIC, f"stage {task.stage} makes other rows each time it runs")
            return
        last = old if old >= 0 else stage.lost[task.index]
        facts.append(RolledBack(job.id, task.stage, task.index, last, number))
    facts.append(
        TaskCommitted(
            job.id,
            task.stage,
            event.gen,
            task.index,
            number,
            event.worker,
            event.data_bytes,
            event.vector,
            event.files,
            event.rejects,
            event.counters,
            event.reject_files,
        )
    )
    job.rows_read[task.stage] += event.rows
    job.bytes_read[task.stage] += event.size_bytes
    before = job.ahead
    if job.note_time(task.stage, event.millis):
        # Of another stage's tasks nothing is known yet, and long ones must not wait where short ones might.
        desk.seen["tasks sent ahead"] += job.ahead > before
        desk.share_all_soon() if job.ahead else desk.take_ahead(job)
    if attempt_epoch(number) < desk.ledger.epoch:
        desk.seen["DONE accepted by a new epoch"] += 1
    desk.record(*facts)
    job.pending.add((task.stage, task.index))
    if run is not None:
        if run.state == states.STOPPING:
            return  # it came before its cancel; its record decides
        run.move(states.REPORTED_DONE)


# What follows when facts are durable.


def after_commit(desk: Desk, fact: TaskCommitted, voided: Voided) -> None:
    """Answer the worker, and let the readers go on."""
    job = desk.jobs.get(fact.job)
    if job is None:
        return
    job.pending.discard((fact.stage, fact.task))
    attempt = AttemptId(TaskId(fact.stage, fact.task), fact.attempt)
    run = job.attempts.get(fact.attempt)
    counts = job.ledger.stages[fact.stage].winners[fact.task] == fact.attempt
    if run is not None:
        job.remove(run)
    if not counts:  # a roll-back was ordered after it
        desk.discard(fact.worker, job.id, attempt)
        if run is not None:
            desk.tell(job, schedule.AttemptFailed(attempt, charged=False), fact.worker)
        return
    desk.acknowledge(fact.worker, job.id, attempt)
    desk.tell_pair(job, fact.stage, fact.task)
    if run is not None:
        desk.tell(job, schedule.AttemptFinished(attempt), fact.worker)
    elif not job.sheet.stages[fact.stage].partitions:
        desk.tell(job, schedule.OutputFound(attempt, ""), fact.worker)
    elif fact.worker in job.grants:
        desk.tell(job, schedule.OutputFound(attempt, fact.worker), fact.worker)


def after_loss(desk: Desk, fact: OutputLost, voided: Voided) -> None:
    """Make the output again if somebody needs it."""
    job = desk.jobs.get(fact.job)
    if job is not None:
        attempt = AttemptId(TaskId(fact.stage, fact.task), fact.attempt)
        job.unreachable.pop(fact.attempt, None)
        if not job.scheduler.is_running(attempt):
            desk.tell(job, schedule.OutputLost(attempt))


def after_roll_back(desk: Desk, fact: RolledBack, voided: Voided) -> None:
    """Void all that was made of the old rows: what runs is stopped, what is committed is made again."""
    desk.seen["roll-back"] += 1
    job = desk.jobs.get(fact.job)
    if job is None:
        return
    downstream = set(job.ledger.downstream_of(fact.stage))
    for run in list(job.attempts.values()):
        if run.id.task.stage in downstream and run.gen < job.ledger.stages[run.id.task.stage].gen:
            desk.void(job, run)
    for stage, task, number in voided:
        attempt = AttemptId(TaskId(stage, task), number)
        if not job.scheduler.is_running(attempt):
            desk.tell(job, schedule.OutputLost(attempt))


def after_poison(desk: Desk, fact: Poisoned, voided: Voided) -> None:
    """Try the task again without the record; attempts that know nothing of it must not count."""
    desk.seen["poison isolated"] += 1
    job = desk.jobs.get(fact.job)
    if job is None:
        return
    poison = job.ledger.poison[fact.stage, fact.task]
    for run in list(job.attempts.values()):
        if run.id.task == TaskId(fact.stage, fact.task):
            if run.state == states.NAMING:
                desk.discard(run.worker, job.id, run.id)
                desk.end_attempt(job, run)
            elif run.state != states.DONE and not run.is_void and run.poison < len(poison):
                desk.void(job, run)


# Failures.


def on_failed(desk: Desk, event: FailedReceived) -> None:
    """Take the end of an attempt without output: charge its task or not, exclude, pause, isolate or stop the job."""
    session = desk.session_of(event.worker, event.session)
    if session is None:
        return
    job = desk.jobs.get(event.job)
    run = job.attempts.get(event.attempt.number) if job is not None else None
    if job is None or run is None or run.id != event.attempt or run.worker != event.worker:
        desk.discard(event.worker, event.job, event.attempt)
        return
    if run.state in (states.DONE, states.NAMING):
        return  # its record decides
    failure, reaction = reaction_to(event.code)
    if run.state == states.STOPPING or run.is_void:
        desk.discard(event.worker, job.id, run.id)
        desk.end_attempt(job, run)
        return
    if reaction is Reaction.ISOLATED:
        _take_poison(desk, job, run, event)
        return
    desk.discard(event.worker, job.id, run.id)
    job.failures[run.id.task.stage] += 1
    trouble = job.trouble_of(run.id.task.stage, run.id.task.index)
    if reaction is Reaction.CHARGED and job.sheet.on_bad != "reject" and trouble.is_known(failure, event.problem):
        reaction = Reaction.ENDS_JOB  # it names its record: nothing is left to be found out
    if reaction is Reaction.UNFIT:
        job.unfit.add(event.worker)
        reaction = reaction if desk.has_fit(job) else Reaction.ENDS_JOB
    if reaction is Reaction.CHARGED:
        trouble.note(failure, event.text, event.worker, event.batch, event.problem)
    elif reaction is Reaction.ENDS_JOB:
        trouble.last = failure, event.text, event.problem
    elif reaction is Reaction.FREE and failure is not Failure.CANCELLED:
        trouble.note_free(failure, event.text, event.problem)
    elif reaction is Reaction.UNFIT:
        desk.seen["worker unfit"] += 1
        trouble.note_free(failure, event.text, event.problem)
    elif reaction is Reaction.EXCLUDES:
        desk.seen["disk full"] += 1
        session.is_disk_full = True
        desk.dirty[session.worker] = None
    elif reaction is Reaction.PAUSES:
        desk.pause(job, failure, desk.now + desk.settings.pause_retry_s)
    is_charged = reaction in (Reaction.CHARGED, Reaction.ENDS_JOB)
    if reaction is Reaction.EXCLUDES:
        take_slots(desk, event.worker)
    if reaction is Reaction.UNFIT:
        take_slots(desk, event.worker, job)
        desk.dirty[event.worker] = None
    if reaction is Reaction.PAUSES:
        for worker in list(job.grants):
            take_slots(desk, worker, job)
    desk.end_attempt(job, run, charged=is_charged, retryable=reaction is not Reaction.ENDS_JOB)


def take_slots(desk: Desk, worker: str, only: JobRun | None = None) -> None:
    """Take a worker's slots from all jobs, or from one, before the event that would start something there."""
    for job in [only] if only is not None else list(desk.jobs.values()):
        if job.grants.get(worker):
            job.grants[worker] = 0
            desk.tell(job, schedule.SlotsChanged(worker, 0))


def _take_poison(desk: Desk, job: JobRun, run: AttemptRun, event: FailedReceived) -> None:
    task = run.id.task
    trouble = job.trouble_of(task.stage, task.index)
    known = job.ledger.poison.get((task.stage, task.index), ())
    new = tuple(sorted(set(event.origins) - set(known)))
    if not new:  # it names nothing that is not left out already
        trouble.note(Failure.PROTOCOL, "a POISON that names no new row", event.worker, -1)
        desk.discard(event.worker, job.id, run.id)
        desk.end_attempt(job, run, charged=True)
    elif _is_too_much(job, known, new):
        failure = Failure.POISON if job.sheet.on_bad != "reject" else Failure.REJECT_LIMIT
        trouble.last = failure, f"{describe(new)}: {event.text}", event.problem
        desk.discard(event.worker, job.id, run.id)
        desk.end_attempt(job, run, charged=True, retryable=False)
    else:
        run.move(states.NAMED_POISON)
        trouble.is_isolating = True
        desk.record(*(Poisoned(job.id, task.stage, task.index, row, event.code, event.text) for row in new))


def _is_too_much(job: JobRun, known: tuple[Origin, ...], new: tuple[Origin, ...]) -> bool:
    is_beyond = job.ledger.poisoned + len(new) > job.sheet.rejects_max or len(known) + len(new) > POISON_MAX
    return job.sheet.on_bad != "reject" or is_beyond


def on_fetch_failed(desk: Desk, event: FetchFailedReceived) -> None:
    """Take a reader's word that an output cannot be read: a damaged one is lost, an unreachable one if two say so."""
    session = desk.session_of(event.worker, event.session)
    job = desk.jobs.get(event.job)
    if session is None or job is None or not job.is_schedulable:
        return
    run = job.attempts.get(event.attempt.number)
    source, number = event.source.task, event.source.number
    reads = run is not None and any(edge.source == source.stage for edge in job.sheet.stages[run.id.task.stage].inputs)
    if run is None or run.worker != event.worker or not reads:
        desk.seen[STRANGE] += 1
        return
    stage = job.ledger.stages[source.stage]
    if not 0 <= source.index < stage.sheet.tasks:
        desk.seen[STRANGE] += 1
        return
    if job.scheduler.is_open(source):
        _make_room(desk, job, run)
        return
    if stage.winners[source.index] != number:
        return  # newer INPUTS are on their way
    if (source.stage, source.index) in job.pending:
        return
    is_here = desk.sessions.get(desk.ledger.holder_of(job.ledger, source.stage, source.index)) is not None
    if event.code == Failure.FETCH_UNREACHABLE.value and not is_here:
        return  # lost, which is known: its output has until the grace is over to come back
    if event.code == Failure.CORRUPT_BLOCK.value or _is_confirmed(desk, job, number, event.worker):
        desk.seen["block healed by a map re-run"] += 1
        desk.record(OutputLost(job.id, source.stage, stage.gen, source.index, number, event.code))


def _make_room(desk: Desk, job: JobRun, run: AttemptRun) -> None:
    """Stop a reader that waits for an output which is being made again, if that finds no slot because readers wait.

    Without this, jobs hang once readers fill all slots. One at a time: the others go on as soon as the output is there.
    """
    if job.scheduler.has_ready_tasks and not any(each.state == states.STOPPING for each in job.attempts.values()):
        desk.seen["reader made room"] += 1
        desk.cancel(job, run.id)


def _is_confirmed(desk: Desk, job: JobRun, number: int, worker: str) -> bool:
    """Tell whether a second reader says so, or the only one has said so for as long as a lost holder gets."""
    first, since_s = job.unreachable.setdefault(number, (worker, desk.now))
    return first != worker or desk.now >= since_s + desk.settings.rejoin_grace_s
