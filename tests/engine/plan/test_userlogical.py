"""Plans that call users' functions: what they look like, what stays below them, and their operators as bytes."""

from __future__ import annotations

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.plan import physical
from kernelmill.engine.plan.codec import decode_pipeline, encode_pipeline
from kernelmill.engine.plan.explain import plan_text
from kernelmill.engine.plan.optimizer import optimize
from kernelmill.engine.plan.physical import Pipeline, UserCall
from kernelmill.engine.plan.planner import plan_job

SCHEMA = pa.schema([("k", pa.string()), ("v", pa.int64())])
CALL = UserCall(2, "map", "f", "a.py:3")
STEPS = [
    physical.MapRecords(CALL, ("line",), ("k",), ("v",), True, False, SCHEMA),
    physical.CombineRows(CALL, ("k",), ("v",), False, True, SCHEMA),
    physical.GatherGroups(("k",)),
    physical.ReduceGroups("function", CALL, ("k",), ("v",), False, True, False, SCHEMA),
    physical.ReduceGroups("list", None, ("k",), ("v",), False, False, False, SCHEMA),
    physical.MapBatches(CALL, SCHEMA),
    physical.MapGroups(CALL, ("k",), SCHEMA),
]
FRAME = km.from_arrow(pa.table({"k": ["a"], "v": [1], "w": [2]}))


def map(row, emit):
    emit(row.k, row.v)


def job_of(reduce, **options):
    schema = {"key": "string", "value": "int64"}
    return km.MapReduce(map, reduce, schema=schema, compile="never", **options)


def optimized(frame):
    return plan_text(optimize(frame._plan), origins=False)


@pytest.mark.parametrize("step", STEPS)
def test_steps_come_back_equal(step):
    for end in (physical.ToBlocks(("k",), CALL, True), physical.ToBlocks(("k",))):
        pipeline = Pipeline(None, (step,), end, SCHEMA)
        data = encode_pipeline(pipeline)
        assert decode_pipeline(data) == pipeline
        assert encode_pipeline(decode_pipeline(data)) == data


def test_a_map_keeps_all_columns_of_its_input():
    plan = optimized(FRAME.pipe(job_of("sum")).select("key"))
    assert "ScanTable <memory>: k: string, v: int64, w: int64" in plan


def test_a_filter_of_keys_goes_below_an_aggregate_and_no_further():
    lines = optimized(FRAME.pipe(job_of("sum", order=None)).filter(km.col("key") == "a")).split("\n")
    assert [line.split()[0] for line in lines] == ["Aggregate", "Filter", "MapRecords", "ScanTable"]


@pytest.mark.parametrize("reduce", [lambda key, values, emit: None, "unique"])
def test_a_filter_stays_above_a_reduce(reduce):
    lines = optimized(FRAME.pipe(job_of(reduce)).filter(km.col("key") == "a")).split("\n")
    heads = ["Filter", "ReduceGroups", "SortPartitions", "Partition", "MapRecords", "ScanTable"]
    assert [line.split()[0] for line in lines] == heads


def test_a_limit_stays_above_a_map():
    lines = optimized(FRAME.pipe(job_of(None, order=None)).head(1)).split("\n")
    assert [line.split()[0] for line in lines] == ["Limit", "MapRecords", "ScanTable"]


def test_a_function_used_twice_is_one_of_the_job():
    job = job_of(None, order=None)
    twice = FRAME.pipe(job).select(k="key", v="value").pipe(job)
    plan = plan_job(twice._plan, split_bytes=1 << 20)
    assert [function.given for function in plan.functions] == [map]


def test_partitions_of_a_job_are_those_it_asks_for():
    plan = plan_job(FRAME.pipe(job_of("sum", partitions=5))._plan, split_bytes=1 << 20, partitions=2)
    assert [stage.partitions for stage in plan.graph.stages] == [5, 1]
