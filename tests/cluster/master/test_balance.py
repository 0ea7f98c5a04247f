"""What waits at one worker is taken back when another has nothing to do; nothing else is, and nothing is charged."""

import pytest

from kernelmill.cluster.master import events as ev
from kernelmill.cluster.master.facts import JobSheet, StageSheet
from kernelmill.engine.plan.stages import Edge, EdgeKind

MAPS = 60


@pytest.fixture
def orders(bench, tools):
    """Two workers of one slot and many short maps; what each has in hand when nothing is left to give out.

    From the tenth on the first one ends none: it is in a long one.
    """
    bench.hello("a", slots=1)
    bench.hello("b", slots=1)
    stages = (StageSheet(MAPS, (1,)), StageSheet(1, (), (Edge(0, EdgeKind.HASH),)))
    bench.submit(JobSheet("j", "ada", b"digest", stages))
    in_hand = {"a": [], "b": []}
    seen = done = 0
    while seen < MAPS:
        given = tools.only(ev.Assign, bench.orders)
        for order in given[seen:]:
            in_hand[order.worker].append(order)
        seen = len(given)
        bench.done(in_hand["a" if done < 10 and in_hand["a"] else "b"].pop(0))
        bench.commit()
        done += 1
    assert len(in_hand["a"]) > 5
    return in_hand


def beat(bench, held, after_s):
    attempts = tuple((each.job, each.attempt.number) for each in held)
    return bench.tell(ev.BeatReceived(held[0].worker, held[0].session, attempts, (), 1 << 40), after_s=after_s)


def finish(bench, held):
    for order in held:
        bench.done(order)
    return bench.commit()


def test_no_worker_has_more_ahead_than_its_part_of_what_is_left(orders):
    assert len(orders["a"]) <= MAPS // 2


def test_what_waits_behind_a_long_task_runs_at_a_worker_that_has_nothing_to_do(bench, tools, orders):
    assert not tools.only(ev.Cancel, beat(bench, orders["a"], 1.0)), "the other is busy"
    finish(bench, orders["b"])
    stopped = tools.only(ev.Cancel, beat(bench, orders["a"], 0.1))
    assert [each.attempt for each in stopped] == [order.attempt for order in orders["a"][1:]], "not what runs"
    told = [order for order in orders["a"][1:] for order in bench.failed(order, "CANCELLED")]
    again = tools.only(ev.Assign, told)
    assert again and {order.worker for order in again} == {"b"}
    moved = {order.attempt.task for order in orders["a"][1:]}
    assert {order.attempt.task for order in again} <= moved
    while again:
        assert {order.worker for order in again} == {"b"}
        again = tools.only(ev.Assign, finish(bench, again))
    finish(bench, orders["a"][:1])
    (reduce,) = [order for order in tools.only(ev.Assign, bench.orders) if order.attempt.task.stage == 1]
    assert bench.master.desk.jobs["j"].failures == [0, 0], "it costs no task anything"
    assert reduce.job == "j"


def test_what_has_come_a_moment_ago_stays_where_it_is(bench, tools, orders):
    finish(bench, orders["b"])
    assert not tools.only(ev.Cancel, beat(bench, orders["a"], 0.3))
    assert tools.only(ev.Cancel, beat(bench, orders["a"], 0.3))


def test_no_more_is_taken_back_than_waits_and_not_twice(bench, tools, orders):
    finish(bench, orders["b"])
    first = tools.only(ev.Cancel, beat(bench, orders["a"], 1.0))
    again = tools.only(ev.Cancel, beat(bench, orders["a"], 1.0))
    assert [each.attempt for each in again] == [each.attempt for each in first], "a cancel is said until it is answered"
    assert bench.master.seen["task taken back"] == len(first)


def test_one_that_was_done_before_its_cancel_came_counts(bench, tools, orders):
    finish(bench, orders["b"])
    stopped = tools.only(ev.Cancel, beat(bench, orders["a"], 1.0))
    assert stopped
    acks = tools.only(ev.CommitAck, finish(bench, orders["a"]))
    assert [each.attempt for each in acks] == [order.attempt for order in orders["a"]]
    assert bench.master.winner_of("j", stopped[0].attempt.task) == stopped[0].attempt
