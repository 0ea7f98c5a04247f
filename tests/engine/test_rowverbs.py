"""Verbs over whole rows against Polars and plain Python, over several tasks, threads and splits, spilled and not."""

from __future__ import annotations

import math
from collections import Counter
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.exec import distinct
from kernelmill.engine.exec.needs import kernels_of
from kernelmill.engine.frame import LazyFrame
from kernelmill.engine.plan.explain import plan_text
from kernelmill.engine.plan.optimizer import optimize
from kernelmill.engine.plan.planner import plan_job

SCHEMA = pa.schema([("k", pa.string()), ("n", pa.int64()), ("x", pa.float64())])
rows_of_three = st.lists(
    st.tuples(
        st.none() | st.sampled_from(["a", "b", ""]),
        st.none() | st.integers(-2, 2),
        st.none() | st.sampled_from([0.0, 1.5, math.nan]),
    ),
    max_size=30,
)
few = settings(max_examples=25, deadline=None)


def table_of(rows, schema=SCHEMA, *, each=4) -> pa.Table:
    """A table of several small batches, so that there are several splits."""
    columns = list(zip(*rows, strict=True)) if rows else [[] for _ in schema]
    whole = pa.record_batch([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)
    return pa.Table.from_batches([whole.slice(at, each) for at in range(0, len(rows), each)], schema)


def run(lazy: LazyFrame, **given_settings) -> list[tuple]:
    """The rows of a plan, which must be the same however it is run; NaN as text, so that it equals itself."""
    options = {"split_size": 1, "partitions": 3, **given_settings}
    found = [lazy.collect(threads=1, **options), lazy.collect(threads=2, memory="64MB", **options)]
    assert found[0].to_arrow().equals(found[1].to_arrow()) or shown(found[0].rows()) == shown(found[1].rows())
    assert found[0].to_arrow().schema.equals(lazy._plan.schema)
    return shown(found[0].rows())


def shown(rows) -> list[tuple]:
    return [tuple("NaN" if isinstance(v, float) and math.isnan(v) else v for v in row) for row in rows]


def sort_key(row):
    return tuple((v is not None, str(type(v)), v) for v in row)


# drop_nulls, unique --------------------------------------------------------------------------------------------------


@few
@given(rows_of_three, st.sampled_from([None, "k", ["n", "x"]]))
def test_drop_nulls_agrees_with_polars(rows, subset):
    table = table_of(rows)
    assert run(km.from_arrow(table).drop_nulls(subset)) == shown(pl.DataFrame(table).drop_nulls(subset).rows())


def test_drop_nulls_of_very_many_columns_is_planned():
    names = [f"c{n}" for n in range(2000)]
    lazy = km.from_arrow(pa.table({name: [1, None, 3] for name in names})).drop_nulls()
    assert lazy.select("c0").collect().rows() == [(1,), (3,)]


def test_drop_nulls_of_columns_that_have_none_is_nothing():
    schema = pa.schema([pa.field("n", pa.int64(), nullable=False)])
    lazy = km.from_arrow(pa.table({"n": [1, 2]}, schema=schema))
    assert plan_text(lazy.drop_nulls()._plan) == plan_text(lazy._plan)


@few
@given(rows_of_three, st.sampled_from([None, ["k"], ["n", "x"], ["x"]]), st.sampled_from(["first", "last", "none"]))
def test_unique_agrees_with_polars(rows, subset, keep):
    table = table_of(rows)
    ours = run(km.from_arrow(table).unique(subset, keep=keep))
    theirs = shown(pl.DataFrame(table).unique(subset, keep=keep, maintain_order=True).rows())
    assert sorted(ours, key=sort_key) == sorted(theirs, key=sort_key)
    if rows:  # one partition holds the input's order
        assert run(km.from_arrow(table).unique(subset, keep=keep), partitions=1) == theirs


@pytest.mark.parametrize("keep", ["any", "last", "none"])
@pytest.mark.parametrize("bound", ["SHARE_ROWS_MAX", "THIN_GROUPS_MAX", "CHUNK_ROWS", "_TRIED_ROWS"])
def test_unique_of_many_rows_takes_its_keys_share_by_share(monkeypatch, keep, bound):
    values = [(str(n * n % 97), n, None) for n in range(600)]
    monkeypatch.setattr(distinct, bound, 16)
    ours = run(km.from_arrow(table_of(values, each=50)).unique("k", keep=keep))
    counts = Counter(k for k, _, _ in values)
    kept = {"any": dict(reversed([(k, n) for k, n, _ in values])), "last": {k: n for k, n, _ in values}}
    kept["none"] = {k: n for k, n, _ in values if counts[k] == 1}
    assert sorted((k, n) for k, n, _ in ours) == sorted(kept[keep].items())


@pytest.mark.parametrize("keep", ["first", "last", "none"])
def test_unique_compares_all_that_a_group_by_does(keep):
    decimals = pa.array([Decimal("1.10"), None, Decimal("1.10"), Decimal("2.00"), None], pa.decimal128(20, 2))
    table = pa.table({"d": decimals, "b": pa.array([b"ab", b"ab", b"cd", None, None], pa.binary(2)), "i": range(5)})
    table = table.append_column("n", pa.nulls(5))
    for key in ("d", "b", "n"):
        rows = {}
        for value, i in zip(table[key].to_pylist(), range(5), strict=True):
            rows.setdefault(value, []).append(i)
        kept = [own[-1 if keep == "last" else 0] for own in rows.values() if keep != "none" or len(own) == 1]
        ours = run(km.from_arrow(pa.Table.from_batches(table.to_batches(2))).unique(key, keep=keep))
        assert sorted(row[2] for row in ours) == sorted(kept)


def test_what_unique_rows_call_is_known_before_a_task_runs_also_where_keys_go_no_further():
    def needed(frame) -> set[str]:
        return {kernel.__name__ for kernel in kernels_of(plan_job(frame._plan, split_bytes=1).pipelines)}

    frame = km.from_arrow(table_of([("a", 1, None)] * 9))
    assert "group_strings" in needed(frame.unique("k")) and "group_words" in needed(frame.unique("n"))
    assert {"put_words", "group_strings"} <= needed(frame.unique(["k", "n"]).select("x"))
    assert frame.unique("k").select("x").collect().height == 1


def test_unique_carries_columns_that_are_not_compared():
    table = pa.table({"k": [1, 1, 2], "xs": [[1, 2], None, []], "s": [{"a": 1}, {"a": 2}, None]})
    assert km.from_arrow(table).unique("k").collect().rows() == [(1, [1, 2], {"a": 1}), (2, [], None)]


# Numbers of rows -----------------------------------------------------------------------------------------------------


@few
@given(rows_of_three, st.integers(-3, 3), st.booleans())
def test_rows_are_numbered_in_the_order_of_the_frame(rows, offset, is_filtered):
    lazy, theirs = km.from_arrow(table_of(rows)), pl.DataFrame(table_of(rows))
    if is_filtered:
        lazy, theirs = lazy.filter(km.col("n") > -1), theirs.filter(pl.col("n") > -1)
    assert [row[0] for row in run(lazy.with_row_index("i", offset))] == list(range(offset, offset + theirs.height))
    assert [row[1:] for row in run(lazy.with_row_index("i", offset))] == shown(theirs.rows())


@few
@given(rows_of_three, st.integers(0, 40), st.integers(1, 9), st.integers(0, 9), st.booleans())
def test_tail_and_gather_every_agree_with_polars(rows, last, each, offset, is_counted):
    lazy, theirs = km.from_arrow(table_of(rows)), pl.DataFrame(table_of(rows))
    lazy = lazy.filter(km.lit(True)) if is_counted else lazy
    assert run(lazy.tail(last)) == shown(theirs.tail(last).rows())
    assert run(lazy.gather_every(each, offset)) == shown(theirs.gather_every(each, offset).rows())


def test_numbers_follow_a_sort_and_stop_filters():
    lazy = km.from_arrow(table_of([(None, n, None) for n in (3, 1, 2)], each=1)).sort("n").with_row_index("i")
    assert run(lazy.filter(km.col("n") > 1).select("i", "n")) == [(1, 2), (2, 3)]
    assert run(lazy.select("n").tail(2)) == [(2,), (3,)]


def test_rows_are_counted_only_where_nothing_tells_how_many_there_are(tmp_path):
    for name, start in (("a", 0), ("b", 10)):
        pq.write_table(pa.table({"n": range(start, start + 10)}), tmp_path / f"{name}.parquet", row_group_size=4)
    lazy = km.scan_parquet(str(tmp_path / "*.parquet"))
    for made in (lazy.with_row_index(), lazy.select(m=km.lit(1)).tail(2), lazy.gather_every(3), lazy.sample(5)):
        assert "CountRows" not in made.explain()
    for made in (lazy.filter(km.col("n") > 3).tail(2), lazy.cast("int8").tail(2), lazy.unique().sample(2)):
        assert "CountRows" in made.explain()
    assert "read parquet, 2 tasks" in lazy.tail(11).explain() and "read parquet, 1 task" in lazy.tail(3).explain()
    assert run(lazy.with_row_index().tail(1)) == [(19, 19)]
    assert run(lazy.tail(3)) == [(17,), (18,), (19,)]
    assert run(lazy.tail(300).head(1)) == [(0,)]
    assert run(lazy.with_row_index()) == [(n, n) for n in range(20)]
    assert run(lazy.gather_every(7, 1)) == [(1,), (8,), (15,)]
    assert run(lazy.filter(km.col("n") < 15).tail(2)) == [(13,), (14,)]
    assert run(lazy.cast("int8").with_row_index().tail(1)) == [(19, 19)]


# sample --------------------------------------------------------------------------------------------------------------


@few
@given(rows=st.integers(0, 60), n=st.integers(0, 70), seed=st.integers(0, 2**40), each=st.integers(1, 60))
def test_a_sample_has_so_many_rows_and_each_once_whatever_the_splits(rows, n, seed, each):
    values = [(None, number, None) for number in range(rows)]
    drawn = [number for _, number, _ in run(km.from_arrow(table_of(values, each=each)).sample(n, seed=seed))]
    assert len(drawn) == min(n, rows) and sorted(set(drawn)) == drawn
    whole = km.from_arrow(table_of(values, each=1000)).filter(km.lit(True)).sample(n, seed=seed)
    assert [number for _, number, _ in run(whole)] == drawn


def test_every_row_is_drawn_as_often_as_others():
    lazy = km.from_arrow(pa.table({"n": range(20)}))
    counts = Counter(n for seed in range(60) for (n,) in lazy.sample(fraction=0.25, seed=seed).collect().rows())
    assert sum(counts.values()) == 60 * 5 and len(counts) == 20
    assert sum((counts[n] - 15) ** 2 / 15 for n in range(20)) < 45  # chi-square of 19 degrees, beyond 1 in 1,000


# unpivot -------------------------------------------------------------------------------------------------------------


@few
@given(rows_of_three)
def test_unpivot_agrees_with_polars(rows):
    table = table_of(rows)
    ours = run(km.from_arrow(table).unpivot(["n", "x"], index="k", variable_name="what"))
    theirs = pl.DataFrame(table).unpivot(["n", "x"], index="k", variable_name="what").rows()
    assert sorted(ours, key=sort_key) == sorted(shown(theirs), key=sort_key)
    assert [row[1] for row in ours] == ["n", "x"] * len(rows)


def test_unpivot_takes_all_columns_but_the_index_and_reads_what_is_used():
    lazy = km.from_arrow(pa.table({"a": [1, 2], "b": [3, 4], "k": ["x", "y"]}))
    assert lazy.unpivot(index="k").collect().rows() == [("x", "a", 1), ("x", "b", 3), ("y", "a", 2), ("y", "b", 4)]
    assert lazy.unpivot(["a", "b"]).columns == ["variable", "value"]
    text = plan_text(optimize(lazy.unpivot(["a"], index=["k", "b"]).select("k", "value")._plan), origins=False)
    assert "ScanTable <memory>: a: int64, k: string" in text


# What is wrong -------------------------------------------------------------------------------------------------------

WRONG = [
    (Code.COLUMN_NOT_FOUND, lambda f: f.drop_nulls("z")),
    (Code.COLUMN_NOT_FOUND, lambda f: f.unique(["k", "z"])),
    (Code.COLUMN_NOT_FOUND, lambda f: f.unpivot("z")),
    (Code.COLUMN_NOT_FOUND, lambda f: f.unpivot("n", index="z")),
    (Code.BAD_SETTING, lambda f: f.drop_nulls(km.col("n") + 1)),
    (Code.BAD_SETTING, lambda f: f.unique("k", keep="some")),
    (Code.BAD_SETTING, lambda f: f.tail(-1)),
    (Code.BAD_SETTING, lambda f: f.gather_every(0)),
    (Code.BAD_SETTING, lambda f: f.gather_every(1, -1)),
    (Code.BAD_SETTING, lambda f: f.with_row_index("i", 1 << 63)),
    (Code.BAD_SETTING, lambda f: f.with_row_index("")),
    (Code.BAD_SETTING, lambda f: f.sample()),
    (Code.BAD_SETTING, lambda f: f.sample(1, fraction=0.5)),
    (Code.BAD_SETTING, lambda f: f.sample(fraction=1.5)),
    (Code.BAD_SETTING, lambda f: f.sample(1, seed=-1)),
    (Code.BAD_SETTING, lambda f: f.unpivot([])),
    (Code.DUPLICATE_COLUMN, lambda f: f.with_row_index("k")),
    (Code.DUPLICATE_COLUMN, lambda f: f.unpivot("n", index="k", value_name="k")),
    (Code.TYPE_MISMATCH, lambda f: f.unpivot(["k", "n"])),
    (Code.TYPE_MISMATCH, lambda f: f.with_columns(s=km.col("k").str.tokenize()).unique()),
]


@pytest.mark.parametrize(("code", "call"), WRONG, ids=[str(n) for n in range(len(WRONG))])
def test_a_wrong_verb_fails_at_once_with_its_code_and_line(code, call):
    with pytest.raises(KernelmillError) as caught:
        call(km.from_arrow(SCHEMA.empty_table()))
    assert caught.value.code is code
    assert "test_rowverbs.py" in caught.value.where
