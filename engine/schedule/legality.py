"""What makes an event legal, beside the tables in state.py. Asked before anything changes."""

from __future__ import annotations

from kernelmill.engine.ids import AttemptId
from kernelmill.engine.schedule.attempts import AttemptBook
from kernelmill.engine.schedule.events import Event, IllegalEvent
from kernelmill.engine.schedule.state import NEXT_WORKER, AttemptRecord, StageRecord
from kernelmill.engine.schedule.tasks import TaskBoard
from kernelmill.engine.schedule.workers import WorkerPool


def require(event: Event, is_legal: bool, state: str) -> None:
    """Raise IllegalEvent, with the state in which it cannot be, unless it is legal."""
    if not is_legal:
        raise IllegalEvent(event, state)


class Legality:
    """Knows what there is. Every method raises IllegalEvent."""

    def __init__(self, board: TaskBoard, pool: WorkerPool, attempts: AttemptBook) -> None:
        self._board, self._pool, self._attempts = board, pool, attempts

    def require_worker(self, event: Event, name: str) -> None:
        """The worker's state allows the event."""
        state = self._pool.state_of(name)
        require(event, (state, type(event)) in NEXT_WORKER, f"worker {name!r} is {state}")

    def require_attempt(self, event: Event, attempt: AttemptId) -> AttemptRecord:
        """The attempt has not ended: its record."""
        record = self._attempts.by_number.get(attempt.number)
        if record is None or record.id != attempt:
            raise IllegalEvent(event, f"attempt {attempt} is not running")
        return record

    def require_ended(self, event: Event, attempt: AttemptId) -> tuple[StageRecord, int]:
        """The attempt was started once and has ended: its task."""
        task, stages = attempt.task, self._board.stages
        is_task = 0 <= task.stage < len(stages) and 0 <= task.index < stages[task.stage].tasks
        require(event, is_task, "there is no such task")
        require(event, 0 <= attempt.number < self._attempts.numbers.next, "this attempt was never started")
        require(event, attempt.number not in self._attempts.by_number, f"attempt {attempt} has not ended")
        return stages[task.stage], task.index
