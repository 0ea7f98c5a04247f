"""What must hold between tasks, workers and attempts after every event; each of them checks itself alone as well."""

from __future__ import annotations

from collections.abc import Mapping

from kernelmill.engine.schedule.attempts import AttemptBook
from kernelmill.engine.schedule.state import (
    ABSENT,
    DONE,
    JOB_DONE,
    JOB_RUNNING,
    READY,
    RUNNING,
    UNAVAILABLE,
    WorkerRecord,
    key_of,
)
from kernelmill.engine.schedule.tasks import TaskBoard
from kernelmill.engine.schedule.workers import WorkerPool


def check_job(
    board: TaskBoard, pool: WorkerPool, attempts: AttemptBook, graces: Mapping[int, WorkerRecord], job: str
) -> None:
    """Assert every invariant of a job's parts and between them. Takes time in all tasks."""
    board.check()
    pool.check()
    attempts.check()
    on_workers = sum(len(worker.attempts) for worker in pool.present())
    assert on_workers == len(attempts.by_number), "an attempt on a worker that is not followed"
    _check_tasks(board, pool, attempts, graces)
    until_s = [worker.grace_until_s for worker in graces.values()]
    assert None not in until_s, "a grace without an end"
    assert until_s == sorted(at for at in until_s if at is not None), "graces out of order"
    if job == JOB_RUNNING:
        assert board.stages_missing, "all is there, and the job goes on"
        _check_that_nothing_idles(board, pool, attempts)
    else:
        assert (job == JOB_DONE) <= (board.stages_missing == 0), "done without its result"
        assert not attempts.live, "a live attempt after the end"


def _check_tasks(board: TaskBoard, pool: WorkerPool, attempts: AttemptBook, graces: Mapping[int, WorkerRecord]) -> None:
    for stage in board.stages:
        for index, state in enumerate(stage.states):
            what, holder = f"task {stage.number}.{index}, state {state}", stage.holders[index]
            assert (state == RUNNING) == (key_of(stage.number, index) in attempts.live), what
            if state == UNAVAILABLE:
                assert holder in graces, f"{what}: no grace runs"
            elif state == DONE and holder >= 0:
                assert pool.state_of(pool.name_of(holder)) != ABSENT, f"{what}: held by nobody"


def _check_that_nothing_idles(board: TaskBoard, pool: WorkerPool, attempts: AttemptBook) -> None:
    for stage in board.stages:
        if stage.blocked or not stage.counts[READY] or not pool.has_worker_for(stage.number):
            continue
        for index, state in enumerate(stage.states):
            if state == READY:
                failed_on = attempts.last_worker_of(key_of(stage.number, index))
                assert pool.choose(stage.number, failed_on) is None, f"task {stage.number}.{index} could run"
