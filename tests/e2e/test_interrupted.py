"""Ctrl-C in a script whose function never returns: it ends, after a while or at a second Ctrl-C, and says why."""

import os
import signal
import subprocess
import sys

import pytest

from kernelmill.kernels import _jit

pytestmark = pytest.mark.usefixtures("signals_reach_children")

SCRIPT = """
import os, queue, threading
import pyarrow as pa
import kernelmill as km
from kernelmill.engine import runner

runner.PATIENCE_S = {patience_s}

class Queue(queue.SimpleQueue):
    def get(self, *arguments, **options):
        if threading.current_thread() is threading.main_thread():
            os.write(1, b"waits for threads\\n" if options else b"waits for reports\\n")
        return super().get(*arguments, **options)

runner.queue.SimpleQueue = Queue

def never(line, emit):
    at = len(line)
    while at > 0:
        at = at + 1 if at < 1000 else 1
    emit(line, at)

def never_and_told(line, emit):
    os.write(1, b"works\\n")
    never(line, emit)

options = dict(schema={{"key": "string", "value": "int64"}}, order=None)
compiled = km.MapReduce(never, "sum", compile="require", **options)
told = km.MapReduce(never_and_told, "sum", compile="never", **options)
{run}
"""
COLLECT = "km.from_arrow(pa.table({'line': ['a']})).pipe(told).collect(progress=False)"
WRITE = "told.run('in.txt', output='out', progress=False)"
WRITE_COMPILED = "compiled.run('in.txt', output='out', progress=False)"


@pytest.fixture
def here(tmp_path):
    """The folder that the script runs in."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "in.txt").write_text("a\nb\n")
    return tmp_path / "here"


@pytest.fixture
def started(here):
    """Start the script, which ends with `run`, and wait until it has told all of `tells`."""
    processes = []

    def start(run, patience_s, *tells):
        script = SCRIPT.format(patience_s=patience_s, run=run)
        pipe = subprocess.PIPE
        process = subprocess.Popen([sys.executable, "-c", script], stdout=pipe, stderr=pipe, text=True, cwd=here)
        processes.append(process)
        left = {f"{one}\n" for one in tells}
        while left:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            left.discard(line)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("run", [COLLECT, WRITE])
def test_a_script_ends_some_seconds_after_ctrl_c(started, here, run):
    process = started(run, 0.2, "works", "waits for reports")
    process.send_signal(signal.SIGINT)
    said, told = process.communicate(timeout=100)
    assert process.returncode == -signal.SIGINT
    assert said == "waits for threads\n"
    assert told.endswith("KeyboardInterrupt\nkernelmill: a function of yours has not returned: "
                         "it runs on until the process ends\n")  # fmt: skip
    assert os.listdir(here) == ["in.txt"]


@pytest.mark.timeout(120)
@pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")
def test_so_does_one_whose_function_is_compiled(started, here):
    process = started(WRITE_COMPILED, 0.2, "waits for reports")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=100)
    assert process.returncode == -signal.SIGINT
    assert os.listdir(here) == ["in.txt"]


@pytest.mark.timeout(120)
def test_a_second_ctrl_c_is_not_waited_for(started, here):
    process = started(WRITE, 1e6, "works", "waits for reports")
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "waits for threads\n"
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=100)
    assert process.returncode == -signal.SIGINT
    assert "a function of yours has not returned" in told
    assert os.listdir(here) == ["in.txt"]
