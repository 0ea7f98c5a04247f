"""km.concat against Polars, over several tasks and threads; what does not go together; what sinks into it."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.plan.explain import plan_text
from kernelmill.engine.plan.optimizer import optimize

few = settings(max_examples=20, deadline=None)
TYPES = pa.string(), pa.int64()
rows_of_two = st.lists(st.tuples(st.none() | st.sampled_from("ab"), st.none() | st.integers(-3, 3)), max_size=9)


def table_of(rows, names=("k", "n"), types=TYPES, each=2) -> pa.Table:
    schema = pa.schema(list(zip(names, types, strict=True)))
    columns = list(zip(*rows, strict=True)) if rows else [[], []]
    whole = pa.record_batch([pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema)
    return pa.Table.from_batches([whole.slice(at, each) for at in range(0, len(rows), each)], schema)


def run(lazy) -> list[tuple]:
    found = [lazy.collect(threads=n, split_size=1, partitions=p).to_arrow() for n, p in ((1, 3), (2, 3), (2, 1))]
    assert found[1].equals(found[0])
    assert sorted(found[2].to_pylist(), key=str) == sorted(found[0].to_pylist(), key=str)
    assert found[0].schema.equals(lazy._plan.schema)
    return km.from_arrow(found[0]).collect().rows()


@few
@given(st.lists(rows_of_two, min_size=1, max_size=4))
def test_vertical_keeps_the_order_of_frames_and_of_their_rows(parts):
    tables = [table_of(rows) for rows in parts]
    assert run(km.concat(map(km.from_arrow, tables))) == pl.concat(map(pl.DataFrame, tables)).rows()


@few
@given(rows_of_two, rows_of_two)
def test_relaxed_and_diagonal_agree_with_polars(first, second):
    one = table_of(first, types=(pa.string(), pa.int8()))
    other = table_of(second, types=(pa.string(), pa.float32()))
    ours = km.concat([km.from_arrow(one), km.from_arrow(other)], how="vertical_relaxed")
    theirs = pl.concat([pl.DataFrame(one), pl.DataFrame(other)], how="vertical_relaxed")
    assert run(ours) == theirs.rows()
    third = table_of(second, names=("k", "m"))
    ours = km.concat([km.from_arrow(third), km.from_arrow(table_of(first))], how="diagonal")
    theirs = pl.concat([pl.DataFrame(third), pl.DataFrame(table_of(first))], how="diagonal")
    assert (ours.columns, run(ours)) == (theirs.columns, theirs.rows())


def test_what_comes_after_sees_all_frames(tmp_path):
    tables = [table_of([("a", 1), ("b", 2), (None, 3)]), table_of([("b", 5), ("a", 7)])]
    both = km.concat([*map(km.from_arrow, tables)])
    assert sorted(run(both.group_by("k").agg(km.col("n").sum())), key=str) == [("a", 8), ("b", 7), (None, 3)]
    assert run(both.with_row_index("i").tail(2)) == [(3, "b", 5), (4, "a", 7)]
    assert run(both.sort("n", descending=True).head(2)) == [("a", 7), ("b", 5)]
    assert run(km.concat([both, both]).select(km.len())) == [(10,)]
    both.sink_parquet(tmp_path / "out.parquet", split_size=1, progress=False)
    assert pq.read_table(tmp_path / "out.parquet").to_pylist() == pa.concat_tables(tables).to_pylist()


def test_results_are_frames_too_and_one_alone_is_itself():
    result = km.from_arrow(table_of([("a", 1)])).collect()
    assert run(km.concat([result, result])) == [("a", 1), ("a", 1)]
    lazy = km.from_arrow(table_of([("a", 1)]))
    assert plan_text(km.concat([lazy])._plan) == plan_text(lazy._plan)


def test_a_column_without_nulls_in_one_frame_may_have_them_in_all():
    never = pa.table({"n": [1]}, schema=pa.schema([pa.field("n", pa.int64(), nullable=False)]))
    lazy = km.concat([km.from_arrow(never), km.from_arrow(pa.table({"n": [2, None]}))])
    assert run(lazy.filter(km.col("n").fill_null(9) > 1)) == [(2,), (None,)]
    assert run(lazy.select(m=km.col("n").fill_null(km.col("n") + 1))) == [(1,), (2,), (None,)]


def test_filters_columns_and_limits_sink_into_the_frames():
    one, other = (km.from_arrow(table_of([], names=("k", name))) for name in ("n", "n"))
    lazy = km.concat([km.concat([one, other]), one]).filter(km.col("n") > 3).select("n").head(2)
    assert plan_text(optimize(lazy._plan), origins=False) == "\n".join(
        [
            "Limit 2",
            "  Concat 3 frames",
            *["    Limit 2", '      Filter col("n") > 3', "        ScanTable <memory>: n: int64"] * 3,
        ]
    )


WRONG = [
    (Code.BAD_SETTING, lambda f: km.concat([])),
    (Code.BAD_SETTING, lambda f: km.concat(f)),
    (Code.BAD_SETTING, lambda f: km.concat([f, 3])),
    (Code.BAD_SETTING, lambda f: km.concat([f, f], how="horizontal")),
    (Code.TYPE_MISMATCH, lambda f: km.concat([f, f.select("k")])),
    (Code.TYPE_MISMATCH, lambda f: km.concat([f, f.select("n", "k")])),
    (Code.TYPE_MISMATCH, lambda f: km.concat([f, f.cast({"n": "int8"})])),
    (Code.TYPE_MISMATCH, lambda f: km.concat([f, f.cast({"n": "int8"})], how="diagonal")),
    (Code.TYPE_MISMATCH, lambda f: km.concat([f, f.cast({"n": "string"})], how="vertical_relaxed")),
]


@pytest.mark.parametrize(("code", "call"), WRONG, ids=[str(n) for n in range(len(WRONG))])
def test_frames_that_do_not_go_together_are_refused_at_once(code, call):
    with pytest.raises(KernelmillError) as caught:
        call(km.from_arrow(table_of([])))
    assert caught.value.code is code
    assert "test_concatenating.py" in caught.value.where
