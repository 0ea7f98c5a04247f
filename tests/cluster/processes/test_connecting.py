"""Whom a cluster does not let in, or who cannot reach it, is told so in seconds, with what to do."""

import os
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.cluster.client.connecting import connect
from kernelmill.cluster.keys import folder as keys_folder
from kernelmill.engine import execute
from kernelmill.engine.errors import Code, KernelmillError


@pytest.fixture(scope="module")
def cluster():
    with km.LocalCluster(workers=2, memory="1GiB") as made:
        yield made


def bundle_of(cluster, name="here"):
    return cluster.folder / "keys" / "clients" / f"{name}.bundle"


def code_of(call):
    with pytest.raises(KernelmillError) as caught:
        call()
    return caught.value.code


def test_a_key_that_is_not_listed_is_refused(cluster, tmp_path):
    keys_folder.init(tmp_path / "keys", f"ipc://{cluster.folder}/s")
    stranger = keys_folder.add(tmp_path / "keys", "client", "stranger")
    ours = bundle_of(cluster).read_text()
    master = next(line for line in ours.splitlines() if "master_key" in line)
    text = "\n".join(master if "master_key" in line else line for line in stranger.read_text().splitlines())
    stranger.write_text(text)
    assert code_of(lambda: connect(stranger)) is Code.REFUSED


def test_a_client_that_is_added_is_let_in(cluster, tmp_path):
    added = keys_folder.add(cluster.folder / "keys", "client", "added")
    with connect(added, roots={"files": "/"}) as connection:
        assert connection.workers() == ["w1", "w2"]
        frame = km.from_arrow(pa.table({"n": [1, 2, 3]}))
        assert code_of(lambda: frame.collect(progress=False)) is Code.BAD_SETTING  # it has no scratch root
        frame.sink_parquet(str(tmp_path / "out"), progress=False)
    assert (tmp_path / "out" / "_manifest.json").exists()


def test_a_cluster_that_is_not_there_is_told(tmp_path, monkeypatch):
    keys_folder.init(tmp_path / "keys", "tcp://127.0.0.1:1")
    bundle = keys_folder.add(tmp_path / "keys", "client", "me")
    monkeypatch.setattr("kernelmill.cluster.client.link.PATIENCE_S", 1.5)
    assert code_of(lambda: connect(bundle)) is Code.UNREACHABLE
    with execute.in_this_process():
        assert km.from_arrow(pa.table({"n": [1]})).collect(progress=False).height == 1


def test_an_address_needs_a_bundle(cluster):
    assert code_of(lambda: connect("tcp://127.0.0.1:7440")) is Code.BAD_SETTING
    assert code_of(lambda: connect(cluster.folder / "keys" / "workers" / "w1.bundle")) is Code.KEYS
    assert code_of(lambda: connect(bundle_of(cluster), roots={"data": "/not/there"})) is Code.BAD_SETTING
    with connect(f"ipc://{cluster.folder}/s", bundle=bundle_of(cluster)) as connection:
        assert connection.workers() == ["w1", "w2"]


def test_outputs_and_inputs_outside_the_roots_are_refused_before_anything_is_sent(cluster, tmp_path):
    (tmp_path / "in.txt").write_text("a\n")
    (tmp_path / "root").mkdir()
    with connect(bundle_of(cluster), roots={"data": tmp_path / "root"}):
        lines = km.scan_text(str(tmp_path / "in.txt"))
        assert code_of(lambda: lines.sink_parquet(str(tmp_path / "root" / "out"), progress=False)) is Code.BAD_SETTING
        table = km.from_arrow(pa.table({"n": [1]}))
        assert code_of(lambda: table.sink_parquet(str(tmp_path / "out"), progress=False)) is Code.BAD_SETTING
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.txt", "root"]
    assert list((tmp_path / "root").iterdir()) == []


def test_a_root_that_the_cluster_does_not_have_is_named(cluster, tmp_path):
    with connect(bundle_of(cluster), roots={"elsewhere": tmp_path}):
        table = km.from_arrow(pa.table({"n": [1]}))
        with pytest.raises(KernelmillError) as caught:
            table.sink_parquet(str(tmp_path / "out"), progress=False)
    assert caught.value.code is Code.BAD_SETTING and "--root elsewhere=" in caught.value.hint
    assert "files, scratch" in caught.value.what  # what the cluster has
    assert list(tmp_path.iterdir()) == []  # no staging is left


def test_a_job_of_another_thread_goes_on_when_its_connection_is_closed(cluster, tmp_path):
    (tmp_path / "in.txt").write_text("a\n")
    go, made = tmp_path / "go", []

    def wait(line, emit):
        while not go.exists():
            time.sleep(0.01)  # until the test has closed the connection
        emit(line, 1)

    job = km.MapReduce(wait, "sum", schema={"key": "string", "value": "int64"}, compile="never")
    added = keys_folder.add(cluster.folder / "keys", "client", "closing")
    connection = connect(added, roots={"files": "/"})

    def run():
        made.append(job.run(str(tmp_path / "in.txt"), output=str(tmp_path / "out"), progress=False))

    thread = threading.Thread(target=run)
    thread.start()
    while not [row for row in connection.jobs() if row.state == "RUNNING"]:
        assert thread.is_alive()
    connection.close()
    go.touch()
    thread.join(30)
    assert [one.rows for one in made] == [1]
    assert code_of(connection.workers) is Code.BAD_SETTING


def test_a_copy_of_the_process_is_told_that_the_connection_is_not_its_own(cluster):
    with connect(bundle_of(cluster), roots={"files": "/"}) as connection:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                connection.workers()
            except KernelmillError as problem:
                code = 0 if problem.code is Code.BAD_SETTING else 2
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        assert connection.workers() == ["w1", "w2"]


def test_jobs_of_several_threads_run_at_once(cluster, tmp_path):
    results = {}

    def run(number):
        frame = km.from_arrow(pa.table({"n": list(range(number, number + 100))}))
        results[number] = frame.select(km.col("n").sum()).collect(progress=False).to_arrow().column(0)[0].as_py()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: sum(range(number, number + 100)) for number in range(4)}


def test_too_many_rejects_end_a_job(cluster, tmp_path):
    (tmp_path / "bad.txt").write_bytes(b"good\n\xff\n\xfe\n\xfd\n" * 5)
    frame = km.scan_text(str(tmp_path / "bad.txt"), invalid="skip")
    options = {"max_rejects": 10, "progress": False}
    assert code_of(lambda: frame.collect(**options)) is Code.REJECT_LIMIT
    with execute.in_this_process():
        assert code_of(lambda: frame.collect(**options)) is Code.REJECT_LIMIT
    assert frame.collect(max_rejects=15, progress=False).rejects.height == 15


def test_what_tasks_write_is_in_the_job_s_log(cluster):
    def talk(line, emit):
        print("hello from a task")
        emit(line, 1)

    folder = Path(cluster.folder) / "talk"
    folder.mkdir()
    (folder / "a.txt").write_text("a\nb\n")
    job = km.MapReduce(talk, "sum", schema={"key": "string", "value": "int64"}, compile="never")
    job.run(str(folder / "a.txt"), output=str(folder / "out"), progress=False)
    (made,) = [row.job for row in cluster.jobs() if row.output.endswith("talk/out")]
    until = time.monotonic() + 10  # lines come with the next beat
    while [row.text for row in cluster.log(made)] != ["hello from a task"] * 2:
        assert time.monotonic() < until, cluster.log(made)
        time.sleep(0.01)
