"""Frames between supervisor and slot: what comes out is what went in, however it was cut, and nonsense is KM0607."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelmill.cluster.fields import AttemptKey, Place, Policy, Problem, Sheet, SheetStage, TaskKey, Versions
from kernelmill.cluster.worker.slotframes import (
    FRAME_BYTES_MAX,
    BlockHere,
    BlockWanted,
    CancelTask,
    EndSlot,
    MapHeld,
    OpenJob,
    RunTask,
    SlotReady,
    SourceInputs,
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
    attempts = tuple(MapHeld(number, ATTEMPT, 0) for number in range(FRAME_BYTES_MAX // 6))
    with pytest.raises(KernelmillError) as raised:
        frame_bytes(SourceInputs(0, 0, ("w1",), attempts))
    assert raised.value.code is Code.PROTOCOL


def test_no_text_of_a_frame_holds_the_code_key():
    assert "ssss" not in repr(OPEN)
