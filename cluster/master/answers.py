"""What clients are told: how far a job is, how it ended, which jobs and workers there are. Pure; changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final, get_args

from kernelmill.cluster import messages as m
from kernelmill.cluster.fields import COUNT_MAX, JobState, Place, Problem
from kernelmill.cluster.journal.records import JobEnded as Ended
from kernelmill.cluster.journal.translate import attempt_number
from kernelmill.cluster.master import jobs as states
from kernelmill.cluster.master.desk import Desk
from kernelmill.cluster.master.failures import Failure
from kernelmill.cluster.master.jobs import JobRun
from kernelmill.cluster.master.translate import Member
from kernelmill.engine.errors import Code

JOBS_PAGE: Final = 512
_STATES: Final = frozenset(get_args(JobState))
_LABEL: Final = 64

CODE_OF_FAILURE: Final[dict[str, Code]] = {
    Failure.USER_ERROR.value: Code.FUNCTION_FAILED,
    Failure.SIGNALLED.value: Code.TASK_LOST,
    Failure.OOM_KILLED.value: Code.MEMORY_LIMIT,
    Failure.HUNG.value: Code.TASK_LOST,
    Failure.WORKER_LOST.value: Code.TASK_LOST,
    Failure.FETCH_UNREACHABLE.value: Code.TASK_LOST,
    Failure.CORRUPT_BLOCK.value: Code.CORRUPT_BLOCK,
    Failure.DISK_FULL.value: Code.DISK_FULL,
    Failure.OUTPUT_FULL.value: Code.DISK_FULL,
    Failure.INPUT_CHANGED.value: Code.INPUT_CHANGED,
    Failure.INPUT_CORRUPT.value: Code.FORMAT,
    Failure.POISON.value: Code.FUNCTION_FAILED,
    Failure.REJECT_LIMIT.value: Code.REJECT_LIMIT,
    Failure.NONDETERMINISTIC.value: Code.NONDETERMINISTIC,
    Failure.CODE_REFUSED.value: Code.CODE_REFUSED,
    Failure.ROOT_MISSING.value: Code.BAD_SETTING,
    Failure.WORKER_SMALL.value: Code.MEMORY_LIMIT,
    Failure.NO_WORKERS.value: Code.NO_WORKERS,
    Failure.CANCELLED.value: Code.CANCELLED,
}
"""The error that a client raises for an end that brought none of its own."""
_CODES: Final = {code.value.wire: code for code in Code}


def state_of(desk: Desk, job: str) -> JobState:
    """The state that a client is told; a job whose attempts are being stopped still runs."""
    run = desk.jobs.get(job)
    state = run.state if run is not None else desk.ledger.ended[job].state
    return state if state in _STATES else "RUNNING"  # type: ignore[return-value]


def status_of(desk: Desk, job: str, progress: Mapping[str, m.Beat]) -> m.Status:
    """How far a live job is; `progress` has the last BEAT of each worker."""
    run = desk.jobs[job]
    rows, sizes, running = _in_hand(run, progress)
    accepted = run.sheet.accepted
    stages = []
    for number, stage in enumerate(run.ledger.stages):
        label = accepted.sheet.stages[number].label if accepted is not None else ""
        counts = m.StageCounts(
            label[:_LABEL],
            stage.sheet.tasks,
            stage.committed,
            running[number],
            run.failures[number],
            min(run.rows_read[number] + rows[number], COUNT_MAX),  # what workers say, however they lie
            min(run.bytes_read[number] + sizes[number], COUNT_MAX),
        )
        stages.append(counts)
    slots = sum(session.slots_usable for session in desk.sessions)
    code = _why_paused(run)
    state = state_of(desk, job)
    return m.Status(bytes.fromhex(job), run.sheet.client, state, tuple(stages), slots, code, _WHY_PAUSED.get(code, ""))


def _in_hand(run: JobRun, progress: Mapping[str, m.Beat]) -> tuple[Counter[int], Counter[int], Counter[int]]:
    """Rows, bytes and number of the attempts that run, by stage."""
    rows, sizes, running = Counter[int](), Counter[int](), Counter[int]()
    for attempt in run.attempts.values():
        running[attempt.id.task.stage] += 1
    job = bytes.fromhex(run.id)
    for worker in run.runs_of_worker:
        beat = progress.get(worker)
        said = {attempt_number(each.attempt): each for each in beat.attempts if each.job == job} if beat else {}
        for number, each in said.items():
            found = run.attempts.get(number)
            if found is not None and found.worker == worker:
                rows[found.id.task.stage] += each.rows
                sizes[found.id.task.stage] += each.size_bytes
    return rows, sizes, running


def result_of(desk: Desk, job: str) -> m.Result:
    """How a job ended, durably."""
    ended = desk.ledger.ended[job]
    return m.Result(
        bytes.fromhex(job),
        ended.state,
        ended.code,
        problem_of(ended),
        ended.output,
        ended.rows,
        ended.size_bytes,
        ended.manifest_xxh3,
        ended.counters,
        ended.rejects,
    )


def problem_of(ended: Ended) -> Problem | None:
    """The error of a job that did not end well: its own, or the one that belongs to why it ended."""
    if ended.state == "COMMITTED":
        return None
    if ended.problem is not None:
        return ended.problem
    code = CODE_OF_FAILURE.get(ended.code) or _CODES.get(ended.code, Code.INTERNAL)
    what = ended.text or f"the job ended with {ended.code}"
    if code is Code.CANCELLED:
        what = f"the job was cancelled {ended.text}".rstrip()
    return Problem(code.value.wire, what, "", _HINT_OF.get(code, ""))


def jobs_page(desk: Desk, client: str | None, page: int) -> m.Jobs:
    """A page of jobs, those of one client or all, the newest first."""
    rows = [
        _row(job, run.sheet.client, state_of(desk, job), run.ledger.tasks, _committed(run), _output(run), code)
        for job, run in desk.jobs.items()
        for code in [run.code or _why_paused(run)]
        if job not in desk.ledger.ended and client in (None, run.sheet.client)
    ]
    ends = [(job, ended) for job, ended in desk.ledger.ended.items() if client in (None, ended.client)]
    done = [
        _row(job, one.client, one.state, one.tasks, one.tasks * (one.state == "COMMITTED"), one.output, one.code)
        for job, one in ends
    ]
    newest = [*reversed(rows), *reversed(done)]
    pages = max(1, -(-len(newest) // JOBS_PAGE))
    return m.Jobs(page, pages, tuple(newest[page * JOBS_PAGE : (page + 1) * JOBS_PAGE]))


def _row(job: str, client: str, state: JobState, tasks: int, committed: int, output: Place, code: str) -> m.JobRow:
    place = f"{output.root}:/{'/'.join(output.parts)}"[: m.OUTPUT_CHARACTERS_MAX]
    return m.JobRow(bytes.fromhex(job), client, state, tasks, committed, place, code)


def _why_paused(run: JobRun) -> str:
    return next(iter(run.pauses), "") if run.state == states.PAUSED else ""


def _committed(run: JobRun) -> int:
    return sum(stage.committed for stage in run.ledger.stages)


def _output(run: JobRun) -> Place:
    return run.sheet.accepted.sheet.output if run.sheet.accepted is not None else Place("", ())


def workers_list(desk: Desk, members: Mapping[str, Member], progress: Mapping[str, m.Beat]) -> m.Workers:
    """The workers that are here, by name."""
    rows = []
    for session in sorted(desk.sessions, key=lambda one: one.worker):
        member, beat = members.get(session.worker), progress.get(session.worker)
        row = m.WorkerRow(
            session.worker,
            session.state,  # type: ignore[arg-type]
            member.hello.host if member is not None else "",
            session.slots,
            sum(len(job.runs_of_worker.get(session.worker, ())) for job in desk.jobs.values()),
            member.hello.memory_bytes if member is not None else 0,
            beat.rss_bytes if beat is not None else 0,
            session.disk_free_bytes,
        )
        rows.append(row)
    return m.Workers(tuple(rows[:1024]))


_WHY_PAUSED: Final[dict[str, str]] = {
    Failure.NO_WORKERS.value: "no worker is here; the job goes on when one comes",
    Failure.DISK_FULL.value: "the disks of all workers are full; the job goes on when one has room",
    Failure.JOURNAL_FULL.value: "the disk of the master's journal is full; the job goes on when there is space",
    Failure.OUTPUT_FULL.value: "the output's disk is full; the job tries again by itself",
    Failure.OUTPUT_STUCK.value: "the output's file system does not answer, or a stopped process keeps its staging",
}

_HINT_OF: Final[dict[Code, str]] = {
    Code.TASK_LOST: "kernelmill logs shows what the task wrote before it ended",
    Code.NO_WORKERS: "start a worker: kernelmill worker --bundle FILE",
    Code.NONDETERMINISTIC: "a function must give the same rows each time: no random numbers, clocks, or orders of sets",
    Code.FUNCTION_FAILED: "kernelmill logs shows what the task wrote",
}
