"""Each rewrite around unique, unpivot, row numbers and concat, by the plan's text; what a rule must leave alone."""

from __future__ import annotations

from textwrap import dedent

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.frame import LazyFrame
from kernelmill.engine.plan import rowrules, rules
from kernelmill.engine.plan.explain import plan_text
from kernelmill.engine.plan.optimizer import apply, optimize

SCHEMA = pa.schema([("k", pa.string()), ("n", pa.int64())])
SCAN = "ScanTable <memory>: k: string, n: int64"


@pytest.fixture
def frame() -> LazyFrame:
    return km.from_arrow(SCHEMA.empty_table())


def after(rule: rules.Rule, lazy: LazyFrame) -> str:
    return plan_text(apply(lazy._plan, rule), origins=False)


def same(rule: rules.Rule, lazy: LazyFrame) -> bool:
    return apply(lazy._plan, rule) is lazy._plan


def plan(lines: str) -> str:
    return dedent(lines).strip("\n")


@pytest.mark.parametrize("keep", ["first", "last", "none"])
def test_a_filter_by_keys_goes_below_unique(frame, keep):
    lazy = frame.unique("k", keep=keep).filter((km.col("k") == "a") & (km.col("n") > 1))
    assert after(rowrules.push_filter_through_unique, lazy) == plan(f"""
        Filter col("n") > 1
          Unique by k: {keep}
            Filter col("k") == "a"
              {SCAN}
        """)


def test_a_filter_by_other_columns_stays_above_unique(frame):
    assert same(rowrules.push_filter_through_unique, frame.unique("k").filter(km.col("n") > 1))
    assert same(rowrules.push_filter_through_unique, frame.unique("k").filter(km.lit(False)))


def test_a_filter_by_the_index_goes_below_unpivot(frame):
    lazy = frame.unpivot("n", index="k").filter(km.col("k") == "a", km.col("value") > 1)
    assert plan_text(optimize(lazy._plan), origins=False) == plan(f"""
        Filter col("value") > 1
          Unpivot n: variable, value
            Filter col("k") == "a"
              {SCAN}
        """)
    assert same(rowrules.push_filter_through_unpivot, frame.unpivot("n", index="k").filter(km.col("value") > 1))


def test_a_limit_goes_below_row_numbers_and_a_filter_does_not(frame):
    assert after(rowrules.push_limit_below_index, frame.with_row_index().head(3)) == plan(f"""
        RowIndex index from 0
          Limit 3
            {SCAN}
        """)
    assert plan_text(optimize(frame.with_row_index().filter(km.col("k") == "a")._plan), origins=False) == plan(f"""
        Filter col("k") == "a"
          RowIndex index from 0
            {SCAN}
        """)


def test_rows_are_numbered_only_where_their_numbers_are_used(frame):
    numbered = frame.with_row_index("i")
    assert "RowIndex" not in plan_text(optimize(numbered.group_by("k").agg(km.col("n").sum())._plan))
    assert "RowIndex" not in plan_text(optimize(numbered.select(km.len())._plan))
    assert "RowIndex" in plan_text(optimize(numbered.filter(km.col("i") > 1).select("k")._plan))
    assert "RowIndex" in plan_text(optimize(numbered._plan))


def test_limits_sink_into_frames_once(frame):
    once = apply(km.concat([frame, frame.head(1)]).head(3)._plan, rowrules.push_limit_into_concat)
    assert plan_text(once, origins=False) == plan(f"""
        Limit 3
          Concat 2 frames
            Limit 3
              {SCAN}
            Limit 1
              {SCAN}
        """)
    assert apply(once, rowrules.push_limit_into_concat) is once


def test_a_projection_stays_above_frames_where_its_nulls_depend_on_all(frame):
    n_only = pa.schema([pa.field("a", pa.int64()), pa.field("b", pa.int64(), nullable=False)])
    b_only = pa.schema([pa.field("a", pa.int64(), nullable=False), pa.field("b", pa.int64())])
    both = km.concat([km.from_arrow(n_only.empty_table()), km.from_arrow(b_only.empty_table())])
    assert same(rowrules.push_into_concat, both.select(c=km.col("a").fill_null(km.col("b"))))
    assert not same(rowrules.push_into_concat, both.select(c=km.col("a") + km.col("b")))


def test_only_the_columns_that_are_used_are_read(frame):
    for lazy in (frame.with_row_index(), frame.tail(1), frame.sample(1), frame.gather_every(2), km.concat([frame] * 2)):
        assert "k: string" not in plan_text(optimize(lazy.select("n")._plan), origins=False)
    assert "n: int64" not in plan_text(optimize(frame.unique("k").select("k")._plan), origins=False)
