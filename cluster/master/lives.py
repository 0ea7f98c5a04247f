"""A job's life but for its tasks: submitted, taken up by a new master, cancelled, paused, published, over."""

from __future__ import annotations

from typing import Final

from kernelmill.cluster.master import events as out
from kernelmill.cluster.master import jobs as states
from kernelmill.cluster.master.desk import STRANGE, Desk, Voided
from kernelmill.cluster.master.events import (
    CancelReceived,
    ForgetReceived,
    Published,
    PublishFailed,
    SubmitReceived,
)
from kernelmill.cluster.master.facts import (
    CELLS_MAX,
    JOB_TASKS_MAX,
    PARTITIONS_MAX,
    TASKS_MAX,
    Committing,
    JobEnded,
    JobForgotten,
    JobSheet,
    JobSubmitted,
    OutputLost,
)
from kernelmill.cluster.master.failures import Failure
from kernelmill.cluster.master.jobs import JobRun
from kernelmill.cluster.master.ledger import COMMITTING, JobLedger
from kernelmill.cluster.master.nearness import workers_near
from kernelmill.cluster.master.registrations import join
from kernelmill.engine.ids import AttemptId, TaskId
from kernelmill.engine.plan.stages import EdgeKind
from kernelmill.engine.schedule import events as schedule

TOO_MANY_JOBS_HINT: Final = "wait for one of them, or cancel one: kernelmill jobs --bundle FILE lists them"
_COMMITTING_HINT: Final = (
    "an output is never published by halves: wait for it, then delete it; where the job waits for its disk, see to that"
)


def on_submit(desk: Desk, event: SubmitReceived) -> None:
    """Take a job, once; said again with the same digest it is the same job (S16)."""
    sheet = event.sheet
    if sheet.job in desk.ledger.jobs or sheet.job in desk.ledger.ended:
        _answer_again(desk, event)
        return
    if flaw := _flaw_of(sheet, event.client):
        _refuse(desk, event.client, "PROTOCOL", flaw, sheet.job)
    elif flaw := too_many_jobs(desk, event.client):
        _refuse(desk, event.client, "TOO_MANY_JOBS", flaw, sheet.job, TOO_MANY_JOBS_HINT)
    else:
        desk.record(JobSubmitted(sheet))
        take_up(desk, desk.ledger.jobs[sheet.job])


def too_many_jobs(desk: Desk, client: str) -> str:
    """What to say to a client that may have no further live job; empty if it may."""
    live = sum(job.sheet.client == client and not job.is_over for job in desk.jobs.values())
    is_over = live >= desk.settings.jobs_per_client_max
    return f"{live} jobs of {client} are live, as many as a client may have" if is_over else ""


def _answer_again(desk: Desk, event: SubmitReceived) -> None:
    sheet, ended = event.sheet, desk.ledger.ended.get(event.sheet.job)
    if ended is not None:
        known = ended.client, ended.signature
    else:
        live = desk.ledger.jobs[sheet.job].sheet
        known = live.client, live.digest
    if known != (event.client, sheet.digest):
        _refuse(desk, event.client, "JOB_EXISTS", "another job has this id", sheet.job)
        return
    desk.seen["submitted twice"] += 1
    job = desk.jobs.get(sheet.job)
    if job is not None and job.state == states.SUBMITTED:
        return  # answered when it is durable
    desk.out.append(out.Accept(event.client, sheet.job))
    if ended is not None and job is None:
        desk.out.append(out.TellResult(event.client, sheet.job, ended.state, ended.code, ended.text))


def _refuse(desk: Desk, client: str, code: str, text: str, job: str, hint: str = "") -> None:
    desk.seen[f"refused: {code}"] += 1
    desk.out.append(out.Refuse(client, code, text, job, hint))


def _flaw_of(sheet: JobSheet, client: str) -> str:
    """Say why a sheet cannot be a job; empty if it can."""
    if sheet.client != client:
        return "the sheet names another client"
    if not sheet.stages:
        return "a job without stages"
    if sum(stage.tasks for stage in sheet.stages) > JOB_TASKS_MAX:
        return f"more than {JOB_TASKS_MAX} tasks"
    if sum(stage.tasks * stage.cells for stage in sheet.stages) > CELLS_MAX:
        return f"more than {CELLS_MAX} blocks"
    read = set()
    for number, stage in enumerate(sheet.stages):
        what = f"stage {number}"
        if not 1 <= stage.tasks <= TASKS_MAX:
            return f"{what}: {stage.tasks} tasks, 1 to {TASKS_MAX} are possible"
        if any(not 1 <= partitions <= PARTITIONS_MAX for partitions in stage.partitions):
            return f"{what}: an output of no partitions, or of more than {PARTITIONS_MAX}"
        if stage.cells > PARTITIONS_MAX:
            return f"{what}: {stage.cells} partitions of all outputs, {PARTITIONS_MAX} are possible"
        for edge in stage.inputs:
            if not 0 <= edge.source < number or edge.output not in range(len(sheet.stages[edge.source].partitions)):
                return f"{what} reads stage {edge.source}, output {edge.output}, which it cannot"
            source = sheet.stages[edge.source]
            if edge.kind is EdgeKind.ONE_TO_ONE and source.tasks != stage.tasks:
                return f"{what} and stage {edge.source} differ in tasks"
            if edge.kind in (EdgeKind.HASH, EdgeKind.RANGE) and source.partitions[edge.output] != stage.tasks:
                return f"{what} has another number of tasks than stage {edge.source} has partitions"
            read.add(edge.source)
    wrong = [n for n, stage in enumerate(sheet.stages) if (n in read) != bool(stage.partitions)]
    return f"stage {wrong[0]} leaves blocks that nobody reads, or is read and leaves files" if wrong else ""


def take_up(desk: Desk, ledger: JobLedger) -> JobRun:
    """Begin to run a job of the ledger."""
    settings = desk.settings

    def near(stage: int) -> list[str]:
        hosts = {session.worker: session.host for session in desk.sessions}
        return workers_near(desk.ledger, ledger, stage, hosts)

    job = JobRun(ledger, desk.numbers, settings.backups, settings.rejoin_grace_s, near)
    desk.jobs[job.id] = job
    return job


def after_submit(desk: Desk, fact: JobSubmitted, voided: Voided) -> None:
    """Accept a job that is durable, and let it have its share."""
    desk.out.append(out.Accept(fact.sheet.client, fact.sheet.job))
    job = desk.jobs[fact.sheet.job]
    if job.state == states.SUBMITTED:
        job.move(states.JOB_DURABLE)
        for session in desk.sessions:
            join(desk, job, session)
        desk.share_all_soon()


def restore(desk: Desk, ledger: JobLedger) -> None:
    """Go on with a job of an earlier master: its outputs may come back with their holders until the grace is over."""
    job = take_up(desk, ledger)
    job.move(states.JOB_DURABLE)
    names = sorted({desk.ledger.worker_names[n] for stage in ledger.stages for n in stage.holders if n >= 0})
    for name in names:
        job.scheduler.handle(schedule.WorkerJoined(name, 0), desk.now)
    is_complete = False
    for number, stage in enumerate(ledger.stages):
        for task, attempt in enumerate(stage.winners):
            if attempt >= 0:
                holder = desk.ledger.worker_names[stage.holders[task]] if stage.sheet.partitions else ""
                found = schedule.OutputFound(AttemptId(TaskId(number, task), attempt), holder)
                said = job.scheduler.handle(found, desk.now)
                is_complete |= any(isinstance(action, schedule.FinishJob) for action in said)
    for name in names:
        job.scheduler.handle(schedule.WorkerLost(name), desk.now)
    for stage_and_task in ledger.poison:
        job.trouble_of(*stage_and_task).is_isolating = True
    if ledger.state == COMMITTING:
        desk.seen["COMMITTING resumed"] += 1
        job.move(states.SINKS_COMMITTED)
        desk.order_publishing(job)
    elif is_complete:
        desk.record(Committing(job.id, ledger.winners()))
        job.move(states.SINKS_COMMITTED)


def on_cancel(desk: Desk, event: CancelReceived) -> None:
    """Stop a job of the client's own, or any for an administrator; too late once it is being committed."""
    job = desk.jobs.get(event.job)
    known = desk.ledger.jobs.get(event.job)
    owner = owner_of(desk, event.job)
    if not owner or (owner != event.client and not event.is_admin):
        _refuse(desk, event.client, "NO_JOB", "no job of yours has this id", event.job)
    elif job is None or job.is_over or known is None:
        ended = desk.ledger.ended.get(event.job)
        state = ended.state if ended is not None else "over"
        _refuse(desk, event.client, "TOO_LATE", f"the job is {state}", event.job, "an ended job cannot be cancelled")
    elif known.state == COMMITTING:
        waits = f"; it waits: {', '.join(sorted(job.pauses))}" if job.pauses else ""
        text = f"all tasks of the job are done and its output is being published: it will be finished{waits}"
        _refuse(desk, event.client, "TOO_LATE", text, event.job, _COMMITTING_HINT)
    else:
        desk.out.append(out.Grant(event.client, event.job))
        desk.stop_job(job, Failure.CANCELLED, f"by {event.client}")


def on_forget(desk: Desk, event: ForgetReceived) -> None:
    """Forget an ended job of the client's own, or any for an administrator; said again it is forgotten already."""
    owner = owner_of(desk, event.job)
    if owner and owner != event.client and not event.is_admin:
        _refuse(desk, event.client, "NO_JOB", "no job of yours has this id", event.job)
    elif owner and (event.job in desk.jobs or event.job not in desk.ledger.ended):
        _refuse(desk, event.client, "TOO_EARLY", "the job has not ended", event.job)
    else:
        if owner:
            desk.record(JobForgotten(event.job))
        desk.out.append(out.Grant(event.client, event.job))


def owner_of(desk: Desk, job: str) -> str:
    """The client whose job it is; empty if there is no such job."""
    ended, live = desk.ledger.ended.get(job), desk.ledger.jobs.get(job)
    if ended is not None:
        return ended.client
    return live.sheet.client if live is not None else ""


# Publishing.


def after_committing(desk: Desk, fact: Committing, voided: Voided) -> None:
    """Publish: nothing but a bad file takes the result back now."""
    job = desk.jobs.get(fact.job)
    if job is not None and job.ledger.state == COMMITTING and not job.is_over:
        desk.order_publishing(job)


def on_published(desk: Desk, event: Published) -> None:
    """Record that the output is there."""
    job = desk.jobs.get(event.job)
    if job is None or job.is_over or job.ledger.state != COMMITTING:
        desk.seen[STRANGE] += 1
        return
    desk.end_job(job, states.PUBLISHED, states.COMMITTED, event)


def on_publish_failed(desk: Desk, event: PublishFailed) -> None:
    """Make a bad file again, wait for room, or end the job."""
    job = desk.jobs.get(event.job)
    if job is None or job.is_over or job.ledger.state != COMMITTING:
        desk.seen[STRANGE] += 1
        return
    job.publish_since_s = None
    if event.bad is not None and event.bad not in job.ledger.winners():
        desk.seen[STRANGE] += 1  # of an earlier try
        desk.order_publishing(job)
    elif event.bad is not None:
        desk.seen["file bad before publishing"] += 1
        stage, task, attempt = event.bad
        desk.record(OutputLost(job.id, stage, job.ledger.stages[stage].gen, task, attempt, event.text))
        job.move(states.FILE_BAD)
        desk.share_all_soon()
        for cause in (Failure.OUTPUT_FULL, Failure.OUTPUT_STUCK):
            job.pauses.pop(cause.value, None)
        if job.pauses:
            job.move(states.CAUSE_CAME)
    elif event.code in (Failure.OUTPUT_FULL.value, Failure.OUTPUT_STUCK.value):
        cause = Failure(event.code)
        desk.pause(job, cause, desk.now + desk.settings.pause_retry_s)
        desk.resume(job, Failure.OUTPUT_STUCK if cause is Failure.OUTPUT_FULL else Failure.OUTPUT_FULL)
    else:
        job.code, job.text, job.problem = event.code, event.text, event.problem
        desk.end_job(job, states.PUBLISHING_FAILED, states.FAILED)


def after_end(desk: Desk, fact: JobEnded, voided: Voided) -> None:
    """Tell the client, and let everything of the job be deleted; workers that miss it hear it at their next BEAT."""
    ended = desk.ledger.ended.get(fact.job)
    if ended is not None:  # it was not forgotten meanwhile
        desk.out.append(out.TellResult(ended.client, fact.job, fact.state, fact.code, fact.text))
    desk.out.append(out.CleanStaging(fact.job))
    for session in desk.sessions:
        desk.out.append(out.Drop(session.worker, session.id, fact.job))


# Time.


def pass_time(desk: Desk) -> None:
    """Resume jobs whose time has come, pause those whose storage does not answer, look whether anybody works."""
    for job in list(desk.jobs.values()):
        for cause, until_s in list(job.pauses.items()):
            if until_s is not None and until_s <= desk.now:
                desk.resume(job, Failure(cause))
        since_s = job.publish_since_s
        is_stuck = since_s is not None and since_s + desk.settings.output_stuck_s <= desk.now
        if is_stuck and Failure.OUTPUT_STUCK.value not in job.pauses:
            desk.pause(job, Failure.OUTPUT_STUCK)
    watch_staff(desk)


def watch_staff(desk: Desk) -> None:
    """Pause jobs for which nobody has worked for `no_workers_s`, or end them; let them go on when somebody does.

    Where workers are here and the disks of all are full, jobs pause at once: there is nobody to wait for.
    """
    if desk.recovering_until_s is not None:
        return
    is_staffed = any(session.slots_usable for session in desk.sessions)
    if is_staffed:
        desk.unstaffed_since_s = None
        for job in desk.jobs.values():
            desk.resume(job, Failure.NO_WORKERS)
            desk.resume(job, Failure.DISK_FULL)
        return
    if desk.sessions.are_all_disks_full:
        for job in list(desk.jobs.values()):
            if job.state in (states.RUNNING, states.PAUSED) and job.ledger.state != COMMITTING:
                desk.pause(job, Failure.DISK_FULL)
        desk.unstaffed_since_s = None
        return
    if desk.unstaffed_since_s is None:
        desk.unstaffed_since_s = desk.now
    if desk.unstaffed_since_s + desk.settings.no_workers_s > desk.now:
        return
    for job in list(desk.jobs.values()):
        is_waiting = job.state in (states.RUNNING, states.PAUSED) and job.ledger.state != COMMITTING
        if not is_waiting or Failure.NO_WORKERS.value in job.pauses:
            continue
        if job.sheet.fail_without_workers:
            desk.stop_job(job, Failure.NO_WORKERS, f"no worker for {desk.settings.no_workers_s:.0f} s")
        else:
            desk.pause(job, Failure.NO_WORKERS)
