"""Giving free slots to ready tasks, then to backups of attempts that are late: the last thing that happens at an event.

Stages come in their order, and within one the tasks do. Where it is known which worker is near a task, whose turn it is
takes a task near it if there is one, and a task goes near its input if a slot is free there (placement.py).
"""

from __future__ import annotations

from kernelmill.engine.schedule.attempts import AttemptBook
from kernelmill.engine.schedule.backup import BackupWatch
from kernelmill.engine.schedule.events import Action, StartAttempt
from kernelmill.engine.schedule.placement import Placement
from kernelmill.engine.schedule.state import AttemptRecord, StageRecord, WorkerRecord, key_of, stage_and_index
from kernelmill.engine.schedule.tasks import TaskBoard
from kernelmill.engine.schedule.workers import WorkerPool


class Starter:
    """Starts what may start. `watch` and `placement` are None where there are no backups, or nothing is near."""

    def __init__(
        self,
        board: TaskBoard,
        pool: WorkerPool,
        attempts: AttemptBook,
        watch: BackupWatch | None,
        placement: Placement | None,
    ) -> None:
        self._board, self._pool, self._attempts = board, pool, attempts
        self._watch, self._placement = watch, placement
        self._now = float("-inf")
        self._actions: list[Action] = []

    def start_all(self, now: float, actions: list[Action]) -> None:
        """Start attempts until no slot is free, or nothing is left for those that are; append what is to be done."""
        self._now, self._actions = now, actions
        self._start_ready_tasks()
        if self._watch is not None:
            self._start_backups(self._watch)

    def _start_ready_tasks(self) -> None:
        board, pool = self._board, self._pool
        looked_at = 0  # stages for which no free worker was found
        while pool.free and (ready := board.ready_stages & ~looked_at):
            stage = board.stages[(ready & -ready).bit_length() - 1]
            if not pool.has_worker_for(stage.number) or not self._start_next_of(stage):
                looked_at |= ready & -ready

    def _start_next_of(self, stage: StageRecord) -> bool:
        """Start the first ready task for which there is a worker; one that must wait for another is passed by."""
        stage.low = index = self._board.next_ready(stage, stage.low)
        if self._placement is not None and self._start_near(self._placement, stage):
            return True
        while index >= 0:
            failed_on = self._attempts.last_worker_of(key_of(stage.number, index))
            worker = self._pool.choose(stage.number, failed_on)
            if worker is not None:
                self._board.start(stage, index)
                self._start(stage, index, worker, None)
                return True
            index = self._board.next_ready(stage, index + 1)
        return False

    def _start_near(self, placement: Placement, stage: StageRecord) -> bool:
        """Start a task that is near the worker whose turn it is, or the first ready one if its near worker is free."""
        worker = self._pool.first_free(stage.number)
        index = placement.next_near(stage, worker.number) if worker is not None else -1
        if index < 0:
            index = stage.low
            worker = self._pool.free_near(placement.nearest(stage, index), stage.number)
        if worker is None or self._attempts.last_worker_of(key_of(stage.number, index)) == worker.number:
            return False
        self._board.start(stage, index)
        self._start(stage, index, worker, None)
        return True

    def _start(self, stage: StageRecord, index: int, worker: WorkerRecord, original: AttemptRecord | None) -> None:
        record = self._attempts.start(stage.number, index, worker, self._now, original)
        self._pool.take_slot(worker, record)
        if self._watch is not None:
            self._watch.start(stage, record)
        self._actions.append(StartAttempt(record.id, worker.name, record.is_backup))

    def _start_backups(self, watch: BackupWatch) -> None:
        for record in watch.late_attempts(self._now):
            if not self._pool.free or not watch.may_start(self._pool.slots):
                return
            number, index = stage_and_index(record.key)
            stage = self._board.stages[number]
            worker = self._pool.choose_for_backup(number)
            if worker is not None and self._board.has_inputs(stage, index):
                watch.forget(stage, record)
                self._start(stage, index, worker, record)
