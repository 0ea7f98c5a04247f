"""The slot as a process: runs tasks as the local runner does, opens nothing unsigned, and ends with its link."""

import os
import signal
import time

import pyarrow as pa
import pytest
from slots import SlotProcess, pack_here, run_job

import kernelmill as km
from kernelmill.cluster.fields import AttemptKey, TaskKey
from kernelmill.cluster.worker.process import shrinks_to
from kernelmill.cluster.worker.slotframes import (
    CancelTask,
    CloseJob,
    EndSlot,
    JobOpened,
    JobRefused,
    RunTask,
    SlotReady,
    TakeBack,
    TaskDone,
    TaskFailed,
    TaskReturned,
    frame_bytes,
)
from kernelmill.engine.exec.context import Scratch
from kernelmill.engine.machine import resident_bytes


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    for number in range(3):
        lines = [f"word{i % 97} word{i % (7 + number)} and w{i}\n" for i in range(20_000)]
        (folder / f"{number}.txt").write_text("".join(lines))
    return folder


TYPED = {"key": "string", "value": "int64"}


def lines_of(data):
    return km.scan_text(str(data / "0.txt"))


def words(data):
    split = km.scan_text(str(data / "*.txt")).select(word=km.col("line").str.tokenize()).explode("word")
    return split.group_by("word").agg(km.len())


def rows_of(files):
    tables = []
    for file in files:
        with pa.OSFile(file) as source:
            tables.append(pa.ipc.open_stream(source).read_all())
    return pa.concat_tables(tables)


def parts_of(job, done, data):
    last = len(job.sheet.stages) - 1
    staging = data / f".{job.sheet.output.parts[-1]}.km-{job.job.hex()}" / "attempts"
    own = [done[key] for key in sorted(done) if key[0] == last]
    return [str(staging / str(each.attempt) / each.record.output.files[0].name) for each in own]


def test_two_slots_that_read_each_others_blocks_give_the_rows_of_a_local_run(data, tmp_path):
    frame = words(data)
    job, parts = pack_here(frame, data, tmp_path / "parts", output="two")
    with SlotProcess("w1") as one, SlotProcess("w2") as two:
        done = run_job(job, [one, two], [tmp_path, tmp_path], parts, data)
        assert one.asked == two.asked == [] and one.page.read().epoch == 0
    assert rows_of(parts_of(job, done, data)).equals(frame.collect().to_arrow())
    maps = [each.record.output for (stage, _), each in done.items() if stage == 0]
    consumed = [each.consumed[0] for (stage, _), each in done.items() if stage == len(job.sheet.stages) - 1]
    vectors = [int.from_bytes(blocks.vectors[8:16], "little") for blocks in maps]
    assert len(job.sheet.stages) > 1 and consumed[0].maps == len(maps) and consumed[0].rows == sum(vectors)
    assert [sum(file.stat().st_size for file in tmp_path.glob(f"{name}/*/*/*.data")) > 0 for name in ("w1", "w2")]


def closed(slot):
    """What a slot says when its job is over."""
    slot.tell(CloseJob())
    return slot.frame()


def test_a_slot_whose_jobs_brought_no_code_gives_each_of_them_the_rows_of_a_local_run(data, tmp_path):
    lengths = km.scan_text(str(data / "*.txt")).select(n=km.col("line").str.len_bytes()).group_by("n").len()
    with SlotProcess() as slot:
        for number, frame in enumerate([words(data), lengths, words(data)]):
            job, parts = pack_here(frame, data, tmp_path / "parts", output=f"again-{number}", job=bytes([number]) * 16)
            done = run_job(job, [slot], [tmp_path], parts, data)
            assert rows_of(parts_of(job, done, data)).equals(frame.collect().to_arrow())
            assert isinstance(closed(slot), SlotReady)


def test_a_slot_that_has_opened_code_of_the_users_ends_with_its_job_and_opens_no_other(data, tmp_path):
    def each(line, emit):
        emit(line, 1)

    own, parts = pack_here(lines_of(data).pipe(km.MapReduce(each, "sum", schema=TYPED)), data, tmp_path / "parts")
    other, _ = pack_here(words(data), data, tmp_path / "parts", output="other", job=b"o" * 16)
    with SlotProcess() as slot:
        assert isinstance(slot.open(own, parts, data, tmp_path), JobOpened)
        assert closed(slot) is None and slot.process.wait(10) == 0
    with SlotProcess() as slot:
        assert isinstance(slot.open(own, parts, data, tmp_path), JobOpened)
        assert isinstance(slot.open(other, parts, data, tmp_path), JobRefused)
        assert slot.frame() is None


def test_what_a_slot_holds_between_jobs_is_bounded():
    """Buffers for the next job are kept as long as they are few; a process that holds more even without them ends."""
    scratch = Scratch()
    scratch.buffer("text", 64 << 20)[:: 1 << 10] = bytes(64 << 10)  # touched
    buffered = resident_bytes("self")
    assert shrinks_to(buffered + (16 << 20), scratch) and scratch.buffer("text", 1)[:1] == b"\0"
    assert len(scratch.buffer("text", 1)) == 64 << 20, "it was kept"
    assert shrinks_to(buffered - (32 << 20), scratch) and len(scratch.buffer("text", 1)) == 1
    assert not shrinks_to(1 << 20, scratch)


def test_a_function_of_the_users_that_fails_is_told_with_its_record(data, tmp_path):
    def no_words(line, emit):
        if "w777" in line.split():
            raise ValueError("seven")
        emit(line, 1)

    plan = lines_of(data).pipe(km.MapReduce(no_words, "sum", schema=TYPED))
    job, parts = pack_here(plan, data, tmp_path / "parts", output="fails")
    with SlotProcess() as slot:
        assert isinstance(slot.open(job, parts, data, tmp_path), JobOpened)
        failed = slot.run(job, 0, 0, 0)
        assert isinstance(failed, TaskFailed) and failed.code == "USER_ERROR"
        assert failed.problem.code == "FUNCTION_FAILED" and "seven" in failed.problem.what
        again = slot.run(job, 0, 0, 1)
        assert isinstance(again, TaskFailed) and again.problem == failed.problem


def test_a_keyboard_interrupt_is_the_functions_that_raises_it_for_no_terminal_reaches_a_slot(data, tmp_path):
    def stops(line, emit):
        if "w777" in line.split():
            raise KeyboardInterrupt
        emit(line, 1)

    plan = lines_of(data).pipe(km.MapReduce(stops, "sum", schema=TYPED, compile="never"))
    job, parts = pack_here(plan, data, tmp_path / "parts", output="stops")
    with SlotProcess() as slot:
        assert isinstance(slot.open(job, parts, data, tmp_path), JobOpened)
        failed = slot.run(job, 0, 0, 0)
    assert isinstance(failed, TaskFailed) and failed.code == "USER_ERROR"
    assert failed.problem.code == "FUNCTION_FAILED" and "test_slot_process.py" in failed.problem.what
    assert "w777" in failed.problem.hint and "0.txt" in failed.problem.where


def test_counters_whose_names_are_longer_than_a_message_fail_the_task_and_not_the_slot(data, tmp_path):
    def counts(line, emit):
        number = int(line.rpartition("w")[2])
        if number < 1000:
            emit.count("\N{GRINNING FACE}" * 240 + str(number))
        emit(line, 1)

    plan = lines_of(data).pipe(km.MapReduce(counts, "sum", schema=TYPED, compile="never"))
    job, parts = pack_here(plan, data, tmp_path / "parts", output="counts")
    with SlotProcess() as slot:
        assert isinstance(slot.open(job, parts, data, tmp_path), JobOpened)
        for attempt in (0, 1):
            failed = slot.run(job, 0, 0, attempt)
            assert isinstance(failed, TaskFailed) and failed.problem.code == "BAD_SETTING"
            assert "bytes" in failed.problem.what


@pytest.mark.parametrize("change", ["signature", "job", "code_key", "expires_s", "parts_folder"])
def test_a_job_that_is_not_as_it_was_signed_is_refused_and_the_slot_ends(data, tmp_path, change):
    job, parts = pack_here(words(data), data, tmp_path / "parts", output=f"refused-{change}")
    changed = {
        "signature": bytes(32),
        "job": b"J" * 16,
        "code_key": bytes(32),
        "expires_s": job.expires_s + 1,
        "parts_folder": str(tmp_path / "elsewhere"),
    }
    with SlotProcess() as slot:
        refused = slot.open(job, parts, data, tmp_path, **{change: changed[change]})
        assert isinstance(refused, JobRefused) and refused.problem.code == "CODE_REFUSED"
        assert slot.frame() is None


def test_a_slot_ends_when_it_is_told_to_and_when_its_supervisor_is_gone():
    with SlotProcess() as slot:
        slot.tell(EndSlot())
        assert slot.frame() is None and slot.process.wait(10) == 0
    with SlotProcess() as slot:
        slot.link.close()
        assert slot.process.wait(10) == 0


def test_tasks_in_line_run_in_order_and_those_not_begun_are_given_back_or_cancelled(data, tmp_path):
    job, parts = pack_here(words(data), data, tmp_path / "parts", output="line")
    assert job.sheet.stages[0].tasks == 2
    with SlotProcess() as slot:
        assert isinstance(slot.open(job, parts, data, tmp_path), JobOpened)

        def run(number, index):
            return RunTask(AttemptKey(1, number), TaskKey(job.job, 0, 0, index), (), False)

        orders = run(0, 0), run(1, 1), run(2, 0), run(3, 1), TakeBack(AttemptKey(1, 1)), CancelTask(AttemptKey(1, 2))
        slot.link.sendall(b"".join(map(frame_bytes, orders)))
        said = [slot.frame() for _ in orders[:4]]
        assert {type(one) for one in said} == {TaskReturned, TaskFailed, TaskDone}
        assert [one.attempt.number for one in said if isinstance(one, TaskReturned)] == [1]
        assert [(one.attempt.number, one.code) for one in said if isinstance(one, TaskFailed)] == [(2, "CANCELLED")]
        assert [one.attempt.number for one in said if isinstance(one, TaskDone)] == [0, 3]
        slot.tell(TakeBack(AttemptKey(1, 3)))
        assert isinstance(slot.run(job, 0, 0, 4), TaskDone), "of what is over nothing is said"


def test_an_attempt_that_is_cancelled_says_so_and_the_next_one_runs(data, tmp_path):
    def slowly(line, emit):
        import time

        time.sleep(0.0001)
        emit(line, 1)

    plan = lines_of(data).pipe(km.MapReduce(slowly, "sum", schema=TYPED, compile="never"))
    job, parts = pack_here(plan, data, tmp_path / "parts", output="cancelled")
    with SlotProcess() as slot:
        assert isinstance(slot.open(job, parts, data, tmp_path), JobOpened)
        slot.tell(RunTask(AttemptKey(1, 0), TaskKey(job.job, 0, 0, 0), (), False))
        deadline = time.monotonic() + 30
        while slot.page.read().number == 0 and slot.page.read().phase != "run" and time.monotonic() < deadline:
            os.sched_yield()
        slot.tell(CancelTask(AttemptKey(1, 0)))
        cancelled = slot.frame()
        assert isinstance(cancelled, TaskFailed) and cancelled.code == "CANCELLED"


def test_a_slot_that_crashes_leaves_where_it_was(data, tmp_path):
    def crash(line, emit):
        import os
        import signal

        if line.endswith("w15000"):
            os.kill(os.getpid(), signal.SIGSEGV)
        emit(line, 1)

    plan = lines_of(data).pipe(km.MapReduce(crash, "sum", schema=TYPED, compile="never"))
    job, parts = pack_here(plan, data, tmp_path / "parts", output="crashed")
    with SlotProcess() as slot:
        assert isinstance(slot.open(job, parts, data, tmp_path), JobOpened)
        assert slot.run(job, 0, 0, 5) is None
        assert slot.process.wait(10) == -signal.SIGSEGV
        place = slot.page.read()
        assert (place.epoch, place.number, place.phase) == (1, 5, "run") and place.steps > 0


def test_a_file_that_is_changed_ends_the_job_and_a_missing_folder_of_staging_only_the_attempt(data, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    (own / "a.txt").write_text("a b a\n")
    job, parts = pack_here(words(own), own, tmp_path / "parts", output="changed")
    with SlotProcess() as slot:
        assert isinstance(slot.open(job, parts, own, tmp_path), JobOpened)
        (own / "a.txt").write_text("something else entirely\n")
        failed = slot.run(job, 0, 0, 0)
        assert isinstance(failed, TaskFailed) and failed.code == "INPUT_CHANGED"
    job, parts = pack_here(words(own), own, tmp_path / "parts", output="gone")
    os.rename(own / f".gone.km-{job.job.hex()}", own / "moved")
    with SlotProcess() as slot:
        assert isinstance(slot.open(job, parts, own, tmp_path / "s"), JobOpened)
        assert isinstance(slot.run(job, 0, 0, 0), TaskDone)
