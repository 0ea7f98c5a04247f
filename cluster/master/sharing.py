"""How slots are shared between jobs: in equal parts of each worker, among the jobs that have tasks to start.

A job alone gets all. With several, one that has nothing to start keeps what it runs; while none has, all are asked
alike, for their backups' sake. Nothing is taken from what runs: a share grows only into slots that are really free. A
job alone whose tasks are short gets more than the slots: some wait at the worker (jobs.py, `ahead`).
"""

from __future__ import annotations

from kernelmill.cluster.master.desk import Desk
from kernelmill.cluster.master.jobs import JobRun
from kernelmill.cluster.master.sessions import Session
from kernelmill.engine.schedule.events import SlotsChanged


def share(desk: Desk, session: Session) -> None:
    """Share one worker's slots out anew."""
    worker = session.worker
    slots = session.slots_usable if desk.recovering_until_s is None else 0
    jobs = [job for job in desk.jobs.values() if worker in job.grants]
    running = {job.id: len(job.runs_of_worker.get(worker, ())) for job in desk.jobs.values()}
    able = [job for job in jobs if job.is_schedulable and not desk.withholds(job, worker)]
    asking = [job for job in able if job.scheduler.has_ready_tasks] or able
    if len(jobs) == 1 and asking:  # what waits at a worker cannot be shared out any more
        slots *= 1 + asking[0].ahead
    parts = _parts(slots, asking, running, worker)
    for job in jobs:
        part = parts.get(job.id, running[job.id] if job in able and slots else 0)
        if part < job.grants[worker]:
            _grant(desk, job, worker, part)
    for job in asking:
        others = sum(max(other.grants.get(worker, 0), running[other.id]) for other in jobs if other is not job)
        others += sum(running[other.id] for other in desk.jobs.values() if worker not in other.grants)
        part = min(parts[job.id], max(slots - others, 0))
        if part > job.grants[worker]:
            _grant(desk, job, worker, part)


def _parts(slots: int, asking: list[JobRun], running: dict[str, int], worker: str) -> dict[str, int]:
    asked = {job.id for job in asking}
    free = max(slots - sum(number for job, number in running.items() if job not in asked), 0)
    if not asking:
        return {}
    base, rest = divmod(free, len(asking))
    first = sum(worker.encode())  # the odd slots go to another job on another worker
    return {job.id: base + ((first + place) % len(asking) < rest) for place, job in enumerate(asking)}


def _grant(desk: Desk, job: JobRun, worker: str, slots: int) -> None:
    job.grants[worker] = slots
    desk.tell(job, SlotsChanged(worker, slots))
