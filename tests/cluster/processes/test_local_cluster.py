"""Jobs on a cluster of real processes give the rows, files, counters and errors that they give in this process."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine import execute
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.events import JobFinished, JobStarted, StageStarted, TaskFinished

KJV = str(Path(__file__).resolve().parents[3] / "data" / "kjv" / "*.txt")
OPTIONS = {"split_size": "512KiB", "progress": False}


@pytest.fixture(scope="module")
def cluster():
    with km.LocalCluster(workers=2, memory="1GiB") as made:
        yield made
        pids = [process.pid for process in made.processes.values()]
        folder = made.folder
    assert not folder.exists()
    assert not any(map(is_running, pids))


@pytest.fixture
def here():
    """Runs a job in this process, though a cluster is connected."""
    return execute.in_this_process


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


def wait_until(is_so, seconds=20.0):
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.01)


def files_in(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def words(path=KJV):
    tokens = km.scan_text(path).select(km.col("line").str.tokenize(lowercase=True).alias("word"))
    return tokens.explode("word").group_by("word").len()


def count_words(line, emit):
    emit.count("lines", 1)
    for word in line.split():
        if word == "Selah.":
            emit.reject("a pause")
        emit(word.lower(), 1)


TYPES = {"key": "string", "value": "int64"}
COUNTING = km.MapReduce(count_words, "sum", schema=TYPES, partitions=3)


def test_a_word_count_has_the_bytes_of_a_local_run(cluster, here, tmp_path):
    made = words().sink_parquet(str(tmp_path / "there"), partitions=4, **OPTIONS)
    with here():
        expected = words().sink_parquet(str(tmp_path / "here"), partitions=4, **OPTIONS)
    assert files_in(tmp_path / "there") == files_in(tmp_path / "here")
    assert (made.rows, made.bytes, made.files) == (expected.rows, expected.bytes, expected.files)
    wait_until(lambda: sorted(os.listdir(tmp_path)) == ["here", "there"])


def test_functions_counters_and_rejects_are_those_of_a_local_run(cluster, here, tmp_path):
    options = OPTIONS | {"on_bad": "reject"}
    made = COUNTING.run(KJV, output=str(tmp_path / "there"), **options)
    with here():
        expected = COUNTING.run(KJV, output=str(tmp_path / "here"), **options)
    assert files_in(tmp_path / "there") == files_in(tmp_path / "here")
    assert (made.counters, made.rejects) == (expected.counters, expected.rejects)
    assert made.counters["lines"] > 31_000
    assert made.rejects["a pause"] > 60


def test_an_output_that_is_one_file_with_rejects_beside_it(cluster, here, tmp_path):
    (tmp_path / "bad.txt").write_bytes(b"good\n\xff\xfe\nbetter\n")
    for folder in ("there", "here"):
        (tmp_path / folder).mkdir()
    lines = km.scan_text(str(tmp_path / "bad.txt"), invalid="skip")
    made = lines.sink_parquet(str(tmp_path / "there" / "o.parquet"), progress=False)
    with here():
        expected = lines.sink_parquet(str(tmp_path / "here" / "o.parquet"), progress=False)
    assert files_in(tmp_path / "there") == files_in(tmp_path / "here")
    assert sorted(files_in(tmp_path / "there")) == ["o.parquet", "o.rejects.parquet"]
    assert (made.rows, made.bytes, made.files) == (expected.rows, expected.bytes, expected.files)
    assert (made.rejects, made.counters) == (expected.rejects, expected.counters)


@pytest.mark.parametrize("how", ["left", "full"])
def test_a_join_has_the_bytes_of_a_local_run(cluster, here, tmp_path, how):
    """A left join's tasks read a split and all of the other side, a full one's a partition of each side."""
    common = words().filter(km.col("len") > 5).rename({"len": "often"})
    joined = words().filter(km.col("len") < 500).join(common, "word", how)
    made = joined.sink_parquet(str(tmp_path / "there"), partitions=3, **OPTIONS)
    with here():
        expected = joined.sink_parquet(str(tmp_path / "here"), partitions=3, **OPTIONS)
    assert files_in(tmp_path / "there") == files_in(tmp_path / "here")
    assert made.rows == expected.rows > 1000


def test_several_outputs(cluster, here, tmp_path):
    def split(line, emit):
        for word in line.split():
            emit(word, 1)
        emit.to("lengths", len(line), 1)

    lengths = km.Output("sum", schema={"key": "int64", "value": "int64"})
    job = km.MapReduce(split, "sum", schema=TYPES, outputs={"lengths": lengths}, partitions=2)
    made = job.run(KJV, output=str(tmp_path / "there"), **OPTIONS)
    with here():
        job.run(KJV, output=str(tmp_path / "here"), **OPTIONS)
    assert files_in(tmp_path / "there") == files_in(tmp_path / "here")
    assert made.outputs["lengths"].path == str(tmp_path / "there" / "lengths")


def test_rows_come_back_with_their_types(cluster, here):
    table = pa.table(
        {
            "s": pa.array([1, None, 3], pa.timestamp("s")),
            "d": pa.array(["a", "b", "a"]).dictionary_encode(),
            "l": pa.array([[1], None, [2, 3]], pa.large_list(pa.int32())),
            "t": pa.array(["x", "y", None], pa.large_string()),
        }
    )
    frame = km.from_arrow(table)
    found = frame.collect(progress=False).to_arrow()
    with here():
        assert found == frame.collect(progress=False).to_arrow()
    empty = frame.filter(km.col("t") == "z").collect(progress=False)
    assert (empty.height, empty.to_arrow().schema) == (0, found.schema)


def test_sorted_rows_cached_rows_and_batches(cluster, here, tmp_path):
    top = words().top_k(20, by="len")
    with here():
        expected = top.collect(progress=False).to_arrow()
    assert top.collect(progress=False).to_arrow() == expected
    with words().cache(**OPTIONS) as cached:
        assert cached.top_k(20, by="len").collect(progress=False).to_arrow() == expected
    batches = words().collect_batches(batch_rows=100, **OPTIONS)
    assert next(batches).num_rows == 100
    batches.close()
    scratch = cluster.folder / "scratch-rows"
    wait_until(lambda: list(scratch.iterdir()) == [])


def test_rejects_of_collected_rows(cluster, here, tmp_path):
    (tmp_path / "bad.txt").write_bytes(b"good\n\xff\xfe\nbetter\n")
    frame = km.scan_text(str(tmp_path / "bad.txt"), invalid="skip")
    found = frame.collect(progress=False)
    with here():
        expected = frame.collect(progress=False)
    assert found.rejects.to_arrow() == expected.rejects.to_arrow()
    assert found.to_arrow() == expected.to_arrow()


class Folder:
    """A sink of the user's."""

    name = "folder"

    def __init__(self, path):
        self.path, self.done = path, []

    def begin(self, schema, parts):
        os.mkdir(self.path)

    def write(self, part, batches):
        path = f"{self.path}/{part}-{os.getpid()}-{time.monotonic_ns()}"
        Path(path).write_text(str(sum(batch.num_rows for batch in batches)))
        return path

    def commit(self, receipts):
        self.done = receipts

    def abort(self):
        shutil.rmtree(self.path)


def test_a_sink_of_the_users(cluster, tmp_path):
    sink = Folder(str(tmp_path / "sunk"))
    made = words().sink(sink, partitions=3, **OPTIONS)
    assert sum(int(Path(path).read_text()) for path in sink.done) == made.rows > 12_000
    assert [os.path.basename(path)[0] for path in sink.done] == ["0", "1", "2"]


def test_an_error_of_the_input_is_the_same(cluster, here, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bad.txt").write_bytes(b"good\n\xff\xfe\n")
    (tmp_path / "out").mkdir()
    frame = km.scan_text(str(tmp_path / "in"))
    with pytest.raises(KernelmillError) as there:
        frame.sink_parquet(str(tmp_path / "out" / "there"), **OPTIONS)
    with here(), pytest.raises(KernelmillError) as local:
        frame.sink_parquet(str(tmp_path / "out" / "here"), **OPTIONS)
    assert (there.value.code, there.value.where) == (local.value.code, local.value.where)
    assert there.value.code is Code.ENCODING


def test_outputs_that_exist_are_not_touched_without_being_told(cluster, tmp_path):
    words().sink_parquet(str(tmp_path / "out"), **OPTIONS)
    before = files_in(tmp_path / "out")
    with pytest.raises(KernelmillError) as caught:
        words().sink_parquet(str(tmp_path / "out"), partitions=2, **OPTIONS)
    assert caught.value.code is Code.OUTPUT_EXISTS
    assert files_in(tmp_path / "out") == before
    words().sink_parquet(str(tmp_path / "out"), partitions=2, mode="overwrite", **OPTIONS)
    assert len(files_in(tmp_path / "out")) == 3
    wait_until(lambda: os.listdir(tmp_path) == ["out"])


def test_progress_hears_of_a_cluster_s_job_what_it_hears_here(cluster, tmp_path):
    heard = []
    words().sink_parquet(str(tmp_path / "out"), partitions=4, split_size="512KiB", progress=heard.append)
    assert isinstance(heard[0], JobStarted)
    assert isinstance(heard[-1], JobFinished)
    assert heard[-1].outcome == "done"
    assert {event.stage for event in heard if isinstance(event, StageStarted)} <= {0, 1}
    assert len([event for event in heard if isinstance(event, TaskFinished)]) <= sum(s.tasks for s in heard[0].stages)


def test_commands_ask_the_cluster(cluster):
    bundle = str(cluster.folder / "keys" / "clients" / "here.bundle")

    def ask(*arguments):
        command = [sys.executable, "-m", "kernelmill", *arguments, "--bundle", bundle]
        return subprocess.run(command, capture_output=True, text=True, timeout=30)

    workers = ask("workers")
    assert workers.returncode == 0, workers.stderr
    assert [line.split()[0] for line in workers.stdout.splitlines()] == ["worker", "w1", "w2"]
    jobs = ask("jobs")
    assert "COMMITTED" in jobs.stdout
    assert ask("top", "--once").returncode == 0
    job = jobs.stdout.splitlines()[1].split()[0]
    late = ask("cancel", job)
    assert late.returncode != 0
    assert ask("cancel", "ffff").stderr.startswith("ClusterError [KM0616]")
    assert ask("logs", job).returncode == 0


def failing(line, emit):
    emit(line, 1 // (0 if "vengeance upon them with furious" in line else 1))


def same_error(job, here, tmp_path):
    with pytest.raises(KernelmillError) as there:
        job.run(KJV, output=str(tmp_path / "there"), **OPTIONS)
    with here(), pytest.raises(KernelmillError) as local:
        job.run(KJV, output=str(tmp_path / "here"), **OPTIONS)
    assert there.value.code is local.value.code
    assert type(there.value) is type(local.value)
    assert (there.value.what, there.value.where) == (local.value.what, local.value.where)
    wait_until(lambda: os.listdir(tmp_path) == [])
    return there.value


def test_an_error_of_a_function_names_line_and_record_as_a_local_run_does(cluster, here, tmp_path):
    problem = same_error(km.MapReduce(failing, "sum", schema=TYPES), here, tmp_path)
    assert problem.code is Code.FUNCTION_FAILED
    assert f"test_local_cluster.py:{failing.__code__.co_firstlineno + 1}" in problem.what
