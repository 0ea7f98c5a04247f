"""The tasks of a job: which may run, whose output is needed, and what must be made again when outputs are lost.

Ready tasks come in the order of (stage, index), the smallest first. Sources come before their readers, so an output
that must be made again goes before new work on later stages, whose readers would only wait for it; within a stage
outputs appear from the front, in the order in which they are merged.

There is no queue. A stage's states are one byte string, and the next ready task is its next READY byte, looked for with
`find` (memchr) from a bound below which there is none; a stage's bit in `ready_stages` tells whether to look at all.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

from kernelmill.engine.plan.stages import EdgeKind
from kernelmill.engine.schedule.state import (
    ADOPTED,
    ATTEMPTS_ENDED,
    DEMANDED,
    DONE,
    FINISHED,
    FORGONE,
    GONE,
    HOLDER_LOST,
    INPUT_LOST,
    INPUTS_THERE,
    NEXT_TASK,
    OUTPUT_FOUND,
    OUTPUT_LOST,
    READY,
    RUNNING,
    STARTED,
    UNAVAILABLE,
    WAITING,
    StageRecord,
    StageShape,
    key_of,
)


class TaskBoard:
    """All tasks of a job. Its methods are the only ones that move a task, by the table NEXT_TASK.

    `completed_stages` and `stopped_tasks` collect what its caller must act on, and empties: stages that became
    complete, and keys of RUNNING tasks whose live attempts are no longer wanted.
    """

    def __init__(self, shapes: Sequence[StageShape], given: Container[int]) -> None:
        self.stages = [StageRecord(number, shape) for number, shape in enumerate(shapes)]
        self.ready_stages = 0  # bit s: stage s has a READY task and its wide sources are complete
        self.stages_missing = 0  # stages without readers that are not complete
        self.completed_stages: list[int] = []
        self.stopped_tasks: list[int] = []
        for stage, shape in zip(self.stages, shapes, strict=True):
            self._connect(stage, shape)
        for stage in reversed(self.stages):
            if stage.number in given:
                self._fill(stage, DONE)
            elif not stage.is_last and not any(r.open_tasks for r in stage.wide_readers + stage.paired_readers):
                self._fill(stage, GONE)  # all that read it was given
        for stage in self.stages:
            stage.blocked = sum(not source.is_complete for source in stage.wide_sources)
            if stage.counts[WAITING] and all(source.is_complete for source in stage.paired_sources):
                self._fill(stage, READY)
            self.stages_missing += stage.is_last and not stage.is_complete
            self._set_ready_bit(stage)

    def _connect(self, stage: StageRecord, shape: StageShape) -> None:
        for edge in shape.inputs:
            if not 0 <= edge.source < stage.number:
                raise ValueError(f"stage {stage.number} reads stage {edge.source}, which does not come before it")
            source = self.stages[edge.source]
            if edge.kind is EdgeKind.ONE_TO_ONE:
                if source.tasks != stage.tasks:
                    raise ValueError(f"stages {edge.source} and {stage.number} differ in tasks on a one-to-one edge")
                stage.paired_sources.append(source)
                source.paired_readers.append(stage)
            else:
                stage.wide_sources.append(source)
                source.wide_readers.append(stage)

    def _fill(self, stage: StageRecord, state: int) -> None:
        stage.states = bytearray([state]) * stage.tasks
        stage.counts = [0] * len(stage.counts)
        stage.counts[state] = stage.tasks

    def next_ready(self, stage: StageRecord, start: int) -> int:
        """Find the first READY task at or after `start`, or -1."""
        return stage.states.find(READY, start)

    def start(self, stage: StageRecord, index: int) -> None:
        """Note that the READY task has its first live attempt."""
        self._move(stage, index, STARTED)

    def adopt(self, stage: StageRecord, index: int) -> None:
        """Note that a task that waits, or is ready, has an attempt that was started before."""
        self._move(stage, index, ADOPTED)

    def finish(self, stage: StageRecord, index: int, number: int, holder: int) -> None:
        """Note the first output of a RUNNING task: attempt `number`, on worker `holder` or -1."""
        stage.winners[index], stage.holders[index] = number, holder
        self._move(stage, index, FINISHED)
        self._forgo_inputs(stage, index)

    def find(self, stage: StageRecord, index: int, number: int, holder: int) -> None:
        """Note an output that came back, for a task that is not DONE."""
        was_open = stage.states[index] < DONE
        if stage.states[index] == RUNNING:
            self.stopped_tasks.append(key_of(stage.number, index))
        stage.winners[index], stage.holders[index] = number, holder
        self._move(stage, index, OUTPUT_FOUND)
        if was_open:
            self._forgo_inputs(stage, index)

    def reopen(self, stage: StageRecord, index: int) -> None:
        """Note that the last live attempt of a RUNNING task ended without output."""
        self._move(stage, index, ATTEMPTS_ENDED)
        self._try_ready(stage, index)

    def suspend(self, stage: StageRecord, index: int) -> None:
        """Note that a DONE task's output cannot be read until its holder comes back."""
        self._move(stage, index, HOLDER_LOST)

    def lose(self, stage: StageRecord, index: int) -> None:
        """Note that an output is gone for good; make it again if somebody needs it."""
        stage.winners[index], stage.holders[index] = -1, -1
        self._move(stage, index, OUTPUT_LOST)
        if self.is_needed(stage, index):
            self._demand(stage, index)

    def is_needed(self, stage: StageRecord, index: int) -> bool:
        """Tell whether the job or an open task wants this task's output."""
        return (
            stage.is_last
            or any(reader.open_tasks for reader in stage.wide_readers)
            or any(reader.states[index] < DONE for reader in stage.paired_readers)
        )

    def has_inputs(self, stage: StageRecord, index: int) -> bool:
        """Tell whether all that the task reads is there."""
        return stage.blocked == 0 and self._has_paired_inputs(stage, index)

    def _has_paired_inputs(self, stage: StageRecord, index: int) -> bool:
        return all(source.states[index] == DONE for source in stage.paired_sources)

    def _try_ready(self, stage: StageRecord, index: int) -> None:
        if stage.states[index] == WAITING and self._has_paired_inputs(stage, index):
            self._move(stage, index, INPUTS_THERE)

    def _move(self, stage: StageRecord, index: int, cause: str) -> None:
        """Move one task, and keep every count, bound and reader that depends on it."""
        before = stage.states[index]
        after = NEXT_TASK[before, cause]
        counts = stage.counts
        stage.states[index] = after
        counts[before] -= 1
        counts[after] += 1
        if after == READY:
            stage.low = min(stage.low, index)
            if counts[READY] == 1:
                self._set_ready_bit(stage)
        elif before == READY and counts[READY] == 0:
            self._set_ready_bit(stage)
        if after == DONE:
            for reader in stage.paired_readers:
                self._try_ready(reader, index)
            if stage.is_complete:
                self._complete(stage)
        elif before == DONE:
            for reader in stage.paired_readers:
                if reader.states[index] == READY:
                    self._move(reader, index, INPUT_LOST)
            if counts[DONE] == stage.tasks - 1:
                self._break(stage)

    def _complete(self, stage: StageRecord) -> None:
        self.completed_stages.append(stage.number)
        self.stages_missing -= stage.is_last
        for reader in stage.wide_readers:
            reader.blocked -= 1
            self._set_ready_bit(reader)

    def _break(self, stage: StageRecord) -> None:
        self.stages_missing += stage.is_last
        for reader in stage.wide_readers:
            reader.blocked += 1
            self._set_ready_bit(reader)

    def _set_ready_bit(self, stage: StageRecord) -> None:
        bit = 1 << stage.number
        if stage.counts[READY] and not stage.blocked:
            self.ready_stages |= bit
        else:
            self.ready_stages &= ~bit

    def _demand(self, stage: StageRecord, index: int) -> None:
        """Open a GONE task that is needed, and all GONE tasks that it needs in turn."""
        asked = [(stage, index)]
        while asked:
            stage, index = asked.pop()
            if stage.states[index] != GONE:
                continue
            self._move(stage, index, DEMANDED)
            asked += [(source, index) for source in stage.paired_sources]
            for source in stage.wide_sources:
                if source.counts[GONE]:
                    asked += [(source, other) for other, state in enumerate(source.states) if state == GONE]
            self._try_ready(stage, index)

    def _forgo_inputs(self, stage: StageRecord, index: int) -> None:
        """Give up open tasks that only the task wanted, now that it is open no more."""
        if not stage.paired_sources and (stage.open_tasks or not stage.wide_sources):
            return
        settled = [(stage, index)]
        while settled:
            stage, index = settled.pop()
            for source, other in self._open_inputs(stage, index):
                if source.states[other] < DONE and not self.is_needed(source, other):
                    if source.states[other] == RUNNING:
                        self.stopped_tasks.append(key_of(source.number, other))
                    self._move(source, other, FORGONE)
                    settled.append((source, other))

    def _open_inputs(self, stage: StageRecord, index: int) -> Iterator[tuple[StageRecord, int]]:
        for source in stage.paired_sources:
            yield source, index
        if stage.open_tasks == 0:
            for source in stage.wide_sources:
                if source.open_tasks:
                    yield from ((source, other) for other in range(source.tasks) if source.states[other] < DONE)

    def check(self) -> None:
        """Assert every invariant that concerns tasks alone."""
        for stage in self.stages:
            number, states = stage.number, stage.states
            assert stage.counts == [states.count(state) for state in range(len(stage.counts))], number
            assert states.find(READY, 0, stage.low) == -1, f"stage {number}: a ready task below the bound"
            assert stage.blocked == sum(not source.is_complete for source in stage.wide_sources), number
            is_ready = stage.counts[READY] > 0 and stage.blocked == 0
            assert bool(self.ready_stages >> number & 1) == is_ready, f"stage {number}: wrong ready bit"
            for index, state in enumerate(states):
                what = f"task {number}.{index}, state {state}"
                if state in (WAITING, READY):
                    assert (state == READY) == self._has_paired_inputs(stage, index), what
                if state < DONE or state == GONE:
                    assert (state == GONE) != self.is_needed(stage, index), what
                if state == UNAVAILABLE:
                    assert stage.holders[index] >= 0 and stage.winners[index] >= 0, what
        missing = sum(stage.is_last and not stage.is_complete for stage in self.stages)
        assert self.stages_missing == missing, "the count of missing results"
        assert not self.completed_stages and not self.stopped_tasks, "news that nobody took"
