"""Joins as plans: names and types of what comes out, filters that sink, which side builds, columns nobody asks for."""

from __future__ import annotations

from textwrap import dedent

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.plan import estimates, physical, rules, stagebuilder
from kernelmill.engine.plan.explain import plan_text
from kernelmill.engine.plan.fileformats import CsvFormat, TextOptions
from kernelmill.engine.plan.joinsides import sides_of
from kernelmill.engine.plan.logical import ScanFiles
from kernelmill.engine.plan.optimizer import apply, optimize
from kernelmill.engine.plan.planner import plan_job
from kernelmill.engine.plan.stages import EdgeKind
from kernelmill.engine.splits import FileStamp

LEFT = pa.schema([pa.field("k", pa.int64(), nullable=False), pa.field("a", pa.string(), nullable=False)])
RIGHT = pa.schema([("k", pa.int32()), ("a", pa.string()), ("c", pa.float64())])


@pytest.fixture
def left():
    return km.from_arrow(LEFT.empty_table())


@pytest.fixture
def right():
    return km.from_arrow(RIGHT.empty_table())


def of_rows(schema, rows):
    return km.from_arrow(pa.table([pa.nulls(rows, f.type) for f in schema], names=schema.names))


def plan(lines: str) -> str:
    return dedent(lines).strip("\n")


def code_of(call):
    with pytest.raises(KernelmillError) as caught:
        call()
    return caught.value.code


# What comes out -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "names"),
    [
        ("inner", ["k", "a", "a_right", "c"]),
        ("left", ["k", "a", "a_right", "c"]),
        ("right", ["a", "k", "a_right", "c"]),
        ("full", ["k", "a", "k_right", "a_right", "c"]),
        ("semi", ["k", "a"]),
        ("anti", ["k", "a"]),
    ],
)
def test_columns_are_those_of_polars(left, right, how, names):
    pl = pytest.importorskip("polars")
    assert left.join(right, "k", how).columns == names
    frames = pl.DataFrame(LEFT.empty_table()), pl.DataFrame(RIGHT.empty_table()).cast({"k": pl.Int64})
    assert frames[0].join(frames[1], on="k", how=how).columns == names
    other = left.join(right, left_on="k", right_on=km.col("k"), how=how, suffix="2").columns
    assert other == [name.replace("_right", "2") for name in names]


def test_columns_beside_which_a_side_may_be_missing_are_nullable(left, right):
    nullable = {how: [left.join(right, "k", how).schema.is_nullable(n) for n in "ka"] for how in ("inner", "left")}
    assert nullable == {"inner": [False, False], "left": [False, False]}
    joined = left.join(right, "k", "full").schema
    assert [joined.is_nullable(name) for name in "ka"] == [True, True]
    assert right.join(left, "k", "left").schema.is_nullable("a_right")


def test_keys_may_be_expressions_and_do_not_come_out(left, right):
    joined = left.join(right, left_on=km.col("k") + 1, right_on="k")
    assert joined.columns == ["k", "a", "a_right", "c"]
    both = left.join(right, on=[km.col("k") % 2, "a"], how="full")
    assert both.columns == ["k", "a", "k_right", "a_right", "c"]


def test_a_join_is_one_line_of_the_plan(left, right):
    found = plan_text(left.join(right, ["k", "a"], "left", validate="m:1")._plan, origins=False)
    assert found == plan("""
        Join left on k, a, m:1: k: int64, a: string, c: float64
          ScanTable <memory>: k: int64, a: string
          ScanTable <memory>: k: int32, a: string, c: float64
        """)


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (lambda a, b: a.join(b, "nope"), Code.COLUMN_NOT_FOUND),
        (lambda a, b: a.join(b, "c"), Code.COLUMN_NOT_FOUND),
        (lambda a, b: a.join(b), Code.BAD_SETTING),
        (lambda a, b: a.join(b, "k", left_on="k", right_on="k"), Code.BAD_SETTING),
        (lambda a, b: a.join(b, left_on="k"), Code.BAD_SETTING),
        (lambda a, b: a.join(b, []), Code.BAD_SETTING),
        (lambda a, b: a.join(b, left_on=["k", "a"], right_on="k"), Code.BAD_SETTING),
        (lambda a, b: a.join(b, "k", "outer"), Code.BAD_SETTING),
        (lambda a, b: a.join(b, "k", "cross"), Code.BAD_SETTING),
        (lambda a, b: a.join(b, "k", validate="1:n"), Code.BAD_SETTING),
        (lambda a, b: a.join(b, "k", suffix=""), Code.BAD_SETTING),
        (lambda a, b: a.join(b, "k", nulls_equal=1), Code.BAD_SETTING),
        (lambda a, b: a.join(pa.table({"k": [1]}), "k"), Code.TYPE_MISMATCH),
        (lambda a, b: a.join(b, left_on="k", right_on="c"), Code.TYPE_MISMATCH),
        (lambda a, b: a.join(b, left_on="k", right_on="a"), Code.TYPE_MISMATCH),
        (lambda a, b: a.join(b.cast({"k": "uint64"}), "k"), Code.TYPE_MISMATCH),
        (lambda a, b: a.rename({"a": "a_right"}).join(a, "k").join(b, "k"), Code.DUPLICATE_COLUMN),
    ],
)
def test_a_wrong_join_is_an_error_of_the_verb(left, right, wrong, code):
    assert code_of(lambda: wrong(left, right)) is code


# Filters -------------------------------------------------------------------------------------------------------------


def sunk(lazy):
    return plan_text(
        apply(apply(lazy._plan, rules.push_filter_through_join), rules.push_filter_through_join), origins=False
    )


def test_tests_of_one_side_sink_below_an_inner_join_and_those_of_keys_on_both(left, right):
    right = right.cast({"k": "int64"})
    test = (km.col("k") > 1) & (km.col("a") != "x") & (km.col("c") < 2.0) & (km.col("a") == km.col("a_right"))
    assert sunk(left.join(right, "k").filter(test)) == plan("""
        Filter col("a") == col("a_right")
          Join inner on k: k: int64, a: string, a_right: string, c: float64
            Filter (col("k") > 1) & (col("a") != "x")
              ScanTable <memory>: k: int64, a: string
            Filter col("c") < 2.0
              Filter col("k") > 1
                Project k=col("k").cast("int64"), a, c
                  ScanTable <memory>: k: int32, a: string, c: float64
        """)


def test_keys_of_another_type_are_not_tested_on_the_other_side(left, right):
    assert sunk(left.join(right, "k").filter(km.col("k") > 1 << 40)) == plan("""
        Join inner on k: k: int64, a: string, a_right: string, c: float64
          Filter col("k") > 1099511627776
            ScanTable <memory>: k: int64, a: string
          ScanTable <memory>: k: int32, a: string, c: float64
        """)


def test_of_a_left_join_only_tests_of_the_left_side_sink(left, right):
    test = (km.col("a") != "x") & km.col("c").is_null()
    assert sunk(left.join(right, "k", "left").filter(test)) == plan("""
        Filter col("c").is_null()
          Join left on k: k: int64, a: string, a_right: string, c: float64
            Filter col("a") != "x"
              ScanTable <memory>: k: int64, a: string
            ScanTable <memory>: k: int32, a: string, c: float64
        """)


def test_of_a_right_join_only_tests_of_the_right_side_sink_and_of_a_full_join_none(left, right):
    test = (km.col("a") != "x") & (km.col("c") > 0.0)
    found = sunk(left.join(right, "k", "right").filter(test))
    assert found.splitlines()[0] == 'Filter col("a") != "x"' and '    Filter col("c") > 0.0' in found.splitlines()
    full = left.join(right, "k", "full").filter(test)
    assert apply(full._plan, rules.push_filter_through_join) is full._plan


@pytest.mark.parametrize("how", ["semi", "anti"])
def test_filters_sink_to_the_left_of_semi_and_anti_joins(left, right, how):
    assert sunk(left.join(right, "k", how).filter(km.col("a") == "x")).splitlines()[1] == '  Filter col("a") == "x"'


def test_a_test_that_may_fail_stays_above_the_join(left, right):
    lazy = left.join(right, "k").filter(km.col("a").cast("int64") > 3)
    assert apply(lazy._plan, rules.push_filter_through_join) is lazy._plan


def test_columns_that_nobody_asks_for_are_not_read(left, right):
    found = plan_text(optimize(left.join(right, "k").select("c")._plan), origins=False)
    assert found == plan("""
        Join inner on k: c: float64
          ScanTable <memory>: k: int64
          ScanTable <memory>: k: int32, c: float64
        """)


# Sides ---------------------------------------------------------------------------------------------------------------


def test_the_smaller_side_of_an_inner_join_builds_and_the_right_one_of_equals():
    few, many = of_rows(LEFT, 10), of_rows(RIGHT, 1000)
    assert sides_of(few.join(many, "k")._plan).build.name == "left"
    assert sides_of(many.join(few, "k")._plan).build.name == "right"
    assert sides_of(few.join(few, "k")._plan).build.name == "right"
    assert {how: sides_of(few.join(many, "k", how)._plan).build.name for how in ("left", "right", "full", "anti")} == {
        "left": "right",
        "right": "left",
        "full": "right",
        "anti": "right",
    }


def test_small_build_sides_are_broadcast_large_ones_and_full_joins_are_partitioned(monkeypatch):
    few, many = of_rows(LEFT, 10), of_rows(RIGHT, 1000)
    job = plan_job(many.join(few, "k")._plan, split_bytes=1 << 20)
    assert [edge.kind for edge in job.graph.last.inputs] == [EdgeKind.BROADCAST]
    for frame in (many.join(few, "k", "full"), many.join(few, "k", validate="1:1")):
        job = plan_job(frame._plan, split_bytes=1 << 20, partitions=3)
        assert [edge.kind for edge in job.graph.last.inputs] == [EdgeKind.HASH] * 2
        assert job.graph.last.tasks == 3
    monkeypatch.setattr(estimates, "BROADCAST_ROWS_MAX", 9)
    job = plan_job(many.join(few, "k")._plan, split_bytes=1 << 20)
    assert [edge.kind for edge in job.graph.last.inputs] == [EdgeKind.HASH] * 2


@pytest.mark.parametrize(
    ("how", "asked", "shares", "tasks"),
    [
        ("inner", 6, 3, 6),
        ("left", 4, 4, 4),
        ("anti", 5, 5, 5),
        ("semi", None, 7, 7),
        ("inner", None, 4, 8),
        ("inner", 5, 1, 5),
        ("full", 6, 1, 6),
    ],
)
def test_partitions_are_shared_by_tasks_where_the_probe_side_is_far_larger(monkeypatch, how, asked, shares, tasks):
    monkeypatch.setattr(estimates, "BROADCAST_ROWS_MAX", 9)
    monkeypatch.setattr(stagebuilder, "BYTES_PER_PARTITION", 2 << 10)  # some 14 KB: 7 partitions
    few = km.from_arrow(pa.table({"k": range(50), "c": range(50)}))
    many = pa.table({"k": range(800), "a": range(800)})
    many = km.from_arrow(pa.Table.from_batches(many.to_batches(max_chunksize=100), many.schema))
    job = plan_job(many.join(few, "k", how)._plan, split_bytes=1, partitions=asked)
    probe, build = (job.pipelines[edge.source].end for edge in job.graph.last.inputs)
    if shares == 1:
        assert (type(probe), type(build)) == (physical.ToBlocks, physical.ToBlocks)
    else:
        assert (probe.shares, probe.is_copied, build.shares, build.is_copied) == (shares, False, shares, True)
    (step,) = (step for step in job.pipelines[-1].steps if isinstance(step, physical.Join))
    assert (step.shares, job.graph.last.tasks) == (shares, tasks)
    assert all(job.graph.stages[edge.source].partitions == tasks for edge in job.graph.last.inputs)


def test_an_estimate_knows_that_compressed_files_hold_more():
    def size(suffix):
        file = FileStamp(f"/a.csv{suffix}", 1 << 20, 0)
        return estimates.estimate(ScanFiles((file,), CsvFormat(LEFT, TextOptions()), LEFT)).bytes

    assert (size(""), size(".gz")) == (2 << 20, 8 << 20)


def test_an_estimate_knows_limits_and_groups_of_all_rows():
    many = of_rows(RIGHT, 1000)
    assert estimates.estimate(many.head(10)._plan).rows == 10
    assert estimates.estimate(many.top_k(5, by="c")._plan).rows == 5
    assert estimates.estimate(many.select(km.len())._plan).rows == 1
    assert estimates.estimate(many.join(many, how="cross")._plan).rows == 10**6
    squared = many.join(many, how="cross")
    assert not estimates.estimate(squared.join(many, how="cross", suffix="_3")._plan).is_small
