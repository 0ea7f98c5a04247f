"""Identifiers that cross every layer: a task, and one try at it. Pure values."""

import msgspec


class TaskId(msgspec.Struct, frozen=True, order=True, array_like=True):
    """Task `index` of stage `stage`; both count from 0."""

    stage: int
    index: int

    def __str__(self) -> str:
        return f"{self.stage}.{self.index}"


class AttemptId(msgspec.Struct, frozen=True, order=True, array_like=True):
    """One try at a task. `number` is unique within a job and never used again."""

    task: TaskId
    number: int

    def __str__(self) -> str:
        return f"{self.task}#{self.number}"
