"""LazyFrame's verbs: what they build, and that a wrong one fails where it is written, with a code and a place."""

from __future__ import annotations

import copy
import functools
from pathlib import Path

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
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
    (Code.TYPE_MISMATCH, lambda f: f.select("k", km.col("n").sum())),
    (Code.TYPE_MISMATCH, lambda f: f.select(km.col("n").sum(), one=1)),
    (Code.TYPE_MISMATCH, lambda f: f.select(km.col("n") - km.col("n").min())),
    (Code.TYPE_MISMATCH, lambda f: f.with_columns(s=km.col("n").sum())),
    (Code.TYPE_MISMATCH, lambda f: f.select(km.col("n").sum().max())),
    (Code.DUPLICATE_COLUMN, lambda f: f.select(km.col("n").sum(), km.col("n").min())),
    (Code.TYPE_MISMATCH, lambda f: f.group_by("xs")),
    (Code.TYPE_MISMATCH, lambda f: f.group_by(km.col("n").sum())),
    (Code.TYPE_MISMATCH, lambda f: f.group_by("k").agg("n")),
    (Code.TYPE_MISMATCH, lambda f: f.group_by("k").agg(km.col("n") + 1)),
    (Code.TYPE_MISMATCH, lambda f: f.group_by("k").agg(km.lit(1))),
    (Code.TYPE_MISMATCH, lambda f: f.group_by("n").agg(km.col("k").sum())),
    (Code.TYPE_MISMATCH, lambda f: f.group_by("n").agg(km.col("xs").min())),
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
    (Code.BAD_SETTING, lambda f: f.head(1 << 63)),
    (Code.BAD_SETTING, lambda f: f.top_k(1 << 64, by="n")),
    (Code.BAD_SETTING, lambda f: f.sink_parquet("out", row_group_rows=10**30)),
    (Code.BAD_SETTING, lambda f: f.collect().head(1 << 63)),
    (Code.BAD_SETTING, lambda f: f.sort([])),
    (Code.BAD_SETTING, lambda f: f.top_k(2, by=[])),
    (Code.BAD_SETTING, lambda f: f.with_columns(z=pa.array([1, 2, 3, 4]).to_numpy())),
    (Code.BAD_SETTING, lambda f: f.group_by("k").len(3)),
    (Code.BAD_SETTING, lambda f: f.group_by("k").len("\ud800")),
    (Code.BAD_SETTING, lambda f: f.select(**{"\ud800": "n"})),
    (Code.BAD_SETTING, lambda f: f.rename({"n": "\ud800"})),
    (Code.BAD_SETTING, lambda f: f.rename({"n": 3})),
    (Code.COLUMN_NOT_FOUND, lambda f: f.rename({3: "n"})),
    (Code.COLUMN_NOT_FOUND, lambda f: f.select(km.col("\ud800"))),
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
    monkeypatch.setattr("kernelmill.engine.execute._ends", lambda: pytest.fail("it ran"))
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

    monkeypatch.setattr("kernelmill.engine.ends.run_collect", run)
    batches = frame.collect_batches(batch_rows=1)
    next(batches)
    batches.close()
    assert closed == [True]


def test_a_result_larger_than_the_memory_budget_is_refused(frame, monkeypatch):
    big = pa.record_batch({"n": pa.array(range(1 << 20))})
    monkeypatch.setattr("kernelmill.engine.ends.run_collect", lambda *_: iter([big] * 100))
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


ALL_ROWS = {
    "rows": (km.len(), pl.len(), "count(*)"),
    "values": (km.col("n").count(), pl.col("n").count(), "count(n)"),
    "most": (km.col("n").max(), pl.col("n").max(), "max(n)"),
    "least": (km.col("x").min(), pl.col("x").min(), "min(x)"),
    "mean": (km.col("n").mean(), pl.col("n").mean(), "avg(n)"),
    "span": (km.col("n").max() - km.col("n").min(), pl.col("n").max() - pl.col("n").min(), "max(n) - min(n)"),
    "twice": ((km.col("n") * 2).max(), (pl.col("n") * 2).max(), "max(n * 2)"),
}


@pytest.mark.parametrize("rows", [DATA, DATA.slice(2, 1), DATA.slice(0, 0)], ids=["four", "one", "none"])
def test_aggregates_alone_give_one_row_of_all_rows(rows):
    lazy = km.from_arrow(rows).select(total=km.col("n").sum(), **{name: three[0] for name, three in ALL_ROWS.items()})
    result = lazy.collect(progress=False)
    assert result.to_arrow().schema == lazy.schema.to_arrow()
    (row,) = result.rows()
    assert row[0] == sum(rows["n"].to_pylist())  # 0 of none, as everywhere here; DuckDB has null
    assert pl.DataFrame(rows).select(**{name: three[1] for name, three in ALL_ROWS.items()}).rows() == [row[1:]]
    columns = ", ".join(three[2] for three in ALL_ROWS.values())
    assert duckdb.connect().execute(f"select {columns} from rows").fetchall() == [row[1:]]


def test_aggregates_of_all_rows_come_together_from_every_task(tmp_path):
    for number in range(3):
        pq.write_table(pa.table({"n": range(number * 10, number * 10 + 10)}), tmp_path / f"{number}.parquet")
    some = km.scan_parquet(tmp_path / "*.parquet")
    total = some.filter(km.col("n") >= 10).select(km.col("n").sum(), rows=km.len(), first=km.col("n").min())
    assert "MergeAggregate of all rows" in total.explain()
    assert total.collect(progress=False, partitions=7).rows() == [(sum(range(10, 30)), 20, 10)]
    total.sink_parquet(tmp_path / "out", progress=False)
    assert km.read_parquet(tmp_path / "out").rows() == [(sum(range(10, 30)), 20, 10)]


def test_what_follows_an_aggregate_of_all_rows_needs_none_of_its_columns(frame):
    counted = frame.select(km.len(), km.col("n").sum())
    assert counted.select(one=km.lit(1)).collect(progress=False).rows() == [(1,)]
    assert counted.filter(km.col("len") > 4).collect(progress=False).rows() == []


def test_words_are_counted_without_a_key(tmp_path):
    (tmp_path / "a.txt").write_text("to be or\nnot to be")
    words = km.scan_text(tmp_path / "a.txt").select(w=km.col("line").str.tokenize()).explode("w")
    assert words.select(km.len(), km.col("w").count()).collect(progress=False).rows() == [(6, 6)]


def chained(frame, n):
    for _ in range(n):
        frame = frame.with_columns(n=km.col("n") + 1)
    return frame


def nested(n):
    return functools.reduce(lambda expr, _: expr + 1, range(n), km.col("n"))


DEEP = {
    "verbs": lambda f, n: chained(f, n).select("n"),
    "an expression": lambda f, n: f.select(nested(n)),
    "an aggregate": lambda f, n: f.select(functools.reduce(lambda expr, _: expr + 1, range(n), km.col("n").max())),
    "conditions": lambda f, n: f.filter(*(km.col("n") != 10 + i for i in range(n))).select("n"),
    "a condition": lambda f, n: f.filter(n=nested(n)),
}


@pytest.mark.parametrize("kind", DEEP)
@pytest.mark.parametrize("n", [400, 5000])
def test_what_is_nested_too_deeply_is_refused_by_the_verb(frame, kind, n):
    problem = failure(lambda: DEEP[kind](frame, n))
    assert problem.code is Code.BAD_SETTING
    assert (Path(__file__).name in problem.where, bool(problem.hint)) == (True, True)


@pytest.mark.parametrize("kind", DEEP)
def test_what_is_nested_deeply_runs_in_a_stack_that_is_used_already(frame, kind):
    def below(frames):
        return below(frames - 1) if frames else DEEP[kind](frame, 240).collect(progress=False)

    assert below(100).columns[-1] in ("n", "xs")


def test_projects_that_would_nest_too_deeply_stay_apart(frame):
    twice = chained(chained(frame, 140).select("n"), 140).select("n", m=nested(200))
    assert twice.collect(progress=False).rows()[0] == (281, 481)


@pytest.mark.parametrize(
    "dtype",
    [pa.month_day_nano_interval(), pa.list_(pa.month_day_nano_interval()), pa.struct([]), pa.binary(0)],
    ids=str,
)
def test_what_parquet_cannot_hold_is_refused_by_the_sink(tmp_path, dtype):
    lazy = km.from_arrow(pa.schema([("a", pa.int64()), ("m", dtype)]).empty_table())
    assert lazy.collect(progress=False).shape == (0, 2)
    problem = failure(lambda: lazy.sink_parquet(tmp_path / "out"))
    assert (problem.code, "'m'" in problem.what) == (Code.TYPE_MISMATCH, True)
    lazy.drop("m").sink_parquet(tmp_path / "out", progress=False)


def test_a_new_column_has_a_name_and_an_old_one_keeps_its_own(frame):
    with pytest.raises(km.errors.BadSettingError):
        frame.group_by("k").len("")
    unnamed = km.from_arrow(pa.table({"": [1], "x": [2]}))
    assert unnamed.rename({"x": "y"}).collect().to_dict() == {"": [1], "y": [2]}
    with pytest.raises(km.errors.BadSettingError):
        unnamed.rename({"x": ""})


def test_an_aggregate_beside_rows_is_refused_in_no_other_verbs_name(frame):
    with pytest.raises(km.errors.TypeMismatchError) as caught:
        frame.with_columns(z=km.col("n").sum())
    assert "select" not in caught.value.what


@pytest.mark.parametrize("target", ["", "a\0b", "\ud800", b"", 3])
def test_an_output_that_no_file_can_be_called_is_refused(target):
    with pytest.raises(KernelmillError) as caught:
        km.from_arrow(pa.table({"a": [1]})).sink_parquet(target)
    assert caught.value.code is Code.BAD_SETTING


@pytest.mark.parametrize("kind", [pa.timestamp("s"), pa.list_(pa.timestamp("s"))], ids=str)
def test_a_moment_that_parquet_cannot_hold_is_a_bad_value_of_its_column(kind, tmp_path):
    far = pa.array([2**60] if pa.types.is_timestamp(kind) else [[2**60]], kind)
    with pytest.raises(KernelmillError) as caught:
        km.from_arrow(pa.table({"a": [1], "far": far})).sink_parquet(tmp_path / "o.parquet")
    assert (caught.value.code, "'far'" in caught.value.what) == (Code.CAST, True)
    assert not list(tmp_path.glob("*.parquet"))


@pytest.mark.parametrize(("value", "dtype"), [(1e300, "float32"), (2**50, "float16"), ("1e999", "float64")])
def test_a_cast_beyond_a_float_types_range_is_an_infinity(value, dtype):
    frame = km.from_arrow(pa.table({"a": [value]}))
    for strict in (True, False):
        assert frame.select(km.col("a").cast(dtype, strict=strict)).collect().rows() == [(float("inf"),)]


def test_an_interrupt_in_a_worker_cancels_the_job():
    def stopped(*_):
        raise KeyboardInterrupt

    def stopped_in_a_task(event):
        if type(event).__name__ == "TaskStarted":
            raise KeyboardInterrupt

    frame = km.from_arrow(pa.table({"line": ["a"]}))
    job = km.MapReduce(stopped, "sum", schema={"key": "string", "value": "int64"}, compile="never")
    for run in (lambda: job(frame).collect(), lambda: frame.collect(progress=stopped_in_a_task)):
        with pytest.raises(KernelmillError) as caught:
            run()
        assert caught.value.code is Code.CANCELLED
