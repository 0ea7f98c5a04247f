"""Rows that end or hold up their process: found by halving, named with their place, and left out by later attempts."""

import os

import pyarrow as pa
import pytest
from slots import SlotProcess, pack_here
from traveling import KEY

import kernelmill as km
from kernelmill.cluster.data.blockdesk import BlockDesk
from kernelmill.cluster.data.store import ScratchPlace
from kernelmill.cluster.fields import AttemptKey, TaskKey
from kernelmill.cluster.jobspec.opening import open_job
from kernelmill.cluster.roots import Roots
from kernelmill.cluster.storage.layout import read_rejects
from kernelmill.cluster.worker import tries
from kernelmill.cluster.worker.isolation import Isolation
from kernelmill.cluster.worker.nursery import Nursery
from kernelmill.cluster.worker.progresspage import ProgressPage, new_page
from kernelmill.cluster.worker.slotcontext import Whereabouts
from kernelmill.cluster.worker.slotframes import (
    JobOpened,
    MapHeld,
    OpenJob,
    RunTask,
    SourceInputs,
    TaskDone,
    TaskFailed,
)
from kernelmill.cluster.worker.slottask import SlotJob
from kernelmill.engine.errors import Code, error

TYPED = {"key": "string", "value": "int64"}
ROWS = 16


@pytest.fixture
def data(tmp_path):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "a.txt").write_text("".join(f"line {i} of k{i % 10}\n" for i in range(ROWS)))
    return folder


def crash(line, emit):
    import os
    import signal

    words = line.split()
    if words[1] in ("3", "12"):
        os.kill(os.getpid(), signal.SIGSEGV)
    emit(words[3], 1)


def isolate(slot, job, stage, index, number, left_out=()):
    slot.tell(RunTask(AttemptKey(1, number), TaskKey(job.job, stage, 0, index), tuple(left_out), True))
    return slot.frame()


def plan_of(data, function, **given):
    frame = km.scan_text(str(data / "a.txt"))
    return frame.pipe(km.MapReduce(function, "sum", schema=TYPED, compile="never", **given))


def test_rows_that_crash_are_named_left_out_and_set_aside(data, tmp_path):
    from kernelmill.engine.settings import Settings

    settings = Settings(progress="off", memory_bytes=1 << 30, on_bad="reject")
    job, parts = pack_here(plan_of(data, crash), data, tmp_path / "parts", settings=settings)
    with SlotProcess() as slot:
        assert isinstance(slot.open(job, parts, data, tmp_path), JobOpened)
        failed = isolate(slot, job, 0, 0, 1)
        assert isinstance(failed, TaskFailed) and failed.code == "POISON", failed
        assert [origin.row for origin in failed.origins] == [3, 12]
        offset = sum(len(f"line {i} of k{i % 10}\n") for i in range(3))
        assert failed.origins[0].at == offset and f"{offset:,}" in failed.problem.where
        assert failed.problem.code == "FUNCTION_CRASHED" and "line 3 of k3" in failed.problem.hint
        done = isolate(slot, job, 0, 0, 2, failed.origins)
        assert isinstance(done, TaskDone), done
        plain = slot.run(job, 0, 0, 3)
        assert plain is None  # without what was found, the slot dies
    (file,) = done.record.reject_files
    staging = data / f".out.km-{job.job.hex()}" / "attempts" / "1-2"
    rejects = read_rejects(os.path.join(staging, file.name), file)
    assert (rejects[0].offset, rejects[0].record, len(rejects)) == (offset, b"line 3 of k3", 2)
    assert [one.count for one in done.record.rejects] == [2]


def test_rows_of_a_large_block_are_named_and_left_out_though_its_lines_are_read_in_place(data, tmp_path):
    from kernelmill.engine.settings import Settings

    def ends(line, emit):
        import os

        if line.startswith(("line 77 ", "line 5432 ")):
            os._exit(3)
        emit(line, 1)

    lines = [f"line {i} {'x' * 150}" for i in range(15_000)]
    (data / "a.txt").write_text("\n".join(lines))
    settings = Settings(progress="off", memory_bytes=1 << 30, on_bad="reject")
    job, parts = pack_here(plan_of(data, ends), data, tmp_path / "parts", settings=settings)
    with SlotProcess() as slot:
        assert isinstance(slot.open(job, parts, data, tmp_path), JobOpened)
        left_out, number = (), 1
        while isinstance(done := isolate(slot, job, 0, 0, number, left_out), TaskFailed):
            assert done.code == "POISON" and done.origins, done
            left_out, number = (*left_out, *done.origins), number + 1
    assert [origin.row for origin in left_out] == [77, 5432]
    (file,) = done.record.reject_files
    staging = data / f".out.km-{job.job.hex()}" / "attempts" / f"1-{number}"
    rejects = read_rejects(os.path.join(staging, file.name), file)
    assert [one.record.decode() for one in rejects] == [lines[77], lines[5432]]


def test_a_row_that_kills_its_group_is_named_and_so_are_rows_that_leave_processes_behind(data, tmp_path):
    from kernelmill.engine.settings import Settings

    pids = str(tmp_path / "pids")

    def kills_its_group(line, emit):
        import os
        import subprocess

        number = line.split()[1]
        if number == "0":
            os.killpg(0, 9)
        if number == "1":
            with open(pids, "a") as file:
                print(subprocess.Popen(["sleep", "600"]).pid, file=file)
            os._exit(1)
        emit(line, 1)

    settings = Settings(progress="off", memory_bytes=1 << 30, on_bad="reject")
    job, parts = pack_here(plan_of(data, kills_its_group), data, tmp_path / "parts", settings=settings)
    with SlotProcess() as slot:
        assert isinstance(slot.open(job, parts, data, tmp_path), JobOpened)
        failed = isolate(slot, job, 0, 0, 1)
        assert isinstance(failed, TaskFailed) and failed.code == "POISON", failed
        assert [origin.row for origin in failed.origins] == [0, 1]
        assert "SIGKILL" in failed.problem.what
        assert isinstance(isolate(slot, job, 0, 0, 2, failed.origins), TaskDone)
        with open(pids) as file:
            left = [int(line) for line in file]
        assert left and not [pid for pid in left if is_running(pid)]


def is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_an_attempt_that_does_not_fail_any_more_is_done(data, tmp_path):
    def fine(line, emit):
        emit(line.split()[3], 1)

    job, parts = pack_here(plan_of(data, fine), data, tmp_path / "parts")
    with SlotProcess() as slot:
        assert isinstance(slot.open(job, parts, data, tmp_path), JobOpened)
        done = isolate(slot, job, 0, 0, 1)
        assert isinstance(done, TaskDone)
        again = slot.run(job, 0, 0, 2)
        assert isinstance(again, TaskDone) and again.record.output == done.record.output


def test_a_group_that_crashes_its_reduce_is_named_by_its_key(data, tmp_path):
    def by_last(line, emit):
        emit(line.split()[3], int(line.split()[1]))

    def total(key, values, emit):
        import os

        if key == "k7":
            os._exit(3)
        emit(key, sum(values))

    frame = km.scan_text(str(data / "a.txt"))
    job_of = km.MapReduce(by_last, total, schema=TYPED, compile="never")
    job, parts = pack_here(frame.pipe(job_of), data, tmp_path / "parts")
    with SlotProcess() as slot:
        assert isinstance(slot.open(job, parts, data, tmp_path), JobOpened)
        assert isinstance(slot.run(job, 0, 0, 0), TaskDone)
        slot.tell(SourceInputs(0, 0, (slot.worker,), (MapHeld(0, AttemptKey(1, 0), 0),)))
        failed = isolate(slot, job, 1, 0, 1)
        assert isinstance(failed, TaskFailed) and failed.code == "POISON", failed
        (origin,) = failed.origins
        assert origin.key_xxh3 and "k7" in failed.problem.hint and "status 3" in failed.problem.what
        done = isolate(slot, job, 1, 0, 2, failed.origins)
        assert isinstance(done, TaskDone) and done.record.output.files[0].rows == 9
        assert done.record.rejects[0].count == 1


def in_this_process(job, parts, data, scratch, **given):
    """An Isolation of the job's first task, with shorter patience than a slot's."""
    keyed = {"code_key": KEY, "now_s": job.expires_s - 60}
    opened = open_job(
        job.job, job.sheet, job.parts, job.signature, job.expires_s, folder=parts, roots=Roots({"data": data}), **keyed
    )
    handle = new_page()
    whereabouts, desk = Whereabouts(ProgressPage(handle)), BlockDesk(lambda wanted: None)
    os.close(handle)
    opening = OpenJob(
        job.job,
        job.sheet,
        job.parts,
        parts,
        job.signature,
        job.expires_s,
        KEY,
        (("data", str(data)),),
        given.pop("memory_bytes", 1 << 30),
        str(scratch),
        "w1",
    )
    slot_job = SlotJob(opened, ScratchPlace(str(scratch), "w1"), 1 << 30, desk, whereabouts)
    order = RunTask(AttemptKey(1, 1), TaskKey(job.job, 0, 0, 0), (), True)
    return Isolation(order, opening, slot_job, desk, whereabouts, lambda frame: None, **given)


def test_a_row_for_which_a_function_does_not_return_is_named(data, tmp_path):
    def stuck(line, emit):
        while line.split()[1] == "5":
            pass
        emit(line, 1)

    (data / "a.txt").write_text("".join(f"line {i}\n" for i in range(8)))
    job, parts = pack_here(plan_of(data, stuck), data, tmp_path / "parts")
    failed = in_this_process(job, parts, data, tmp_path, hung_s=2.0, probe_s=1.0).run()
    assert failed.code == "POISON" and [origin.row for origin in failed.origins] == [5]
    assert failed.problem.code == "FUNCTION_HUNG"


def slow_batch(batch):
    import time

    time.sleep(0.3 * batch.num_rows)
    return batch


def test_a_batch_that_takes_too_long_says_how_batches_become_smaller(data, tmp_path):
    (data / "a.txt").write_text("".join(f"line {i}\n" for i in range(6)))
    plan = km.scan_text(str(data / "a.txt")).map_batches(slow_batch, schema={"line": "string"})
    job, parts = pack_here(plan, data, tmp_path / "parts")
    failed = in_this_process(job, parts, data, tmp_path, hung_s=1.5, probe_s=1.5).run()
    assert (failed.code, failed.problem.code, failed.origins) == ("HUNG", "TASK_LOST", ())
    assert "split_size=" in failed.problem.hint and "--hung-after" in failed.problem.hint


@pytest.mark.parametrize("gives_first", [True, False])
def test_a_source_that_is_silent_is_named_with_the_patience_that_it_needs(gives_first, data, tmp_path):
    class Shelf:
        schema = pa.schema([("n", pa.int64())])

        def splits(self):
            return [0]

        def read(self, split):
            import time

            if gives_first:
                yield pa.record_batch({"n": [1]})
            time.sleep(20)
            yield pa.record_batch({"n": [2]})

    job, parts = pack_here(km.scan_source(Shelf()), data, tmp_path / "parts")
    failed = in_this_process(job, parts, data, tmp_path, hung_s=1.0, probe_s=0.5).run()
    assert (failed.code, failed.problem.code, failed.origins) == ("HUNG", "TASK_LOST", ())
    assert "Shelf" in failed.problem.hint and "--hung-after" in failed.problem.hint
    assert "memory" not in failed.problem.hint


def test_tries_are_forked_by_one_process_however_many_fail(data, tmp_path, monkeypatch):
    started, births = [], []

    class Counted(Nursery):
        def __init__(self, environ):
            super().__init__(environ)
            started.append(self)

        def bear(self, number, handles):
            births.append(number)
            super().bear(number, handles)

    monkeypatch.setattr(tries, "Nursery", Counted)
    job, parts = pack_here(plan_of(data, crash), data, tmp_path / "parts")
    failed = in_this_process(job, parts, data, tmp_path).run()
    assert failed.code == "POISON" and [origin.row for origin in failed.origins] == [3]
    assert len(started) == 1 and len(births) >= 3
    assert not is_running(started[0]._process.pid)


def test_a_row_that_kills_the_parent_of_its_process_is_named(data, tmp_path):
    def kills(line, emit):
        import os

        if line.split()[1] == "6":
            os.kill(os.getppid(), 9)
            while True:
                pass
        emit(line, 1)

    job, parts = pack_here(plan_of(data, kills), data, tmp_path / "parts")
    failed = in_this_process(job, parts, data, tmp_path).run()
    assert failed.code == "POISON" and [origin.row for origin in failed.origins] == [6], failed
    assert failed.problem.code == "FUNCTION_CRASHED" and "SIGKILL" in failed.problem.what


def test_a_try_that_does_not_come_to_open_the_job_ends(data, tmp_path):
    class Slow:
        def __getstate__(self):
            return {"pid": os.getpid()}

        def __setstate__(self, state):
            import os

            while os.getpid() != state["pid"]:
                pass

    held = Slow()

    def uses(line, emit):
        emit(line, 1 if held else 0)

    job, parts = pack_here(plan_of(data, uses), data, tmp_path / "parts")
    isolation = in_this_process(job, parts, data, tmp_path, hung_s=1.0, compile_s=2.0)
    failed = isolation.run()
    assert (failed.code, failed.problem.code, failed.origins) == ("HUNG", "TASK_LOST", ())
    assert "no sign of life for 2 s" in failed.problem.what


def test_a_row_that_takes_all_memory_is_named(data, tmp_path):
    def greedy(line, emit):
        held = []
        while line.split()[1] == "5":
            held.append(bytearray(1 << 20))
        emit(line, 1)

    job, parts = pack_here(plan_of(data, greedy), data, tmp_path / "parts")
    failed = in_this_process(job, parts, data, tmp_path, memory_bytes=1 << 28).run()
    assert failed.code == "POISON" and [origin.row for origin in failed.origins] == [5]
    assert "memory" in failed.problem.what


def test_a_row_that_takes_memory_is_told_as_that_where_patience_ends_before_the_memory(data, tmp_path):
    def grows(line, emit):
        import time

        held = []
        while line == "bad":
            held.append(bytearray(1 << 20))
            time.sleep(0.004)  # 500 MB in two seconds, at most: the limit is further away
        emit(line, 1)

    (data / "a.txt").write_text("good\nbad\n")
    job, parts = pack_here(plan_of(data, grows), data, tmp_path / "parts")
    failed = in_this_process(job, parts, data, tmp_path, memory_bytes=1 << 29, hung_s=2.0, probe_s=0.5).run()
    assert failed.code == "POISON" and [origin.row for origin in failed.origins] == [1]
    assert failed.problem.code == "FUNCTION_CRASHED" and "2 s without a sign of life" in failed.problem.what


def test_a_crash_that_no_row_causes_alone_is_told_as_it_was(data, tmp_path):
    def sometimes(line, emit, seen=[]):  # noqa: B006 - on purpose: it is the number of calls that ends it
        import os

        seen.append(1)
        if len(seen) > 10:
            os._exit(9)
        emit(line, 1)

    job, parts = pack_here(plan_of(data, sometimes), data, tmp_path / "parts")
    failed = in_this_process(job, parts, data, tmp_path).run()
    assert failed.code == "SIGNALLED" and failed.problem.code == "TASK_LOST" and failed.origins == ()


def many_reasons(line, emit):
    emit.reject("because of " + line + " " + "\N{GRINNING FACE}" * 200)


def test_a_row_that_closes_the_files_of_its_process_is_named_though_the_task_ends_first(data, tmp_path):
    def closes(line, emit):
        import os

        if line.split()[1] == "2":
            os.closerange(3, 1000)
        emit(line, 1)

    job, parts = pack_here(plan_of(data, closes), data, tmp_path / "parts")
    failed = in_this_process(job, parts, data, tmp_path).run()
    assert failed.code == "POISON" and [origin.row for origin in failed.origins] == [2], failed
    assert failed.problem.code == "FUNCTION_CRASHED" and "line 2 of k2" in failed.problem.hint


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), error(Code.CANCELLED, "mine")])
def test_an_attempt_that_nobody_cancelled_is_not_told_as_cancelled(data, tmp_path, raised):
    job, parts = pack_here(plan_of(data, crash), data, tmp_path / "parts")
    isolation = in_this_process(job, parts, data, tmp_path)
    order = isolation._order
    assert isolation._job.failure(order, raised).code == "USER_ERROR"
    isolation._job.cancel(order.attempt)
    assert isolation._job.failure(order, raised).code == "CANCELLED"


def test_a_record_of_many_reasons_to_reject_fits_a_message_and_the_file_has_them_all(tmp_path):
    from kernelmill.engine.settings import Settings

    folder = tmp_path / "many"
    folder.mkdir()
    (folder / "a.txt").write_text("".join(f"line {n}\n" for n in range(1500)))
    settings = Settings(progress="off", memory_bytes=1 << 30, on_bad="reject", max_rejects=2000)
    job, parts = pack_here(plan_of(folder, many_reasons), folder, tmp_path / "parts", settings=settings)
    with SlotProcess() as slot:
        assert isinstance(slot.open(job, parts, folder, tmp_path), JobOpened)
        done = slot.run(job, 0, 0, 1)
    assert isinstance(done, TaskDone), done
    assert sum(one.count for one in done.record.rejects) == 1500
    assert done.record.rejects[-1].name == "(others)"
    (file,) = done.record.reject_files
    staging = folder / f".out.km-{job.job.hex()}" / "attempts" / "1-1"
    assert len({one.reason for one in read_rejects(os.path.join(staging, file.name), file)}) == 1500
