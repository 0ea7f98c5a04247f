"""The rewrite of n_unique into two groupings: no state has to hold all distinct values of a group then."""

from __future__ import annotations

import pyarrow as pa
from msgspec.structs import replace

from kernelmill.engine.plan.logical import Aggregate, LogicalPlan
from kernelmill.engine.plan.physical import AggSpec

# How the partial results of (key, value) are put together for the key
_TOGETHER = {"len": "sum", "count": "sum", "sum": "sum", "min": "min", "max": "max"}


def group_values_first(plan: LogicalPlan) -> LogicalPlan:
    """n_unique of one column: group by the keys and that column, then by the keys, counting groups.

    Only where the other aggregates give the same in two steps: sums of floats would be added in another order.
    """
    if not isinstance(plan, Aggregate):
        return plan
    columns = {agg.column for agg in plan.aggs if agg.kind == "n_unique"}
    if len(columns) != 1 or any(agg.where for agg in plan.aggs):
        return plan
    (column,) = columns
    how = plan.partitioning
    if column is None or column in plan.keys or how.function is not None or how.by_range:
        return plan
    others = [agg for agg in plan.aggs if agg.kind != "n_unique"]
    schema = plan.input.schema
    if not all(_adds_up(agg, None if agg.column is None else schema.field(agg.column).type) for agg in others):
        return plan
    names: dict[str, str] = {}
    for agg in others:
        name = agg.name
        while name in (*plan.keys, column, *names.values()):
            name += "'"
        names[agg.name] = name
    first = tuple(replace(agg, name=names[agg.name]) for agg in others)
    pairs = Aggregate(plan.input, (*plan.keys, column), first, origin=plan.origin)
    then = tuple(
        AggSpec(agg.name, "len", None)
        if agg.kind == "n_unique"
        else AggSpec(agg.name, _TOGETHER[agg.kind], names[agg.name])
        for agg in plan.aggs
    )
    return replace(plan, input=pairs, aggs=then)


def _adds_up(agg: AggSpec, dtype: pa.DataType | None) -> bool:
    is_float_sum = agg.kind == "sum" and dtype is not None and pa.types.is_floating(dtype)
    return agg.kind in _TOGETHER and not is_float_sum
