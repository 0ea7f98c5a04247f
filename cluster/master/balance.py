"""Taking back what waits at one worker while another has nothing to do.

Short tasks are sent ahead of the slots (jobs.py, `ahead`). If one of them turns out long, those behind it would wait
for it, or for a backup; when no task is left to be given out, they are stopped there and started elsewhere. What has
waited for less than TAKE_BACK_S is about to run.
"""

from __future__ import annotations

from typing import Final

from kernelmill.cluster.master import jobs as states
from kernelmill.cluster.master.desk import Desk
from kernelmill.cluster.master.jobs import JobRun
from kernelmill.cluster.master.sessions import Session

TAKE_BACK_S: Final = 0.5
_WAITS: Final = (states.ASSIGNED, states.RUNNING)  # a worker has it in hand either way


def take_back(desk: Desk, job: JobRun, session: Session) -> None:
    """Stop what a worker has of a job beyond its slots, if it waits while others idle. The oldest are what runs."""
    runs = job.runs_on(session.worker)
    if len(runs) <= session.slots or not job.is_schedulable or job.scheduler.has_ready_tasks:
        return
    if not any(_is_idle(desk, other) for other in desk.sessions):
        return
    for run in runs[session.slots :]:
        if run.state in _WAITS and run.assigned_s + TAKE_BACK_S <= desk.now:
            desk.seen["task taken back"] += 1
            desk.cancel(job, run.id)


def _is_idle(desk: Desk, session: Session) -> bool:
    return bool(session.slots_usable) and not any(session.worker in job.runs_of_worker for job in desk.jobs.values())
