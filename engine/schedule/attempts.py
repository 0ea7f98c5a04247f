"""The attempts that have not ended, which of them are live for a task, and what earlier ones cost the task's budget."""

from __future__ import annotations

from kernelmill.engine.ids import AttemptId, TaskId
from kernelmill.engine.schedule.state import (
    LIVE,
    NEXT_ATTEMPT,
    STOPPING,
    AttemptRecord,
    Policy,
    WorkerRecord,
    key_of,
    stage_and_index,
)


class _Trouble:
    """What went wrong with a task so far; few tasks have any."""

    __slots__ = ("charged", "fruitless", "last_worker")

    def __init__(self) -> None:
        self.charged = 0  # failures that use the budget
        self.fruitless = 0  # ends without output, of any kind
        self.last_worker = -1  # the number of the worker on which the task failed last


class Numbers:
    """Attempt numbers, none given twice; the schedulers of one master share one source of them."""

    __slots__ = ("next",)

    def __init__(self, first: int = 0) -> None:
        self.next = first

    def take(self) -> int:
        """Give out the next number."""
        self.next += 1
        return self.next - 1


class AttemptBook:
    """All attempts under way. A task has one live attempt, or two that are each other's rivals."""

    def __init__(self, policy: Policy, numbers: Numbers) -> None:
        self._policy = policy
        self.numbers = numbers
        self.by_number: dict[int, AttemptRecord] = {}
        self.live: dict[int, AttemptRecord] = {}  # by task key; of two rivals the one that started first
        self._troubles: dict[int, _Trouble] = {}  # by task key

    def start(
        self, stage: int, index: int, worker: WorkerRecord, now: float, original: AttemptRecord | None
    ) -> AttemptRecord:
        """Begin an attempt under a new number; with `original` it is the backup of that live one."""
        number, key = self.numbers.take(), key_of(stage, index)
        record = AttemptRecord(AttemptId(TaskId(stage, index), number), key, worker, now, original is not None)
        self.by_number[number] = record
        if original is None:
            self.live[key] = record
        else:
            record.rival, original.rival = original, record
        return record

    def adopt(self, attempt: AttemptId, worker: WorkerRecord, now: float) -> AttemptRecord:
        """Follow an attempt that runs already, as its task's only one; what it ran before does not count as time."""
        key = key_of(attempt.task.stage, attempt.task.index)
        record = AttemptRecord(attempt, key, worker, now, is_backup=False)
        self.by_number[attempt.number] = self.live[key] = record
        return record

    def end(self, record: AttemptRecord, event_type: type) -> str:
        """Forget an attempt; return the state in which it ended. A live one must leave its task afterwards."""
        del self.by_number[record.id.number]
        return NEXT_ATTEMPT[record.state, event_type]

    def stop(self, key: int) -> list[AttemptRecord]:
        """Take the live attempts from a task; return those that have not ended, to be cancelled."""
        record = self.live.pop(key)
        records = [record] if record.rival is None else [record, record.rival]
        running = [each for each in records if each.id.number in self.by_number]
        for each in records:
            each.state, each.rival = STOPPING, None
        return running

    def leave(self, record: AttemptRecord) -> bool:
        """Take an ended live attempt from its task; return whether no rival goes on."""
        self._trouble_of(record.key).fruitless += 1
        if record.rival is None:
            del self.live[record.key]
            return True
        record.rival.rival = None
        self.live[record.key] = record.rival
        return False

    def note_failure(self, record: AttemptRecord, charged: bool) -> None:
        """Note on which worker the task failed, and charge its budget if it is to blame."""
        trouble = self._trouble_of(record.key)
        trouble.last_worker = record.worker.number
        trouble.charged += charged

    def is_spent(self, key: int) -> bool:
        """Tell whether the task may not be tried again."""
        trouble = self._troubles.get(key)
        return trouble is not None and (
            trouble.charged >= self._policy.max_attempts or trouble.fruitless >= self._policy.fruitless_max
        )

    def last_worker_of(self, key: int) -> int:
        """Tell the number of the worker on which the task failed last, or -1."""
        trouble = self._troubles.get(key)
        return -1 if trouble is None else trouble.last_worker

    def _trouble_of(self, key: int) -> _Trouble:
        return self._troubles.setdefault(key, _Trouble())

    def check(self) -> None:
        """Assert every invariant that concerns attempts alone."""
        for number, record in self.by_number.items():
            assert record.id.number == number < self.numbers.next, f"attempt {record.id}: wrong number"
            assert key_of(record.id.task.stage, record.id.task.index) == record.key, f"attempt {record.id}: wrong key"
            assert record.worker.attempts.get(number) is record, f"attempt {record.id}: not on its worker"
            first = self.live.get(record.key)
            is_live = first is record or (first is not None and first.rival is record)
            assert is_live == (record.state == LIVE), f"attempt {record.id}: {record.state}"
        for key, record in self.live.items():
            assert record.id.number in self.by_number, f"task {stage_and_index(key)}: its live attempt has ended"
            rival = record.rival
            if rival is not None:
                assert rival.rival is record and rival.id.number in self.by_number, f"attempt {record.id}: its rival"
                assert rival.worker is not record.worker, f"attempt {record.id}: a backup on the same worker"
