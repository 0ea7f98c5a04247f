"""How verbs that keep, number or turn rows as they are become stages: unique, row numbers, unpivot, concat."""

from __future__ import annotations

from collections.abc import Callable

from kernelmill.engine.plan import rowlogical, rowsteps
from kernelmill.engine.plan.logical import LogicalPlan
from kernelmill.engine.plan.pipes import Pipe, last_tasks
from kernelmill.engine.plan.stagebuilder import StageBuilder
from kernelmill.engine.plan.stages import Edge, EdgeKind
from kernelmill.engine.userfunctions import Partitioning

Open = Callable[[LogicalPlan], Pipe]


def open_rows(plan: rowlogical.RowNode, to: StageBuilder, opened: Open) -> Pipe:
    """The open stage whose rows are those of a node of `rowlogical`; `opened` plans what it reads."""
    match plan:
        case rowlogical.Concat():
            return _concat(plan, to, opened)
        case rowlogical.Unique(keys=keys):
            pipe = opened(plan.input)
            pipe = pipe.then(rowsteps.ThinRows(keys), pipe.schema) if plan.keep == "first" else pipe
            together = to.exchange(pipe, keys, Partitioning(), "unique")
            return together.then(rowsteps.UniqueRows(keys, plan.keep), plan.schema)
        case rowlogical.RowIndex():
            pipe, counts = to.counted(opened(plan.input), needs_total=False)
            return pipe.then(rowsteps.RowIndex(plan.name, plan.offset, counts), plan.schema)
        case rowlogical.EveryRow():
            pipe, counts = to.counted(opened(plan.input), needs_total=False)
            return pipe.then(rowsteps.EveryRow(plan.each, plan.offset, counts), plan.schema)
        case rowlogical.LastRows(rows=rows):
            pipe, counts = to.counted(last_tasks(opened(plan.input), rows), needs_total=True)
            return pipe.then(rowsteps.LastRows(rows, counts), plan.schema)
        case rowlogical.SampleRows():
            pipe, counts = to.counted(opened(plan.input), needs_total=True)
            return pipe.then(rowsteps.SampleRows(plan.rows, plan.fraction, plan.seed, counts), plan.schema)
        case rowlogical.Unpivot():
            step = rowsteps.Unpivot(plan.on, plan.index, plan.schema)
            return opened(plan.input).then(step, plan.schema)


def _concat(plan: rowlogical.Concat, to: StageBuilder, opened: Open) -> Pipe:
    """Tasks of which each has the rows of some tasks of the frames, all in their order."""
    frames = [to.unshared(opened(frame)) for frame in plan.frames]
    pipes = [pipe.then(rowsteps.AsSchema(plan.schema), plan.schema) for pipe in frames]
    tasks = sum(pipe.tasks for pipe in pipes)
    partitions = min(to.partition_count(tasks), tasks)
    edges, first = [], 0
    for pipe in pipes:
        share = rowsteps.ToShare(first, tasks, partitions)
        edges.append(Edge(to.close(pipe, share, partitions), EdgeKind.RANGE))
        first += pipe.tasks
    together = Pipe("concat", plan.schema, partitions, inputs=tuple(edges))
    return together.then(rowsteps.ReadInputs(len(edges)), plan.schema)
