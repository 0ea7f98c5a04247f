"""Jobs whose objects are unpickled by code that does not end, or takes all memory: refused by the worker that tries."""

import pytest
from bench_rig import JOB, Rig, assign, slot_sample

from kernelmill.cluster import messages
from kernelmill.cluster.worker import events as ev
from kernelmill.cluster.worker import slotframes

WITH_CODE = ("plan", "code")


def opening(roles=WITH_CODE, **settings):
    """A machine of which one slot opens a job for an attempt."""
    rig = Rig(slots=1, **settings).with_job(roles=roles)
    rig.say(assign(1))
    for order in rig.ordered(ev.BringParts):
        rig.do(ev.PartsCame(order.spec.job))
    (order,) = rig.ordered(ev.OpenInSlot)
    for slot in rig.worker._bench.pool.in_state("STARTING"):
        rig.do(ev.SlotSaid(slot.number, slotframes.SlotReady(1)))
    return rig, order.slot


def until_killed(rig, seconds_max):
    """How long the machine lets its slot open the job."""
    began_s = rig.now
    while rig.now < began_s + seconds_max:
        rig.say(messages.Heard())
        rig.wait(1.0)
        if rig.ordered(ev.KillSlot):
            return rig.now - began_s
    return None


@pytest.mark.parametrize(("hung_s", "patience_s"), [(4.0, 60.0), (90.0, 90.0)])
def test_a_job_whose_functions_do_not_come_to_be_opened_is_refused_here(hung_s, patience_s):
    rig, slot = opening(hung_s=hung_s)
    assert until_killed(rig, patience_s + 10) == pytest.approx(patience_s, abs=2)
    failed, *again = rig.sent(messages.Failed)
    assert all(one == failed for one in again)  # it is said each second
    assert (failed.code, failed.problem.code) == ("CODE_REFUSED", "CODE_REFUSED")
    assert "w1: the job's functions were not opened within" in failed.problem.what
    assert "__setstate__" in failed.problem.hint and "--hung-after" in failed.problem.hint
    rig.do(ev.SlotDied(slot, "SIGNALLED", "killed by signal 9", None))
    assert not rig.sent(messages.Failed)


def test_a_job_without_code_that_is_not_opened_is_a_process_that_hangs():
    rig, slot = opening(roles=("plan",))
    assert until_killed(rig, 70.0) is not None and not rig.sent(messages.Failed)
    rig.do(ev.SlotDied(slot, "SIGNALLED", "killed by signal 9", None))
    assert [failed.code for failed in rig.sent(messages.Failed)] == ["HUNG"]


def test_opening_a_job_that_takes_more_memory_than_a_slot_may_is_refused_as_that():
    rig, slot = opening(slot_rss_bytes_max=1 << 30)
    rig.samples = (slot_sample(slot, 0, rss_bytes=(1 << 30) + 1),)
    assert until_killed(rig, 5.0) is not None
    failed, *again = rig.sent(messages.Failed)
    assert all(one == failed for one in again)  # it is said each second
    assert (failed.code, failed.problem.code) == ("WORKER_SMALL", "MEMORY_LIMIT")
    assert "opens the job's functions holds 1,073,741,825 bytes" in failed.problem.what


def test_what_a_stopped_supervisor_missed_counts_for_no_slot_that_opens_a_job():
    rig, slot = opening()
    rig.now += 300.0  # as if it had been stopped: nothing was polled
    rig.do(ev.TimePassed(ev.Sample(1, 1 << 40, ()), 0.5))
    assert not rig.ordered(ev.KillSlot)
    rig.do(ev.SlotSaid(slot, slotframes.JobOpened(JOB)))
    assert rig.worker._bench.pool.slots[slot].state != "DYING"
