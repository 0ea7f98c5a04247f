"""Short tasks stand in line in a slot's process: who may, who is to blame when it dies, who is let go elsewhere."""

import pytest
from bench_rig import LIFE, Rig, assign, name_of, slot_sample

from kernelmill.cluster import messages
from kernelmill.cluster.fields import AttemptKey
from kernelmill.cluster.worker import events as ev
from kernelmill.cluster.worker import slotframes

LINE_MAX = 6


def key(number):
    return AttemptKey(1, number)


def with_line(slots=1, tasks=5):
    """A worker whose first slot runs attempt 1, with the others in line behind it; and that slot's number."""
    rig = Rig(slots=slots, line_max=LINE_MAX).with_job()
    slot = rig.run(1)
    for number in range(2, tasks + 1):
        rig.say(assign(number))
    return rig, slot


def line_of(rig, slot):
    return [name.attempt.number for name in rig.worker._bench.pool.slots[slot].given]


def started(rig):
    return [frame.attempt.number for frame in rig.frames(slotframes.RunTask)]


def test_short_tasks_stand_in_line_in_the_process_up_to_a_bound_and_others_at_the_worker():
    rig, slot = with_line(tasks=12)
    assert line_of(rig, slot) == [1, 2, 3, 4, 5] and len(rig.worker._bench.waiting) == 7
    rig.finish(slot, 1)
    assert started(rig) == [6, 7, 8] and len(line_of(rig, slot)) == 1 + LINE_MAX
    for number in (2, 3):
        rig.finish(slot, number)
        assert rig.sent(messages.Done) and not started(rig), "several are given together, when half of the line is gone"
    rig.finish(slot, 4)
    assert started(rig) == [9, 10, 11]
    for number in range(5, 13):
        rig.finish(slot, number)
    assert line_of(rig, slot) == [] and not rig.worker._bench.waiting


@pytest.mark.parametrize("kind", ["code", "isolating", "reads blocks"])
def test_nothing_stands_in_line_with_what_could_harm_it_or_make_it_wait(kind):
    rig = Rig(slots=1, line_max=LINE_MAX).with_job(roles=("plan", "code") if kind == "code" else ("plan",))
    if kind == "reads blocks":
        rig.say(messages.Inputs(b"j" * 16, 0, 0, 1, 0, 1, ("w1",), (messages.HeldMap(0, key(90), 0, 1),), b""))
        slot = rig.run(1, stage=1, inputs=((0, 1),))
    else:
        slot = rig.run(1, is_isolating=kind == "isolating")
    rig.say(assign(2))
    assert not started(rig) and line_of(rig, slot) == [1]


def test_an_attempt_that_isolates_does_not_stand_in_line():
    rig, slot = with_line(tasks=1)
    rig.say(assign(2, is_isolating=True))
    rig.say(assign(3))
    assert line_of(rig, slot) == [1, 3]


@pytest.mark.parametrize(("running", "charged"), [(1, 1), (3, 3), (None, 1), (77, 1)])
def test_a_process_that_dies_charges_what_it_ran_and_the_others_are_told_as_cancelled(running, charged):
    rig, slot = with_line()
    sample = slot_sample(slot, running, batch=2) if running is not None else None
    rig.do(ev.SlotDied(slot, "SIGNALLED", "killed", sample))
    failed = {body.attempt.attempt.number: body.code for body in rig.sent(messages.Failed)}
    assert failed == {number: "SIGNALLED" if number == charged else "CANCELLED" for number in range(1, 6)}
    (one,) = [body for body in rig.sent(messages.Failed) if body.code == "SIGNALLED"]
    assert one.batch == (2 if running == charged else None)
    assert not started(rig) and not rig.worker._bench.waiting, "none runs again under its name"


def test_a_cancelled_one_leaves_the_line_and_the_others_go_on():
    rig, slot = with_line()
    rig.say(messages.CancelAttempt(name_of(3)))
    assert [frame.attempt.number for frame in rig.frames(slotframes.CancelTask)] == [3]
    rig.do(ev.SlotSaid(slot, slotframes.TaskFailed(key(3), "CANCELLED", "", None, None, ())))
    assert [body.code for body in rig.sent(messages.Failed)] == ["CANCELLED"]
    assert line_of(rig, slot) == [1, 2, 4, 5]
    for number in (1, 2, 4, 5):
        rig.finish(slot, number)
        assert rig.sent(messages.Done)


def test_a_slot_without_work_gets_half_of_the_longest_line():
    rig, slot = with_line(slots=2, tasks=2)
    (other,) = {each.slot for each in rig.ordered(ev.OpenInSlot)}
    rig.do(ev.SlotSaid(other, slotframes.JobOpened(b"j" * 16)))
    assert line_of(rig, other) == [2]
    for number in range(3, 11):
        rig.say(assign(number))
    assert len(line_of(rig, slot)) == len(line_of(rig, other)) == 5
    for number in line_of(rig, other):
        rig.finish(other, number)
    assert [frame.attempt.number for frame in rig.frames(slotframes.TakeBack)] == line_of(rig, slot)[-2:]
    rig.say(messages.Heard())
    assert not rig.frames(slotframes.TakeBack), "asked once"
    last = line_of(rig, slot)[-1]
    rig.do(ev.SlotSaid(slot, slotframes.TaskReturned(key(last))))
    assert started(rig) == [last] and line_of(rig, other) == [last]


def test_one_that_is_not_wanted_any_more_when_it_is_returned_does_not_run():
    rig, slot = with_line()
    rig.say(messages.CancelAttempt(name_of(3)))
    rig.do(ev.SlotSaid(slot, slotframes.TaskReturned(key(3))))
    assert [body.code for body in rig.sent(messages.Failed)] == ["CANCELLED"]
    rig.say(messages.Discard(name_of(4)))
    rig.do(ev.SlotSaid(slot, slotframes.TaskReturned(key(4))))
    assert not rig.sent(messages.Failed) and line_of(rig, slot) == [1, 2, 5]


def test_a_new_session_names_those_in_line_as_running_and_the_unwanted_are_ended():
    rig, _ = with_line(tasks=3)
    rig.do(ev.Disconnected())
    rig.wait(0.2)
    hello = rig.welcome(keep=[name_of(1), name_of(3)], session=b"T" * 8)
    assert sorted(held.attempt.attempt.number for held in hello.running) == [1, 2, 3]
    assert [frame.attempt.number for frame in rig.frames(slotframes.CancelTask)] == [2]


def test_a_job_that_is_dropped_takes_its_line_along():
    rig, slot = with_line()
    rig.do(ev.MasterSaid(1, LIFE, rig.session, messages.Drop(b"j" * 16)))
    assert [each.slot for each in rig.ordered(ev.KillSlot)] == [slot]
    rig.do(ev.SlotDied(slot, "SIGNALLED", "killed", slot_sample(slot, 2)))
    assert not rig.sent(messages.Failed) and not rig.worker._bench.attempts


def test_a_line_that_hangs_is_seen_and_one_that_moves_is_not():
    rig, slot = with_line(tasks=3)
    for step in range(40):  # the process says nothing to its supervisor, but it moves
        rig.samples = (slot_sample(slot, 1 + step % 3, steps=step),)
        rig.wait(1.0)
        assert not rig.ordered(ev.KillSlot)
    assert "KillSlot" in {type(each).__name__ for each in rig.wait(45.0)}
