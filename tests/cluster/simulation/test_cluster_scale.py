"""Ten thousand workers and a million tasks at the master machine: issue 4's figures."""

from __future__ import annotations

import struct
import time
import tracemalloc
from collections import deque

import pytest

from kernelmill.cluster.fields import OutputFile
from kernelmill.cluster.master import events as ev
from kernelmill.cluster.master.facts import JobSheet, StageSheet
from kernelmill.cluster.master.ledger import Ledger
from kernelmill.cluster.master.machine import Master
from kernelmill.engine.plan.stages import Edge, EdgeKind

DECISIONS_A_SECOND_MIN = 20_000
BYTES_A_TASK_MAX = 1000
PARTITIONS = 8
GROUP = 64  # records of one group commit, 256 at most
VECTOR = struct.pack(f"<{4 * PARTITIONS}Q", *[100, 7, 11, 13] * PARTITIONS)
SEAL = b"seal of sixteen."


def sheet_of(maps, partitions=PARTITIONS):
    stages = (StageSheet(maps, (partitions,)), StageSheet(partitions, (), (Edge(0, EdgeKind.HASH),)))
    return JobSheet("job", "ada", b"digest", stages)


class Cluster:
    """Workers that make no mistakes, each DONE answering an ASSIGN, and a journal that commits in groups."""

    def __init__(self, maps, workers, slots):
        self.master = Master(Ledger(), lambda job, attempt, gen, worker: SEAL)
        self.maps, self.now = maps, 0.0
        self.waiting, self.assigned, self.ordered = deque(), 0, 0
        self.perform(self.master.start(1, b"life", self.now))
        for number in range(workers):
            self.tell(ev.HelloReceived(f"w{number}", number, number, 1, slots, 1 << 40))
        self.tell(ev.SubmitReceived("ada", sheet_of(maps)))

    def tell(self, event):
        self.perform(self.master.handle(event, self.now))

    def perform(self, actions):
        for action in actions:
            if type(action) is ev.Assign:
                self.waiting.append(action)
                self.assigned += 1
            elif type(action) is ev.Record:
                self.ordered = action.number
            elif type(action) is ev.Publish:
                self.tell(ev.Published("job"))

    def run(self):
        consumed = (ev.Consumed(self.maps, 7 * self.maps, 11 * self.maps, 13 if self.maps % 2 else 0),)
        durable = 0
        while self.waiting or durable < self.ordered:
            durable = self.ordered
            self.tell(ev.Recorded(durable))
            for _ in range(min(len(self.waiting), GROUP)):
                order = self.waiting.popleft()
                self.now += 0.00001
                done = (order.worker, order.session, "job", order.attempt, order.gen, order.seal)
                if order.attempt.task.stage == 0:
                    # Each task's own bytes, as from a socket.
                    self.tell(ev.DoneReceived(*done, data_bytes=100 * PARTITIONS, vector=bytes(bytearray(VECTOR))))
                else:
                    part = OutputFile("part", 1, 1, b"", b"")
                    self.tell(ev.DoneReceived(*done, files=(part,), consumed=consumed))


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_million_tasks_on_ten_thousand_workers_are_decided_at_twenty_thousand_a_second_or_more():
    maps = 1_000_000
    began_s = time.process_time()  # others may use the machine
    cluster = Cluster(maps, 10_000, 2)
    cluster.run()
    rate = cluster.assigned / (time.process_time() - began_s)
    print(f"{cluster.assigned} attempts, {rate:.0f} decisions/s")
    assert cluster.master.state_of("job") == "COMMITTED"
    assert cluster.assigned == maps + PARTITIONS
    assert rate > DECISIONS_A_SECOND_MIN


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_task_takes_less_than_a_kilobyte_of_the_masters_memory():
    maps = 20_000  # tracemalloc makes this many times slower; what a task takes does not depend on their number
    tracemalloc.start()
    try:
        cluster = Cluster(maps, 100, 2)
        cluster.run()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    print(f"{peak / maps:.0f} bytes a task at most")
    assert cluster.master.state_of("job") == "COMMITTED"
    assert peak / maps < BYTES_A_TASK_MAX
