"""What an aggregate leaves behind per group before it is finished: the state columns of partial rows.

A partial row holds the keys and then, aggregate by aggregate, these columns (T is the input's type):

    len, count        `name`        uint32   rows, or values that are not null (a table flushes before 2^31 rows)
    sum               `name`        int64, uint64, float64, a decimal of 38 digits or a duration
    product           `name`        int64, uint64 or float64
    mean              `name.sum`    float64, then `name.count` uint32
    min, max          `name`        T; null while no value was seen
    list              `name`        a list of T
    first, last       `name`        T, then `name.has` uint8, 0 where there was no row
    min_by, max_by    `name`        T, then `name.by` of the other column's type, null where no row had one
    n_unique          `name`        a list of T, the distinct values, null among them
    var               `name.count`  uint32, `name.mean` and `name.m2` float64: of squared differences from the mean
    corr              `name.count`  uint32, the two means, sums of squared differences and that of their products
    quantile          `name`        a list of float64 without nulls
    top_k, bottom_k   `name`        a list of T, at most k of them, the first of the order first

Planner and executors share this module, so that both sides of a shuffle agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from kernelmill.engine.aggregates import opened, product_type, result_of
from kernelmill.engine.aggregates import sum_type as sum_type
from kernelmill.engine.errors import Code, error
from kernelmill.engine.plan.physical import AggSpec

AGGREGATES = (
    *("len", "count", "sum", "product", "mean", "min", "max", "list", "first", "last", "min_by", "max_by"),
    *("n_unique", "var", "corr", "quantile", "top_k", "bottom_k"),
)
_WIDTHS = {"mean": 2, "first": 2, "last": 2, "min_by": 2, "max_by": 2, "var": 3, "corr": 6}
_CORR = ("mean_x", "mean_y", "m2_x", "m2_y", "c")


def partial_width(agg: AggSpec) -> int:
    """How many state columns `agg` has."""
    return _WIDTHS.get(agg.kind, 1)


def partial_fields(agg: AggSpec, dtype: pa.DataType | None, more: Sequence[pa.DataType] = ()) -> list[pa.Field[Any]]:
    """The state columns of `agg` over a column of `dtype` (None for len) and further ones of types `more`, in order."""
    name = agg.name
    if agg.kind in ("len", "count"):
        return [pa.field(name, pa.uint32(), nullable=False)]
    if dtype is None:
        raise error(Code.INTERNAL, f"aggregate {agg.kind!r} needs an input column")
    match agg.kind:
        case "sum":
            return [pa.field(name, sum_type(dtype), nullable=False)]
        case "product":
            return [pa.field(name, product_type(dtype), nullable=False)]
        case "mean":
            total = pa.field(f"{name}.sum", pa.float64(), nullable=False)
            return [total, pa.field(f"{name}.count", pa.uint32(), nullable=False)]
        case "min" | "max":
            return [pa.field(name, opened(dtype))]
        case "list":
            return [pa.field(name, pa.list_(dtype), nullable=False)]
        case "n_unique" | "top_k" | "bottom_k":
            return [pa.field(name, pa.list_(opened(dtype)), nullable=False)]
        case "quantile":
            return [pa.field(name, pa.list_(pa.float64()), nullable=False)]
        case "first" | "last":
            return [pa.field(name, opened(dtype)), pa.field(f"{name}.has", pa.uint8(), nullable=False)]
        case "min_by" | "max_by":
            return [pa.field(name, opened(dtype)), pa.field(f"{name}.by", opened(more[0]))]
        case "var" | "corr":
            parts = ("mean", "m2") if agg.kind == "var" else _CORR
            moments = [pa.field(f"{name}.{part}", pa.float64(), nullable=False) for part in parts]
            return [pa.field(f"{name}.count", pa.uint32(), nullable=False), *moments]
    raise error(Code.INTERNAL, f"no aggregate is called {agg.kind!r}")


def partial_schema(keys: Sequence[str], aggs: Sequence[AggSpec], input_schema: pa.Schema) -> pa.Schema:
    """The columns of partial rows: the keys as in `input_schema`, then each aggregate's state."""
    fields = [input_schema.field(key) for key in keys]
    for agg in aggs:
        more = [input_schema.field(name).type for name in agg.more]
        fields += partial_fields(agg, None if agg.column is None else input_schema.field(agg.column).type, more)
    return pa.schema(fields)


def finished_field(
    agg: AggSpec, field: pa.Field[Any] | None, more: Sequence[pa.Field[Any]] = (), *, may_be_empty: bool = False
) -> pa.Field[Any]:
    """The finished column of `agg` over the column `field` (None for len) and the further ones `more`.

    A group has at least one row unless it `may_be_empty`, so min, max and mean are null only where the input may be;
    and min and max of floats, which skip NaN, where a group has nothing else.
    """
    if agg.kind not in AGGREGATES:
        raise error(Code.INTERNAL, f"no aggregate is called {agg.kind!r}")
    taken = [] if field is None else [field, *more]
    return result_of(agg.kind, taken, may_be_empty=may_be_empty or agg.where is not None).with_name(agg.name)


def finished_schema(keys: Sequence[str], aggs: Sequence[AggSpec], input_schema: pa.Schema) -> pa.Schema:
    """The columns of finished rows: the keys as in `input_schema`, then one column an aggregate.

    Without keys there is one group, of all rows, also if there are none.
    """
    fields = [input_schema.field(key) for key in keys]
    for agg in aggs:
        field = None if agg.column is None else input_schema.field(agg.column)
        more = [input_schema.field(name) for name in agg.more]
        fields.append(finished_field(agg, field, more, may_be_empty=not keys))
    return pa.schema(fields)
