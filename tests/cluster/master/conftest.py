"""A master machine with a journal that is durable when the test says so."""

from __future__ import annotations

import hashlib
import struct

import pytest

from kernelmill.cluster.fields import OutputFile
from kernelmill.cluster.master import events as ev
from kernelmill.cluster.master.facts import JobSheet, StageSheet
from kernelmill.cluster.master.ledger import Ledger
from kernelmill.cluster.master.machine import Master
from kernelmill.engine.plan.stages import Edge, EdgeKind


def seal_of(job, attempt, gen, worker):
    return hashlib.blake2b(repr((job, str(attempt), gen, worker)).encode(), digest_size=16).digest()


def vector(rows, total=5, xor=3, size_bytes=10):
    return struct.pack("<4Q", size_bytes, rows, total, xor)


class Bench:
    """Tells the machine things and keeps what it ordered; `commit` makes all records durable, until none follow."""

    def __init__(self, facts=(), epoch=1, settings=None, expected=()):
        self.facts, self.now, self.ordered, self.durable = list(facts), 0.0, 0, 0
        self.orders = []
        self.pending = []
        self.master = Master(Ledger.of(self.facts), seal_of, settings)
        self._take(self.master.start(epoch, b"life", self.now, expected))
        self.commit()

    def tell(self, event, after_s=0.0):
        """Tell one event; return the orders that are not records."""
        self.now += after_s
        return self._take(self.master.handle(event, self.now))

    def _take(self, actions):
        self.master.check()
        for action in actions:
            if isinstance(action, ev.Record):
                self.ordered = action.number
                self.pending.append(action.facts)
        said = [action for action in actions if not isinstance(action, ev.Record)]
        self.orders += said
        return said

    def commit(self):
        """Make everything durable; return the orders that follow."""
        said = []
        while self.durable < self.ordered:
            self.durable = self.ordered
            self.facts += [fact for facts in self.pending for fact in facts]
            self.pending.clear()
            said += self.tell(ev.Recorded(self.durable))
        return said

    def pass_time(self, seconds):
        """Let time pass, and every deadline in it with all sessions staying silent; return the orders."""
        said, until_s = [], self.now + seconds
        while (due_s := self.master.next_deadline()) is not None and due_s <= until_s:
            self.now = max(self.now, due_s)
            said += self.tell(ev.TimePassed()) + self.commit()
        self.now = until_s
        return said

    def hello(self, worker="a", slots=2, session=None, count=1, nonce=1, **more):
        number = session if session is not None else 100 + ord(worker[0]) * 10 + count
        return self.tell(ev.HelloReceived(worker, number, nonce, count, slots, 1 << 40, **more))

    def submit(self, sheet):
        self.tell(ev.SubmitReceived(sheet.client, sheet))
        return self.commit()

    def done(self, order, **changes):
        """Answer an ASSIGN as a good worker would: maps make a row a partition, sinks one file."""
        fields = {
            "worker": order.worker,
            "session": order.session,
            "job": order.job,
            "attempt": order.attempt,
            "gen": order.gen,
            "seal": order.seal,
        }
        if order.attempt.task.stage == 0:
            fields |= {"data_bytes": 10, "vector": vector(1)}
        else:
            fields |= {"files": (OutputFile("p", 2, 9, b"", b""),), "consumed": (ev.Consumed(2, 2, 10, 0),)}
        return self.tell(ev.DoneReceived(**(fields | changes)))

    def failed(self, order, code, **more):
        return self.tell(ev.FailedReceived(order.worker, order.session, order.job, order.attempt, code, "why", **more))

    def restart(self, expected=()):
        """Kill the master and start the next one on what was durable."""
        return Bench(self.facts, epoch=self.master._desk.ledger.epoch + 1, expected=expected)


def only(kind, orders):
    return [order for order in orders if isinstance(order, kind)]


@pytest.fixture
def sheet():
    """Two maps that leave one partition, and a reduce that writes a file."""
    stages = (StageSheet(2, (1,)), StageSheet(1, (), (Edge(0, EdgeKind.HASH),)))
    return JobSheet("j", "ada", b"digest", stages)


@pytest.fixture
def bench():
    return Bench()


@pytest.fixture
def tools():
    class Tools:
        pass

    tools = Tools()
    tools.Bench, tools.only, tools.vector, tools.seal_of = Bench, only, vector, seal_of
    return tools
