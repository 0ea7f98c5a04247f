"""Ids of jobs that a user gave a name: the same name and plan are the same job, whichever process asks.

    bytes  8     name     of the client and of what it calls the job
           7     plan     of what the job would do
           1     number   of the run: one that failed or was cancelled is run again under the next

Any other job's id is random.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from kernelmill.cluster.messages import JobRow
from kernelmill.engine.errors import Code, error

_NAME_BYTES: Final = 8
_PLAN_BYTES: Final = 7
_SAME: Final = _NAME_BYTES + _PLAN_BYTES
_RUNS_MAX: Final = 256
_CAN_RUN_AGAIN: Final = ("FAILED", "CANCELLED")


def name_part(client: str, name: str) -> bytes:
    """The beginning of the ids of all jobs that this client calls so."""
    return hashlib.sha256(f"job of {client}: {name}".encode("utf-8", "surrogatepass")).digest()[:_NAME_BYTES]


def named_so(rows: Sequence[JobRow], client: str, name: str) -> list[JobRow]:
    """The jobs that this client called so."""
    beginning = name_part(client, name)
    return [row for row in rows if row.client == client and row.job.startswith(beginning)]


def meant(rows: Sequence[JobRow], client: str, name: str) -> bytes | None:
    """The job that a name means now: one that has not failed, or else the last try; None if there is none."""
    runs = named_so(rows, client, name)
    return max(runs, key=lambda row: (row.state not in _CAN_RUN_AGAIN, row.job[_SAME])).job if runs else None


def ending(rows: Sequence[JobRow], client: str, name: str) -> bytes | None:
    """A job of this name that has failed, or is cancelled, and whose end is not there yet; None if there is none."""
    return next((row.job for row in named_so(rows, client, name) if row.state == "RUNNING" and row.code), None)


def id_of(rows: Sequence[JobRow], client: str, name: str, likeness: bytes) -> tuple[bytes, bool]:
    """The id of a job of this name, and whether it is there already; `rows` are the client's jobs.

    Raises KM0617 if another plan runs, or was committed, under that name.
    """
    same = name_part(client, name) + likeness[:_PLAN_BYTES]
    runs = []
    for row in named_so(rows, client, name):
        if row.job.startswith(same):
            runs.append(row)
        elif row.state not in _CAN_RUN_AGAIN:
            what = f"job_id={name!r} is the name of another job, which is {row.state}: {row.job.hex()}"
            hint = "inputs, functions, options or the output are not those of that job: give another job_id="
            raise error(Code.JOB_EXISTS, what, hint=hint)
    last = max(runs, key=lambda row: row.job, default=None)
    if last is None:
        return same + b"\0", False
    if last.state not in _CAN_RUN_AGAIN:
        return last.job, True
    number = last.job[_SAME] + 1
    if number >= _RUNS_MAX:
        what = f"job_id={name!r} has failed or was cancelled {_RUNS_MAX} times"
        raise error(Code.JOB_EXISTS, what, hint="give another job_id=")
    return same + bytes([number]), False
