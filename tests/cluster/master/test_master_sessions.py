"""HELLO, BEAT and silence; and what a new master makes of the workers that are there."""

from __future__ import annotations

import pytest

from kernelmill.cluster.master import events as ev
from kernelmill.cluster.master.sessions import (
    DISCONNECTED,
    DRAINED,
    DRAINING,
    HEARD,
    LOST,
    NEXT_SESSION,
    OVER,
    REGISTERED,
    SILENT,
    SUSPECT,
)
from kernelmill.engine.ids import TaskId


def beat(order, *attempts, session=None):
    hand = tuple((order.job, each.attempt.number) for each in attempts)
    return ev.BeatReceived(order.worker, session or order.session, hand, (), 1 << 40)


def test_no_cause_moves_a_session_that_is_lost_and_every_cause_moves_the_others():
    states, causes = {REGISTERED, SUSPECT, DRAINING}, {HEARD, SILENT, DISCONNECTED, DRAINED, OVER}
    assert set(NEXT_SESSION) == {(state, cause) for state in states for cause in causes}
    assert all((state == LOST) == (cause == OVER) for (_, cause), state in NEXT_SESSION.items())


def test_a_silent_worker_gets_no_new_work_after_3_s_and_is_lost_after_5(bench, sheet, tools):
    bench.hello("a", slots=1)
    (first,) = tools.only(ev.Assign, bench.submit(sheet))
    bench.pass_time(3.0)
    bench.hello("b", slots=1)
    assert len(tools.only(ev.Assign, bench.orders)) == 2  # the other map, on b
    bench.pass_time(1.9)
    assert bench.master.peers() == ["a", "b"]
    bench.pass_time(0.2)
    assert bench.master.peers() == ["b"]
    assert tools.only(ev.Refuse, bench.done(first))[0].code == "NO_SESSION"


def test_any_message_ends_the_suspicion(bench, sheet, tools):
    bench.hello("a", slots=1)
    (order,) = tools.only(ev.Assign, bench.submit(sheet))
    bench.pass_time(4.0)
    bench.tell(ev.AcceptReceived("a", order.session, "j", order.attempt))
    bench.pass_time(4.0)
    assert bench.master.peers() == ["a"]


def test_a_disconnected_worker_has_a_second_to_come_back(bench, tools):
    bench.hello("a", session=7)
    bench.tell(ev.PeerDisconnected("a", 7))
    bench.pass_time(1.1)
    assert bench.master.peers() == []


def test_an_unreachable_worker_is_lost_at_once_and_only_in_its_own_session(bench):
    bench.hello("a", session=7)
    bench.tell(ev.PeerGone("a", 6, "unreachable"))
    assert bench.master.peers() == ["a"]
    bench.tell(ev.PeerGone("a", 7, "unreachable"))
    assert bench.master.peers() == []


def test_another_process_of_a_name_waits_and_the_same_one_displaces_itself(bench, tools):
    bench.hello("a", session=7, nonce=1)
    (refused,) = tools.only(ev.Refuse, bench.hello("a", session=8, nonce=2))
    assert refused.code == "NAME_TAKEN"
    (welcome,) = tools.only(ev.Welcome, bench.hello("a", session=9, nonce=1, count=2))
    assert welcome.session == 9
    assert tools.only(ev.Welcome, bench.hello("a", session=10, nonce=1, count=1)) == []  # it was on its way for long


def test_a_worker_that_knows_a_higher_epoch_is_refused(bench, tools):
    (refused,) = tools.only(ev.Refuse, bench.hello("a", epoch_seen=5))
    assert refused.code == "JOURNAL_BEHIND" and bench.master.peers() == []


def test_an_assign_that_beats_do_not_show_is_repeated_and_an_accepted_one_is_given_up(bench, sheet, tools):
    bench.hello("a", slots=1)
    (order,) = tools.only(ev.Assign, bench.submit(sheet))
    assert tools.only(ev.Assign, bench.tell(beat(order), after_s=1.0)) == []  # it may be on its way
    (again,) = tools.only(ev.Assign, bench.tell(beat(order), after_s=1.5))
    assert again == order
    bench.tell(ev.AcceptReceived("a", order.session, "j", order.attempt))
    assert bench.tell(beat(order, order), after_s=1.0) == []
    (anew,) = tools.only(ev.Assign, bench.tell(beat(order), after_s=1.0))
    assert anew.attempt.task == order.attempt.task and anew.attempt != order.attempt


def test_an_attempt_that_a_beat_showed_and_the_next_one_does_not_is_given_up(bench, sheet, tools):
    bench.hello("a", slots=1)
    (order,) = tools.only(ev.Assign, bench.submit(sheet))
    assert tools.only(ev.Assign, bench.tell(beat(order, order), after_s=0.5)) == []
    (anew,) = tools.only(ev.Assign, bench.tell(beat(order), after_s=1.0))
    assert anew.attempt.task == order.attempt.task and anew.attempt != order.attempt
    assert bench.master.seen["attempt vanished"] == 1


def test_a_cancel_is_repeated_with_every_beat_until_it_is_answered(bench, sheet, tools):
    bench.hello("a", slots=1)
    (order,) = tools.only(ev.Assign, bench.submit(sheet))
    assert len(tools.only(ev.Cancel, bench.tell(ev.CancelReceived("ada", "j")))) == 1
    assert len(tools.only(ev.Cancel, bench.tell(beat(order, order)))) == 1
    bench.failed(order, "CANCELLED")
    (result,) = tools.only(ev.TellResult, bench.commit())
    assert result.state == "CANCELLED"
    said = bench.tell(ev.BeatReceived("a", order.session, (), ("j",), 1 << 40))
    assert [type(each) for each in said] == [ev.Drop]


def test_workers_are_told_that_a_job_is_over_when_that_is_durable(bench, sheet, tools):
    bench.hello("a", slots=1)
    bench.hello("b", slots=1)
    orders = tools.only(ev.Assign, bench.submit(sheet))
    assert {order.worker for order in orders} == {"a", "b"}
    bench.tell(ev.CancelReceived("ada", "j"))
    for order in orders:
        assert tools.only(ev.Drop, bench.failed(order, "CANCELLED")) == []
    assert tools.only(ev.Drop, bench.commit()) == [ev.Drop(each.worker, each.session, "j") for each in orders]


def test_a_drained_worker_gets_no_work_and_may_go_when_nothing_of_it_is_needed(bench, sheet, tools):
    bench.hello("a", slots=1)
    (order,) = tools.only(ev.Assign, bench.submit(sheet))
    bench.tell(ev.DrainRequested("a"))
    (drain,) = tools.only(ev.Drain, bench.tell(beat(order, order)))
    assert not drain.is_free
    bench.done(order)
    assert tools.only(ev.Assign, bench.commit()) == []
    (drain,) = tools.only(ev.Drain, bench.tell(beat(order)))
    assert not drain.is_free  # its output is needed
    bench.tell(ev.CancelReceived("ada", "j"))
    bench.commit()
    assert tools.only(ev.Drain, bench.tell(beat(order)))[0].is_free
    bench.tell(ev.ByeReceived("a", order.session))
    assert bench.master.peers() == []


# A new master.


@pytest.fixture
def half_done(bench, sheet, tools):
    """Map 0 committed, map 1 running, both on a."""
    bench.hello("a")
    first, second = tools.only(ev.Assign, bench.submit(sheet))
    bench.done(first)
    bench.commit()
    return first, second


def held(order):
    return ev.Held(order.job, order.attempt, order.gen, order.seal)


def test_a_new_master_keeps_what_runs_and_what_is_held_and_starts_nothing_again(bench, half_done, tools):
    first, second = half_done
    new = bench.restart()
    (welcome,) = tools.only(ev.Welcome, new.hello("a", session=9, running=(held(second),), done=(held(first),)))
    assert welcome.keep == (("j", second.attempt.number),) and welcome.hold == (("j", first.attempt.number),)
    assert tools.only(ev.Assign, new.orders) == []
    new.done(second, session=9)
    new.commit()
    new.tell(ev.BeatReceived("a", 9, (), (), 1 << 40), after_s=1.0)
    (reduce,) = tools.only(ev.Assign, new.pass_time(2.1))
    assert reduce.attempt.task.stage == 1 and reduce.attempt.number >> 32 == 2


def test_a_done_that_a_new_master_has_not_heard_is_asked_for_again(bench, half_done, tools):
    _, second = half_done
    bench.done(second)  # not durable
    new = bench.restart()
    (welcome,) = tools.only(ev.Welcome, new.hello("a", session=9, done=(held(second),)))
    assert welcome.resend == (("j", second.attempt.number),)
    new.done(second, session=9)
    assert tools.only(ev.CommitAck, new.commit())
    assert new.master.seen["DONE accepted by a new epoch"] == 1


def test_outputs_whose_holder_does_not_come_back_in_the_grace_are_made_again(bench, half_done, tools):
    new = bench.restart()
    new.hello("b", session=9)
    assert tools.only(ev.Assign, new.pass_time(1.9)) == []
    for _ in range(5):
        new.pass_time(1.0)
        new.tell(ev.BeatReceived("b", 9, (), (), 1 << 40))
    started = [order.attempt.task.index for order in tools.only(ev.Assign, new.orders)]
    assert sorted(set(started)) == [0, 1]


@pytest.fixture
def held_by_a(bench, sheet, tools):
    """Both maps committed by a, where the reduce runs; b has a free slot."""
    bench.hello("a")
    orders = tools.only(ev.Assign, bench.submit(sheet))
    for order in orders:
        bench.done(order)
    bench.commit()
    bench.hello("b", slots=1, session=9)
    return orders


def tasks_given_to_b(bench, tools, seconds):
    """Let seconds pass in which only b is heard; the tasks that it is given."""
    said = []
    for _ in range(seconds):
        said += bench.pass_time(1.0) + bench.tell(ev.BeatReceived("b", 9, (), (), 1 << 40))
    return {order.attempt.task for order in tools.only(ev.Assign, said)}


def test_what_a_silent_worker_holds_is_made_again_as_soon_as_it_is_lost(bench, held_by_a, tools):
    assert tasks_given_to_b(bench, tools, 4) == set()
    assert tasks_given_to_b(bench, tools, 1) == {TaskId(0, 0)}


def test_what_a_worker_holds_whose_connection_ended_is_waited_for(bench, held_by_a, tools):
    bench.tell(ev.PeerDisconnected("a", bench.master.desk.sessions.get("a").id))
    assert tasks_given_to_b(bench, tools, 5) == set()
    assert bench.master.desk.sessions.get("a") is None
    assert tasks_given_to_b(bench, tools, 1) == {TaskId(0, 0)}


def test_a_connection_that_ends_after_a_silence_is_no_reason_to_wait(bench, held_by_a, tools):
    assert tasks_given_to_b(bench, tools, 3) == set()
    bench.tell(ev.PeerDisconnected("a", bench.master.desk.sessions.get("a").id))  # as ZeroMQ does after 3 s
    assert bench.master.desk.sessions.get("a") is None
    assert tasks_given_to_b(bench, tools, 1) == set()
    assert tasks_given_to_b(bench, tools, 1) == {TaskId(0, 0)}


def test_a_silence_counts_for_a_worker_that_cannot_be_reached_after_it(bench, held_by_a, tools):
    assert tasks_given_to_b(bench, tools, 3) == set()
    bench.tell(ev.PeerGone("a", bench.master.desk.sessions.get("a").id, "unreachable"))
    assert tasks_given_to_b(bench, tools, 1) == set()
    assert tasks_given_to_b(bench, tools, 1) == {TaskId(0, 0)}


def test_what_was_given_up_counts_if_its_holder_comes_back_before_it_is_made_again(bench, held_by_a, tools):
    assert tasks_given_to_b(bench, tools, 6) == {TaskId(0, 0)}
    (welcome,) = tools.only(ev.Welcome, bench.hello("a", count=2, nonce=2, done=[held(order) for order in held_by_a]))
    assert len(welcome.hold) == 2
    (again,) = [order for order in tools.only(ev.Assign, bench.orders) if order.session == 9]
    assert bench.tell(ev.BeatReceived("b", 9, (("j", again.attempt.number),), (), 1 << 40)) == [
        ev.Cancel("b", 9, "j", again.attempt)
    ]
    bench.done(again)  # too late
    assert bench.commit() == []
    assert bench.master.winner_of("j", TaskId(0, 0)) == held_by_a[0].attempt


def test_what_was_made_again_counts_though_the_first_holder_comes_back_before_that_is_durable(bench, held_by_a, tools):
    assert tasks_given_to_b(bench, tools, 6) == {TaskId(0, 0)}
    (again,) = [order for order in tools.only(ev.Assign, bench.orders) if order.session == 9]
    bench.done(again)
    (welcome,) = tools.only(ev.Welcome, bench.hello("a", count=2, nonce=2, done=[held(order) for order in held_by_a]))
    assert welcome.hold == (("j", held_by_a[1].attempt.number),)
    bench.commit()
    assert bench.master.winner_of("j", TaskId(0, 0)) == again.attempt


def test_forged_and_foreign_attempts_in_a_hello_are_not_kept(bench, half_done, tools):
    _, second = half_done
    new = bench.restart()
    (welcome,) = tools.only(ev.Welcome, new.hello("b", session=9, running=(held(second),)))  # assigned to a
    assert welcome.keep == () and new.master.seen["forged seal"] == 1


def test_a_job_being_committed_is_published_again_by_a_new_master(bench, half_done, tools):
    bench.done(half_done[1])
    (reduce,) = tools.only(ev.Assign, bench.commit())
    bench.done(reduce)
    (publish,) = tools.only(ev.Publish, bench.commit())
    new = bench.restart()
    assert tools.only(ev.Publish, new.orders) == [publish]
    new.tell(ev.Published("j"))
    assert tools.only(ev.TellResult, new.commit())[0].state == "COMMITTED"


def test_a_new_master_waits_no_longer_than_for_all_workers_that_may_come(bench, sheet, tools):
    bench.hello("a", slots=1)
    bench.submit(sheet)
    new = bench.restart(expected=("a", "b"))
    new.hello("a", slots=1)
    assert tools.only(ev.Assign, new.orders + new.pass_time(1.0)) == []
    new.hello("b", slots=1)
    assert len(tools.only(ev.Assign, new.pass_time(0.0))) == 2


def test_a_new_master_does_not_wait_for_ever_for_workers_that_do_not_come(bench, sheet, tools):
    bench.hello("a", slots=1)
    bench.submit(sheet)
    new = bench.restart(expected=("a", "b"))
    new.hello("a", slots=1)
    assert tools.only(ev.Assign, new.pass_time(1.9)) == []
    assert len(tools.only(ev.Assign, new.pass_time(0.2))) == 1
