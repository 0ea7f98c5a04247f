"""What cannot be meant is refused by the verb that is wrong, with its code, the user's line and what to do instead."""

import re
from pathlib import Path

import outside
import pytest

import kernelmill as km
from kernelmill.engine import events
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.settings import listing


@pytest.fixture
def frame():
    outside.write_table("table.parquet", rows=100)
    return km.scan_parquet("table.parquet")


MISTAKES = {
    Code.COLUMN_NOT_FOUND: {
        "select": lambda f: f.select("nn"),
        "filter": lambda f: f.filter(km.col("y") > 1),
        "with_columns": lambda f: f.with_columns(z=km.col("y") + 1),
        "drop": lambda f: f.drop("y"),
        "rename": lambda f: f.rename({"y": "z"}),
        "cast": lambda f: f.cast({"y": "int64"}),
        "group_by": lambda f: f.group_by("y"),
        "agg": lambda f: f.group_by("s").agg(km.col("y").sum()),
        "sort": lambda f: f.sort("y"),
        "top_k": lambda f: f.top_k(3, by="y"),
        "explode": lambda f: f.explode("y"),
    },
    Code.TYPE_MISMATCH: {
        "compare": lambda f: f.filter(km.col("s") > 1990),
        "add": lambda f: f.select(km.col("i") + km.col("s")),
        "a filter that is no boolean": lambda f: f.filter(km.col("x")),
        "the sum of texts": lambda f: f.group_by("i").agg(km.col("s").sum()),
        "explode of no list": lambda f: f.explode("s"),
        "tokens of numbers": lambda f: f.select(km.col("i").str.tokenize()),
        "not one value a group": lambda f: f.group_by("s").agg(km.col("x")),
        "a value that never fits": lambda f: f.filter(km.col("x") == "one"),
    },
    Code.DUPLICATE_COLUMN: {
        "select": lambda f: f.select("i", i=km.col("n")),
        "rename": lambda f: f.rename({"i": "s"}),
        "agg": lambda f: f.group_by("s").agg(s=km.len()),
        "sums under one name": lambda f: f.group_by("s").agg(km.col("x").sum(), km.col("x").mean()),
    },
    Code.AMBIGUOUS_TRUTH: {
        "and": lambda f: f.filter(km.col("i") > 1 and km.col("x") > 2),
        "a chain": lambda f: f.filter(1 < km.col("i") < 3),
        "in": lambda f: km.col("i") in [1, 2],
        "if": lambda f: bool(f),
    },
    Code.UNKNOWN_NAME: {
        "verb": lambda f: f.groupby("s"),
        "of GroupBy": lambda f: f.group_by("s").count(),
        "of an expression": lambda f: km.col("i").summ(),
        "of .str": lambda f: km.col("s").str.tokenise(),
    },
    Code.BAD_SETTING: {
        "mode": lambda f: f.sink_parquet("out", mode="append"),
        "compression": lambda f: f.sink_parquet("out", compression="zip"),
        "tokens": lambda f: km.col("s").str.tokenize("words"),
        "invalid": lambda f: km.scan_text("table.parquet", invalid="ignore"),
        "head": lambda f: f.head(-1),
        "output": lambda f: f.sink_parquet(""),
        "a store": lambda f: f.sink_parquet("s3://bucket/out"),
    },
}


@pytest.mark.parametrize(
    ("code", "name"), [(code, name) for code, cases in MISTAKES.items() for name in cases], ids=lambda v: str(v)
)
def test_a_mistake_is_raised_by_its_verb_at_the_users_line_with_a_hint(frame, code, name):
    with pytest.raises(KernelmillError) as caught:
        MISTAKES[code][name](frame)
    assert caught.value.code is code
    assert caught.value.hint
    assert re.fullmatch(rf"{Path(__file__).name}:\d+", caught.value.where)
    assert [path.name for path in Path().iterdir()] == ["table.parquet"]


@pytest.mark.parametrize(
    "given",
    [{"threads": 0}, {"thread": 2}, {"memory": "lots"}, {"memory": "1MB"}, {"on_bad": "ignore"}, {"progress": 3}],
    ids=lambda given: next(iter(given)),
)
def test_a_wrong_setting_is_refused_before_anything_runs(frame, given):
    for run in (frame.collect, lambda **settings: frame.sink_parquet("out", **settings)):
        with pytest.raises(KernelmillError) as caught:
            run(**given)
        assert caught.value.code is Code.BAD_SETTING
        assert caught.value.hint


def test_a_wrong_setting_of_the_process_changes_nothing():
    with pytest.raises(KernelmillError) as caught:
        km.configure(threads=3, memmory="1GiB")
    assert caught.value.code is Code.BAD_SETTING
    assert "'memory'" in caught.value.hint
    assert {row.name: row.origin for row in listing()}["threads"] == "default"


def test_names_that_are_nearly_right_are_suggested(frame):
    for call, near in (
        (lambda: frame.select("ii"), "'i'"),
        (lambda: frame.groupby("s"), "'group_by'"),
        (lambda: km.scan_txt("a"), "'scan_text'"),
        (lambda: frame.collect(thread=2), "'threads'"),
        (lambda: km.scan_parquet("tabel.parquet"), "table.parquet"),
    ):
        with pytest.raises(KernelmillError) as caught:
            call()
        assert "did you mean" in caught.value.hint
        assert near in caught.value.hint


def test_errors_are_the_built_in_ones_too(frame):
    with pytest.raises(KeyError):
        frame.select("y")
    with pytest.raises(TypeError):
        frame.filter(km.col("s") > 1)
    with pytest.raises(AttributeError):
        _ = frame.where
    with pytest.raises(FileNotFoundError):
        km.scan_text("nowhere.txt")
    assert not hasattr(frame, "where")


def test_a_value_that_does_not_fit_fails_the_job_and_leaves_nothing(frame):
    for bad, code in (
        (frame.with_columns(y=km.col("i") * (1 << 62)), Code.OVERFLOW),
        (frame.cast({"s": "int64"}), Code.CAST),
    ):
        with pytest.raises(KernelmillError) as caught:
            bad.sink_parquet("out", progress=False)
        assert caught.value.code is code
        assert caught.value.hint
        assert not Path("out").exists()


def test_a_sum_that_does_not_fit_64_bits_is_an_error_not_a_wrong_number(frame):
    sums = frame.select(n=km.lit(2**62)).group_by(one=km.lit(1)).agg(km.col("n").sum())
    with pytest.raises(KernelmillError) as caught:
        sums.collect(progress=False)
    assert caught.value.code is Code.OVERFLOW


@pytest.mark.parametrize("kind", [events.JobStarted, events.TaskStarted, events.TaskProgress, events.TaskFinished])
def test_a_progress_function_that_raises_is_blamed_and_leaves_nothing(frame, kind):
    def fail(event):
        if isinstance(event, kind):
            raise ValueError("surprise")

    with pytest.raises(KernelmillError) as caught:
        frame.group_by("s").len().sink_parquet("out", progress=fail)
    assert caught.value.code is Code.FUNCTION_FAILED
    assert caught.value.where.startswith(Path(__file__).name)
    assert not Path("out").exists()
