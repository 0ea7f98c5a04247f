"""A worker's machine with a hand-driven master, slots and clock around it."""

from __future__ import annotations

from kernelmill.cluster import messages
from kernelmill.cluster.fields import (
    AttemptKey,
    AttemptName,
    BlocksOutput,
    FilesOutput,
    JobPart,
    OutputFile,
    Place,
    Policy,
    Problem,
    Sheet,
    SheetEdge,
    SheetStage,
    TaskRecord,
    Versions,
)
from kernelmill.cluster.worker import events as ev
from kernelmill.cluster.worker import slotframes
from kernelmill.cluster.worker.bench import Identity, WorkerSettings
from kernelmill.cluster.worker.machine import Worker

JOB = b"j" * 16
LIFE = b"l" * 8
VERSIONS = Versions("1", "3.11", "24", "0.68", "2.0")
ME = Identity("w1", b"n" * 16, VERSIONS, "host", 0, 2, 1 << 30, b"t" * 32)
SHEET = Sheet(
    stages=(SheetStage("map", 4, (2,), ()), SheetStage("reduce", 2, (), (SheetEdge(0, "hash", 0),))),
    output=Place("out", ("x",)),
    policy=Policy("error", 1000, "error", "signed", "tail", 4, False),
    versions=VERSIONS,
)


def name_of(number, stage=0, index=None, job=JOB):
    return AttemptName(job, stage, number if index is None else index, AttemptKey(1, number))


def assign(number, stage=0, inputs=(), job=JOB, **fields):
    given = {"gen": 0, "seal": b"s" * 16, "is_isolating": False, "left_out": (), "tickets": (), **fields}
    needed = tuple(messages.InputVersion(*each) for each in inputs)
    return messages.Assign(attempt=name_of(number, stage, job=job), inputs=needed, **given)


def blocks_record():
    return TaskRecord((), (), BlocksOutput(10, b"v" * 64), ())


def files_record():
    return TaskRecord((), (), FilesOutput((OutputFile("part.parquet", 1, 2, b"x" * 16, b"y" * 16),)), ())


def slot_sample(slot, number, *, phase="run", batch=0, steps=0, rss_bytes=0):
    return ev.SlotSample(slot, AttemptKey(1, number), phase, batch, 0, 0, 0, steps, rss_bytes)


class Rig:
    """Drives a machine, keeps all it ordered; `check()` after each event."""

    def __init__(self, notes=(), slots=2, **settings):
        me = Identity("w1", b"n" * 16, VERSIONS, "host", 0, slots, 1 << 30, b"t" * 32)
        self.now = 100.0
        self.worker = Worker(me, notes, self.now, WorkerSettings(**settings))
        self.samples = ()
        self.actions = self.worker.start()
        self.session = b"S" * 8

    def do(self, event):
        self.actions = self.worker.handle(event, self.now)
        self.worker.check()
        return self.actions

    def wait(self, seconds):
        """Let time pass in steps of the machine's own deadlines; return all it ordered meanwhile."""
        end, done = self.now + seconds, []
        while (due := self.worker.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            done += self.do(ev.TimePassed(ev.Sample(1, 1 << 40, self.samples), 0.5))
            after = self.worker.next_deadline()
            assert after is None or after > self.now, "a deadline that has passed makes its caller spin"
        self.now = end
        self.actions = done
        return done

    def say(self, body, session=None, epoch=1, life=LIFE):
        return self.do(ev.MasterSaid(epoch, life, self.session if session is None else session, body))

    def hellos(self):
        return [each.body for each in self.actions if isinstance(each, ev.Send) and type(each.body) is messages.Hello]

    def sent(self, kind):
        return [each.body for each in self.actions if isinstance(each, ev.Send) and type(each.body) is kind]

    def ordered(self, kind):
        return [each for each in self.actions if isinstance(each, kind)]

    def frames(self, kind):
        return [each.frame for each in self.ordered(ev.TellSlot) if type(each.frame) is kind]

    def welcome(self, keep=(), hold=(), resend=(), session=None, epoch=1):
        """Connect, take the HELLO and answer it."""
        self.do(ev.Connected())
        (hello,) = self.sent(messages.Hello)
        self.session = session or self.session
        self.say(messages.Welcome(hello.count, 0, 1, tuple(keep), tuple(hold), tuple(resend)), epoch=epoch)
        return hello

    def with_job(self, job=JOB, *, roles=("plan",)):
        """A session, a job whose parts are here, and spares that are ready."""
        if not self.worker.session:
            self.welcome()
        for action in [ev.StartSlot(number) for number in sorted(self.worker._bench.pool.slots)]:
            slot = self.worker._bench.pool.slots[action.slot]
            if slot.state == "STARTING":
                self.do(ev.SlotSaid(action.slot, slotframes.SlotReady(1)))
        parts = tuple(JobPart(role, role[:1].encode() * 32, 3) for role in roles)
        self.say(messages.Spec(job, SHEET, parts, b"g" * 32, 1 << 40))
        return self

    def run(self, number, stage=0, inputs=(), **fields):
        """Assign an attempt and bring it into a slot; return the slot's number."""
        self.say(assign(number, stage, inputs, **fields))
        for order in self.ordered(ev.BringParts):
            self.do(ev.PartsCame(order.spec.job))
        for order in self.ordered(ev.OpenInSlot):
            self.do(ev.SlotSaid(order.slot, slotframes.JobOpened(order.spec.job)))
        for told in self.ordered(ev.TellSlot):
            if type(told.frame) is slotframes.RunTask and told.frame.attempt.number == number:
                return told.slot
        raise AssertionError(f"{number} was not started: {self.actions}")

    def finish(self, slot, number, record=None):
        done = slotframes.TaskDone(AttemptKey(1, number), record or blocks_record(), (), 1, 2, 3)
        return self.do(ev.SlotSaid(slot, done))

    def fail(self, slot, number, code="USER_ERROR"):
        problem = Problem("FUNCTION_FAILED", "it broke", "a.py, line 1", "mend it")
        failed = slotframes.TaskFailed(AttemptKey(1, number), code, "ValueError", problem, 3, ())
        return self.do(ev.SlotSaid(slot, failed))
