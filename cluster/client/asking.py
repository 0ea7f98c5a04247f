"""What people ask a master: which jobs and workers there are, what tasks wrote, how a job is, to cancel or drain.

`link` is open as long as the questions last. All raise KM0601 if the master does not answer, and what it refuses.
"""

from __future__ import annotations

from typing import TypeVar

from kernelmill.cluster.client.jobids import meant
from kernelmill.cluster.client.link import Link, ask
from kernelmill.cluster.client.talk import error_of
from kernelmill.cluster.fields import Problem
from kernelmill.cluster.messages import (
    CancelJob,
    ClientToMaster,
    DrainWorker,
    Granted,
    JobRow,
    Jobs,
    ListJobs,
    ListWorkers,
    LogPage,
    LogRow,
    ReadLog,
    Refused,
    Result,
    Status,
    Watch,
    WorkerRow,
    Workers,
)
from kernelmill.engine.errors import Code, KernelmillError, error

_PAGES_MAX = 1000
_Kind = TypeVar("_Kind", Jobs, Workers, LogPage, Granted)


def jobs_of(link: Link, *, everybodys: bool = False) -> list[JobRow]:
    """The jobs of this client, or of all clients, the newest first."""
    rows: list[JobRow] = []
    for page in range(_PAGES_MAX):
        found = _answer(link, ListJobs(everybodys, page), Jobs)
        rows += found.jobs
        if page + 1 >= found.pages:
            break
    return rows


def workers_of(link: Link) -> list[WorkerRow]:
    """The workers that are here, by name."""
    return list(_answer(link, ListWorkers(), Workers).workers)


def job_named(link: Link, text: str, client: str) -> bytes:
    """The id of the job that this client called `text`, or whose hexadecimal id begins so. KM0616 unless it is one."""
    rows = jobs_of(link)
    if (named := meant(rows, client, text)) is not None:
        return named
    wanted = text.strip().lower()
    found = _beginning(rows, wanted) or _beginning(_all_jobs(link), wanted)
    if len(found) == 1:
        return found[0]
    if len(wanted) == 32:
        return _whole_id(wanted)
    what = f"{len(found)} jobs begin with {text!r}" if found else f"there is no job {text!r}"
    raise error(Code.NO_JOB, what, hint="kernelmill jobs lists them; give more of its letters")


def _beginning(rows: list[JobRow], wanted: str) -> list[bytes]:
    return [row.job for row in rows if wanted and row.job.hex().startswith(wanted)]


def _all_jobs(link: Link) -> list[JobRow]:
    """The jobs of everybody, as far as this client may know them: without --admin keys, none but its own."""
    try:
        return jobs_of(link, everybodys=True)
    except KernelmillError as problem:
        if problem.code is not Code.REFUSED:
            raise
        return []


def _whole_id(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as problem:
        raise error(Code.NO_JOB, f"{text!r} is no id of a job", hint="kernelmill jobs lists them") from problem


def log_of(link: Link, job: bytes, first: int = 0) -> tuple[list[LogRow], int]:
    """Lines that a job's tasks wrote, from number `first` on, and the number of the next one."""
    rows: list[LogRow] = []
    while True:
        page = _answer(link, ReadLog(job, first), LogPage)
        rows += page.rows
        first = page.first + len(page.rows)
        if not page.rows:
            return rows, max(first, page.first)


def look_at(link: Link, job: bytes) -> Status | Result:
    """How far a job is, or how it ended. Raises KM0616 for one that is not known."""
    heard = ask(link, Watch(job), (Status, Result, Refused))
    if isinstance(heard, Refused):
        raise error_of(Problem(heard.code, heard.text, "", heard.hint))
    assert isinstance(heard, Status | Result)
    return heard


def cancel_job(link: Link, job: bytes) -> None:
    """Ask for a job's end without output. Raises KM0602 when it is too late."""
    _answer(link, CancelJob(job), Granted)


def drain_worker(link: Link, worker: str) -> None:
    """Let a worker finish and go."""
    _answer(link, DrainWorker(worker), Granted)


def _answer(link: Link, message: ClientToMaster, kind: type[_Kind]) -> _Kind:
    heard = ask(link, message, (kind, Refused))
    if isinstance(heard, Refused):
        raise error_of(Problem(heard.code, heard.text, "", heard.hint))
    assert isinstance(heard, kind)
    return heard
