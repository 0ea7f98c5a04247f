"""States of aggregates: what partial rows hold, and what finished rows are."""

from __future__ import annotations

import pyarrow as pa
import pytest

from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.plan.partial import AGGREGATES, finished_field, partial_fields, sum_type
from kernelmill.engine.plan.physical import AggSpec

F32 = pa.field("x", pa.float32(), nullable=False)
I16 = pa.field("n", pa.int16(), nullable=False)


def states(kind: str, dtype: pa.DataType | None) -> list[str]:
    return [f"{f.name}: {f.type}" for f in partial_fields(AggSpec("a", kind, None if dtype is None else "n"), dtype)]


def test_states_of_each_aggregate():
    assert states("len", None) == states("count", pa.string()) == ["a: uint32"]
    assert states("sum", pa.int8()) == states("sum", pa.bool_()) == ["a: int64"]
    assert states("sum", pa.uint8()) == ["a: uint64"]
    assert states("sum", pa.float32()) == ["a: double"]
    assert states("mean", pa.int8()) == ["a.sum: double", "a.count: uint32"]
    assert states("min", pa.date32()) == states("max", pa.date32()) == ["a: date32[day]"]


@pytest.mark.parametrize("kind", AGGREGATES)
def test_finished_columns_hold_nulls_only_where_a_group_can_give_none(kind):
    more = [F32] if kind in ("min_by", "max_by", "corr") else []
    field = finished_field(AggSpec("a", kind, "n"), I16, more)
    assert (field.name, field.nullable) == ("a", kind == "var")  # that of one value is null
    never = ("len", "count", "n_unique", "sum", "product", "corr", "list", "top_k", "bottom_k")
    assert finished_field(AggSpec("a", kind, "n"), I16.with_nullable(True), more).nullable is (kind not in never)
    filtered = AggSpec("a", kind, "n", where="b")
    assert finished_field(filtered, I16, more).nullable is (kind not in never)


def test_the_least_of_floats_is_null_where_all_are_nan():
    assert finished_field(AggSpec("a", "min", "x"), F32).nullable
    assert not finished_field(AggSpec("a", "sum", "x"), F32).nullable


@pytest.mark.parametrize("dtype", [pa.string(), pa.date32(), pa.list_(pa.int64())])
def test_what_cannot_be_added_is_a_type_mismatch(dtype):
    with pytest.raises(KernelmillError) as caught:
        sum_type(dtype)
    assert caught.value.code is Code.TYPE_MISMATCH


@pytest.mark.parametrize(("kind", "dtype"), [("median", pa.int64()), ("sum", None)])
def test_an_aggregate_that_does_not_exist_is_a_bug(kind, dtype):
    with pytest.raises(KernelmillError) as caught:
        partial_fields(AggSpec("a", kind, "n"), dtype)
    assert caught.value.code is Code.INTERNAL
