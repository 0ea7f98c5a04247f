"""Memory: how many tasks of a stage run at once, and what is left for blocks. It never decides what a task holds (I1).

A task's need is estimated from what bounds it: a map task from its table's flush sizes and its split, a merge from the
largest sub-partition. The numbers were measured as peak RSS of single tasks, see docs/design/memory.md. Steps that hold
rows (a sort, a table of a group) spill, or fail, beyond what they are given: at least a little, and of what is left up
to half.
"""

from __future__ import annotations

from typing import NamedTuple

from kernelmill.engine.compiling import side_bytes
from kernelmill.engine.errors import Code, error
from kernelmill.engine.exec.branches import HELD_BYTES_MAX
from kernelmill.engine.plan.physical import (
    CombineRows,
    CountTokens,
    GatherGroups,
    Join,
    MapBatches,
    MapGroups,
    MapRecords,
    MergeAggregate,
    MergeCombined,
    PartialAggregate,
    Pipeline,
    ReduceGroups,
    Sort,
    Step,
    TokenizeExplode,
    ToParquet,
    has_lists,
)
from kernelmill.engine.plan.planner import JobPlan
from kernelmill.engine.plan.rowsteps import ThinRows, UniqueRows
from kernelmill.engine.settings import Settings
from kernelmill.engine.sizes import format_bytes

MIB = 1 << 20
_BASE_BYTES = 24 * MIB


class _Cost(NamedTuple):
    """Bytes a task holds for each byte of its input in files, up to a bound that its tables' flush sizes set."""

    per_input_byte: int
    bytes_max: int


# The bounds are measured: growth of RSS by single tasks over inputs whose keys are all different.
_COUNT_TOKENS = _Cost(3, 224 * MIB)
_COMBINE_ONE_KEY, _COMBINE_KEYS = _Cost(5, 160 * MIB), _Cost(8, 288 * MIB)
_MERGE_ONE_KEY, _MERGE_KEYS = _Cost(3, 232 * MIB), _Cost(6, 448 * MIB)
_JOIN = _Cost(6, 416 * MIB)  # a sub-partition's rows twice, their keys in a table, and a batch of joined rows
_JOIN_SHARED = _Cost(5, 256 * MIB)  # one build side for all tasks, of up to 64 MiB before it is laid out
_STATES = _Cost(1, 40 * MIB)  # a column of states of a user's fold, with room to grow, and what becomes of it
_STATES_AS_PYTHON = _Cost(6, 384 * MIB)  # states that are objects: 2 M of some 200 bytes
_NO_TABLE = _Cost(4, 96 * MIB)
_COMBINE_LISTS = _Cost(12, 320 * MIB)  # a table, and three copies of what waits to become lists
_LISTS_LEAST = _Cost(12, 128 * MIB)  # two or three copies of what is merged at once
_PYTHON_VALUES = _Cost(6, 160 * MIB)  # emits as Python objects, 64 Ki of them, beside their rows
_WRITING_BYTES, _STORE_SHARE_LEAST = 64 * MIB, 4  # a row group's second copy, at the cost of what blocks may hold
_HELD_LEAST = _Cost(6, 32 * MIB)  # rows to sort; more of them are spilled
_HELD_MOST = _Cost(8, 128 * MIB)  # three copies of rows that are larger than in their files; at least the bound
_HELD_MOST_EMITTED = _Cost(32, 128 * MIB)  # words and offsets of 100 MB of source: 200 MB, 12 M rows


class Grants(NamedTuple):
    """slots_of_stage: tasks of each stage that may run at once; store_bytes: what blocks may hold in memory.

    held_bytes_of_stage: what each step of a task that holds rows may hold of them.
    """

    slots_of_stage: tuple[int, ...]
    store_bytes: int
    held_bytes_of_stage: tuple[int, ...]


def plan_grants(job: JobPlan, settings: Settings, aside_bytes: int = 0) -> Grants:
    """Share the job's memory out, but for `aside_bytes` and what side data takes.

    Raises KM0401, naming the least, if one task does not fit.
    """
    side = side_bytes(job.functions)
    memory_bytes = settings.memory_bytes - aside_bytes - side
    inputs = [
        max((s.size_bytes for s in stage.splits), default=job.input_bytes // max(1, stage.tasks))
        for stage in job.graph.stages
    ]
    held = [_held_least(pipeline, size) for pipeline, size in zip(job.pipelines, inputs, strict=True)]
    needs = [_need(p, size) + least for p, size, least in zip(job.pipelines, inputs, held, strict=True)]
    least = -(-(max(needs) + side) // MIB) * MIB  # whole, for the number named must do when it is given
    if least - side > memory_bytes:
        what = f"this job needs at least {format_bytes(least, binary=True)} of memory"
        hint = f"it was given {format_bytes(settings.memory_bytes, binary=True)}: raise memory="
        raise error(Code.MEMORY_LIMIT, what, hint=hint)
    slots = tuple(max(1, min(settings.threads, memory_bytes // need)) for need in needs)
    used = max(count * need for count, need in zip(slots, needs, strict=True))
    for_holding = (memory_bytes - used) // 2
    most = _HELD_MOST_EMITTED if any(_makes_rows(pipeline) for pipeline in job.pipelines) else _HELD_MOST
    more = [
        min(for_holding // count, max(most.bytes_max, most.per_input_byte * size)) if held_bytes else 0
        for count, size, held_bytes in zip(slots, inputs, held, strict=True)
    ]
    used = max(count * (need + extra) for count, need, extra in zip(slots, needs, more, strict=True))
    steps = [max(1, len(_holding_steps(pipeline))) for pipeline in job.pipelines]
    each = tuple((a + b) // n for a, b, n in zip(held, more, steps, strict=True))
    left = memory_bytes - used
    writing = max((n for p, n in zip(job.pipelines, slots, strict=True) if _holds_and_writes(p)), default=0)
    return Grants(slots, max(left - writing * _WRITING_BYTES, left // _STORE_SHARE_LEAST), each)


def _holds_and_writes(pipeline: Pipeline) -> bool:
    """Whether tasks hold rows while they write a file: a row group lies beside them, as it came and in one piece."""
    return isinstance(pipeline.end, ToParquet) and any(isinstance(step, Sort) for step in pipeline.steps)


def _holding_steps(pipeline: Pipeline) -> list[Step]:
    """The steps that hold rows at the same time."""
    return [step for step in pipeline.steps if isinstance(step, Sort | GatherGroups | MapGroups) or _makes_lists(step)]


def _makes_lists(step: Step) -> bool:
    """Whether a step must hold all the values of a key."""
    match step:
        case ReduceGroups(kind=kind):
            return kind == "list"
        case MergeAggregate(aggs=aggs):
            return has_lists(aggs)
        case _:
            return False


def _makes_rows(pipeline: Pipeline) -> bool:
    """Whether there may be far more rows than in the files: a record's emits, a line's words."""
    return any(isinstance(step, MapRecords | MapBatches | TokenizeExplode) for step in pipeline.steps)


def _held_least(pipeline: Pipeline, input_bytes: int) -> int:
    """Bytes of rows that a task must be able to hold, its input being `input_bytes` in files."""
    costs = [_LISTS_LEAST if isinstance(s, MergeAggregate) else _HELD_LEAST for s in _holding_steps(pipeline)]
    # each step gets the same share, so the one that needs most tells
    return len(costs) * max((min(c.bytes_max, max(MIB, c.per_input_byte * input_bytes)) for c in costs), default=0)


def _need(pipeline: Pipeline, input_bytes: int) -> int:
    """Bytes that one task of a stage may take beside the rows it holds: its costliest step decides.

    input_bytes: its input's size in files.
    """
    costs = [_COUNT_TOKENS if isinstance(pipeline.source, CountTokens) else _NO_TABLE]
    costs += _costs(pipeline.steps, is_partitioned=pipeline.source is None)
    # A branch works while the main steps hold what they hold, one branch at a time; each holds rows back.
    beside = max((_most(_costs(branch.steps), input_bytes) for branch in pipeline.branches), default=0)
    return _most(costs, input_bytes) + beside + len(pipeline.branches) * HELD_BYTES_MAX


def _most(costs: list[_Cost], input_bytes: int) -> int:
    return max((min(cost.bytes_max, _BASE_BYTES + cost.per_input_byte * input_bytes) for cost in costs), default=0)


def _costs(steps: tuple[Step, ...], *, is_partitioned: bool = False) -> list[_Cost]:
    """What each step costs; `is_partitioned`: the first one reads blocks, a join then two partitions of them."""
    costs = []
    for step in steps:
        match step:
            case PartialAggregate(aggs=aggs) if has_lists(aggs):
                costs.append(_COMBINE_LISTS)
            case PartialAggregate(keys=keys) | ThinRows(keys=keys):
                costs.append(_COMBINE_KEYS if len(keys) > 1 else _COMBINE_ONE_KEY)
            case MergeAggregate(keys=keys) | UniqueRows(keys=keys):
                costs.append(_MERGE_KEYS if len(keys) > 1 else _MERGE_ONE_KEY)
            case Join():
                costs.append(_JOIN if is_partitioned and step is steps[0] else _JOIN_SHARED)
            case CombineRows(keys=keys):
                costs += [_PYTHON_VALUES, _with_states(_COMBINE_KEYS if len(keys) > 1 else _COMBINE_ONE_KEY, step)]
            case MergeCombined(combined=combined, keys=keys):
                costs.append(_with_states(_MERGE_KEYS if len(keys) > 1 else _MERGE_ONE_KEY, combined))
            case MapRecords() | ReduceGroups():
                costs.append(_PYTHON_VALUES)
    return costs


def _with_states(table: _Cost, step: CombineRows) -> _Cost:
    """What a key table costs with the states of a user's fold beside it."""
    one = _STATES_AS_PYTHON if step.state == "encoded" else _STATES
    columns = len(step.schema) - len(step.keys)
    return _Cost(table.per_input_byte + columns * one.per_input_byte, table.bytes_max + columns * one.bytes_max)
