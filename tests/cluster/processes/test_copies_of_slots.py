"""Functions that fork: the copy of their slot does what they want of it, and nothing of the slot's.

A function here forks where it made a file first that was not there: once, however often it is called, and by whom.
"""

import os

import pytest
from slots import SlotProcess, pack_here

import kernelmill as km
from kernelmill.cluster.worker.slotframes import EndSlot, JobOpened, TaskDone, TaskFailed

ROWS = 3_000


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.txt").write_text("".join(f"line {i} {i % 100}\n" for i in range(ROWS)))
    return folder


@pytest.fixture
def notes(tmp_path):
    folder = tmp_path / "notes"
    folder.mkdir()
    return folder


def of(data, function, reduce=None):
    typed = {"key": "string", "value": "int64"}
    return km.scan_text(str(data / "a.txt")).pipe(km.MapReduce(function, reduce, schema=typed, compile="never"))


def ran(slot, job, parts, data, tmp_path, tasks=1):
    """What the slot says of a job's first task, run so often."""
    assert isinstance(slot.open(job, parts, data, tmp_path), JobOpened)
    return [slot.run(job, 0, 0, number) for number in range(tasks)]


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def forking(notes, at, in_copy):
    """A map that forks once, at a line of its input; `in_copy` is what only the copy does before it goes on."""
    note = str(notes / "forked")

    def each(line, emit):
        import os

        if line.split()[1] == str(at):
            try:
                os.close(os.open(note, os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                pass
            else:
                pid = os.fork()
                if pid == 0:
                    in_copy()
                else:
                    with open(f"{note}.pid", "w") as file:
                        file.write(str(pid))
        emit(line, 1)

    return each


def plain(line, emit):
    emit(line, 1)


def go_on():
    pass


def stay():
    import signal

    signal.pause()


@pytest.mark.parametrize("in_copy", [go_on, stay])
def test_a_copy_that_goes_on_sends_and_writes_nothing_and_is_gone_when_its_task_is_done(data, tmp_path, notes, in_copy):
    job, parts = pack_here(of(data, forking(notes, 1234, in_copy)), data, tmp_path / "parts")
    with SlotProcess() as slot:
        first, second = ran(slot, job, parts, data, tmp_path, tasks=2)
        slot.tell(EndSlot())
        assert slot.frame() is None, "nobody said anything else"
    pid = int((notes / "forked.pid").read_text())
    assert isinstance(first, TaskDone) and isinstance(second, TaskDone), (first, second)
    assert [first.attempt.number, second.attempt.number] == [0, 1]
    assert not is_running(pid)
    other, parts = pack_here(of(data, plain), data, tmp_path / "parts", output="plain", job=b"p" * 16)
    with SlotProcess("w2") as slot:
        (expected,) = ran(slot, other, parts, data, tmp_path)
    vectors = {each.record.output.vectors for each in (first, second, expected)}
    assert len(vectors) == 1, "rows and their checksums differ"


def test_what_a_copy_has_detached_from_itself_is_gone_with_the_task_too(data, tmp_path, notes):
    note = str(notes / "detached.pid")

    def detach():
        import os
        import signal

        os.setsid()
        pid = os.fork()  # once: only what was forked once comes here
        if pid:
            with open(note, "w") as file:
                file.write(str(pid))
            os._exit(0)
        signal.pause()

    forks = forking(notes, 7, detach)

    def each(line, emit):
        import os

        forks(line, emit)
        if line.split()[1] == "8":
            os.wait()  # until the one between is gone

    job, parts = pack_here(of(data, each), data, tmp_path / "parts")
    with SlotProcess() as slot:
        (done,) = ran(slot, job, parts, data, tmp_path)
        assert isinstance(done, TaskDone), done
        assert not is_running(int((notes / "detached.pid").read_text()))


@pytest.mark.parametrize(("end", "status"), [("os._exit(7)", 7), ("sys.exit(3)", 3), ("1 / 0", 1), ("None", 0)])
def test_a_function_waits_for_its_copy_and_hears_how_it_ended(data, tmp_path, notes, end, status):
    note = str(notes / "forked")

    def each(line, emit):
        import os
        import sys  # noqa: F401 - of what is evaluated

        if line.split()[1] == "5":
            os.close(os.open(note, os.O_CREAT | os.O_EXCL))
            pid = os.fork()
            if pid == 0:
                eval(end)  # some come back from it
            else:
                with open(note, "w") as file:
                    file.write(str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
        emit(line, 1)

    job, parts = pack_here(of(data, each), data, tmp_path / "parts")
    with SlotProcess() as slot:
        (done,) = ran(slot, job, parts, data, tmp_path)
    assert isinstance(done, TaskDone), done
    assert (notes / "forked").read_text() == str(status)


def test_processes_of_multiprocessing_and_programs_serve_a_function_as_ever(data, tmp_path):
    def each(line, emit):
        import multiprocessing
        import subprocess

        number = int(line.split()[1])
        if number == 0:
            state = multiprocessing.__dict__.setdefault("kept_by_the_test", {})
            if "pool" not in state:
                state["pool"] = multiprocessing.get_context("fork").Pool(1)
                state["pid"] = state["pool"].apply(os.getpid)
            if state["pool"].apply(os.getpid) != state["pid"]:
                raise ValueError("another process than before")
            said = subprocess.run(["cat"], input=b"seven", capture_output=True, preexec_fn=go_on, check=True).stdout
            emit(said.decode(), 7)
        emit(line, 1)

    job, parts = pack_here(of(data, each), data, tmp_path / "parts")
    with SlotProcess() as slot:
        for done in ran(slot, job, parts, data, tmp_path, tasks=2):
            assert isinstance(done, TaskDone), done


def test_a_fork_that_fails_is_the_functions_error(data, tmp_path):
    def each(line, emit):
        import errno
        import os

        def refused():
            raise BlockingIOError(errno.EAGAIN, "no more processes")

        os.fork = refused  # in a process that ends with this test
        emit(line, os.fork())

    job, parts = pack_here(of(data, each), data, tmp_path / "parts")
    with SlotProcess() as slot:
        (failed,) = ran(slot, job, parts, data, tmp_path)
    assert isinstance(failed, TaskFailed) and failed.problem.code == "FUNCTION_FAILED", failed
