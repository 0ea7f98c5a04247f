"""What an aggregate leaves behind per group before it is finished: the state columns of partial rows.

A partial row holds the keys and then, aggregate by aggregate, these columns:

    len, count   `name`       uint32   rows, or values that are not null (a table flushes before 2^31 rows)
    sum          `name`       int64, uint64 or float64
    mean         `name.sum`   float64, then `name.count` uint32
    min, max     `name`       the input's type; null while no value was seen
    list         `name`       a list of the input's type

Planner and executors share this module, so that both sides of a shuffle agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from kernelmill.engine.errors import Code, error
from kernelmill.engine.plan.physical import AggSpec

AGGREGATES = ("len", "count", "sum", "mean", "min", "max", "list")


def sum_type(dtype: pa.DataType) -> pa.DataType:
    """The type of the sum of values of `dtype`: int64, uint64 or float64; KM0102 for what cannot be summed."""
    if pa.types.is_signed_integer(dtype) or pa.types.is_boolean(dtype):
        return pa.int64()
    if pa.types.is_unsigned_integer(dtype):
        return pa.uint64()
    if pa.types.is_floating(dtype):
        return pa.float64()
    raise error(Code.TYPE_MISMATCH, f"cannot add up values of type {dtype}", hint="cast it to a number first")


def partial_fields(agg: AggSpec, dtype: pa.DataType | None) -> list[pa.Field[Any]]:
    """The state columns of `agg` over a column of `dtype` (None for len), in order."""
    if agg.kind in ("len", "count"):
        return [pa.field(agg.name, pa.uint32(), nullable=False)]
    if dtype is None:
        raise error(Code.INTERNAL, f"aggregate {agg.kind!r} needs an input column")
    if agg.kind == "sum":
        return [pa.field(agg.name, sum_type(dtype), nullable=False)]
    if agg.kind == "mean":
        sum_type(dtype)
        total = pa.field(f"{agg.name}.sum", pa.float64(), nullable=False)
        return [total, pa.field(f"{agg.name}.count", pa.uint32(), nullable=False)]
    if agg.kind in ("min", "max"):
        return [pa.field(agg.name, dtype)]
    if agg.kind == "list":
        return [pa.field(agg.name, pa.list_(dtype), nullable=False)]
    raise error(Code.INTERNAL, f"no aggregate is called {agg.kind!r}")


def partial_schema(keys: Sequence[str], aggs: Sequence[AggSpec], input_schema: pa.Schema) -> pa.Schema:
    """The columns of partial rows: the keys as in `input_schema`, then each aggregate's state."""
    fields = [input_schema.field(key) for key in keys]
    for agg in aggs:
        fields += partial_fields(agg, None if agg.column is None else input_schema.field(agg.column).type)
    return pa.schema(fields)


def finished_field(agg: AggSpec, field: pa.Field[Any] | None, *, may_be_empty: bool = False) -> pa.Field[Any]:
    """The finished column of `agg` over the column `field` (None for len).

    A group has at least one row unless it `may_be_empty`, so min, max and mean are null only where the input may be;
    and min and max of floats, which skip NaN, where a group has nothing else.
    """
    if agg.kind in ("len", "count"):
        return pa.field(agg.name, pa.int64(), nullable=False)
    if field is None:
        raise error(Code.INTERNAL, f"aggregate {agg.kind!r} needs an input column")
    if agg.kind == "sum":
        return pa.field(agg.name, sum_type(field.type), nullable=False)
    if agg.kind == "mean":
        sum_type(field.type)
        return pa.field(agg.name, pa.float64(), nullable=field.nullable or may_be_empty)
    if agg.kind in ("min", "max"):
        nullable = field.nullable or may_be_empty or pa.types.is_floating(field.type)
        return pa.field(agg.name, field.type, nullable=nullable)
    if agg.kind == "list":
        return pa.field(agg.name, pa.list_(field.type), nullable=False)
    raise error(Code.INTERNAL, f"no aggregate is called {agg.kind!r}")


def finished_schema(keys: Sequence[str], aggs: Sequence[AggSpec], input_schema: pa.Schema) -> pa.Schema:
    """The columns of finished rows: the keys as in `input_schema`, then one column an aggregate.

    Without keys there is one group, of all rows, also if there are none.
    """
    fields = [input_schema.field(key) for key in keys]
    for agg in aggs:
        field = None if agg.column is None else input_schema.field(agg.column)
        fields.append(finished_field(agg, field, may_be_empty=not keys))
    return pa.schema(fields)
