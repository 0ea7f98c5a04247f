"""The workers of a job: who is here, who has a free slot, and who gets no more tasks of a stage it keeps failing at.

Free workers stand in a queue: the one at its head gets the next task and goes to its end, so work spreads evenly and
the choice depends on nothing but the events before it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from kernelmill.engine.schedule.events import SlotsChanged, WorkerDrained, WorkerJoined, WorkerLost
from kernelmill.engine.schedule.state import ABSENT, JOINED, NEXT_WORKER, AttemptRecord, WorkerRecord

MATES_MAX: Final = 16
"""Workers of one host that are looked at for one that is free."""


class WorkerPool:
    """All workers that were ever here, by name and by number."""

    def __init__(self, exclude_after_tasks: int) -> None:
        self._exclude_after_tasks = exclude_after_tasks
        self._by_name: dict[str, WorkerRecord] = {}
        self._by_number: list[WorkerRecord] = []
        self._present: dict[int, WorkerRecord] = {}
        self._of_host: dict[str, list[int]] = {}  # workers that are here, by host; not all where there are many
        self._excluded: dict[int, set[int]] = {}  # by stage: workers by number; never all usable ones of them
        self.free: OrderedDict[int, WorkerRecord] = OrderedDict()  # joined ones with a free slot, by number
        self.slots = 0  # of the joined workers

    def get(self, name: str) -> WorkerRecord | None:
        """Find a worker that was here at some time, or None."""
        return self._by_name.get(name)

    def at(self, name: str) -> WorkerRecord:
        """Find a worker that was here at some time; KeyError for any other."""
        return self._by_name[name]

    def number_of(self, name: str) -> int:
        """Tell a worker's number, -1 for one that was never here."""
        worker = self._by_name.get(name)
        return worker.number if worker is not None else -1

    def name_of(self, number: int) -> str:
        """Tell a worker's name."""
        return self._by_number[number].name

    def state_of(self, name: str) -> str:
        """Tell a worker's state; ABSENT if it was never here."""
        worker = self._by_name.get(name)
        return worker.state if worker else ABSENT

    def join(self, name: str, slots: int, host: str = "") -> WorkerRecord:
        """Begin a session of an ABSENT worker; the same `host` has the same disks, unless it is empty."""
        worker = self._by_name.get(name)
        if worker is None:
            worker = WorkerRecord(len(self._by_number), name)
            self._by_name[name] = worker
            self._by_number.append(worker)
        self._present[worker.number] = worker
        if host and len(mates := self._of_host.setdefault(host, [])) < MATES_MAX:
            mates.append(worker.number)
        worker.host = host
        self._change(worker, NEXT_WORKER[worker.state, WorkerJoined], slots)
        return worker

    def leave(self, worker: WorkerRecord) -> None:
        """End a session; its attempts must have been taken away before."""
        del self._present[worker.number]
        if worker.number in (mates := self._of_host.get(worker.host, [])):
            mates.remove(worker.number)
        worker.failed_tasks.clear()
        for excluded in self._excluded.values():
            excluded.discard(worker.number)
        self._change(worker, NEXT_WORKER[worker.state, WorkerLost], 0)

    def drain(self, worker: WorkerRecord) -> None:
        """Give the worker no new work."""
        self._change(worker, NEXT_WORKER[worker.state, WorkerDrained], worker.slots)

    def resize(self, worker: WorkerRecord, slots: int) -> None:
        """Change how many attempts the worker takes at a time."""
        self._change(worker, NEXT_WORKER[worker.state, SlotsChanged], slots)

    def _change(self, worker: WorkerRecord, state: str, slots: int) -> None:
        before = worker.slots if worker.state == JOINED else 0
        worker.state, worker.slots = state, slots
        self.slots += (slots if state == JOINED else 0) - before
        self._queue(worker)
        for stage in list(self._excluded):
            self._lift_if_all_are_excluded(stage)

    def _queue(self, worker: WorkerRecord) -> None:
        if worker.state == JOINED and len(worker.attempts) < worker.slots:
            self.free.setdefault(worker.number, worker)
        else:
            self.free.pop(worker.number, None)

    def take_slot(self, worker: WorkerRecord, record: AttemptRecord) -> None:
        """Put an attempt on a free worker."""
        worker.attempts[record.id.number] = record
        if len(worker.attempts) < worker.slots:
            self.free.move_to_end(worker.number)
        else:
            del self.free[worker.number]

    def add_attempt(self, worker: WorkerRecord, record: AttemptRecord) -> None:
        """Put an attempt that runs already on its worker, beyond its slots if need be."""
        worker.attempts[record.id.number] = record
        self._queue(worker)

    def free_slot(self, worker: WorkerRecord, record: AttemptRecord) -> None:
        """Take an attempt that ended from its worker."""
        del worker.attempts[record.id.number]
        self._queue(worker)

    def note_failure(self, worker: WorkerRecord, stage: int, index: int) -> None:
        """Note a charged failure, and exclude the worker from the stage if it failed too many different tasks of it."""
        failed = worker.failed_tasks.setdefault(stage, set())
        failed.add(index)
        if len(failed) >= self._exclude_after_tasks:
            self._excluded.setdefault(stage, set()).add(worker.number)
            self._lift_if_all_are_excluded(stage)

    def _lift_if_all_are_excluded(self, stage: int) -> None:
        # Where everybody fails, the tasks are to blame and not the workers; and a stage without workers would hang.
        excluded = self._excluded[stage]
        if not any(worker.is_usable and worker.number not in excluded for worker in self._present.values()):
            for number in excluded:
                self._by_number[number].failed_tasks.pop(stage, None)
            del self._excluded[stage]

    def has_worker_for(self, stage: int) -> bool:
        """Tell whether some free worker takes tasks of the stage."""
        excluded = self._excluded.get(stage)
        return bool(self.free) if not excluded else any(number not in excluded for number in self.free)

    def first_free(self, stage: int) -> WorkerRecord | None:
        """Tell whose turn it is among the free workers that take tasks of the stage."""
        excluded = self._excluded.get(stage, ())
        return next((worker for number, worker in self.free.items() if number not in excluded), None)

    def free_near(self, number: int, stage: int) -> WorkerRecord | None:
        """Find this worker, or else one of its host, if it is free and takes tasks of the stage; number may be -1."""
        if number < 0:
            return None
        excluded = self._excluded.get(stage, ())
        mates = self._of_host.get(self._by_number[number].host, ())
        return next((self.free[n] for n in (number, *mates) if n in self.free and n not in excluded), None)

    def choose(self, stage: int, avoid: int) -> WorkerRecord | None:
        """Choose a free worker for a task of the stage, not worker `avoid` if any other could ever take it."""
        excluded = self._excluded.get(stage, ())
        for number, worker in self.free.items():
            if number != avoid and number not in excluded:
                return worker
        if avoid in self.free and avoid not in excluded:
            others = (w for w in self._present.values() if w.is_usable and w.number != avoid)
            if not any(worker.number not in excluded for worker in others):
                return self.free[avoid]
        return None

    def choose_for_backup(self, stage: int) -> WorkerRecord | None:
        """Choose a free worker without a late attempt; so it is never the one on which the late original runs."""
        excluded = self._excluded.get(stage, ())
        for number, worker in self.free.items():
            is_late = any(record.is_late for record in worker.attempts.values())
            if number not in excluded and not is_late:
                return worker
        return None

    def present(self) -> Iterator[WorkerRecord]:
        """Go through the workers that are here, in the order in which they joined."""
        return iter(self._present.values())

    def check(self) -> None:
        """Assert every invariant that concerns workers alone."""
        for worker in self._by_number:
            is_here = worker.state != ABSENT
            assert is_here == (worker.number in self._present), worker.name
            assert is_here or not worker.attempts, f"{worker.name} is absent and runs attempts"
            is_free = worker.state == JOINED and len(worker.attempts) < worker.slots
            assert is_free == (worker.number in self.free), f"{worker.name}: wrong place in the queue"
        for host, mates in self._of_host.items():
            assert all(n in self._present and self._by_number[n].host == host for n in mates), f"who is at {host}"
        assert self.slots == sum(w.slots for w in self._present.values() if w.state == JOINED), "the count of slots"
        for stage, excluded in self._excluded.items():
            usable = [worker.number for worker in self._present.values() if worker.is_usable]
            assert any(number not in excluded for number in usable), f"all are excluded from stage {stage}"
