"""A job's Status messages as the events of a local run, so that progress shows a cluster's jobs by the same line."""

from __future__ import annotations

from collections.abc import Callable

from kernelmill.cluster.logs import cluster_log
from kernelmill.cluster.messages import Status
from kernelmill.engine.events import (
    Event,
    JobFinished,
    JobStarted,
    StageInfo,
    StageStarted,
    TaskFailed,
    TaskFinished,
    TaskProgress,
)
from kernelmill.engine.ids import AttemptId, TaskId
from kernelmill.engine.plan.stages import StageGraph

_log = cluster_log()


class Watching:
    """Feed `take` each Status, and `finish` at the end; `emit` gets what changed since the one before.

    Tasks are counted, not named: which attempt is which is the master's to know.
    """

    def __init__(self, job: bytes, graph: StageGraph, emit: Callable[[Event], None]) -> None:
        self._job, self._graph, self._emit = job, graph, emit
        self._is_started, self._paused = False, ""
        self._begun: set[int] = set()
        self._committed = [0] * len(graph.stages)
        self._failed = [0] * len(graph.stages)

    def start(self, slots: int = 0) -> None:
        """Say that the job begins."""
        if self._is_started:
            return
        self._is_started = True
        stages = tuple(
            StageInfo(stage.number, stage.label, stage.tasks, sum(split.size_bytes for split in stage.splits))
            for stage in self._graph.stages
        )
        self._emit(JobStarted(self._job.hex(), stages, slots, 0))

    def wait(self, why: str) -> None:
        """Say that the job waits for a place at the master."""
        _log.warning("job %s waits to be taken: %s", self._job.hex()[:12], why)

    def take(self, status: Status) -> None:
        """Say what is new."""
        self.start(status.slots)
        paused = status.code if status.state == "PAUSED" else ""
        if paused != self._paused:
            self._paused = paused
            said = f"paused, {paused}: {status.text}" if paused else "goes on"
            _log.warning("job %s %s", self._job.hex()[:12], said)
        for number, counts in enumerate(status.stages[: len(self._committed)]):
            if number not in self._begun and (counts.running or counts.committed):
                self._begun.add(number)
                self._emit(StageStarted(number))
            if number in self._begun:
                self._emit(TaskProgress(AttemptId(TaskId(number, 0), -1), counts.size_bytes))
            for index in range(self._committed[number], counts.committed):
                self._emit(TaskFinished(AttemptId(TaskId(number, index), 0)))
            for _ in range(self._failed[number], counts.failed):
                self._emit(TaskFailed(AttemptId(TaskId(number, 0), -2), status.code, status.text, True))
            # a lost output takes commits back; they are told once
            self._committed[number] = max(self._committed[number], counts.committed)
            self._failed[number] = max(self._failed[number], counts.failed)

    def finish(self, outcome: str, rows: int, size: int, seconds: float) -> None:
        """Say that the job is over: done, failed or cancelled."""
        self.start()
        self._emit(JobFinished(outcome, rows, size, seconds))
