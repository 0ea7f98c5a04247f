"""Functions that set limits in their slot: what fails for that is told, and by what."""

import threading

import pytest
from slots import SlotProcess, pack_here

import kernelmill as km
from kernelmill.cluster.fields import AttemptKey, TaskKey
from kernelmill.cluster.worker.slotframes import JobOpened, RunTask, TaskFailed
from kernelmill.cluster.worker.slottask import as_typed
from kernelmill.engine.errors import Code

ROWS = 30_000


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.txt").write_text("".join(f"line {i} {i % 100}\n" for i in range(ROWS)))
    return folder


def of(data, function, reduce=None):
    typed = {"key": "string", "value": "int64"}
    return km.scan_text(str(data / "a.txt")).pipe(km.MapReduce(function, reduce, schema=typed, compile="never"))


def limits(line, emit):
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    emit(line, 1)


def test_a_limit_on_files_that_a_function_sets_is_told_also_where_its_task_is_isolated_after(data, tmp_path):
    job, parts = pack_here(of(data, limits), data, tmp_path / "parts")
    with SlotProcess() as slot:
        assert isinstance(slot.open(job, parts, data, tmp_path), JobOpened)
        first = slot.run(job, 0, 0, 1)
        slot.tell(RunTask(AttemptKey(1, 2), TaskKey(job.job, 0, 0, 0), (), True))
        for failed in (first, slot.frame()):
            assert isinstance(failed, TaskFailed), failed
            assert failed.problem.code == "COMMIT" and "setrlimit" in failed.problem.hint, failed.problem


def test_a_system_that_starts_no_more_threads_is_not_taken_for_a_bug():
    def refused(*_):
        raise RuntimeError("can't start new thread")

    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError) as caught:
        patch.setattr(threading, "_start_new_thread", refused)
        threading.Thread(target=print).start()
    told = as_typed(caught.value)
    assert told.code is Code.MEMORY_LIMIT and "threads" in told.what and "ulimit -u" in told.hint
    assert as_typed(RuntimeError("another")).code is Code.INTERNAL
