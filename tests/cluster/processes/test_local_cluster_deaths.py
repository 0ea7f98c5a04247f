"""A local cluster whose processes are killed gives the same bytes; and it leaves nothing, however its program ends."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.cluster.storage.layout import staging_of, trash_of
from kernelmill.cluster.sweeping import sweep
from kernelmill.engine import execute
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.events import TaskFinished

KJV = str(Path(__file__).resolve().parents[3] / "data" / "kjv" / "[01]*.txt")
OPTIONS = {"split_size": "16KiB", "partitions": 3}


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(is_so, seconds=20.0):
    until = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < until, "it did not come about"
        time.sleep(0.01)


def files_in(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def pairs(line, emit):
    sum(range(4_000))  # slow enough that a job is in its middle when it is struck
    for word in line.split():
        emit(word.strip(".,;:!?()'").lower(), len(line))


JOB = km.MapReduce(pairs, "sum", schema={"key": "string", "value": "int64"}, compile="never")


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    folder = tmp_path_factory.mktemp("expected") / "out"
    with execute.in_this_process():
        JOB.run(KJV, output=str(folder), progress=False, **OPTIONS)
    return files_in(folder)


@pytest.fixture
def cluster():
    with km.LocalCluster(workers=2, memory="1GiB") as made:
        yield made


class AfterSomeTasks:
    """Calls `strike` once, in a thread of its own, when so many tasks of the job are done."""

    def __init__(self, tasks, strike):
        self.left, self.strike, self.thread = tasks, strike, None

    def __call__(self, event):
        if isinstance(event, TaskFinished):
            self.left -= 1
            if self.left == 0:
                self.thread = threading.Thread(target=self.strike)
                self.thread.start()

    def join(self):
        assert self.thread is not None, "the job was over before anything struck"
        self.thread.join()


def kill(cluster, name):
    cluster.processes[name].kill()
    cluster.processes[name].wait()


@pytest.mark.parametrize("tasks", [3, 20])
def test_a_worker_that_is_killed_is_done_without(cluster, expected, tmp_path, strikes, tasks):
    def strike():
        kill(cluster, "w1")
        strikes.add("worker killed")

    watch = AfterSomeTasks(tasks, strike)
    JOB.run(KJV, output=str(tmp_path / "out"), progress=watch, **OPTIONS)
    watch.join()
    assert files_in(tmp_path / "out") == expected


def test_a_worker_that_is_killed_and_started_again_is_used_again(cluster, expected, tmp_path, strikes):
    def strike():
        kill(cluster, "w2")
        cluster.start_worker("w2")
        strikes.add("worker killed")

    watch = AfterSomeTasks(10, strike)
    JOB.run(KJV, output=str(tmp_path / "out"), progress=watch, **OPTIONS)
    watch.join()
    assert files_in(tmp_path / "out") == expected
    wait_until(lambda: cluster.workers() == ["w1", "w2"])


@pytest.mark.parametrize("tasks", [1, 20])
def test_a_master_that_is_killed_goes_on_when_it_is_started_again(cluster, expected, tmp_path, strikes, tasks):
    def strike():
        kill(cluster, "master")
        cluster.start_master()
        strikes.add("master killed")

    watch = AfterSomeTasks(tasks, strike)
    JOB.run(KJV, output=str(tmp_path / "out"), progress=watch, **OPTIONS)
    watch.join()
    assert files_in(tmp_path / "out") == expected
    assert len(cluster.workers()) == 2


PROGRAM = """
    import sys, threading
    import kernelmill as km
    cluster = km.LocalCluster(workers=1, memory="1GiB")
    print(cluster.folder, *(process.pid for process in cluster.processes.values()), flush=True)
    threading.Event().wait()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_nothing_is_left_however_the_program_ends(signals_reach_children, number):
    program = subprocess.Popen([sys.executable, "-c", textwrap.dedent(PROGRAM)], stdout=subprocess.PIPE, text=True)
    folder, *pids = program.stdout.readline().split()
    assert len(pids) == 2
    program.send_signal(number)
    program.wait(timeout=20)
    program.stdout.close()
    wait_until(lambda: not any(is_running(int(pid)) for pid in pids))
    wait_until(lambda: not os.path.exists(folder))


IN_THE_MIDDLE = """
    import sys, time
    from pathlib import Path
    import kernelmill as km
    folder = Path(sys.argv[1])
    def wait(line, emit):
        (staging,) = folder.glob(".out.km-*")
        (staging / "attempts" / "made").mkdir(exist_ok=True)
        while True:
            time.sleep(0.01)
    if __name__ == "__main__":
        job = km.MapReduce(wait, "sum", schema={"key": "string", "value": "int64"}, compile="never")
        with km.LocalCluster(workers=1, memory="1GiB") as cluster:
            km.scan_text(str(folder / "in.txt")).sink_parquet(str(folder / "before"), progress=False)
            print(cluster.folder, flush=True)
            job.run(str(folder / "in.txt"), output=str(folder / "out"), progress=False, mode=sys.argv[2])
"""


@pytest.mark.parametrize(("number", "mode"), [(signal.SIGTERM, "error"), (signal.SIGKILL, "overwrite")])
def test_a_job_in_its_middle_leaves_nothing_beside_its_output_when_its_program_is_killed(
    signals_reach_children, tmp_path, number, mode
):
    (tmp_path / "in.txt").write_text("a\n")
    there = {"before", "in.txt"}
    if mode == "overwrite":
        with execute.in_this_process():
            km.from_arrow(pa.table({"n": [1]})).sink_parquet(str(tmp_path / "out"), progress=False)
        there |= {"out"}
    (tmp_path / "program.py").write_text(textwrap.dedent(IN_THE_MIDDLE))
    command = [sys.executable, str(tmp_path / "program.py"), str(tmp_path), mode]
    program = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    folder = program.stdout.readline().strip()
    wait_until(lambda: list(tmp_path.glob(".out.km-*/attempts/made")), 60.0)
    program.send_signal(number)
    program.wait(timeout=20)
    program.stdout.close()
    wait_until(lambda: not os.path.exists(folder), 40.0)
    assert {path.name for path in tmp_path.iterdir()} - {"program.py", "__pycache__"} == there
    with km.LocalCluster(workers=1, memory="1GiB"):
        km.from_arrow(pa.table({"n": [1]})).sink_parquet(str(tmp_path / "out"), mode="overwrite", progress=False)
    assert {path.name for path in tmp_path.iterdir()} - {"program.py", "__pycache__"} == there | {"out"}


def test_what_a_master_that_does_not_end_may_still_publish_is_left_alone(tmp_path):
    with km.LocalCluster(workers=1, memory="1GiB") as cluster:
        with pytest.raises(KernelmillError) as caught:
            sweep(cluster.folder, wait_s=0.0)
        assert caught.value.code is Code.JOURNAL_BUSY
        assert km.from_arrow(pa.table({"n": [1]})).collect(progress=False).to_arrow().num_rows == 1


def test_ctrl_c_cancels_the_job(signals_reach_children, cluster, tmp_path):
    """As the terminal does it: the signal comes in the middle of the job."""

    def slow(line, emit):
        total = 0
        for n in range(2_000):
            total += n % 7
        emit("x", total)

    job = km.MapReduce(slow, "sum", schema={"key": "string", "value": "int64"}, compile="never")
    watch = AfterSomeTasks(1, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        job.run(KJV, output=str(tmp_path / "out"), progress=watch, **OPTIONS)
    wait_until(lambda: os.listdir(tmp_path) == [])
    assert cluster.jobs()[0].state == "CANCELLED"


def test_a_cluster_whose_folder_has_a_long_name_and_two_slots(tmp_path, monkeypatch):
    long = tmp_path / ("a-rather-long-name-" * 5)
    long.mkdir()
    monkeypatch.setenv("KERNELMILL_SPILL_DIR", str(long))
    with km.LocalCluster(workers=1, slots=2, memory="1GiB") as made:
        assert made.folder.parent == long
        found = km.from_arrow(pa.table({"n": [1, 2, 3]})).select(km.col("n").sum()).collect(progress=False)
        assert found.to_arrow().column(0).to_pylist() == [6]
    assert list(long.iterdir()) == []


def test_closing_the_cluster_cancels_the_job_of_another_thread_and_leaves_nothing_beside_its_output(tmp_path):
    (tmp_path / "in.txt").write_text("a\n")
    ended, folder = [], str(tmp_path)

    def wait(line, emit):
        (attempts,) = Path(folder).glob(".out.km-*/attempts")
        for number in range(20_000):  # what takes its time to be deleted
            (attempts / str(number)).touch()
        (attempts.parent / "made").touch()
        while True:
            time.sleep(0.01)  # until the job is cancelled

    job = km.MapReduce(wait, "sum", schema={"key": "string", "value": "int64"}, compile="never")

    def run():
        try:
            job.run(str(tmp_path / "in.txt"), output=str(tmp_path / "out"), progress=False)
        except KernelmillError as problem:
            ended.append(problem.code)

    with km.LocalCluster(workers=1, memory="1GiB") as cluster:
        thread = threading.Thread(target=run)
        thread.start()
        wait_until(lambda: list(tmp_path.glob(".out.km-*/made")), 60.0)
        assert [row.state for row in cluster.jobs()] == ["RUNNING"]
    assert [path.name for path in tmp_path.iterdir()] == ["in.txt"]
    thread.join(60)
    assert ended == [Code.CANCELLED]


def test_what_was_not_deleted_of_a_job_when_the_cluster_closes_is_deleted_then(tmp_path):
    with km.LocalCluster(workers=1, memory="1GiB") as cluster:
        km.from_arrow(pa.table({"n": [1]})).sink_parquet(str(tmp_path / "out"), progress=False)
        (job,) = cluster.jobs()
        trash = Path(trash_of(staging_of(str(tmp_path / "out"), job.job)))
        (trash / "attempts").mkdir(parents=True)  # as if the storage process were at it yet
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
