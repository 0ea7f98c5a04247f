"""Stage, StageGraph and Task: the plan cut at exchanges, as a scheduler sees it. Pure: operators are opaque bytes here.

A stage has any number of inputs; each edge says how the partitions of its source reach the stage's tasks:

    hash, range   task i reads partition i of every source task, in the order of source tasks
    gather        the only task reads partition 0 of every source task, in the order of source tasks
    one_to_one    task i reads partition 0 of source task i
    broadcast     every task reads partition 0 of every source task

A stage may have several outputs, each with partitions of its own; an edge reads one of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import Enum

import msgspec

from kernelmill.engine.splits import Split


class EdgeKind(Enum):
    """How partitions of a source stage reach the tasks of the stage that reads it."""

    HASH = "hash"
    RANGE = "range"
    GATHER = "gather"
    ONE_TO_ONE = "one_to_one"
    BROADCAST = "broadcast"


class Edge(msgspec.Struct, frozen=True):
    """One input of a stage: the source stage's number, which of its outputs, and how partitions are handed out."""

    source: int
    kind: EdgeKind
    output: int = 0


class Stage(msgspec.Struct, frozen=True):
    """One pipeline of operators, run by `tasks` tasks, each leaving `partitions` partitions (0: it writes files).

    A stage that reads files has one split a task and no inputs; `operators` are the bytes of plan/codec.
    """

    number: int
    label: str
    operators: bytes
    tasks: int
    partitions: int
    inputs: tuple[Edge, ...] = ()
    splits: tuple[Split, ...] = ()


class StageGraph(msgspec.Struct, frozen=True):
    """Stages in an order in which every source comes before its readers; the last one is the job's result."""

    stages: tuple[Stage, ...]

    @property
    def last(self) -> Stage:
        """The stage whose output is the job's."""
        return self.stages[-1]

    def readers_of(self, number: int) -> list[Stage]:
        """The stages that have stage `number` among their inputs."""
        return [stage for stage in self.stages if any(edge.source == number for edge in stage.inputs)]


class BlockRef(msgspec.Struct, frozen=True, array_like=True, gc=False):  # thousands at once, of nothing but numbers
    """The rows that task `task` of stage `stage` made for partition `partition` of output `output`."""

    stage: int
    task: int
    partition: int
    output: int = 0


class TaskInput(msgspec.Struct, frozen=True, omit_defaults=True):
    """What one edge means to one task: partition `partition` of an output of source tasks [first_task, last_task)."""

    source: int
    kind: EdgeKind
    partition: int
    first_task: int
    last_task: int
    output: int = 0

    def blocks(self) -> Iterator[BlockRef]:
        """The blocks to read, in the order in which they must be merged."""
        for task in range(self.first_task, self.last_task):
            yield BlockRef(self.source, task, self.partition, self.output)


class Task(msgspec.Struct, frozen=True):
    """One stage on one split or one partition: all that `run_task` needs beside the store and the context."""

    stage: int
    index: int
    operators: bytes
    partitions: int
    split: Split | None = None
    inputs: tuple[TaskInput, ...] = ()


def task_of(graph: StageGraph, stage: int, index: int) -> Task:
    """The value of task `index` of stage `stage`."""
    home = graph.stages[stage]
    inputs = tuple(_input_of(edge, index, graph.stages[edge.source].tasks) for edge in home.inputs)
    split = home.splits[index] if home.splits else None
    return Task(stage, index, home.operators, home.partitions, split, inputs)


def _input_of(edge: Edge, index: int, source_tasks: int) -> TaskInput:
    match edge.kind:
        case EdgeKind.HASH | EdgeKind.RANGE:
            return TaskInput(edge.source, edge.kind, index, 0, source_tasks, edge.output)
        case EdgeKind.ONE_TO_ONE:
            return TaskInput(edge.source, edge.kind, 0, index, index + 1, edge.output)
        case EdgeKind.GATHER | EdgeKind.BROADCAST:
            return TaskInput(edge.source, edge.kind, 0, 0, source_tasks, edge.output)
