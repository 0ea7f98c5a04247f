"""Several outputs of one job: one pass, steps of their own, published together, no emit of a rejected record."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernelmill as km
from kernelmill.engine import caching
from kernelmill.engine.commit import check
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.events import SpillWritten
from kernelmill.engine.exec import branches, records
from kernelmill.engine.shuffle import store as stores

WORDS = {"word": "string", "n": "int64"}


def route(line, emit):
    emit.count("lines")
    for word in line.split():
        if word.isdigit():
            emit.to("numbers", int(word), 1)
        elif word == "!":
            emit.reject("shout")
        elif word == "?":
            raise ValueError("what")
        elif word == "~":
            emit.to("numbers", "tilde", 1)
        elif word.startswith("#"):
            emit.to("tags", (word, len(word)))
        else:
            emit(word, 1)


def spread(number, ones, emit):
    emit.count("numbers")
    emit(sum(ones))


OUTPUTS = {
    "numbers": km.Output(spread, key="number", value="n", schema={"number": "int64", "n": "int64"}, partitions=2),
    "tags": km.Output(key=("tag", "length"), schema={"tag": "string", "length": "int64"}, order=None),
}


def job_of(**options):
    given = {"key": "word", "value": "n", "schema": WORDS, "outputs": OUTPUTS, "compile": "never"}
    return km.MapReduce(route, "sum", **(given | options))


def expected_of(lines):
    kept = [line.split() for line in lines if not {"!", "?", "~"} & set(line.split())]
    words = Counter(w for ws in kept for w in ws if not w.isdigit() and not w.startswith("#"))
    numbers = Counter(int(w) for ws in kept for w in ws if w.isdigit())
    return sorted(words.items()), sorted(numbers.items()), [(w, len(w)) for ws in kept for w in ws if w.startswith("#")]


def frame_of(lines, chunk=1000):
    table = pa.table({"line": pa.array(lines, pa.string())})
    return km.from_arrow(pa.Table.from_batches(table.to_batches(max_chunksize=chunk), schema=table.schema))


def found_in(place):
    tables = [km.read_parquet(place / part) for part in ("", "numbers", "tags")]
    return sorted(tables[0].rows()), sorted(tables[1].rows()), tables[2].rows()


def digests(place):
    return {
        str(path.relative_to(place)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(Path(place).rglob("*"))
        if path.is_file()
    }


def caught(call, *arguments, **options):
    with pytest.raises(KernelmillError) as found:
        call(*arguments, **options)
    return found.value


LINES = ["a 1 b", "#x a 22", "b ! 3 #lost", "", "1 1 #yy", "a ? #lost 9", "~ a 5"] * 40


def test_each_output_has_what_naive_python_gives_it(tmp_path):
    result = job_of().run(frame_of(LINES), output=tmp_path / "out", on_bad="reject")
    assert found_in(tmp_path / "out") == expected_of(LINES)
    assert result.counters == {"lines": 160, "numbers": 2}
    assert sum(result.rejects.values()) == 120 and len(result.rejects) == 3
    assert result.outputs["tags"].rows == 80 and result.outputs["numbers"].path == str(tmp_path / "out" / "numbers")
    assert str(result).endswith("numbers: 2 rows · tags: 80 rows · 120 records rejected")


@given(st.lists(st.lists(st.sampled_from(["a", "b", "1", "2", "#x", "!", "?", "~"]), max_size=4).map(" ".join)))
@settings(max_examples=25)
def test_a_rejected_record_leaves_no_emit_in_any_output(tmp_path_factory, lines):
    place = tmp_path_factory.mktemp("outputs") / "out"
    job_of().run(frame_of(lines, 3), output=place, on_bad="reject", split_size=20, threads=2)
    assert found_in(place) == expected_of(lines)


def test_all_outputs_are_made_in_one_pass(tmp_path):
    calls = []

    def map(line, emit):
        calls.append(line)
        route(line, emit)

    good = [line for line in LINES if not {"!", "?", "~"} & set(line.split())]
    job = km.MapReduce(map, "sum", key="word", value="n", schema=WORDS, outputs=OUTPUTS, compile="never")
    job.run(frame_of(good), output=tmp_path / "out", threads=1)
    assert calls == good


@pytest.mark.parametrize("held", [None, 1, 7])
def test_the_same_bytes_for_any_threads_and_with_spilled_blocks(tmp_path, held, monkeypatch):
    if held is not None:
        monkeypatch.setattr(branches, "HELD_ROWS_MAX", held)
    monkeypatch.setenv("KERNELMILL_SPILL_DIR", str(tmp_path / "spills"))
    expected = None
    for number, threads in enumerate([1, 3, 2]):
        spilled_bytes = []
        if number == 2:
            monkeypatch.setattr(stores.BlockStore, "open", spilled(stores.BlockStore.open))
        options = {"on_bad": "reject", "max_rejects": 9999, "split_size": "1KB", "threads": threads}
        job_of().run(
            frame_of(LINES * 9, 100),
            output=tmp_path / str(number),
            progress=lambda event, seen=spilled_bytes: seen.append(getattr(event, "bytes", 0) * is_spill(event)),
            **options,
        )
        found = digests(tmp_path / str(number))
        expected = expected or found
        assert found == expected and (sum(spilled_bytes) > 0) == (number == 2)
    assert {"part-00000.parquet", "numbers/part-00001.parquet", "tags/part-00020.parquet"} < set(expected)
    assert found_in(tmp_path / "0") == expected_of(LINES * 9)


def test_a_block_of_a_named_output_that_is_lost_is_made_again_and_counts_once(tmp_path, monkeypatch):
    monkeypatch.setenv("KERNELMILL_SPILL_DIR", str(tmp_path / "spills"))
    plain = job_of().run(frame_of(LINES, 20), output=tmp_path / "plain", on_bad="reject", split_size=100)
    damaged = []
    decode = stores.decode_piece

    def decode_once(data, schema, **options):
        if not damaged and schema.names == ["number", "n"]:
            damaged.append(1)
            data = data.slice(0, len(data) - 1)
        return decode(data, schema, **options)

    monkeypatch.setattr(stores, "decode_piece", decode_once)
    monkeypatch.setattr(stores.BlockStore, "open", spilled(stores.BlockStore.open))
    again = job_of().run(frame_of(LINES, 20), output=tmp_path / "again", on_bad="reject", split_size=100)
    assert damaged and again.counters == plain.counters and again.rejects == plain.rejects
    assert digests(tmp_path / "again") == digests(tmp_path / "plain")


def is_spill(event):
    return isinstance(event, SpillWritten)


def spilled(open_output):
    def open_on_disk(store, *arguments, **options):
        store._room.close_memory()
        return open_output(store, *arguments, **options)

    return open_on_disk


# Compiled maps --------------------------------------------------------------------------------------------------------


def odd_ones(line, emit):
    word, _, number = line.partition(" ")
    emit.count("lines")
    if number.isdigit():
        emit(word, int(number))
        if number.endswith("777"):
            emit.to("sevens", (word, number), len(number))
    elif word == "raise":
        emit(word, int(word))
    else:
        emit.to("strange", line)


ODD = {
    "strange": km.Output(key="line", schema={"line": "string"}),
    "sevens": km.Output(
        "sum", key=("word", "number"), value="n", schema={"word": "string", "number": "string", "n": "int64"}
    ),
}


def odd_lines(rare, count=5000):
    lines = [f"w{n % 13} {n}" for n in range(count)]
    lines[::rare] = [f"strange {n} line" for n in range(len(lines[::rare]))]
    lines[50::1000] = ["raise"] * len(lines[50::1000])
    return lines


@pytest.mark.parametrize("rare", [2, 97])
def test_a_compiled_map_with_named_outputs_gives_what_plain_python_gives(tmp_path, rare):
    found = {}
    for how in ("require", "never"):
        job = km.MapReduce(odd_ones, "sum", key="word", value="n", schema=WORDS, outputs=ODD, compile=how)
        for threads in (1, 2):
            place = tmp_path / f"{how}{threads}"
            job.run(frame_of(odd_lines(rare), 1500), output=place, on_bad="reject", split_size="20KB", threads=threads)
            found[how, threads] = digests(place)
    same = {name: found["never", 1][name] for name in found["never", 1] if not name.startswith(("_manifest", "_rej"))}
    assert all(same.items() <= one.items() for one in found.values()) and len(same) >= 3
    assert found["require", 1] == found["require", 2]


def dearest(line, emit):
    word, _, number = line.partition(" ")
    emit.count("lines")
    if number.isdigit():
        emit(word, int(number))
    else:
        emit.to(word, line)  # only the record says which output it is, so it is left to Python


@pytest.mark.parametrize(("rare", "as_python"), [(97, 110), (2, 5000)])
def test_only_records_that_are_left_to_python_are_called_as_such_unless_they_are_many(monkeypatch, rare, as_python):
    seen = []
    rows = records._InterpretedMap.rows

    def counted(self, batch, place):
        seen.append(batch.num_rows)
        return rows(self, batch, place)

    monkeypatch.setattr(records._InterpretedMap, "rows", counted)
    job = km.MapReduce(dearest, "sum", key="word", value="n", outputs=ODD, compile="require")
    found = job(frame_of(odd_lines(rare), 5000)).collect(on_bad="reject", progress=False)
    assert found.counters["lines"] == 4995 and found.rejects.height == 5
    assert 50 < sum(seen) <= as_python and (max(seen) == 1 or rare == 2)


# One output of all ----------------------------------------------------------------------------------------------------


def test_the_main_output_and_each_named_one_are_frames():
    frame = frame_of(["a 1 #x", "b a 1 1"])
    job = job_of()
    assert job(frame).collect().rows() == [("a", 2), ("b", 1)]
    named = job.outputs(frame)
    assert list(named) == ["numbers", "tags"]
    assert named["numbers"].collect().rows() == [(1, 3)] and named["tags"].collect().rows() == [("#x", 2)]
    assert named["numbers"].filter(km.col("n") > 3).collect().rows() == []
    held = caching.cached_bytes()
    with named["tags"].cache() as cached:
        assert cached.height == 1 and caching.cached_bytes() > held


def test_a_map_that_emits_to_no_named_output_leaves_it_empty(tmp_path):
    job_of().run(frame_of(["a b"]), output=tmp_path / "out")
    assert found_in(tmp_path / "out") == ([("a", 1), ("b", 1)], [], [])


def test_a_compiled_map_that_uses_no_named_output_still_fills_the_main_one(tmp_path):
    def words(line, emit):
        for word in line.split():
            emit(word, 1)

    job = km.MapReduce(words, "sum", key="word", value="n", outputs=OUTPUTS)
    job.run(frame_of(["a b a"]), output=tmp_path / "out")
    assert found_in(tmp_path / "out") == ([("a", 2), ("b", 1)], [], [])


@pytest.mark.parametrize("reduce", ["sum", "max", "list", "first", None])
@pytest.mark.parametrize("order", ["key", "value", None])
def test_every_kind_of_reduce_and_order_of_a_named_output_agrees_with_plain_python(tmp_path, reduce, order):
    def map(n, emit):
        emit(n % 3, n)
        emit.to("other", (f"k{n % 5}", n % 2), n * 0.5)

    types = {"a": "string", "b": "int64", "v": "float64"}
    other = km.Output(reduce, key=("a", "b"), value="v", order=order, schema=types)
    job = km.MapReduce(map, "sum", schema={"key": "int64", "value": "int64"}, outputs={"other": other}, compile="never")
    verified = job.verify(km.from_arrow(pa.table({"n": list(range(200))})))
    assert verified.records == 200 and verified.rows > 12


def test_a_combine_of_a_named_output_works_before_pairs_travel(tmp_path):
    def map(n, emit):
        emit.to("most", n % 3, n)
        emit(0, 1)

    outputs = {
        "most": km.Output(combine=lambda a, b: max(a, b), key="k", value="n", schema={"k": "int64", "n": "int64"})
    }
    job = km.MapReduce(map, "sum", schema={"key": "int64", "value": "int64"}, outputs=outputs, compile="never")
    frame = km.from_arrow(pa.table({"n": list(range(100))}))
    assert "output 1: CombineRows" in job.explain(frame)
    job.run(frame, output=tmp_path / "out")
    assert km.read_parquet(tmp_path / "out" / "most").rows() == [(0, 99), (1, 97), (2, 98)]


def test_a_named_output_may_be_in_order_over_all_its_files(tmp_path):
    def map(n, emit):
        emit(0, 1)
        emit.to("all", n * 37 % 101, n)

    types = {"k": "int64", "n": "int64"}
    outputs = {"all": km.Output(key="k", value="n", schema=types, partition="range", partitions=4)}
    job = km.MapReduce(map, "sum", schema={"key": "int64", "value": "int64"}, outputs=outputs, compile="never")
    table = pa.table({"n": list(range(1000))})
    job.run(km.from_arrow(pa.Table.from_batches(table.to_batches(max_chunksize=100))), output=tmp_path / "out",
            split_size=800)  # fmt: skip
    rows = km.read_parquet(tmp_path / "out" / "all").rows()
    assert [k for k, _ in rows] == sorted(n * 37 % 101 for n in range(1000))
    assert sorted(os.listdir(tmp_path / "out" / "all"))[-1] == "part-00003.parquet"


def test_trial_and_verify_know_named_outputs():
    trial = job_of().trial(["a 1 #x", "a"])
    assert trial.rows() == [("a", 2)] and trial.counters == {"lines": 2, "numbers": 1}
    assert {name: one.rows() for name, one in trial.outputs.items()} == {"numbers": [(1, 1)], "tags": [("#x", 2)]}
    verified = job_of().verify(frame_of(LINES))
    words, numbers, tags = expected_of(LINES)
    assert (verified.rows, verified.rejected) == (len(words) + len(numbers) + len(tags), 120)


def test_verify_finds_a_named_output_that_differs():
    seen = []

    def counts_calls(number, ones, emit):
        seen.append(number)
        emit(len(seen))

    numbers = km.Output(counts_calls, key="number", value="n", schema={"number": "int64", "n": "int64"})
    found = caught(job_of(outputs={"numbers": numbers, "tags": OUTPUTS["tags"]}).verify, frame_of(["a 1 2"]))
    assert found.code is Code.VERIFY_DIFFERS and "output 'numbers'" in found.what


def test_the_plan_is_one_map_stage_with_an_output_each():
    text = job_of().explain(frame_of(LINES))
    assert text.count("MapRecords") == 2  # in the plan and in the stages
    assert "output numbers" in text and "reads by hash from stage 0, output 1" in text
    assert "reads its task of stage 0, output 2" in text
    assert '"outputs"' in job_of().explain(frame_of(LINES), format="json")
    assert "s0 -->|one_to_one|" in job_of().explain(frame_of(LINES), format="mermaid")


# What is published ----------------------------------------------------------------------------------------------------


def test_the_manifest_names_all_files_and_check_compares_them(tmp_path):
    job_of().run(frame_of(LINES), output=tmp_path / "out", on_bad="reject")
    report = check(tmp_path / "out")
    assert report.ok and report.files == len(digests(tmp_path / "out")) - 1
    assert km.scan_parquet(tmp_path / "out").columns == ["word", "n"]  # the main one alone
    victim = tmp_path / "out" / "tags" / "part-00000.parquet"
    victim.write_bytes(victim.read_bytes() + b"x")
    (tmp_path / "out" / "numbers" / "part-00001.parquet").unlink()
    (tmp_path / "out" / "numbers" / "mine.txt").write_text("x")
    problems = {(found.kind, found.name) for found in check(tmp_path / "out").problems}
    assert {("size", "tags/part-00000.parquet"), ("missing", "numbers/part-00001.parquet")} <= problems
    assert ("extra", "numbers/mine.txt") in problems


def test_an_output_with_named_ones_is_replaced_as_a_whole_and_nothing_foreign_is_lost(tmp_path):
    out = tmp_path / "out"
    job_of().run(frame_of(LINES), output=out, on_bad="reject")
    assert caught(job_of().run, frame_of(LINES), output=out).code is Code.OUTPUT_EXISTS
    (out / "tags" / "mine.txt").write_text("x")
    assert caught(job_of().run, frame_of(["a"]), output=out, mode="overwrite").code is Code.COMMIT
    (out / "tags" / "mine.txt").unlink()
    job_of(outputs={"tags": OUTPUTS["tags"]}).run(frame_of(["a #b"]), output=out, mode="overwrite")
    assert sorted(digests(out)) == ["_manifest.json", "part-00000.parquet", "tags/part-00000.parquet"]


def test_nothing_is_published_where_a_named_outputs_reduce_fails(tmp_path):
    def fails(number, ones, emit):
        raise ValueError("no")

    outputs = {"numbers": km.Output(fails, key="number", value="n", schema={"number": "int64", "n": "int64"})}
    found = caught(job_of(outputs=outputs).run, frame_of(["a 1"]), output=tmp_path / "out")
    assert found.code is Code.FUNCTION_FAILED and os.listdir(tmp_path) == []


# What is wrong --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["_rejects", ".hidden", "a/b", "", "x.parquet", "..", 3])
def test_a_name_that_can_be_no_folder_is_refused(name):
    assert caught(job_of, outputs={name: OUTPUTS["tags"]}).code is Code.BAD_SETTING


@pytest.mark.parametrize("outputs", [["tags"], {"tags": "sum"}, "tags"])
def test_outputs_must_map_names_to_outputs(outputs):
    assert caught(job_of, outputs=outputs).code is Code.BAD_SETTING


def test_what_is_wrong_with_an_output_is_said_where_it_stands():
    assert caught(km.Output, "summ").code is Code.BAD_SETTING
    assert caught(km.Output, "sum", combine="max").code is Code.BAD_SETTING


def test_an_output_without_types_asks_for_them():
    job = job_of(outputs={"numbers": km.Output("sum")})
    assert caught(job, frame_of(["a"])).code is Code.SCHEMA_REQUIRED


def test_several_outputs_do_not_fit_one_file(tmp_path):
    assert caught(job_of().run, frame_of(["a"]), output=tmp_path / "out.parquet").code is Code.BAD_SETTING


@pytest.mark.parametrize(
    ("emits", "said"),
    [
        (lambda line, emit: emit.to("nowhere", 1, 1), "outputs= names 'numbers', 'tags'"),
        (lambda line, emit: emit.to("numbers", 1), "takes a key and a value"),
        (lambda line, emit: emit.to("tags", ("a", 1), 5), "takes a key alone"),
    ],
)
def test_a_wrong_emit_to_names_the_record_and_what_there_is(emits, said):
    job = km.MapReduce(emits, "sum", key="word", value="n", schema=WORDS, outputs=OUTPUTS, compile="never")
    found = caught(job(frame_of(["a"])).collect)
    assert found.code is Code.FUNCTION_FAILED and said in found.what


def test_a_value_that_does_not_fit_a_named_output_says_which():
    def map(line, emit):
        emit.to("numbers", 1.5, 1)

    job = km.MapReduce(map, "sum", key="word", value="n", schema=WORDS, outputs=OUTPUTS, compile="never")
    found = caught(job(frame_of(["a"])).collect)
    assert found.code is Code.CAST and "emitted to 'numbers' 1.5 as number, which is no int64" in found.what


def test_a_key_of_a_named_output_must_be_one():
    output = km.Output(key="k", schema={"k": "list<int64>"})
    assert caught(job_of(outputs={"x": output}), frame_of(["a"])).code is Code.TYPE_MISMATCH
