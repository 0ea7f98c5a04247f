"""LazyFrame's verbs: what they build, and that a wrong one fails where it is written, with a code and a place."""

from __future__ import annotations

import copy
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.foreign import FOREIGN_VERBS
from kernelmill.engine.frame import LazyFrame

DATA = pa.table(
    {"k": ["a", "b", None, "a"], "n": [1, 2, 3, 4], "x": [0.5, None, 1.5, 2.5], "xs": [[1, 2], [], None, [3]]}
)


@pytest.fixture
def frame() -> LazyFrame:
    return km.from_arrow(DATA)


def failure(call) -> KernelmillError:
    with pytest.raises(KernelmillError) as caught:
        call()
    return caught.value


WRONG = [
    (Code.COLUMN_NOT_FOUND, lambda f: f.select("nn")),
    (Code.COLUMN_NOT_FOUND, lambda f: f.filter(km.col("z") > 3)),
    (Code.COLUMN_NOT_FOUND, lambda f: f.drop("z")),
    (Code.COLUMN_NOT_FOUND, lambda f: f.rename({"z": "y"})),
    (Code.COLUMN_NOT_FOUND, lambda f: f.cast({"z": int})),
    (Code.COLUMN_NOT_FOUND, lambda f: f.sort("z")),
    (Code.COLUMN_NOT_FOUND, lambda f: f.group_by("z")),
    (Code.COLUMN_NOT_FOUND, lambda f: f.group_by("k").agg(km.col("z").sum())),
    (Code.COLUMN_NOT_FOUND, lambda f: f.explode("z")),
    (Code.COLUMN_NOT_FOUND, lambda f: f.top_k(1, by="z")),
    (Code.TYPE_MISMATCH, lambda f: f.filter(km.col("k") > 3)),
    (Code.TYPE_MISMATCH, lambda f: f.filter(km.col("n"))),
    (Code.TYPE_MISMATCH, lambda f: f.filter(km.col("n").sum() > 3)),
    (Code.TYPE_MISMATCH, lambda f: f.select(km.col("n").sum())),
    (Code.TYPE_MISMATCH, lambda f: f.group_by("xs")),
    (Code.TYPE_MISMATCH, lambda f: f.group_by(km.col("n").sum())),
    (Code.TYPE_MISMATCH, lambda f: f.group_by("k").agg("n")),
    (Code.TYPE_MISMATCH, lambda f: f.group_by("k").agg(km.col("n") + 1)),
    (Code.TYPE_MISMATCH, lambda f: f.group_by("k").agg(km.lit(1))),
    (Code.TYPE_MISMATCH, lambda f: f.group_by("n").agg(km.col("k").sum())),
    (Code.TYPE_MISMATCH, lambda f: f.group_by("n").agg(km.col("k").min())),
    (Code.TYPE_MISMATCH, lambda f: f.group_by("k").agg(km.col("n").sum().max())),
    (Code.TYPE_MISMATCH, lambda f: f.explode("n")),
    (Code.TYPE_MISMATCH, lambda f: f.sort("xs")),
    (Code.DUPLICATE_COLUMN, lambda f: f.select("n", "n")),
    (Code.DUPLICATE_COLUMN, lambda f: f.with_columns(km.col("n") + 1, km.col("n") + 2)),
    (Code.DUPLICATE_COLUMN, lambda f: f.rename({"k": "n"})),
    (Code.DUPLICATE_COLUMN, lambda f: f.group_by("n").agg(km.col("n").sum())),
    (Code.AMBIGUOUS_TRUTH, lambda f: bool(f)),
    (Code.BAD_SETTING, lambda f: f.select()),
    (Code.BAD_SETTING, lambda f: f.filter()),
    (Code.BAD_SETTING, lambda f: f.filter("n")),
    (Code.BAD_SETTING, lambda f: f.filter("n" == "k")),
    (Code.BAD_SETTING, lambda f: f.select(3)),
    (Code.BAD_SETTING, lambda f: f.select(a=km.col("k", "n"))),
    (Code.BAD_SETTING, lambda f: f.group_by()),
    (Code.BAD_SETTING, lambda f: f.head(-1)),
    (Code.BAD_SETTING, lambda f: f.head(1.5)),
    (Code.BAD_SETTING, lambda f: f.head(True)),
    (Code.BAD_SETTING, lambda f: f.cast("integer64")),
    (Code.BAD_SETTING, lambda f: f.rename("k")),
    (Code.BAD_SETTING, lambda f: f.drop(km.col("n") + 1)),
    (Code.BAD_SETTING, lambda f: f.explode(["xs", "k"])),
    (Code.BAD_SETTING, lambda f: f.sort("n", "k", descending=[True])),
    (Code.BAD_SETTING, lambda f: f.sort("n", descending="yes")),
    (Code.BAD_SETTING, lambda f: f.explain(format="dot")),
    (Code.BAD_SETTING, lambda f: f.collect(thread=3)),
    (Code.BAD_SETTING, lambda f: f.collect(progress="yes")),
    (Code.BAD_SETTING, lambda f: f.collect_batches(batch_rows=0)),
    (Code.BAD_SETTING, lambda f: f.sink_parquet("out", mode="append")),
    (Code.BAD_SETTING, lambda f: f.sink_parquet("out", compression="zstandard")),
    (Code.BAD_SETTING, lambda f: f.sink_parquet("out", row_group_rows=0)),
    (Code.BAD_SETTING, lambda f: f.sink_parquet("s3://bucket/out")),
    (Code.BAD_SETTING, lambda f: f.sink_parquet(3)),
]


@pytest.mark.parametrize(("code", "call"), WRONG, ids=[str(n) for n in range(len(WRONG))])
def test_a_wrong_verb_fails_at_once_with_its_code(frame, tmp_path, monkeypatch, code, call):
    monkeypatch.chdir(tmp_path)
    assert failure(lambda: call(frame)).code is code
    assert not list(tmp_path.iterdir())


def test_errors_name_the_users_line(frame):
    here = Path(__file__).name
    for call in (lambda: frame.select("z"), lambda: frame.group_by("z"), lambda: frame.filter(km.col("k") > 3)):
        assert here in failure(call).where


def test_a_near_name_is_suggested(frame):
    assert "'group_by'" in failure(lambda: frame.grup_by).hint
    assert "'n'" in failure(lambda: frame.select("N")).hint


@pytest.mark.parametrize("name", sorted(FOREIGN_VERBS))
def test_names_of_other_libraries_are_explained(frame, name):
    problem = failure(lambda: getattr(frame, name))
    assert problem.code is Code.UNKNOWN_NAME
    assert problem.hint == FOREIGN_VERBS[name]
    assert isinstance(problem, AttributeError)


def test_names_of_other_libraries_are_no_verbs_of_ours():
    assert not [name for name in FOREIGN_VERBS if hasattr(LazyFrame, name)]


def test_groups_explain_what_they_lack(frame):
    problem = failure(lambda: frame.group_by("k").sum)
    assert (problem.code, 'agg(km.col("x").sum())' in problem.hint) == (Code.UNKNOWN_NAME, True)


def test_protocols_that_look_for_private_names_find_nothing(frame):
    assert not hasattr(frame, "_repr_mimebundle_")
    assert not hasattr(frame.group_by("k"), "__array__")
    assert copy.copy(frame).columns == frame.columns


def test_schemas_are_known_without_running(frame):
    lazy = frame.with_columns(y=km.col("n") / 2).group_by("k").agg(km.col("y").mean(), km.len(), top=km.col("n").max())
    assert lazy.columns == ["k", "y", "len", "top"]
    assert dict(lazy.schema) == {"k": pa.string(), "y": pa.float64(), "len": pa.int64(), "top": pa.int64()}
    assert lazy.collect_schema() == lazy.schema


def test_a_schema_may_be_asked_for_by_arrow_without_running(frame, monkeypatch):
    monkeypatch.setattr(LazyFrame, "collect_batches", lambda self: pytest.fail("it ran"))
    assert pa.schema(frame).names == frame.columns


def test_showing_a_frame_runs_nothing(frame, monkeypatch):
    monkeypatch.setattr("kernelmill.engine.execute._runner", lambda: pytest.fail("it ran"))
    assert "ScanTable" in repr(frame)
    assert "<script" not in frame._repr_html_()
    assert "ScanTable" in frame.explain()


def test_columns_are_replaced_where_they_stand(frame):
    assert frame.with_columns("k", n=km.col("n") * 2, z=km.lit(1)).columns == ["k", "n", "x", "xs", "z"]


def test_several_columns_can_be_named_at_once(frame):
    assert frame.select(km.col("n", "k"), "x").columns == ["n", "k", "x"]
    assert frame.select(["n", km.col("k")]).columns == ["n", "k"]
    assert frame.drop("x", "zz", strict=False).columns == ["k", "n", "xs"]


def test_equal_aggregates_are_made_once(frame):
    text = frame.group_by("k").agg(a=km.col("n").sum(), b=km.col("n").sum() + km.len(), c=km.len()).explain()
    assert text.count("sum(n)") == 3  # in the plan, in the partial and in the merging operator
    assert text.count("=len()") == 3


@pytest.mark.parametrize("format", ["text", "json", "mermaid"])
def test_explain_gives_each_format(frame, format):
    text = frame.filter(km.col("n") > 1).group_by("k").len().explain(format=format)
    assert "MergeAggregate" in text
    assert ("test_frame.py" in text) is (format != "mermaid")


def test_rows_come_as_computed(frame):
    lazy = frame.filter(km.col("n") > 1).with_columns(y=km.col("n") * 10).sort("n", descending=True).select("k", "y")
    assert lazy.collect().rows() == [("a", 40), (None, 30), ("b", 20)]


def test_aggregates_over_expressions_and_of_expressions(frame):
    lazy = frame.group_by("k").agg(
        span=km.col("n").max() - km.col("n").min(), twice=(km.col("n") * 2).sum(), x=km.col("x").count(), n=km.len()
    )
    assert sorted(lazy.collect().rows(), key=repr) == [("a", 3, 10, 2, 2), ("b", 0, 4, 0, 1), (None, 0, 6, 1, 1)]


def test_grouping_twice_in_a_row(frame):
    counts = frame.group_by("k").agg(t=km.col("n").min().cast("string"))
    twice = counts.group_by("k", "t").len().sort("t")
    assert twice.collect(partitions=1).rows() == [("a", "1", 1), ("b", "2", 1), (None, "3", 1)]


def test_a_group_by_without_aggregates_gives_the_distinct_keys(frame):
    assert sorted(frame.group_by("k").agg().collect().rows(), key=repr) == [("a",), ("b",), (None,)]


def test_sorting_by_an_expression_leaves_no_column_behind(frame):
    assert frame.select("n").sort(km.col("n") % 2, "n").collect().rows() == [(2,), (4,), (1,), (3,)]


def test_top_k_is_sorted_and_its_reverse_is_the_smallest(frame):
    assert frame.top_k(2, by="x").select("x").collect().rows() == [(2.5,), (1.5,)]
    assert frame.top_k(2, by="x", reverse=True).select("x").collect().rows() == [(0.5,), (1.5,)]


def test_exploding_follows_its_flags(frame):
    def values(**flags: bool) -> list[object]:
        return [row[0] for row in frame.select("xs").explode("xs", **flags).collect().rows()]

    assert values() == [1, 2, None, 3]
    assert values(keep_nulls=False) == [1, 2, 3]
    assert values(empty_as_null=True) == [1, 2, None, None, 3]


def test_pipe_hands_the_frame_to_a_function(frame):
    assert frame.pipe(lambda f, n, *, k: f.head(n).select(k), 2, k="n").collect().rows() == [(1,), (2,)]


def test_batches_are_never_larger_than_asked(frame):
    batches = list(frame.select("n").collect_batches(batch_rows=3))
    assert [batch.num_rows for batch in batches] == [3, 1]


def test_closing_the_iterator_of_batches_closes_the_job(frame, monkeypatch):
    closed = []

    def run(job, settings, on_event):
        try:
            yield from DATA.to_batches()
        finally:
            closed.append(True)

    monkeypatch.setattr("kernelmill.engine.runner.run_collect", run)
    batches = frame.collect_batches(batch_rows=1)
    next(batches)
    batches.close()
    assert closed == [True]


def test_a_result_larger_than_the_memory_budget_is_refused(frame, monkeypatch):
    big = pa.record_batch({"n": pa.array(range(1 << 20))})
    monkeypatch.setattr("kernelmill.engine.runner.run_collect", lambda *_: iter([big] * 100))
    assert failure(lambda: frame.select("n").collect(memory="64MiB")).code is Code.MEMORY_LIMIT


def test_other_libraries_read_a_frame_as_a_stream(frame):
    assert pa.table(frame.select("n")).to_pydict() == {"n": [1, 2, 3, 4]}
    assert pl.DataFrame(frame.select("n")).rows() == [(1,), (2,), (3,), (4,)]


def test_a_sink_says_what_it_wrote(frame, tmp_path):
    folder = frame.select("k", "n").sink_parquet(tmp_path / "out")
    assert (folder.rows, folder.path) == (4, str(tmp_path / "out"))
    assert km.scan_parquet(tmp_path / "out").collect().height == 4
    single = frame.select("n").sink_parquet(tmp_path / "one.parquet", compression="snappy")
    assert single.rows == 4
    assert km.read_parquet(tmp_path / "one.parquet").to_dict() == {"n": [1, 2, 3, 4]}


def test_show_prints_the_first_rows_and_says_if_there_are_more(frame, capsys):
    frame.select("n").show(2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in lines] == ["n", "int64", "1", "2", "... more rows"]


def test_events_go_to_the_function_given_as_progress(frame):
    seen: list[str] = []
    frame.collect(progress=lambda event: seen.append(type(event).__name__))
    assert (seen[0], seen[-1]) == ("JobStarted", "JobFinished")
