"""What tasks write reaches the master: each line once, and before the end of the task that wrote it is said."""

from bench_rig import Rig, name_of

from kernelmill.cluster import messages
from kernelmill.cluster.worker import events as ev


def lines_of(rig):
    return [(one.attempt, one.lines) for one in rig.sent(messages.Lines)]


def test_lines_go_with_the_beat():
    rig = Rig().with_job()
    slot = rig.run(1)
    rig.do(ev.SlotWrote(slot, ("a", "b")))
    assert lines_of(rig) == []
    rig.wait(1.1)
    assert lines_of(rig) == [(name_of(1), ("a", "b"))]
    rig.wait(1.1)
    assert lines_of(rig) == []


def test_lines_are_said_before_the_end_of_their_task():
    for end in ("finish", "fail"):
        rig = Rig().with_job()
        slot = rig.run(1)
        rig.do(ev.SlotWrote(slot, ("last words",)))
        getattr(rig, end)(slot, 1)
        said = [type(one.body) for one in rig.actions if isinstance(one, ev.Send)]
        kind = messages.Done if end == "finish" else messages.Failed
        assert said.index(messages.Lines) < said.index(kind)
        assert lines_of(rig) == [(name_of(1), ("last words",))]


def test_lines_that_come_after_the_end_are_of_the_task_that_wrote_them():
    rig = Rig().with_job()
    slot = rig.run(1)
    rig.finish(slot, 1)
    rig.do(ev.SlotWrote(slot, ("late",)))
    rig.wait(1.1)
    assert lines_of(rig) == [(name_of(1), ("late",))]


def test_a_slot_that_never_ran_anything_has_no_reader():
    rig = Rig()
    rig.welcome()
    rig.do(ev.SlotWrote(0, ("hello",)))
    rig.wait(1.1)
    assert lines_of(rig) == []
