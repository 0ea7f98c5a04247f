"""The optimizer as a whole: schemas stay, rows stay, nothing loops, and a rule that breaks a schema is found out."""

from __future__ import annotations

import math
from collections.abc import Callable

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernelmill as km
from kernelmill.engine.ends import run_collect
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.frame import LazyFrame
from kernelmill.engine.plan import logical, rowrules, rules
from kernelmill.engine.plan.explain import plan_text
from kernelmill.engine.plan.optimizer import apply, optimize
from kernelmill.engine.plan.planner import plan_stages
from kernelmill.engine.settings import Settings

ROWS = {
    "k": ["a", "b", None, "a", "c", "b", "a", None],
    "n": [1, 2, 3, None, 5, -6, 7, 8],
    "x": [1.5, math.nan, None, 2.5, -0.0, 0.0, 1e300, 2.0],
    "t": ["to be", "or", "", None, "not to be", "a  b", "b", "to"],
}
TABLE = pa.table({"k": ROWS["k"], "n": pa.array(ROWS["n"], pa.int64()), "x": ROWS["x"], "t": ROWS["t"]})

OTHER = pa.table({"k": ["a", "B", "b", "zz", None], "j": [1, 2, 3, 4, 5], "n": [9, 8, 7, 6, 5]})

Verb = Callable[[LazyFrame], LazyFrame]


def joined(frame: LazyFrame, how: str) -> LazyFrame:
    """A row of `frame` meets one of OTHER at most, so rows that tie in k, n and t are equal."""
    return frame.drop("j", "n_right", strict=False).join(km.from_arrow(OTHER), "k", how)


# Each keeps the columns k, n and t, so that verbs can follow one another in any order.
VERBS: dict[str, Verb] = {
    "filter k": lambda f: f.filter(km.col("k") != "b"),
    "filter n": lambda f: f.filter((km.col("n") > 1) & km.col("k").is_not_null()),
    "filter guarded": lambda f: f.filter(km.col("t").is_in(["to", "b"]), km.col("n").cast("int32") > 0),
    "add": lambda f: f.with_columns(n=km.col("n") + 1),
    "derive": lambda f: f.with_columns(m=km.col("n") * 2, k=km.col("k").str.to_uppercase()),
    "literal": lambda f: f.with_columns(one=km.lit(1)).with_columns(n=km.col("n") + km.col("one")),
    "narrow": lambda f: f.select("t", "k", "n"),
    "swap": lambda f: f.select("n", "t", k="t").with_columns(t=km.col("k")),
    "tokens": lambda f: f.with_columns(t=km.col("t").str.tokenize()).explode("t"),
    "sort": lambda f: f.sort("k", "n", "t"),
    "head": lambda f: f.sort("n", "k", "t").head(4),
    "top": lambda f: f.top_k(3, by=["n", "k", "t"]),
    "join": lambda f: joined(f, "inner"),
    "left join": lambda f: joined(f, "left"),
    "right join": lambda f: joined(f, "right"),
    "semi join": lambda f: joined(f, "semi"),
    "anti join": lambda f: joined(f, "anti"),
    "filter joined": lambda f: joined(f, "left").filter(km.col("j").is_null() | (km.col("j") > 1), km.col("n") > 0),
    "drop nulls": lambda f: f.drop_nulls(["n", "t"]),
    "unique": lambda f: f.unique(),
    "alone": lambda f: f.unique(["k", "t"], keep="none"),
    "numbered": lambda f: f.sort("k", "n", "t").with_row_index("i").filter(km.col("i") % 2 == 1).drop("i"),
    "tail": lambda f: f.sort("n", "k", "t").tail(4),
    "unpivot": lambda f: f.unpivot("n", index=["k", "t"], value_name="n").filter(km.col("k") != "c").drop("variable"),
    "twice": lambda f: km.concat([f, f.filter(km.col("n") > 2)]),
    "group": lambda f: f.group_by("k", "t").agg(km.col("n").sum(), c=km.len()),
    "group by one": lambda f: f.group_by("k").agg(km.col("n").max(), t=km.col("n").min().cast("string"), c=km.len()),
}


def rows_of(
    plan: logical.LogicalPlan, *, split_bytes: int = 64, partitions: int | None = 3
) -> list[tuple[object, ...]]:
    job = plan_stages(plan, split_bytes=split_bytes, partitions=partitions)
    run = run_collect(job, Settings(threads=2, progress="off"), None)
    table = pa.Table.from_batches(list(run), schema=job.schema)
    return sorted(zip(*table.to_pydict().values(), strict=True), key=repr)


@given(st.lists(st.sampled_from(sorted(VERBS)), max_size=6))
@settings(max_examples=60)
def test_no_chain_of_verbs_changes_its_schema(names):
    frame = km.from_arrow(TABLE)
    for name in names:
        frame = VERBS[name](frame)
    assert optimize(frame._plan).schema.equals(frame._plan.schema)


@given(st.lists(st.sampled_from(sorted(VERBS)), max_size=6))
@settings(max_examples=30)
def test_an_optimized_plan_is_left_alone(names):
    frame = km.from_arrow(TABLE)
    for name in names:
        frame = VERBS[name](frame)
    once = optimize(frame._plan)
    assert plan_text(optimize(once)) == plan_text(once)


@given(st.lists(st.sampled_from(sorted(VERBS)), max_size=5))
@settings(max_examples=40)
def test_optimized_and_plain_plans_give_the_same_rows(names):
    frame = km.from_arrow(pa.Table.from_batches(TABLE.to_batches(max_chunksize=3)))
    for name in names:
        frame = VERBS[name](frame)
    assert repr(rows_of(optimize(frame._plan))) == repr(rows_of(frame._plan))  # NaN equals itself in print only


@pytest.mark.parametrize(
    "verb",
    [
        lambda f: f.group_by("word").len(),
        lambda f: f.group_by("word").agg(a=km.len(), b=km.col("word").count()),
        lambda f: f.filter(km.col("word") != "be").group_by("word").len().filter(km.col("len") > 1),
        lambda f: f.group_by("word").len().top_k(2, by=["len", "word"]),
    ],
)
def test_counting_tokens_in_the_kernel_gives_the_rows_of_the_slow_way(tmp_path, verb):
    (tmp_path / "a.txt").write_text("to be or not\r\nto be\n\n  that is\tthe question\n" * 9)
    (tmp_path / "b.txt").write_text("no end")
    words = km.scan_text(tmp_path).select(word=km.col("line").str.tokenize()).explode("word")
    plan = verb(words)._plan
    fused = optimize(plan)
    assert "CountTokens" in plan_text(fused)
    assert rows_of(fused, split_bytes=50) == rows_of(plan, split_bytes=50)


def test_skipped_row_groups_hold_no_row_of_the_result(tmp_path):
    table = pa.table({"n": list(range(100)), "k": [str(n % 7) for n in range(100)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=10)
    plan = km.scan_parquet(tmp_path / "a.parquet").filter((km.col("n") >= 25) & (km.col("n") < 41))._plan
    pruned = plan_stages(optimize(plan), split_bytes=1)
    assert [split.row_groups for split in pruned.graph.stages[0].splits] == [(2,), (3,), (4,)]
    assert rows_of(optimize(plan)) == rows_of(plan)


def test_a_rule_that_changes_a_schema_is_a_bug_of_ours():
    def broken(plan: logical.LogicalPlan) -> logical.LogicalPlan:
        return plan.inputs[0] if isinstance(plan, logical.Project) else plan

    with pytest.raises(KernelmillError) as caught:
        apply(km.from_arrow(TABLE).select("k")._plan, broken)
    assert caught.value.code is Code.INTERNAL


def test_every_rule_is_in_a_phase():
    from kernelmill.engine.plan import optimizer

    used = {rule for phase in (optimizer.FUSING, optimizer.MOVING, optimizer.LAST) for rule in phase}
    public = {
        value
        for module in (rules, rowrules)
        for name, value in vars(module).items()
        if getattr(value, "__module__", "") == module.__name__ and not name.startswith("_")
    }
    assert public - used == {rules.may_fail, rules.conjuncts, rules.split_filter}


def test_nodes_that_a_rule_left_alone_are_not_shown_to_it_again():
    frame = km.from_arrow(TABLE).filter(km.col("n") > 1).select("k", "n")
    asked: list[logical.LogicalPlan] = []

    def rule(node: logical.LogicalPlan) -> logical.LogicalPlan:
        asked.append(node)
        return rules.push_limit(node)

    settled: dict[int, logical.LogicalPlan] = {}
    first = apply(frame.head(3)._plan, rule, settled)
    assert len(asked) == 4
    assert apply(first, rule, settled).schema == first.schema
    assert len({id(node) for node in asked[:3]} & {id(node) for node in asked[4:]}) == 0
