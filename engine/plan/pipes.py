"""Stages that the planner has not closed yet: steps may still be added at their end."""

from __future__ import annotations

import msgspec
import pyarrow as pa
from msgspec.structs import replace

from kernelmill.engine.plan import physical, rowsteps
from kernelmill.engine.plan.rules import may_fail
from kernelmill.engine.plan.stages import Edge
from kernelmill.engine.splits import Split
from kernelmill.engine.typing import columns_of


class Pipe(msgspec.Struct, frozen=True):
    """A stage that is still open at its end: steps may be added. `schema` is that of its rows so far.

    is_reduced: its rows are one a group.
    """

    label: str
    schema: pa.Schema
    tasks: int
    source: physical.Source | None = None
    splits: tuple[Split, ...] = ()
    inputs: tuple[Edge, ...] = ()
    steps: tuple[physical.Step, ...] = ()
    is_reduced: bool = False
    branch: int | None = None
    """Which output of the shared map stage this is, None if it is a stage of its own."""
    rows: tuple[int, ...] | None = None
    """How many rows each task will have come out, where that is known before any of them runs."""

    def then(self, step: physical.Step, schema: pa.Schema) -> Pipe:
        """The same with one more step, which makes rows of `schema`."""
        rows = self.rows if _keeps_rows(step) else None
        return replace(self, steps=(*self.steps, step), schema=schema, rows=rows)


def _keeps_rows(step: physical.Step) -> bool:
    """Whether as many rows come out of a step as go in, even if bad ones are set aside."""
    match step:
        case physical.Project(columns=columns):
            return not any(may_fail(column.node) for column in columns)
        case rowsteps.RowIndex() | rowsteps.AsSchema():
            return True
    return False


def last_tasks(pipe: Pipe, rows: int) -> Pipe:
    """`pipe` without its first tasks, where the others are known to have `rows` rows; else as it is."""
    if pipe.rows is None or not pipe.splits or not all(isinstance(step, physical.Project) for step in pipe.steps):
        return pipe  # a step that numbers rows knows the tasks by their number
    first, found = pipe.tasks - 1, pipe.rows[-1]
    while first and found < rows:
        first -= 1
        found += pipe.rows[first]
    return replace(pipe, splits=pipe.splits[first:], tasks=pipe.tasks - first, rows=pipe.rows[first:])


def columns_alone(pipe: Pipe, names: tuple[str, ...]) -> Pipe | None:
    """A pipe that reads the same rows once more for these columns alone; None where that is not cheap, or may differ.

    It is cheap in Parquet files, as far as nothing but a Project that cannot fail comes after them.
    """
    if not isinstance(pipe.source, physical.ReadParquet) or pipe.inputs or pipe.branch is not None:
        return None
    needed = set(names)
    steps: list[physical.Step] = []
    for step in reversed(pipe.steps):
        if not isinstance(step, physical.Project):
            return None
        columns = tuple(column for column in step.columns if column.name in needed)
        if any(may_fail(column.node) for column in columns):
            return None
        needed = set().union(*(columns_of(column.node) for column in columns))
        steps.insert(0, physical.Project(columns))
    if not needed:
        return None
    source = replace(pipe.source, schema=pa.schema([field for field in pipe.source.schema if field.name in needed]))
    schema = pa.schema([field for field in pipe.schema if field.name in names])
    return replace(pipe, source=source, steps=tuple(steps), schema=schema)


class Shared(msgspec.Struct):
    """The stage of a map with several outputs, open up to its map step, and the steps and ends of its outputs."""

    number: int
    pipe: Pipe
    branches: dict[int, physical.Branch] = msgspec.field(default_factory=dict)

    def emitted(self, output: int) -> pa.Schema:
        """The columns of what is emitted to an output."""
        step = self.pipe.steps[-1]
        named = step.named if isinstance(step, physical.MapRecords) else ()
        return named[output - 1].schema if output else self.pipe.schema
