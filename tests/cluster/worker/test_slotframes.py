"""Frames between supervisor and slot: what comes out is what went in, however it was cut, and nonsense is KM0607."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelmill.cluster import wire
from kernelmill.cluster.fields import (
    COUNT_MAX,
    COUNT_NAMES_BYTES_MAX,
    COUNTS_MAX,
    PARTITIONS_MAX,
    AttemptKey,
    AttemptName,
    BlocksOutput,
    Consumed,
    Count,
    OutputFile,
    Place,
    Policy,
    Problem,
    Sheet,
    SheetStage,
    TaskKey,
    TaskRecord,
    Versions,
    names_bytes,
)
from kernelmill.cluster.master.intake import SUBMIT_BYTES_MAX
from kernelmill.cluster.messages import PROTOCOL, Done, Envelope
from kernelmill.cluster.wire import encode
from kernelmill.cluster.worker.slotframes import (
    FRAME_BYTES_MAX,
    TO_SLOT_BYTES_MAX,
    BlockHere,
    BlockWanted,
    CancelTask,
    EndSlot,
    MapHeld,
    OpenJob,
    RunTask,
    SlotReady,
    SourceInputs,
    TaskDone,
    TaskFailed,
    frame_bytes,
    from_slot,
    from_supervisor,
)
from kernelmill.engine.errors import Code, KernelmillError

ATTEMPT = AttemptKey(3, 41)
JOB = bytes(range(16))
SHEET = Sheet(
    (SheetStage("scan", 1, (), ()),),
    Place("data", ("out",)),
    Policy("error", 1000, "error", "signed", "tail", 4, False),
    Versions("0", "3", "26", "0", "2"),
)
OPEN = OpenJob(JOB, SHEET, (), "/parts", bytes(32), 9, b"s" * 32, (("in", "/data"),), 1 << 30, "/scratch", "w1")
TO_SLOT = [
    OPEN,
    SourceInputs(0, 1, ("w1", "w2"), (MapHeld(0, ATTEMPT, 1),)),
    SourceInputs(0, 1, (), (), b"\x05\x80"),
    RunTask(ATTEMPT, TaskKey(JOB, 1, 0, 7), (), False),
    BlockHere(0, 0, 0, 7, ATTEMPT, "w2", "/spool/1", ""),
    CancelTask(ATTEMPT),
    EndSlot(),
]
TO_SUPERVISOR = [
    SlotReady(77),
    BlockWanted(0, 1, 0, 0, 7, ATTEMPT, "w2", ""),
    TaskFailed(ATTEMPT, "USER_ERROR", "ValueError", Problem("FUNCTION_FAILED", "no", "a.py:3", ""), 4, ()),
]


@given(st.lists(st.sampled_from(TO_SLOT), max_size=12), st.data())
def test_frames_come_out_in_order_however_they_were_cut(frames, data):
    stream = b"".join(map(frame_bytes, frames))
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=20).map(sorted))
    reader = from_supervisor()
    pieces = [stream[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    assert [frame for piece in pieces for frame in reader.feed(piece)] == frames


@pytest.mark.parametrize("frame", TO_SUPERVISOR)
def test_a_frame_of_a_slot_is_read_by_its_supervisor_and_by_no_slot(frame):
    assert list(from_slot().feed(frame_bytes(frame))) == [frame]
    with pytest.raises(KernelmillError) as raised:
        list(from_supervisor().feed(frame_bytes(TaskFailed(ATTEMPT, "A", "B", None, None, ()))))
    assert raised.value.code is Code.PROTOCOL


@pytest.mark.parametrize("nonsense", [b"\xff\xff\xff\xff", b"\x01\x00\x00\x00\xc1", b"\x01\x00\x00\x00\x00"])
def test_bytes_that_are_no_frame_are_refused(nonsense):
    with pytest.raises(KernelmillError) as raised:
        list(from_slot().feed(nonsense))
    assert raised.value.code is Code.PROTOCOL


def test_a_frame_that_is_too_long_is_refused_where_it_is_made():
    attempts = tuple(MapHeld(number, ATTEMPT, 0) for number in range(TO_SLOT_BYTES_MAX // 6))
    with pytest.raises(KernelmillError) as raised:
        frame_bytes(SourceInputs(0, 0, ("w1",), attempts))
    assert raised.value.code is Code.PROTOCOL


def test_no_text_of_a_frame_holds_the_code_key():
    assert "ssss" not in repr(OPEN)


def test_the_longest_job_that_a_master_takes_can_be_opened():
    stages = (SheetStage("\N{GRINNING FACE}" * 256, 1, (), ()),) * (SUBMIT_BYTES_MAX // 1034)
    roots = tuple((f"root{n}", "/" + "\N{GRINNING FACE}" * 4095) for n in range(64))
    sheet = msgspec.structs.replace(SHEET, stages=stages)
    longest = msgspec.structs.replace(OPEN, sheet=sheet, roots=roots)
    assert list(from_supervisor().feed(frame_bytes(longest))) == [longest]


def test_what_a_slot_may_say_of_its_task_fits_the_message_to_the_master():
    longest = tuple(Count("\N{GRINNING FACE}" * 31 + f"{n:04}", COUNT_MAX) for n in range(COUNTS_MAX))
    assert names_bytes(each.name for each in longest) == COUNT_NAMES_BYTES_MAX
    blocks = BlocksOutput(1 << 60, bytes(32 * PARTITIONS_MAX))
    record = TaskRecord(longest, longest, blocks, (OutputFile("r" * 256, 1 << 60, 1 << 60, bytes(16), bytes(16)),))
    consumed = (Consumed(1 << 20, 1 << 60, bytes(8), bytes(8)),) * 64
    done = TaskDone(ATTEMPT, record, consumed, 1 << 60, 1 << 60, 1 << 60)
    assert list(from_slot().feed(frame_bytes(done))) == [done]
    name = AttemptName(JOB, 1, 7, ATTEMPT)
    body = Done(name, 1, bytes(16), record, consumed, 1 << 60, 1 << 60, 1 << 60)
    frame = encode(Envelope(PROTOCOL, bytes(16), 1, bytes(8), bytes(8), 1 << 60, 1 << 60, body))
    assert len(frame) < len(frame_bytes(done)) + (wire.FRAME_BYTES_MAX - FRAME_BYTES_MAX)


def test_a_slot_that_says_more_than_fits_is_not_listened_to():
    said = TaskFailed(ATTEMPT, "USER_ERROR", "x", None, None, ())
    with pytest.raises(KernelmillError) as raised:
        list(from_slot().feed((FRAME_BYTES_MAX + 1).to_bytes(4, "little") + frame_bytes(said)))
    assert raised.value.code is Code.PROTOCOL
