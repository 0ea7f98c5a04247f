"""emit.to in compiled maps: rows, rejects and counters are those of plain Python, and types need not be given."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.exec import branches, records, stages
from kernelmill.kernels.functions import emits

LONG = 700


def route(line, emit):
    emit.count("lines")
    for word in line.split():
        if word.isdigit():
            emit.to("numbers", int(word), 1)
            emit.count("numbers", int(word))
        elif word == "!":
            emit.reject("shout")
        elif word == "raise":
            emit(word, int(word))
        elif word == "many":
            for n in range(LONG):
                emit.to("numbers", n, 1)
                emit.to("tags", (word, None), n * 0.5)
        elif word == "most":
            for n in range(LONG):
                emit(word * 3, n)
        elif word.startswith("#"):
            emit.to("tags", (word[1:], word.upper()), len(word))
            emit.to("tags", (f"{word}{len(word)}", None), -1.5)
            emit.to("texts", word)
        else:
            emit(word, len(line))
            emit.to("texts", line)


def outputs_of(schemas):
    numbers = {"number": "int64", "n": "int64"}
    tags = {"tag": "string", "upper": "string", "size": "float64"}
    return {
        "texts": km.Output(key="text", schema={"text": "string"} if schemas else None),
        "numbers": km.Output("sum", key="number", value="n", schema=numbers if schemas else None, partitions=2),
        "tags": km.Output(key=("tag", "upper"), value="size", schema=tags if schemas else None, order=None),
    }


def job_of(compile):
    schema = {"word": "string", "n": "int64"} if compile == "never" else None
    outputs = outputs_of(compile == "never")
    return km.MapReduce(route, "sum", key="word", value="n", schema=schema, outputs=outputs, compile=compile)


def frame_of(lines, chunk=1000):
    table = pa.table({"line": pa.array(lines, pa.string())})
    return km.from_arrow(pa.Table.from_batches(table.to_batches(max_chunksize=chunk), schema=table.schema))


def parts(place):
    """Each part file's digest; the rejects have where a record stood and are compared as rows."""
    files = sorted(path for path in Path(place).rglob("part-*") if "_rejects" not in str(path))
    return {str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rejected(result, place):
    if not result.rejects:
        return []
    return sorted(km.read_parquet(Path(place) / "_rejects").lazy().select("record", "reason", "row").collect().rows())


WORDS = ["a", "bb", "é", "1", "22", "#x", "#Straße", "!", "raise", "many", "most"]


@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=6).map(" ".join), max_size=12))
@settings(max_examples=20)
def test_a_compiled_map_with_named_outputs_agrees_with_plain_python(tmp_path_factory, lines):
    place, found = tmp_path_factory.mktemp("outputs"), {}
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stages, "STAGE_WORDS", 600)  # they fill up in the middle of a record
        for how in ("require", "never"):
            out = place / how
            result = job_of(how).run(frame_of(lines, 5), output=out, on_bad="reject", split_size=100, threads=2)
            found[how] = parts(out), rejected(result, out), result.counters
    assert found["require"] == found["never"]


@pytest.mark.parametrize("held", [None, 50])
def test_the_same_bytes_for_any_threads_stages_and_held_rows(tmp_path, held, monkeypatch):
    lines = ["a 1 #x", "many bb", "most 22", "! 5", "#y raise", "é"] * 40
    if held is not None:
        monkeypatch.setattr(branches, "HELD_ROWS_MAX", held)
    found = []
    for number, (words, threads, how) in enumerate([(600, 1, "require"), (1 << 16, 2, "require"), (0, 2, "never")]):
        monkeypatch.setattr(stages, "STAGE_WORDS", words)
        out = tmp_path / str(number)
        result = job_of(how).run(frame_of(lines, 60), output=out, on_bad="reject", split_size=800, threads=threads)
        found.append((parts(out), rejected(result, out), result.counters))
    assert found[0] == found[1] == found[2]
    assert len(found[0][1]) == 80 and found[0][2] == {"lines": 160, "numbers": 40 * 23}


def test_no_record_is_called_as_python_but_those_that_fail(monkeypatch):
    seen = []
    rows = records._InterpretedMap.rows

    def counted(self, batch, place):
        seen.extend(batch.column(0).to_pylist())
        return rows(self, batch, place)

    monkeypatch.setattr(records._InterpretedMap, "rows", counted)
    frame = frame_of((["a 1 #x", "bb 22"] * 100 + ["raise"]) * 3, 10_000)
    job = job_of("require")
    assert job(frame).collect(on_bad="reject", progress=False).height == 2
    named = job.outputs(frame)
    assert named["numbers"].collect(on_bad="reject", progress=False).rows() == [(1, 300), (22, 300)]
    assert seen == ["raise"] * 6


def test_each_named_output_as_a_frame_is_what_plain_python_gives():
    frame = frame_of(["a 1 #x", "many bb", "! a 5", "#y 1 é", "raise"] * 30, 40)
    found, expected = job_of("require").outputs(frame), job_of("never").outputs(frame)
    for name, lf in found.items():
        assert lf.schema == expected[name].schema
        assert lf.collect(on_bad="reject").rows() == expected[name].collect(on_bad="reject").rows()


def test_types_of_named_outputs_are_inferred_and_verify_agrees():
    job = job_of("require")
    schemas = {name: dict(lf.schema) for name, lf in job.outputs(frame_of(["a"])).items()}
    assert schemas == {
        "texts": {"text": "string"},
        "numbers": {"number": "int64", "n": "int64"},
        "tags": {"tag": "string", "upper": "string", "size": "float64"},
    }
    assert job.verify(frame_of(["a 1 #x", "many bb", "é #y"] * 20)).records == 60


def other_types(line, emit):
    emit(line, 1)
    emit.to("n", len(line), 1)


@pytest.mark.parametrize("kind", ["int64", "float64", "int32"])
def test_schema_of_a_named_output_is_kept_to_whatever_the_compiler_found(kind):
    outputs = {"n": km.Output("sum", key="n", value="v", schema={"n": kind, "v": "int64"})}
    job = km.MapReduce(other_types, "sum", outputs=outputs, compile="require")
    found = job.outputs(frame_of(["a", "bb", "cc"]))["n"]
    assert dict(found.schema) == {"n": kind, "v": "int64"} and found.collect().rows() == [(1, 1), (2, 2)]


def differing(line, emit):
    emit(line, 1)
    if line == "a":
        emit.to("x", line)
    else:
        emit.to("x", len(line))


def any_name(line, emit):
    emit(line, 1)
    emit.to(line, line)
    emit.to("x", line)


def unknown_name(line, emit):
    emit(line, 1)
    emit.to("x", line)
    emit.to("y", line)


@pytest.mark.parametrize("function", [differing, any_name, unknown_name])
def test_calls_that_the_compiler_cannot_tell_are_left_to_python(function):
    frame, types = frame_of(["a", "b", "x"]), {"text": "string"}
    found = []
    for how in ("require", "never"):
        out = km.Output(key="text", schema=types)
        schema = {"key": "string", "value": "int64"}
        job = km.MapReduce(function, "sum", schema=schema, outputs={"x": out}, compile=how)
        main = job(frame).collect(on_bad="reject")
        found.append((main.rows(), main.rejects.height, job.outputs(frame)["x"].collect(on_bad="reject").rows()))
    assert found[0] == found[1]
    job = km.MapReduce(function, "sum", outputs={"x": km.Output(key="text")})
    if function is unknown_name:
        assert dict(job.outputs(frame)["x"].schema) == types
    else:
        assert caught(job.outputs, frame).code is Code.SCHEMA_REQUIRED


def caught(call, *arguments, **options):
    with pytest.raises(KernelmillError) as found:
        call(*arguments, **options)
    return found.value


def helped(line, emit):
    sent(line, 1, emit)
    emit.to("x", 0.5, line)


def sent(line, n, emit):
    emit.to("x", n, line)
    emit.to("y", line)


def test_helpers_that_emit_before_all_calls_are_known():
    outputs = {"x": km.Output(order="value"), "y": km.Output(key="text")}
    job = km.MapReduce(helped, outputs=outputs, schema={"key": "string"}, compile="require")
    found = {name: lf.collect().rows() for name, lf in job.outputs(frame_of(["b", "a"])).items()}
    assert found == {"x": [(0.5, "a"), (0.5, "b"), (1.0, "a"), (1.0, "b")], "y": [("a",), ("b",)]}
    assert job(frame_of(["b"])).collect().rows() == []


def test_more_named_outputs_than_there_is_room_for_are_left_to_python(monkeypatch):
    def three(line, emit):
        emit.to("a", 1, 1)
        emit.to("b", line)
        if line == "x":
            emit.to("c", line)
        emit(line)

    monkeypatch.setattr(emits, "NAMED_MAX", 2)
    outputs = {"a": km.Output("sum"), "b": km.Output(), "c": km.Output()}
    types = [{"key": "int64", "value": "int64"}, {"key": "string"}, {"key": "string"}]
    assert caught(km.MapReduce(three, outputs=outputs), frame_of(["y"])).code is Code.SCHEMA_REQUIRED
    typed = {"a": km.Output("sum", schema=types[0]), "b": km.Output(schema=types[1]), "c": km.Output(schema=types[2])}
    job = km.MapReduce(three, outputs=typed, compile="require")
    found = {name: lf.collect().rows() for name, lf in job.outputs(frame_of(["y", "x", "y"])).items()}
    assert found == {"a": [(1, 3)], "b": [("x",), ("y",), ("y",)], "c": [("x",)]}
    assert job(frame_of(["y", "x"])).collect().rows() == [("x",), ("y",)]


def test_a_compiled_reduce_has_no_named_outputs_to_emit_to():
    def lost(key, values, emit):
        if sum(values) > 1:
            emit.to("n", key)
        emit(0)

    job = km.MapReduce(other_types, lost, outputs={"n": km.Output("sum", value="v")}, compile="require")
    assert job(frame_of(["a", "b"])).collect().rows() == [("a", 0), ("b", 0)]
    problem = caught(job(frame_of(["a", "b", "a"])).collect)
    assert problem.code is Code.FUNCTION_FAILED and "LookupError" in problem.what


# A map that emits nothing ---------------------------------------------------------------------------------------------


def silent(line, emit):
    emit.count("lines")
    if line:
        emit.reject("not empty")


def test_a_map_that_never_emits_is_told_so_where_types_are_needed(tmp_path):
    problem = caught(km.MapReduce(silent), frame_of(["a"]))
    assert problem.code is Code.SCHEMA_REQUIRED and "never calls emit" in problem.hint
    job = km.MapReduce(silent, schema={"key": "string"}, compile="require")
    result = job.run(frame_of(["a", "", "b"]), output=tmp_path / "out", on_bad="reject")
    assert (result.rows, result.counters, sum(result.rejects.values())) == (0, {"lines": 1}, 2)


def test_an_output_to_which_a_map_never_emits_is_named_where_its_types_are_needed():
    job = km.MapReduce(other_types, "sum", outputs={"n": km.Output(value="v"), "lost": km.Output()})
    problem = caught(job, frame_of(["a"]))
    assert problem.code is Code.SCHEMA_REQUIRED and "emit.to('lost', ...)" in problem.hint
