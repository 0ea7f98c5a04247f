"""Whether a process is there or on its way out, by its number, and the number of a peer's by its address."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from kernelmill.cluster.master.process import has_ended, pid_of

WAITS = "import sys; print(flush=True); sys.stdin.read()"


@pytest.fixture
def child():
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", WAITS], **pipes) as process:
        process.stdout.readline()
        yield process
        process.kill()


def test_a_process_that_runs_or_stands_still_has_not_ended(child):
    assert not has_ended(os.getpid())
    assert not has_ended(child.pid)
    os.kill(child.pid, signal.SIGSTOP)
    assert not has_ended(child.pid)


def test_one_that_was_killed_has_ended_as_soon_as_its_files_are_closed_and_ever_after(child):
    child.kill()
    assert child.stdout.read() == b""  # its end of the pipe is closed: nobody has waited for it yet
    assert has_ended(child.pid)
    child.wait()
    assert has_ended(child.pid)


def test_one_with_threads_has_ended_when_it_is_killed():
    program = "import threading, time; [threading.Thread(target=time.sleep, args=(60,)).start() for _ in '123']; "
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    for _ in range(5):
        with subprocess.Popen([sys.executable, "-c", program + WAITS], **pipes) as p:
            p.stdout.readline()
            p.kill()
            assert p.stdout.read() == b""
            assert has_ended(p.pid)


def test_nobody_and_others_have_not_ended():
    assert not has_ended(0)
    assert not has_ended(threading.get_native_id())


def test_only_an_address_of_ipc_names_a_process():
    assert pid_of("localhost:1000:1000:4711") == 4711
    for other in ("127.0.0.1", "10.213.1.2", "::1", "", "localhost", "localhost:0:0:", "fe80:0:0:12"):
        assert pid_of(other) == 0
