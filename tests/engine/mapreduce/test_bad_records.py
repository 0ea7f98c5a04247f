"""Records that fail: named in errors, set aside whole with on_bad="reject", never half emitted or counted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError

PAIRS = {"key": "string", "value": "int64"}


def mapreduce(*functions, **options):
    """A job of plain Python: these tests are about what that does."""
    return km.MapReduce(*functions, **({"compile": "never"} | options))


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "sales.txt"
    path.write_text("a 1\nb x\na 2\nc\nb 3\n")
    return str(path)


def parse(line, emit):
    emit.count("seen")
    emit("all", 1)
    key, n = line.split()
    emit(key, int(n))


def failure_of(call, *arguments, **options):
    with pytest.raises(KernelmillError) as caught:
        call(*arguments, **options)
    return caught.value


def collected(job, frame, **settings):
    return job(frame).collect(progress=False, **settings)


def test_an_exception_names_file_offset_record_and_the_users_line(text):
    problem = failure_of(collected, mapreduce(parse, "sum", schema=PAIRS), km.scan_text(text))
    assert problem.code is Code.FUNCTION_FAILED
    assert problem.where == f"{text}, byte 4, line 2"
    assert "'b x'" in problem.hint and "ValueError" in problem.what and "'parse'" in problem.what
    line = int(re.search(r"test_bad_records\.py:(\d+)", problem.what)[1])
    assert "int(n)" in Path(__file__).read_text().splitlines()[line - 1]
    assert isinstance(problem.__cause__, ValueError)


def test_the_output_does_not_tell_from_which_folder_the_job_was_run(text, tmp_path, monkeypatch):
    found, shown = [], []
    here = Path(__file__).parent
    for number, folder in enumerate([here, here.parents[1], tmp_path]):
        monkeypatch.chdir(folder)
        job, out = mapreduce(parse, "sum", schema=PAIRS), tmp_path / str(number)
        result = job.run(text, output=out, on_bad="reject")
        found.append({str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()})
        shown.append(failure_of(collected, job, km.scan_text(text)).what)
        assert all("[test_bad_records.py:" in reason for reason in result.rejects) and result.rejects
    assert len(found[0]) >= 3 and found[0] == found[1] == found[2]
    assert "[engine/mapreduce/test_bad_records.py:" in shown[1]  # people are told the path


def test_the_row_of_a_frame_is_named():
    frame = km.from_arrow(pa.table({"city": ["x", "y"], "n": [1, 0]})).filter(km.col("city") != "")
    job = mapreduce(lambda row, emit: emit(row.city, 1 // row.n), "sum", schema=PAIRS)
    problem = failure_of(collected, job, frame)
    assert problem.where == "<table0>, row 1" and "'city': 'y'" in problem.hint


def test_rejected_records_leave_neither_emits_nor_counts(text):
    found = collected(mapreduce(parse, "sum", schema=PAIRS), km.scan_text(text), on_bad="reject")
    assert dict(found.rows()) == {"a": 3, "all": 3, "b": 3}
    assert found.counters == {"seen": 3}
    rejects = found.rejects.to_dict()
    assert rejects["offset"] == [4, 12] and rejects["record"] == [b"b x", b"c"]
    assert rejects["code"] == ["KM0301", "KM0301"] and all("raised ValueError" in why for why in rejects["reason"])


def test_more_rejects_than_allowed_fail_the_job(text):
    job = mapreduce(parse, "sum", schema=PAIRS)
    problem = failure_of(collected, job, km.scan_text(text), on_bad="reject", max_rejects=1)
    assert problem.code is Code.REJECT_LIMIT


def test_emit_reject_sets_a_record_aside_whatever_on_bad_is(text):
    def map(line, emit):
        emit(line, 1)
        if "x" in line:
            emit.reject("has an x")
        emit.count("done")

    found = collected(mapreduce(map, "sum", schema=PAIRS), km.scan_text(text))
    assert found.height == 4 and found.counters == {"done": 4}
    assert found.rejects.to_dict()["reason"] == ["has an x"]


@pytest.mark.parametrize("value", [1.5, "1", True, 2**70, (1, 2), b"1", 1.0], ids=lambda value: type(value).__name__)
def test_a_value_that_does_not_fit_the_schema_names_the_record(text, value):
    def map(line, emit):
        emit("k", 1)
        emit("k", value if line == "a 2" else 2)

    job = mapreduce(map, "sum", schema=PAIRS)
    problem = failure_of(collected, job, km.scan_text(text))
    assert (problem.code, problem.where) == (Code.CAST, f"{text}, byte 8, line 3")
    assert repr(value) in problem.what and "int64" in problem.what and "'a 2'" in problem.hint
    found = collected(job, km.scan_text(text), on_bad="reject")
    assert found.rows() == [("k", 12)]
    assert found.rejects.to_dict()["record"] == [b"a 2"]


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ("string", "é", b"e"),
        ("binary", b"\xff", "e"),
        ("float64", 2, True),
        ("bool", False, 1),
        ("list<int64>", [1, 2], [1.5]),
        ("int8", 127, 128),
        ("string", "", "\ud800"),
    ],
)
def test_values_are_kept_as_they_are_or_refused(schema, good, bad):
    frame = km.from_arrow(pa.table({"n": [0, 1]}))
    job = mapreduce(lambda n, emit: emit(n, bad if n else good), order=None, schema={"key": "int64", "value": schema})
    found = collected(job, frame, on_bad="reject")
    assert found.rows() == [(0, good)] and found.rejects.height == 1


@pytest.mark.parametrize(("key", "value"), [("ab", 1), (("a",), 1), (("a", "b", "c"), 1), (("a", 1), 1)])
def test_a_key_that_is_no_tuple_of_the_right_length_is_refused(key, value):
    schema = {"a": "string", "b": "string", "n": "int64"}
    job = mapreduce(lambda line, emit: emit(key, value), "sum", key=("a", "b"), value="n", schema=schema)
    assert failure_of(collected, job, km.from_arrow(pa.table({"line": ["x"]}))).code is Code.CAST


def test_the_first_bad_record_is_named_whatever_is_wrong_with_it(text):
    def map(line, emit):
        emit("k", "no number" if line == "b x" else 1)
        if line == "c":
            raise ValueError

    problem = failure_of(collected, mapreduce(map, "sum", schema=PAIRS), km.scan_text(text))
    assert (problem.code, problem.where) == (Code.CAST, f"{text}, byte 4, line 2")


@pytest.mark.parametrize("call", [lambda emit: emit("a"), lambda emit: emit("a", 1, 2), lambda emit: emit.count(1)])
def test_a_wrong_emit_is_the_records_failure(text, call):
    job = mapreduce(lambda line, emit: call(emit), "sum", schema=PAIRS)
    problem = failure_of(collected, job, km.scan_text(text))
    assert problem.code is Code.FUNCTION_FAILED and "TypeError" in problem.what


def test_a_reduce_that_fails_names_its_key_and_can_be_rejected(text):
    def reduce(key, values, emit):
        total = sum(values)
        emit.count("keys")
        emit(key.upper(), total)
        if key == "a":
            raise ValueError("no a")
        if key == "b":
            emit.reject("no b")

    def map(line, emit):
        emit(line[0], 1)

    job = mapreduce(map, reduce, schema=PAIRS)
    problem = failure_of(collected, job, km.scan_text(text))
    assert problem.code is Code.FUNCTION_FAILED and "the key is 'a', with 2 values" in problem.hint
    found = collected(job, km.scan_text(text), on_bad="reject")
    assert found.rows() == [("C", 1)] and found.counters == {"keys": 1}
    assert [json.loads(record)["key"] for record in found.rejects.to_dict()["record"]] == ["a", "b"]


def test_a_combine_that_fails_names_its_key_and_values(text):
    def combine(a, b):
        raise KeyError("why")

    job = mapreduce(lambda line, emit: emit(line[0], 7), combine=combine, schema=PAIRS)
    problem = failure_of(collected, job, km.scan_text(text), on_bad="reject")
    assert problem.code is Code.FUNCTION_FAILED and "the key is 'a'" in problem.hint and "7" in problem.hint


def test_a_combined_value_that_does_not_fit_is_an_error_even_where_records_are_rejected(text):
    job = mapreduce(lambda line, emit: emit("k", 1), combine=lambda a, b: "x", schema=PAIRS)
    assert failure_of(collected, job, km.scan_text(text), on_bad="reject").code is Code.CAST


@pytest.mark.parametrize("part", [4, -1, 0.0, True, None, "0"])
def test_a_partition_that_is_none_is_refused(text, part):
    job = mapreduce(
        lambda line, emit: emit(line[0], 1), "sum", schema=PAIRS, partition=lambda key, n: part, partitions=4
    )
    problem = failure_of(collected, job, km.scan_text(text))
    assert problem.code is Code.FUNCTION_FAILED and "of 4 partitions" in problem.what


def test_rejects_and_counters_are_the_same_for_any_threads_and_splits_of_work(tmp_path):
    path = tmp_path / "many.txt"
    path.write_text("".join(f"k{n % 50} {'bad' if n % 997 == 0 else n}\n" for n in range(30_000)))
    expected = None
    for threads in (1, 3, 8):
        for _ in range(2):
            job = mapreduce(parse, "sum", schema=PAIRS, partitions=3)
            found = collected(job, km.scan_text(str(path)), on_bad="reject", threads=threads, split_size="40KB")
            got = found.to_arrow(), found.rejects.to_arrow(), dict(found.counters)
            expected = expected or got
            assert got[0].equals(expected[0]) and got[1].equals(expected[1]) and got[2] == expected[2]
    assert expected[1].num_rows == 31 and expected[2] == {"seen": 30_000 - 31}


def test_one_record_may_emit_more_than_a_piece_and_is_still_undone_whole():
    def map(n, emit):
        for _ in range(70_000):
            emit("k", 1)
        if n == 1:
            raise ValueError

    frame = km.from_arrow(pa.table({"n": [0, 1, 2]}))
    found = collected(mapreduce(map, "sum", schema=PAIRS), frame, on_bad="reject")
    assert found.rows() == [("k", 140_000)] and found.rejects.to_dict()["row"] == [1]


def test_a_record_whose_value_does_not_fit_counts_nothing(text):
    def map(line, emit):
        emit.count("lines")
        emit(line, "x" if line == "a 2" else 1)

    found = collected(mapreduce(map, "sum", schema=PAIRS), km.scan_text(text), on_bad="reject")
    assert found.counters == {"lines": 4} and found.rejects.to_dict()["record"] == [b"a 2"]


def test_the_place_of_a_row_goes_on_after_the_map(text):
    def map(line, emit):
        for n in range(3):
            emit(str(n) if line != "a 2" else line, n)

    job = mapreduce(map, order=None, schema=PAIRS)
    frame = job(km.scan_text(text)).select(n=km.col("key").cast("int64"))
    with pytest.raises(KernelmillError) as caught:
        frame.collect(progress=False)
    assert caught.value.where == f"{text}, byte 8, line 3"
