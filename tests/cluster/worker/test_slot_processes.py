"""Slots as processes: what they say, print and show, and how their deaths are seen."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kernelmill.cluster.fields import AttemptKey, TaskKey
from kernelmill.cluster.worker import slotframes, strays
from kernelmill.cluster.worker.nursery import Nursery
from kernelmill.cluster.worker.slots import SlotProcess

KEY = AttemptKey(1, 5)
SECONDS = 15.0


def paths_to_fake_slot():
    """The environment of a nursery that finds fake_slot.py."""
    paths = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": paths}


@pytest.fixture(scope="module")
def nursery():
    found = Nursery(paths_to_fake_slot(), module="fake_slot")
    yield found
    found.close()


@pytest.fixture
def start(nursery):
    started = []

    def start_one():
        slot = SlotProcess(len(started), nursery)
        started.append(slot)
        (birth,) = wait_for(nursery.socket, nursery.births)
        assert birth.number == slot.number and not birth.error
        slot.is_born(birth)
        assert [type(each.frame) for each in wait_for(slot.socket, slot.receive)] == [slotframes.SlotReady]
        return slot

    yield start_one
    for slot in started:
        if slot.socket.fileno() >= 0:
            slot.kill()
            slot.await_end()
            slot.bury()


def wait_for(handle, take):
    """What `take` gives once there is something to read."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        select.select([handle], [], [], deadline - time.monotonic())
        found = take()
        if found:
            return found
    raise AssertionError("nothing came")


def run(slot, word):
    job = word.encode().ljust(16, b"\0")
    slot.tell(slotframes.RunTask(KEY, TaskKey(job, 0, 0, 0), (), False))
    slot.flush()


def death_of(slot):
    assert select.select([slot.pidfd], [], [], SECONDS)[0], "its death is not seen"
    return slot.bury()


def test_what_a_slot_prints_comes_as_lines(start):
    slot = start()
    run(slot, "print")
    lines = ()
    while len(lines) < 2:
        lines += wait_for(slot.output, slot.read_output).lines
    assert lines == ("one", "two")


def test_a_slot_that_is_killed_says_by_what_where_and_what_it_printed(start):
    slot = start()
    run(slot, "segv")
    died = death_of(slot)
    assert died.failure == "SIGNALLED" and "SIGSEGV" in died.text and "about to die" in died.text
    assert (died.sample.attempt, died.sample.batch, died.sample.first_row) == (KEY, 7, 70)


def test_the_end_of_a_slot_is_told_from_its_death(start):
    slot = start()
    slot.tell(slotframes.EndSlot())
    slot.flush()
    assert "status 3" in death_of(slot).text


def test_what_a_slot_started_dies_with_it(start):
    slot = start()
    run(slot, "child")
    child = int(wait_for(slot.output, slot.read_output).lines[0])
    handle = os.pidfd_open(child)
    try:
        os.kill(slot.pid, signal.SIGKILL)
        death_of(slot)
        assert select.select([handle], [], [], SECONDS)[0], "it lives on"
    finally:
        os.close(handle)


@pytest.fixture
def detached():
    """Leaves a process of a slot that has a session of its own and whose parent has ended; gives its pidfd."""
    handles = []

    def detach(slot):
        run(slot, "daemon")
        handles.append(os.pidfd_open(int(wait_for(slot.output, slot.read_output).lines[0])))
        return handles[-1]

    yield detach
    for handle in handles:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle, signal.SIGKILL)
        os.close(handle)


def has_ended(handle, wait_s=0.0):
    return bool(select.select([handle], [], [], wait_s)[0])


def test_what_a_slot_left_detached_ends_with_it_and_with_no_other(start, detached):
    slot, other = start(), start()
    handle = detached(slot)
    os.kill(other.pid, signal.SIGKILL)
    death_of(other)
    start()  # the nursery has taken the order before
    assert not has_ended(handle)
    os.kill(slot.pid, signal.SIGKILL)
    death_of(slot)
    assert has_ended(handle, SECONDS), "it lives on"


def test_what_slots_left_detached_ends_with_the_nursery(detached):
    nursery = Nursery(paths_to_fake_slot(), module="fake_slot")
    slot = SlotProcess(1, nursery)
    (birth,) = wait_for(nursery.socket, nursery.births)
    slot.is_born(birth)
    wait_for(slot.socket, slot.receive)
    handle = detached(slot)
    nursery.close()  # the slot is alive, and nobody has buried it
    assert has_ended(slot.pidfd, SECONDS) and has_ended(handle, SECONDS)
    slot.bury()


def test_what_this_user_may_not_kill_is_left_alone(monkeypatch):
    child = subprocess.Popen([sys.executable, "-ISc", "import time; time.sleep(600)"])
    try:
        kept = strays.children() - {child.pid}

        def refuse(pid, number):
            raise PermissionError

        with monkeypatch.context() as patch:
            patch.setattr(strays.os, "kill", refuse)
            assert strays.end_strays(kept, 5.0)
        assert child.poll() is None
        assert strays.end_strays(kept, SECONDS) and child.pid not in strays.children()
    finally:
        child.kill()
        child.wait()


def test_a_slot_that_sends_no_frames_is_killed(start):
    slot = start()
    run(slot, "garbage")
    select.select([slot.socket], [], [], SECONDS)
    assert slot.receive() == []
    assert "frame" in death_of(slot).text


def test_a_stopped_slot_does_not_block_its_supervisor(start):
    slot = start()
    os.kill(slot.pid, signal.SIGSTOP)
    frame = slotframes.SourceInputs(0, 0, ("w",), tuple(slotframes.MapHeld(n, KEY, 0) for n in range(16000)))
    for _ in range(20):
        slot.tell(frame)
        slot.flush()
    assert slot.has_unsent
    slot.kill()
    assert "SIGKILL" in death_of(slot).text


def test_descriptors_are_given_back(start):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        slot = start()
        slot.kill()
        death_of(slot)
    assert len(os.listdir("/proc/self/fd")) == before


def test_slots_draw_other_random_numbers(start):
    lines = set()
    for _ in range(3):
        slot = start()
        run(slot, "random")
        lines |= set(wait_for(slot.output, slot.read_output).lines)
    numbers = [line.split() for line in lines]
    assert len({own for own, _ in numbers}) == len({numpys for _, numpys in numbers}) == 3


def test_a_slot_that_nobody_waits_for_ends_and_is_buried(nursery):
    slot = SlotProcess(77, nursery)
    (birth,) = wait_for(nursery.socket, nursery.births)
    nursery.discard(birth)
    slot.bury()
    deadline = time.monotonic() + SECONDS
    while os.path.exists(f"/proc/{birth.pid}") and time.monotonic() < deadline:
        os.sched_yield()
    assert not os.path.exists(f"/proc/{birth.pid}"), "it is there, or dead and not buried"


def test_slots_end_with_the_process_that_started_them():
    nursery = Nursery(paths_to_fake_slot(), module="fake_slot")
    slot = SlotProcess(0, nursery)
    (birth,) = wait_for(nursery.socket, nursery.births)
    slot.is_born(birth)
    assert nursery.close() == ""
    assert select.select([slot.pidfd], [], [], SECONDS)[0]
    assert slot.bury().failure == "SIGNALLED"


def test_a_nursery_that_cannot_import_says_that_it_ended():
    nursery = Nursery(paths_to_fake_slot(), module="no_such_slot")
    slot = SlotProcess(0, nursery)
    assert select.select([nursery.pidfd], [], [], SECONDS)[0]
    assert nursery.births() == [] and "status 1" in (text := nursery.close())
    assert slot.bury(text).text == text


def test_a_slot_that_is_born_when_its_supervisor_leaves_is_gone_when_it_has_left():
    nursery = Nursery(paths_to_fake_slot(), module="fake_slot")
    slot = SlotProcess(0, nursery)
    nursery.close()
    assert slot.read_output() is None and slot.is_silent, "a process still has the other end"
    slot.bury()
