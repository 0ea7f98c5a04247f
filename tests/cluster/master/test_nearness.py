"""Near which worker a task is, from what the ledger knows of its input; and that the master sends it there."""

import struct

import pytest

from kernelmill.cluster.master import events as ev
from kernelmill.cluster.master import nearness
from kernelmill.cluster.master.facts import EpochBegun, JobSheet, JobSubmitted, StageSheet, TaskCommitted
from kernelmill.cluster.master.ledger import Ledger
from kernelmill.cluster.master.nearness import workers_near
from kernelmill.engine.plan.stages import Edge, EdgeKind


def ledger_of(held, kind=EdgeKind.HASH, readers=None):
    """Maps of which each is held by (worker, bytes by partition), and the stage that reads them over one edge."""
    partitions = len(held[0][1])
    reader = StageSheet(partitions if readers is None else readers, (), (Edge(0, kind),))
    sheet = JobSheet("j", "ada", b"d", (StageSheet(len(held), (partitions,)), reader))
    facts = [EpochBegun(1, b"life"), JobSubmitted(sheet)]
    for task, (worker, sizes) in enumerate(held):
        vector = b"".join(struct.pack("<4Q", size, 1, 2, 3) for size in sizes)
        facts.append(TaskCommitted("j", 0, 0, task, 1 << 32 | task, worker, sum(sizes), vector))
    return Ledger.of(facts)


def near(held, hosts, **more):
    ledger = ledger_of(held, **more)
    return workers_near(ledger, ledger.jobs["j"], 1, hosts)


def test_a_partition_is_near_the_worker_that_holds_most_of_it():
    held = [("a", (900, 100)), ("b", (100, 900))]
    assert near(held, {"a": "", "b": ""}) == ["a", "b"]


def test_rows_that_are_spread_evenly_are_near_nobody():
    held = [("a", (510, 500)), ("b", (490, 500))]
    assert near(held, {"a": "", "b": ""}) == []


@pytest.mark.parametrize(("share", "is_near"), [(69, False), (70, True)])
def test_near_begins_a_fifth_above_an_even_share(share, is_near):
    held = [("a", (share,)), ("b", (100 - share,))]
    assert near(held, {"a": "", "b": ""}) == (["a"] if is_near else [])


def test_a_worker_that_is_gone_or_alone_is_near_nothing():
    held = [("a", (900,)), ("b", (100,))]
    assert near(held, {"b": "", "c": ""}) == []
    assert near(held, {"a": ""}) == []


def test_workers_that_hold_nothing_count_for_the_even_share():
    held = [("a", (50,)), ("b", (50,))]
    assert near(held, {"a": "", "b": ""}) == []
    assert near(held, {"a": "", "b": "", "c": "", "d": ""}) == ["a"]


def test_the_workers_of_a_host_are_near_together_where_none_is_alone():
    held = [("a", (30, 30)), ("b", (40, 10)), ("c", (30, 60))]
    hosts = {"a": "10.0.0.1", "b": "10.0.0.1", "c": "10.0.0.2"}
    assert near(held, hosts) == ["b", "c"]


@pytest.mark.parametrize("kind", [EdgeKind.BROADCAST, EdgeKind.GATHER])
def test_what_every_task_reads_counts_for_every_task(kind):
    held = [("a", (90,)), ("b", (10,))]
    assert near(held, {"a": "", "b": ""}, kind=kind, readers=3) == ["a", "a", "a"]


def test_of_very_many_blocks_some_are_enough(monkeypatch):
    held = [("a", (9, 1)) if task % 4 else ("b", (1, 9)) for task in range(64)]
    whole = near(held, {"a": "", "b": ""})
    monkeypatch.setattr(nearness, "BLOCKS_MAX", 50)  # every second map task's
    assert near(held, {"a": "", "b": ""}) == whole == ["a", "b"]
    monkeypatch.setattr(nearness, "BLOCKS_MAX", 3)
    assert near(held, {"a": "", "b": ""}) == []


@pytest.mark.parametrize("workers", [2, 3, 4, 8])
def test_workers_that_took_turns_have_their_part_in_the_blocks_that_are_looked_at(monkeypatch, workers):
    held = [(f"w{task % workers}", (10, 10)) for task in range(workers * 64)]
    monkeypatch.setattr(nearness, "BLOCKS_MAX", 2 * 64)  # one of as many map tasks as there are workers
    assert near(held, {f"w{number}": "" for number in range(workers)}) == []


def test_the_master_sends_a_reduce_where_its_input_lies_and_elsewhere_if_no_slot_is_free_there(tools):
    stages = (StageSheet(2, (4,)), StageSheet(4, (), (Edge(0, EdgeKind.HASH),)))
    bench = tools.Bench()
    for worker in "ab":
        bench.hello(worker, slots=1, host=f"10.0.0.{ord(worker)}")
    bench.submit(JobSheet("j", "ada", b"d", stages))
    maps = tools.only(ev.Assign, bench.orders)
    sizes = {"a": (1, 1, 90, 90), "b": (90, 90, 1, 1)}
    for order in maps:
        vector = b"".join(struct.pack("<4Q", size, 1, 2, 3) for size in sizes[order.worker])
        bench.done(order, data_bytes=182, vector=vector)
        bench.commit()
    first = [(each.attempt.task.index, each.worker) for each in tools.only(ev.Assign, bench.orders)[2:]]
    assert sorted(first) == [(0, "b"), (2, "a")]
    for _ in range(2):  # b ends its own two, then takes what is near a, which is busy
        order = [each for each in tools.only(ev.Assign, bench.orders) if each.worker == "b"][-1]
        bench.done(order, consumed=(ev.Consumed(2, 2, 4, 0),))
        bench.commit()
    later = [(each.attempt.task.index, each.worker) for each in tools.only(ev.Assign, bench.orders)[4:]]
    assert later == [(1, "b"), (3, "b")]


def test_a_pair_goes_to_the_worker_that_made_it_whatever_the_turn(tools):
    stages = (StageSheet(4, (1,)), StageSheet(4, (), (Edge(0, EdgeKind.ONE_TO_ONE),)))
    bench = tools.Bench()
    bench.hello("a", slots=2)
    bench.hello("b", slots=2)
    bench.submit(JobSheet("j", "ada", b"d", stages))
    maps = tools.only(ev.Assign, bench.orders)
    made = {order.attempt.task.index: order.worker for order in maps}
    for order in (maps[3], maps[2], maps[0], maps[1]):
        bench.done(order)
        bench.commit()
    readers = {each.attempt.task.index: each.worker for each in tools.only(ev.Assign, bench.orders)[4:]}
    assert readers == made
