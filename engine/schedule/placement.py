"""Where a ready task should run: where most of what it reads lies, if a slot there is free. Nobody waits for one.

A task of a one-to-one edge is near the holder of its pair; of any other, near the worker that `Near` names, which is
asked once whenever all that the stage reads is there. Each worker has a line of the tasks near it, so that a worker
with a free slot finds one of its own without a search. A line may name tasks that have run since or whose input has
moved: they are passed by when they are met.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence

from kernelmill.engine.schedule.state import READY, StageRecord

Near = Callable[[int], Sequence[str]]
"""Names the worker near each task of a stage, "" where none is; nothing at all if no task of it has one."""
NumberOf = Callable[[str], int]
NOBODY = -1


class _Line:
    """Tasks near one worker, and the first of them that was not looked at."""

    __slots__ = ("next", "tasks")

    def __init__(self) -> None:
        self.tasks, self.next = array("i"), 0


class Placement:
    """Which tasks are near which workers, both by number. `number_of` knows a worker's by its name, or NOBODY."""

    def __init__(self, near: Near, number_of: NumberOf) -> None:
        self._near, self._number_of = near, number_of
        self._lines: dict[tuple[int, int], _Line] = {}  # (stage, worker)
        self._worker_of: dict[int, array[int]] = {}  # stage without one-to-one edges -> worker by task, as it was told

    def note_output(self, stage: StageRecord, index: int, holder: int) -> None:
        """Put the readers of a task's output that read it alone into its holder's line."""
        for reader in stage.paired_readers:
            if reader.paired_sources[0] is stage and holder != NOBODY:
                self._line(reader.number, holder).tasks.append(index)

    def note_complete(self, stage: StageRecord) -> None:
        """Note that the readers of a stage will have other inputs than before, or have them for the first time."""
        for reader in stage.wide_readers:
            if self._worker_of.pop(reader.number, None) is not None:
                for key in [key for key in self._lines if key[0] == reader.number]:
                    del self._lines[key]

    def next_near(self, stage: StageRecord, worker: int) -> int:
        """Take the next READY task near a worker from its line, -1 if there is none."""
        self._ask(stage)
        line = self._lines.get((stage.number, worker))
        while line is not None and line.next < len(line.tasks):
            index = line.tasks[line.next]
            line.next += 1
            if stage.states[index] == READY and self.nearest(stage, index) == worker:
                return index
        return -1

    def nearest(self, stage: StageRecord, index: int) -> int:
        """Tell the worker near a READY task, or NOBODY."""
        if stage.paired_sources:
            return stage.paired_sources[0].holders[index]
        self._ask(stage)
        workers = self._worker_of.get(stage.number)
        return workers[index] if workers else NOBODY

    def _ask(self, stage: StageRecord) -> None:
        if stage.paired_sources or not stage.wide_sources or stage.number in self._worker_of:
            return
        names = self._near(stage.number)
        self._worker_of[stage.number] = workers = array("i", (self._number_of(name) for name in names))
        for index, worker in enumerate(workers):
            if worker != NOBODY:
                self._line(stage.number, worker).tasks.append(index)

    def _line(self, stage: int, worker: int) -> _Line:
        return self._lines.setdefault((stage, worker), _Line())
