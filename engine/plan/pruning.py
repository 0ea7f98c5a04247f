"""Projection pushdown: each node is left with the columns that something above it asks for."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pyarrow as pa
from msgspec.structs import replace

from kernelmill.engine.errors import Code, error
from kernelmill.engine.plan.common import Common
from kernelmill.engine.plan.joins import Join
from kernelmill.engine.plan.logical import (
    Aggregate,
    CountTokens,
    Explode,
    Filter,
    Limit,
    LogicalPlan,
    Project,
    ScanFiles,
    ScanParquet,
    ScanSource,
    ScanTable,
    ScanText,
    SinkParquet,
    SinkRows,
    Sort,
    TokenizeExplode,
    keep,
    with_input,
    with_inputs,
)
from kernelmill.engine.plan.rowlogical import Concat, EveryRow, LastRows, RowIndex, SampleRows, Unique, Unpivot
from kernelmill.engine.plan.userlogical import (
    CombineByKey,
    CombineRows,
    GatherGroups,
    MapBatches,
    MapColumn,
    MapGroups,
    MapOutput,
    MapRecords,
    Partition,
    ReduceGroups,
    SortPartitions,
)
from kernelmill.engine.typing import columns_of


def prune_columns(plan: LogicalPlan) -> LogicalPlan:
    """The same plan, its scans and Projects without the columns that nobody uses; the schema at the top stays."""
    return _prune(plan, set(plan.schema.names))


def _prune(plan: LogicalPlan, needed: set[str]) -> LogicalPlan:
    """`plan` with at least the columns `needed`, in their old order."""
    match plan:
        case ScanText() | ScanParquet() | ScanFiles() | ScanTable() | ScanSource() | Common():
            return _prune_scan(plan, needed)
        case Project():
            columns = tuple(column for column in plan.columns if column.name in needed) or plan.columns[:1]
            below = _prune(plan.input, _columns_of(column.node for column in columns))
            if len(columns) < len(plan.columns):
                return Project(below, columns, origin=plan.origin)
            return with_input(plan, below)
        case Filter():
            return with_input(plan, _prune(plan.input, needed | columns_of(plan.predicate)))
        case Explode():
            return with_input(plan, _prune(plan.input, needed | {plan.column}))
        case Aggregate():
            aggs = tuple(agg for agg in plan.aggs if agg.name in needed)
            if not plan.keys:
                aggs = aggs or plan.aggs[:1]
            below = _prune(plan.input, {*plan.keys, *(name for agg in aggs for name in agg.columns)})
            return with_input(plan if len(aggs) == len(plan.aggs) else replace(plan, aggs=aggs), below)
        case Sort():
            return with_input(plan, _prune(plan.input, needed | {name for name, _, _ in plan.keys}))
        case Limit() | EveryRow() | LastRows() | SampleRows():
            return with_input(plan, _prune(plan.input, needed))
        case Unique(keys=keys):
            return with_input(plan, _prune(plan.input, needed | set(keys)))
        case RowIndex(name=name):
            below = _prune(plan.input, needed - {name})
            return with_input(plan, below) if name in needed else below
        case Concat():
            kept = [name for name in plan.schema.names if name in needed] or plan.schema.names[:1]
            return with_inputs(plan, tuple(_exactly(_prune(frame, set(kept)), kept) for frame in plan.frames))
        case Unpivot():
            used = tuple(name for name in plan.index if name in needed)
            below = _prune(plan.input, {*used, *plan.on})
            return with_input(plan if len(used) == len(plan.index) else replace(plan, index=used), below)
        case SinkParquet() | SinkRows():
            return with_input(plan, _prune(plan.input, set(plan.schema.names)))
        case Join():
            return _prune_join(plan, needed)
        case MapRecords() | MapOutput() | CombineRows() | CombineByKey() | ReduceGroups() | MapBatches() | MapGroups():
            return with_input(plan, _prune(plan.input, set(plan.input.schema.names)))
        case MapColumn(column=column, made=made):
            if made.name not in needed:
                return _prune(plan.input, needed)
            return with_input(plan, _prune(plan.input, needed - {made.name} | {column}))
        case Partition(keys=keys) | SortPartitions(keys=keys) | GatherGroups(keys=keys):
            return with_input(plan, _prune(plan.input, needed | set(keys)))
        case CountTokens():
            return plan
        case TokenizeExplode():
            others = tuple(other for other in plan.others if other.name in needed)
            names = tuple(name for name in plan.names if name in needed or name == plan.name)
            below = _prune(plan.input, _columns_of([plan.tokens, *(other.node for other in others)]))
            if len(names) < len(plan.names):
                plan = replace(plan, others=others, names=names, input=below)
            return with_input(plan, below)
        case _:
            raise error(Code.INTERNAL, f"{type(plan).__name__} has no rule for its columns")


def _prune_join(plan: Join, needed: set[str]) -> LogicalPlan:
    """Both sides with their keys and the columns that are asked for."""
    columns = tuple(column for column in plan.columns if column.name in needed) or plan.columns[:1]
    left = {*plan.left_on, *(column.column for column in columns if not column.from_right)}
    right = {*plan.right_on, *(column.column for column in columns if column.from_right)}
    if plan.asof is not None:
        left.add(plan.asof.probe_on)
        right.add(plan.asof.build_on)
    if len(columns) < len(plan.columns):
        plan = replace(plan, columns=columns)
    return with_inputs(plan, (_prune(plan.left, left), _prune(plan.right, right)))


def _exactly(plan: LogicalPlan, names: list[str]) -> LogicalPlan:
    return plan if plan.schema.names == names else Project(plan, keep(plan.schema, names), origin=plan.origin)


def _prune_scan(
    plan: ScanText | ScanParquet | ScanFiles | ScanTable | ScanSource | Common, needed: set[str]
) -> LogicalPlan:
    if isinstance(plan, ScanText):
        options = plan.options
        path = options.path_column if options.path_column in needed else None
        offset = options.offset_column if options.offset_column in needed else None
        if (path, offset) == (options.path_column, options.offset_column):
            return plan
        fields = {**{name: getattr(options, name) for name in options.__struct_fields__}}
        return replace(plan, options=type(options)(**{**fields, "path_column": path, "offset_column": offset}))
    kept = [field for field in plan.columns if field.name in needed] or [_cheapest(plan.columns)]
    return plan if len(kept) == len(plan.columns) else replace(plan, columns=pa.schema(kept))


def _cheapest(schema: pa.Schema) -> pa.Field[Any]:
    """The column to read where only the number of rows matters: the narrowest of fixed width, else the first."""

    def width(field: pa.Field[Any]) -> int:
        try:
            return int(field.type.bit_width)
        except ValueError:  # what pyarrow says of types without one
            return 1 << 30

    return min(schema, key=width)


def _columns_of(nodes: Iterable[object]) -> set[str]:
    return set().union(*(columns_of(node) for node in nodes))  # type: ignore[arg-type]
