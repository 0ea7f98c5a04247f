"""A job packed by a client and opened by a task process gives the rows that it gives here, and nothing else opens."""

import os
import pickle
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import traveling
from traveling import opened, packed, run_all, written

import kernelmill as km
from kernelmill.cluster.fields import Place
from kernelmill.cluster.jobspec import opening
from kernelmill.cluster.jobspec.parts import part_of, spec_digest
from kernelmill.cluster.jobspec.tables import pack_tables, unpack_table
from kernelmill.cluster.keys.signing import sign_spec
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.io.arrow_parts import read_rows
from kernelmill.engine.io.receipts import read_receipt
from kernelmill.engine.plan.logical import SinkParquet, SinkRows
from kernelmill.engine.plan.planner import plan_job
from kernelmill.engine.sinks import HeldSink


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "in").mkdir()
    (folder / "in" / "a.txt").write_text("the quick fox\nthe lazy dog\n" * 200)
    (folder / "in" / "b.txt").write_text("a fox and a dog\n" * 100)
    return folder


def there_and_back(frame, data, tmp_path, **more):
    """The rows of a frame that travelled, as a table."""
    job = opened(packed(frame, data, **more), written(packed(frame, data, **more), tmp_path / "parts"), data)
    _, files = run_all(job, tmp_path)
    return pa.Table.from_batches(
        [batch for path in files for batch in read_rows(path, job.plan.schema)], job.plan.schema
    )


def words_of(data):
    return km.scan_text(str(data / "in"))


def test_a_word_count_travels(data, tmp_path):
    frame = words_of(data).select(km.col("line").str.tokenize().alias("word")).explode("word").group_by("word").len()
    assert there_and_back(frame, data, tmp_path) == frame.collect(progress=False).to_arrow()


def test_a_task_finds_its_files_below_this_processs_roots_however_many_there_are(data, tmp_path, monkeypatch):
    monkeypatch.setattr(opening, "_FILES_MAX", 2)
    for number in range(7):
        (data / "in" / f"{number}.txt").write_text(f"word {number}\n")
    made = packed(words_of(data).filter(km.col("line").str.len_chars() > 0), data)
    folder = written(made, tmp_path / "parts")
    moved = data.rename(tmp_path / "moved")
    job = opened(made, folder, moved)
    asked = [index for _ in range(3) for index in range(job.plan.graph.stages[0].tasks)]
    places = [[one.file.opened_path for one in job.task(0, index).split.ranges] for index in asked]
    found = {place for own in places for place in own}
    assert found == {str(path) for path in (moved / "in").iterdir()} and len(found) == 9


def test_functions_with_closures_travel(data, tmp_path):
    stop = {"the", "a"}
    lower = 2

    def split(line, emit):
        for word in line.split():
            if len(word) >= lower and word not in stop:
                emit(word, 1)

    job = km.MapReduce(split, "sum", key="word", value="n", schema={"word": "string", "n": "int64"})
    frame = words_of(data).pipe(job)
    assert there_and_back(frame, data, tmp_path) == frame.collect(progress=False).to_arrow()


def test_side_data_travels(data, tmp_path):
    weights = pa.table({"word": ["fox", "dog"], "w": [3, 5]})

    def weigh(line, emit, *, weights):
        for word in line.split():
            for row in range(len(weights)):
                if weights["word"][row] == word:
                    emit(word, weights["w"][row])

    job = km.MapReduce(
        weigh, "sum", key="word", value="n", schema={"word": "string", "n": "int64"}, side={"weights": weights}
    )
    frame = words_of(data).pipe(job)
    assert there_and_back(frame, data, tmp_path) == frame.collect(progress=False).to_arrow()


def test_tables_and_cached_rows_travel(data, tmp_path):
    table = pa.table({"k": [i % 7 for i in range(1000)], "x": [float(i) for i in range(1000)]})
    frame = km.from_arrow(table).group_by("k").agg(km.col("x").sum().alias("s"))
    assert there_and_back(frame, data, tmp_path) == frame.collect(progress=False).to_arrow()
    with km.from_arrow(table).filter(km.col("k") < 3).cache(progress=False) as cached:
        over = cached.group_by("k").agg(km.col("x").mean().alias("m"))
        expected = over.collect(progress=False).to_arrow()
        assert there_and_back(over, data, tmp_path / "2", output="out2") == expected


class Numbers:
    """A source of the user's."""

    schema = pa.schema([("n", pa.int64())])

    def splits(self):
        return [[0, 10], [10, 25]]

    def read(self, split):
        yield pa.record_batch({"n": list(range(*split))}, schema=self.schema)


def test_sources_of_the_users_travel(data, tmp_path):
    frame = km.scan_source(Numbers()).filter(km.col("n") > 5)
    assert there_and_back(frame, data, tmp_path) == frame.collect(progress=False).to_arrow()


class Folder:
    """A sink of the user's that writes a file a part."""

    name = "folder"

    def __init__(self, path):
        self.path = path

    def begin(self, schema, parts):
        """Nothing to do."""

    def write(self, part, batches):
        rows = sum(batch.num_rows for batch in batches)
        Path(self.path, f"{part}-{rows}").touch()
        return {"part": part, "rows": rows}

    def commit(self, receipts):
        """Nothing to do."""

    def abort(self):
        """Nothing to do."""


def test_a_sink_of_the_users_travels_and_its_receipts_come_back(data, tmp_path):
    plan = plan_job(SinkRows(km.scan_source(Numbers())._plan, "folder"), split_bytes=1 << 20)
    made = packed(None, data, plan=plan, sink=HeldSink(Folder(str(tmp_path))))
    job = opened(made, written(made, tmp_path / "parts"), data)
    results, files = run_all(job, tmp_path)
    receipts = [read_receipt(path) for path in files]
    assert [msgspec.json.decode(one.receipt) for one in receipts] == [{"part": 0, "rows": 10}, {"part": 1, "rows": 15}]
    assert [result.part.name for result in results.values()] == ["part.json"] * 2
    assert (tmp_path / "1-15").exists()


def test_a_column_of_paths_holds_what_the_user_called_the_files(data, tmp_path, monkeypatch):
    monkeypatch.chdir(data)
    frame = km.scan_text("in/*.txt", include_file_paths="path").group_by("path").len().sort("path")
    found = there_and_back(frame, data, tmp_path)
    assert found.column("path").to_pylist() == ["in/a.txt", "in/b.txt"]


@pytest.mark.filterwarnings("ignore::kernelmill.InterpretedFunctionWarning")
def test_lines_of_errors_are_named_as_the_user_does(data, tmp_path):
    """In a process with another working directory and without the file."""
    script = tmp_path / "script"
    script.mkdir()
    (script / "helping.py").write_text("def half(line):\n    return int(line) // 2\n")
    (script / "job.py").write_text(
        f"""import sys; sys.path.insert(0, {os.path.dirname(traveling.__file__)!r})
import kernelmill as km, helping, traveling, pickle
def parse(line, emit):
    emit("n", helping.half(line))
job = km.MapReduce(parse, "sum", schema={{"key": "string", "value": "int64"}})
made = traveling.packed(km.scan_text({str(data / "in")!r}).pipe(job), {str(data)!r})
traveling.written(made, {str(tmp_path / "parts")!r})
pickle.dump(tuple(made), open({str(tmp_path / "made")!r}, "wb"))
"""
    )
    subprocess.run([sys.executable, "job.py"], cwd=script, check=True)
    made = type(packed(words_of(data), data))(*pickle.loads((tmp_path / "made").read_bytes()))
    (script / "helping.py").unlink()
    (script / "job.py").unlink()
    with pytest.raises(KernelmillError) as caught:
        run_all(opened(made, str(tmp_path / "parts"), data), tmp_path)
    assert caught.value.code is Code.FUNCTION_FAILED
    assert "[job.py:4]" in caught.value.what
    assert caught.value.where.endswith("in/a.txt, byte 0, line 1")


def test_a_job_without_code_of_the_users_has_no_part_that_is_unpickled(data):
    assert {part.role for part in packed(words_of(data), data).parts} == {"plan", "inputs"}
    assert {part.role for part in packed(km.scan_source(Numbers()), data).parts} == {"plan", "inputs", "code"}


class Marker:
    """Leaves a file behind if anybody unpickles it."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


def test_nothing_is_unpickled_of_a_job_that_was_not_signed_so(data, tmp_path):
    made = packed(km.scan_source(Numbers()), data)
    evil = pickle.dumps(Marker(tmp_path / "marker"))
    code = next(number for number, part in enumerate(made.parts) if part.role == "code")
    forged = (*made.parts[:code], part_of("code", evil), *made.parts[code + 1 :])
    folder = written(made, tmp_path / "parts")
    (tmp_path / "parts" / forged[code].sha256.hex()).write_bytes(evil)
    other_key = sign_spec(b"k" * 32, spec_digest(made.job, made.sheet, forged, made.expires_s), made.expires_s)
    attempts = [
        {"parts": forged},
        {"parts": forged, "signature": other_key},
        {"parts": forged, "signature": bytes(32)},
        {"job": b"x" * 16},
        {"expires_s": made.expires_s + 1},
        {"now_s": made.expires_s + 90_000},
        {"sheet": msgspec.structs.replace(made.sheet, output=Place("data", ("elsewhere",)))},
        {"parts": made.parts[::-1]},
    ]
    for changed in attempts:
        with pytest.raises(KernelmillError) as caught:
            opened(made, folder, data, **changed)
        assert caught.value.code is Code.CODE_REFUSED, changed
    (tmp_path / "parts" / made.parts[code].sha256.hex()).write_bytes(evil)
    with pytest.raises(KernelmillError) as caught:
        opened(made, folder, data)
    assert caught.value.code is Code.CODE_REFUSED
    assert not (tmp_path / "marker").exists()
    resigned = sign_spec(traveling.KEY, spec_digest(made.job, made.sheet, forged, made.expires_s), made.expires_s)
    with pytest.raises(KernelmillError):  # the marker does work: this one is signed
        opened(made, folder, data, parts=forged, signature=resigned)
    assert (tmp_path / "marker").exists()


def test_a_job_planned_with_other_versions_is_not_run(data, tmp_path):
    made = packed(words_of(data), data)
    versions = msgspec.structs.replace(made.sheet.versions, pyarrow="1.0")
    sheet = msgspec.structs.replace(made.sheet, versions=versions)
    signature = sign_spec(traveling.KEY, spec_digest(made.job, sheet, made.parts, made.expires_s), made.expires_s)
    with pytest.raises(KernelmillError) as caught:
        opened(made, written(made, tmp_path / "parts"), data, sheet=sheet, signature=signature)
    assert caught.value.code is Code.VERSION


@pytest.mark.filterwarnings("ignore::kernelmill.InterpretedFunctionWarning")
def test_what_cannot_travel_is_named(data):
    lock = threading.Lock()

    def save(line, emit):
        with lock:
            emit(line, 1)

    job = km.MapReduce(save, "sum", schema={"key": "string", "value": "int64"})
    with pytest.raises(KernelmillError) as caught:
        packed(words_of(data).pipe(job), data)
    assert caught.value.code is Code.BAD_SETTING
    assert "save" in caught.value.what
    assert "test_jobspec.py:" in caught.value.where


def test_a_sink_that_cannot_travel_is_named(data, tmp_path):
    sink = Folder(str(tmp_path))
    sink.lock = threading.Lock()
    plan = plan_job(SinkRows(km.scan_source(Numbers())._plan, "folder"), split_bytes=1 << 20)
    with pytest.raises(KernelmillError) as caught:
        packed(None, data, plan=plan, sink=HeldSink(sink))
    assert caught.value.code is Code.BAD_SETTING
    assert caught.value.what.startswith("sink folder cannot be sent")


def test_inputs_outside_the_roots_are_refused(data, tmp_path):
    (tmp_path / "else.txt").write_text("x\n")
    os.symlink(tmp_path / "else.txt", data / "in" / "link.txt")
    for path in (tmp_path / "else.txt", data / "in" / "link.txt"):
        with pytest.raises(KernelmillError) as caught:
            packed(km.scan_text(str(path)), data)
        assert caught.value.code is Code.BAD_SETTING


def test_large_batches_are_cut_and_put_together_again():
    batch = pa.record_batch({"s": ["x" * 1000] * 40_000, "d": pa.array(["a", "b"] * 20_000).dictionary_encode()})
    batches = (batch, batch.slice(0, 0), batch.slice(5, 3))
    (part,), pieces = pack_tables({"t": batches}, {}, 1 << 30)
    assert len(pieces) > 3
    back = unpack_table(part, pieces)
    assert [one.num_rows for one in back] == [40_000, 0, 3]
    assert all(one.equals(other) for one, other in zip(back, batches, strict=True))
    with pytest.raises(KernelmillError) as caught:
        unpack_table(part, pieces[:-1])
    assert caught.value.code is Code.PROTOCOL
    with pytest.raises(KernelmillError) as caught:
        pack_tables({"t": batches}, {}, 1 << 20)
    assert caught.value.code is Code.MEMORY_LIMIT


def test_several_outputs_have_their_stages_in_the_plan(data, tmp_path):
    def split(line, emit):
        for word in line.split():
            emit(word, 1)
        emit.to("lengths", len(line), 1)

    typed = {"key": "string", "value": "int64"}
    lengths = km.Output("sum", schema={"key": "int64", "value": "int64"})
    job = km.MapReduce(split, "sum", schema=typed, outputs={"lengths": lengths})
    main, named = job._plans(words_of(data)._plan, "")
    plan = plan_job(SinkParquet(main, "out", False, named=named), split_bytes=1 << 20)
    made = packed(None, data, plan=plan)
    job = opened(made, written(made, tmp_path / "parts"), data)
    assert [(name, stage) for name, stage, _ in job.plan.named] == [(name, stage) for name, stage, _ in plan.named]
    _, files = run_all(job, tmp_path)
    assert sum(pq.read_metadata(path).num_rows for path in files) > 4
    assert [len(stage.partitions) for stage in made.sheet.stages if stage.partitions][:1] == [2]
