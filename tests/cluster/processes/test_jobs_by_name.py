"""A job has a name: a client that was killed finds it again, another process waits for it, and nobody runs it twice."""

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pyarrow as pa
import pytest
from click.testing import CliRunner

import kernelmill as km
from kernelmill.cluster.cli import client as commands
from kernelmill.cluster.client.connecting import connect
from kernelmill.engine.cli.console import Console
from kernelmill.engine.errors import Code, KernelmillError

SCRIPT = """
    import os, sys, time
    import kernelmill as km

    bundle, scratch, folder = sys.argv[1:]

    def map(line, emit):
        while not os.path.exists(GATE):
            time.sleep(0.02)
        emit(line, 1)

    GATE = folder + "/gate"
    job = km.MapReduce(map, "sum", schema={"key": "string", "value": "int64"}, compile="never")
    with km.connect(bundle, roots={"files": "/", "scratch": scratch}):
        made = job.run(folder + "/in.txt", output=folder + "/out", job_id=os.path.basename(folder), progress=False)
    print(made.job_id, made.rows, made.path)
"""


@pytest.fixture(scope="module")
def cluster():
    with km.LocalCluster(workers=1, slots=2, memory="1GiB") as cluster:
        yield cluster


def connected(cluster):
    """Another client of the same keys, as from another process."""
    folder = cluster.folder
    return connect(
        folder / "keys" / "clients" / "here.bundle", roots={"files": "/", "scratch": folder / "scratch-rows"}
    )


def script(cluster, folder, **more):
    if not (folder / "script.py").exists():  # one that starts may be reading it
        (folder / "script.py").write_text(textwrap.dedent(SCRIPT))
    arguments = [cluster.folder / "keys" / "clients" / "here.bundle", cluster.folder / "scratch-rows", folder]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, str(folder / "script.py"), *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **more)


def wait_until(is_so, seconds=60.0):
    until = time.monotonic() + seconds
    while not (found := is_so()):
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.02)
    return found


def jobs_of(cluster, folder):
    return [row for row in cluster.jobs() if row.output.endswith(f"{folder.name}/out")]


@pytest.mark.timeout(180)
def test_a_client_that_is_killed_finds_its_job_when_it_runs_again(cluster, tmp_path):
    (tmp_path / "in.txt").write_text("a\nb\na\n")
    first = script(cluster, tmp_path)
    row = wait_until(lambda: [row for row in jobs_of(cluster, tmp_path) if row.state == "RUNNING"])[0]
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)
    second = script(cluster, tmp_path)
    assert [one.job for one in jobs_of(cluster, tmp_path)] == [row.job]
    (tmp_path / "gate").touch()
    said, problems = second.communicate(timeout=120)
    assert said == f"{row.job.hex()} 2 {tmp_path}/out\n", problems
    assert [one.job for one in jobs_of(cluster, tmp_path)] == [row.job]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()}
    third = script(cluster, tmp_path)  # it is done: nothing runs, and nothing is written
    assert third.communicate(timeout=120)[0] == said
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out").iterdir()} == before
    assert [one.job for one in jobs_of(cluster, tmp_path)] == [row.job]
    assert sorted(os.listdir(tmp_path)) == ["gate", "in.txt", "out", "script.py"]


@pytest.mark.timeout(120)
def test_another_plan_under_the_name_of_a_job_is_refused(cluster, tmp_path):
    table = km.from_arrow(pa.table({"n": [1, 2, 3]}))
    made = table.sink_parquet(tmp_path / "out", job_id="three", progress=False)
    again = table.sink_parquet(tmp_path / "out", job_id="three", progress=False)
    assert dataclasses.replace(again, seconds=made.seconds) == made
    assert again.job_id == made.job_id != ""
    for frame, place in ((table.select(n=km.col("n") + 1), "out"), (table, "other")):
        with pytest.raises(KernelmillError) as caught:
            frame.sink_parquet(tmp_path / place, job_id="three", progress=False)
        assert caught.value.code is Code.JOB_EXISTS
    assert not (tmp_path / "other").exists()


@pytest.mark.timeout(120)
def test_a_job_is_watched_waited_for_and_cancelled_from_elsewhere_and_run_again(cluster, tmp_path):
    (tmp_path / "in.txt").write_text("a\n")
    process = script(cluster, tmp_path)
    row = wait_until(lambda: [row for row in jobs_of(cluster, tmp_path) if row.state == "RUNNING"])[0]
    with connected(cluster) as other:
        job = other.job(tmp_path.name)
        assert job.id == row.job.hex() == other.job(job.id[:9]).id
        assert job.state == "RUNNING" == job.wait(0.3)
        shown = show(cluster, row.job.hex())
        assert shown.startswith(f"job {job.id} of here: RUNNING") and "0 of 1" in shown
        job.cancel()
        assert job.wait(60) == "CANCELLED"
        with pytest.raises(KernelmillError) as caught:
            job.result()
        assert caught.value.code is Code.CANCELLED
        assert process.wait(60) != 0 and "KM0701" in process.stderr.read()
        (tmp_path / "gate").touch()
        second = script(cluster, tmp_path)
        assert "out\n" in second.communicate(timeout=60)[0]
        job = other.job(tmp_path.name)
        assert job.id[:30] == row.job.hex()[:30] and job.id != row.job.hex()
        result = job.result()
        assert (result.rows, result.path, result.job_id) == (1, f"{tmp_path}/out", job.id)
        assert "1 rows" in show(cluster, job.id) and "COMMITTED" in show(cluster, job.id)
        assert '"state": "CANCELLED"' in show(cluster, row.job.hex(), "--json")
        assert show(cluster, tmp_path.name) == show(cluster, job.id)
    process.stdout.close(), process.stderr.close()


@pytest.mark.timeout(120)
def test_a_job_that_is_cancelled_is_run_again_at_once(cluster, tmp_path):
    (tmp_path / "in.txt").write_text("a\n")
    gate = str(tmp_path / "gate")

    def map(line, emit):
        open(f"{gate}-keeper", "w").close()
        while not os.path.exists(gate):
            time.sleep(0.02)
        emit(line, 1)

    job = km.MapReduce(map, "sum", schema={"key": "string", "value": "int64"}, compile="never")
    given = (tmp_path / "in.txt",), {"output": tmp_path / "out", "job_id": tmp_path.name, "progress": False}
    first = km.start(job.run, *given[0], **given[1])
    wait_until(lambda: os.path.exists(f"{gate}-keeper"))  # its task runs, and its job ends after it
    (row,) = jobs_of(cluster, tmp_path)
    cluster.job(tmp_path.name).cancel()
    second = km.start(job.run, *given[0], **given[1])
    with pytest.raises(KernelmillError) as caught:
        first.result()
    assert caught.value.code is Code.CANCELLED
    (tmp_path / "gate").touch()
    made = second.result()
    assert (made.rows, made.job_id[:30]) == (1, row.job.hex()[:30]) and made.job_id != row.job.hex()


def show(cluster, job, *options):
    bundle = str(cluster.folder / "keys" / "clients" / "here.bundle")
    found = CliRunner().invoke(commands.jobs, [job, "--bundle", bundle, *options], obj=Console())
    assert found.exit_code == 0, found.output
    return found.output


@pytest.mark.timeout(120)
def test_a_name_that_nobody_used_is_km0616(cluster):
    with pytest.raises(KernelmillError) as caught:
        cluster.job("nothing of the kind")
    assert caught.value.code is Code.NO_JOB


@pytest.mark.timeout(120)
def test_two_that_submit_the_same_at_once_get_the_same_job(cluster, tmp_path):
    (tmp_path / "in.txt").write_text("a\nb\n")
    (tmp_path / "gate").touch()
    with contextlib.ExitStack() as stack:
        both = [stack.enter_context(script(cluster, tmp_path)) for _ in range(3)]
        ended = [process.communicate(timeout=100) for process in both]
    assert [problems for _, problems in ended] == [""] * 3
    assert len({said for said, _ in ended}) == 1 and ended[0][0].endswith("out\n")
    assert len(jobs_of(cluster, tmp_path)) == 1
    assert sorted(os.listdir(tmp_path)) == ["gate", "in.txt", "out", "script.py"]


def test_without_a_cluster_a_name_is_refused(tmp_path):
    from kernelmill.engine.execute import in_this_process

    with in_this_process(), pytest.raises(KernelmillError) as caught:
        km.from_arrow(pa.table({"n": [1]})).sink_parquet(Path(tmp_path) / "out", job_id="x")
    assert caught.value.code is Code.BAD_SETTING
    with pytest.raises(KernelmillError) as caught:
        km.from_arrow(pa.table({"n": [1]})).sink_parquet(Path(tmp_path) / "out", job_id="")
    assert caught.value.code is Code.BAD_SETTING
