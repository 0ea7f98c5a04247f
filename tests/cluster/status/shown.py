"""Snapshots for tests of the status page."""

from kernelmill.cluster.status.snapshot import FaultView, JobView, Snapshot, StageView, WorkerView


def snapshot_with(text="x", jobs=(), workers=(), faults=(), **more):
    given = {"cluster": "ab" * 16, "epoch": 3, "address": text, "at_s": 1_700_000_000.0, "slots": 4}
    given |= {"slots_running": 2, "jobs_more": 0, "workers_more": 0}
    return Snapshot(**(given | {"jobs": tuple(jobs), "workers": tuple(workers), "faults": tuple(faults)} | more))


def full(text):
    """One of everything, with this text wherever there is one."""
    stage = StageView(text, 10, 4, 2, 1, 12345, 1 << 20)
    job = JobView("cd" * 16, text, text, text, text, text, 10, 4, (stage,))
    worker = WorkerView(text, text, text, 4, 2, 1 << 30, 1 << 20, 1 << 31, 0.4)
    return snapshot_with(text, [job], [worker], [FaultView(1_700_000_000.0, text, 3)], jobs_more=2, workers_more=1)
