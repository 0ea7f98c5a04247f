"""Memory: how many tasks of a stage run at once, and what is left for blocks. It never decides what a task holds (I1).

A task's need is estimated from what bounds it: a map task from its table's flush sizes and its split, a merge from the
largest sub-partition. The numbers were measured as peak RSS of single tasks, see docs/design/memory.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from kernelmill.engine.errors import Code, error
from kernelmill.engine.plan.physical import CountTokens as CountTokensSource
from kernelmill.engine.plan.physical import MergeAggregate, PartialAggregate, Pipeline
from kernelmill.engine.plan.planner import JobPlan
from kernelmill.engine.settings import Settings
from kernelmill.engine.sizes import format_bytes

MIB = 1 << 20
_BASE_BYTES = 16 * MIB
_MAP_BYTES_MAX = 160 * MIB
_MERGE_BYTES_MAX = 192 * MIB
_PLAIN_BYTES_MAX = 96 * MIB


@dataclass(frozen=True)
class Grants:
    """slots_of_stage: tasks of each stage that may run at once; store_bytes: what blocks may hold in memory."""

    slots_of_stage: tuple[int, ...]
    store_bytes: int


def plan_grants(job: JobPlan, settings: Settings) -> Grants:
    """Share the job's memory out. Raises KM0401, naming the least that would do, if one task does not fit."""
    needs = [
        _need(pipeline, max((s.size_bytes for s in stage.splits), default=job.input_bytes // max(1, stage.tasks)))
        for stage, pipeline in zip(job.graph.stages, job.pipelines, strict=True)
    ]
    least = -(-max(needs) // MIB) * MIB  # whole, for the number named must do when it is given
    if least > settings.memory_bytes:
        what = f"this job needs at least {format_bytes(least, binary=True)} of memory"
        hint = f"it was given {format_bytes(settings.memory_bytes, binary=True)}: raise memory"
        raise error(Code.MEMORY_LIMIT, what, hint=hint)
    slots = tuple(max(1, min(settings.threads, settings.memory_bytes // need)) for need in needs)
    used = max(count * need for count, need in zip(slots, needs, strict=True))
    return Grants(slots, settings.memory_bytes - used)


def _need(pipeline: Pipeline, input_bytes: int) -> int:
    """Bytes that one task of a stage may hold, its input being `input_bytes` in files."""
    steps = {type(step) for step in pipeline.steps}
    if MergeAggregate in steps:
        return min(_MERGE_BYTES_MAX, _BASE_BYTES + 2 * input_bytes)
    if PartialAggregate in steps or isinstance(pipeline.source, CountTokensSource):
        return min(_MAP_BYTES_MAX, _BASE_BYTES + 3 * input_bytes)
    return min(_PLAIN_BYTES_MAX, _BASE_BYTES + 4 * input_bytes)
