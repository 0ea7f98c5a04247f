"""A world in virtual time under a printed seed: slow tasks, failures, lost workers, damaged outputs, late reports."""

from __future__ import annotations

import heapq
import random
from collections import Counter

import pytest

from kernelmill.engine.ids import TaskId
from kernelmill.engine.plan.stages import Edge, EdgeKind
from kernelmill.engine.schedule.events import (
    AttemptFailed,
    AttemptFinished,
    CancelAttempt,
    CancelRequested,
    DropOutput,
    FinishJob,
    Outcome,
    OutputFound,
    OutputLost,
    SlotsChanged,
    StartAttempt,
    TimePassed,
    WorkerDrained,
    WorkerJoined,
    WorkerLost,
)
from kernelmill.engine.schedule.machine import Scheduler
from kernelmill.engine.schedule.state import BackupPolicy, Policy, StageShape

SEEDS_A_TEST = 100
EVENTS_MAX = 20_000


def random_shapes(rng):
    shapes = [StageShape(rng.randint(1, 8))]
    for number in range(1, rng.randint(2, 6)):
        tasks, edges = rng.randint(1, 6), []
        for source in rng.sample(range(number), rng.randint(0, min(number, 2))):
            same = shapes[source].tasks
            if rng.random() < 0.4 and not any(edge.kind is EdgeKind.ONE_TO_ONE for edge in edges):
                tasks = same
                edges.append(Edge(source, EdgeKind.ONE_TO_ONE))
            else:
                edges.append(Edge(source, rng.choice([EdgeKind.HASH, EdgeKind.BROADCAST, EdgeKind.GATHER])))
        shapes.append(StageShape(tasks, tuple(edges)))
    read = {edge.source for shape in shapes for edge in shape.inputs}
    return tuple(
        StageShape(shape.tasks, shape.inputs, durable=number not in read and rng.random() < 0.7)
        for number, shape in enumerate(shapes)
    )


class World:
    """Workers and their disks. It believes nothing: what the scheduler orders is compared with what there is."""

    def __init__(self, seed):
        self.rng = rng = random.Random(seed)
        self.shapes = random_shapes(rng)
        backups = BackupPolicy(done_share=0.5, late_s_min=3.0, slots_share=0.3) if rng.random() < 0.6 else None
        grace_s = rng.choice([0.0, 4.0])
        policy = Policy(max_attempts=40, fruitless_max=250, rejoin_grace_s=grace_s, backups=backups)
        self.near_rng = random.Random(seed)  # of its own, for half of the worlds; it may name who is gone, or nobody
        self.scheduler = Scheduler(self.shapes, policy, near=self.near if seed % 2 else None)
        self.queue, self.sequence, self.now = [], 0, 0.0
        self.slots = {}  # of the workers that are here
        self.disks = {}  # worker -> attempts whose outputs it holds, kept over a loss
        self.files = set()  # durable outputs
        self.running = {}  # attempt -> (worker, the inputs it will read)
        self.cancelled = set()
        self.damaged = set()
        self.used_numbers = set()
        self.faults_left = rng.randint(0, 30)
        self.seen = Counter()
        self.log = []

    def near(self, stage):
        names = ["", "nobody", *self.disks]
        return [self.near_rng.choice(names) for _ in range(self.shapes[stage].tasks)]

    def at(self, delay_s, what, *args):
        heapq.heappush(self.queue, (self.now + delay_s, self.sequence, what, args))
        self.sequence += 1

    def tell(self, event):
        self.seen[type(event).__name__] += 1
        actions = self.scheduler.handle(event, self.now)
        self.log += actions
        self.scheduler.check()
        for action in actions:
            self.perform(action)
        deadline = self.scheduler.next_deadline()
        if deadline is not None:
            assert deadline > self.now, "a deadline that has passed makes its caller spin"
            self.at(deadline - self.now, self.deadline)

    def deadline(self):
        self.tell(TimePassed())

    def perform(self, action):
        self.seen[type(action).__name__] += 1
        match action:
            case StartAttempt(attempt, worker, backup):
                self.start(attempt, worker, backup)
            case CancelAttempt(attempt):
                assert attempt in self.running
                self.cancelled.add(attempt)
                self.at(self.rng.random(), self.obey, attempt)
            case DropOutput(attempt):
                assert self.scheduler.winner_of(attempt.task) != attempt
                self.files.discard(attempt)
                for disk in self.disks.values():
                    disk.discard(attempt)
            case FinishJob(Outcome.DONE):
                for task in self.result_tasks():
                    winner = self.scheduler.winner_of(task)
                    assert winner in self.damaged or self.can_be_read(winner), f"{task} is not there"

    def start(self, attempt, worker, backup):
        assert attempt.number not in self.used_numbers
        self.used_numbers.add(attempt.number)
        on_worker = [a for a, (where, _) in self.running.items() if where == worker]
        assert len(on_worker) < self.slots[worker]
        rivals = [a for a in self.running if a.task == attempt.task and a not in self.cancelled]
        assert len(rivals) == backup
        assert all(self.running[rival][0] != worker for rival in rivals)
        inputs = [self.scheduler.winner_of(task) for task in self.inputs_of(attempt.task)]
        assert None not in inputs, f"{attempt} was started without its inputs"
        assert all(a in self.damaged or self.can_be_read(a) for a in inputs), "an input that only the scheduler sees"
        self.running[attempt] = worker, inputs
        self.seen["backup"] += backup
        self.at(self.rng.choice([0.2, 0.5, 1.0, 1.0, 1.0, 1.5, 30.0]), self.end, attempt)

    def inputs_of(self, task):
        for edge in self.shapes[task.stage].inputs:
            paired = edge.kind is EdgeKind.ONE_TO_ONE
            for index in [task.index] if paired else range(self.shapes[edge.source].tasks):
                yield TaskId(edge.source, index)

    def result_tasks(self):
        read = {edge.source for shape in self.shapes for edge in shape.inputs}
        return [TaskId(s, i) for s, shape in enumerate(self.shapes) if s not in read for i in range(shape.tasks)]

    def can_be_read(self, attempt):
        return attempt in self.files or any(attempt in self.disks[worker] for worker in self.slots)

    def fault(self, share):
        if self.faults_left > 0 and self.rng.random() < share:
            self.faults_left -= 1
            return True
        return False

    def obey(self, attempt):
        if attempt in self.running:
            if self.rng.random() < 0.5:
                self.finish(attempt)
            else:
                del self.running[attempt]
                self.tell(AttemptFailed(attempt))

    def end(self, attempt):
        if attempt not in self.running:
            return
        missing = [a for a in self.running[attempt][1] if not self.can_be_read(a)]
        if missing or self.fault(0.1):
            del self.running[attempt]
            self.tell(AttemptFailed(attempt, charged=not missing))
            if missing and self.scheduler.outcome is None and self.rng.random() < 0.5:
                self.report(missing[0])
        else:
            self.finish(attempt)

    def finish(self, attempt):
        worker, _ = self.running.pop(attempt)
        (self.files if self.shapes[attempt.task.stage].durable else self.disks[worker]).add(attempt)
        self.tell(AttemptFinished(attempt))

    def report(self, attempt):
        if attempt in self.damaged:
            self.tell(OutputLost(attempt))

    def join(self, worker):
        if worker in self.slots:
            return
        slots = self.rng.randint(1, 3)
        self.disks.setdefault(worker, set())
        self.slots[worker] = slots
        self.tell(WorkerJoined(worker, slots, self.near_rng.choice(["", "h1", "h2"])))
        for attempt in sorted(self.disks[worker]):
            self.tell(OutputFound(attempt, worker))

    def lose(self, worker):
        if worker not in self.slots or not self.fault(1.0):
            return
        for attempt, (where, _) in list(self.running.items()):
            if where == worker:
                del self.running[attempt]
                if self.rng.random() < 0.5 and not self.shapes[attempt.task.stage].durable:
                    self.disks[worker].add(attempt)  # a zombie: it finishes, and nobody hears of it
        del self.slots[worker]
        self.tell(WorkerLost(worker, silent_s=self.rng.choice([0.0, 0.0, 3.0, 9.0])))
        if self.rng.random() < 0.3:
            self.disks[worker].clear()
        self.at(self.rng.uniform(0.1, 8.0), self.join, worker)

    def damage(self):
        held = sorted(a for worker in self.slots for a in self.disks[worker])
        if held and self.fault(1.0):
            attempt = self.rng.choice(held)
            self.damaged.add(attempt)
            for disk in self.disks.values():
                disk.discard(attempt)
            self.at(self.rng.uniform(0.0, 3.0), self.report, attempt)

    def drain(self, worker):
        if worker in self.slots and self.fault(1.0):
            self.tell(WorkerDrained(worker))
            self.at(self.rng.uniform(0.1, 5.0), self.part, worker)

    def part(self, worker):
        if worker in self.slots:
            self.faults_left += 1  # a drained worker leaves for certain, and joins again
            self.lose(worker)

    def resize(self, worker, slots):
        if worker in self.slots:
            self.slots[worker] = slots
            self.tell(SlotsChanged(worker, slots))

    def cancel(self):
        self.tell(CancelRequested())

    def run(self):
        workers = [f"w{i}" for i in range(self.rng.randint(2, 6))]
        for worker in workers:
            self.at(self.rng.random(), self.join, worker)
            self.at(self.rng.uniform(0.0, 10.0), self.resize, worker, 0)
            self.at(self.rng.uniform(10.0, 20.0), self.resize, worker, self.rng.randint(1, 4))
        for _ in range(self.faults_left):
            what = self.rng.choice([self.lose, self.lose, self.damage, self.damage, self.drain])
            args = () if what == self.damage else (self.rng.choice(workers),)
            self.at(self.rng.uniform(0.0, 60.0), what, *args)
        events = 0
        while self.queue and not (self.scheduler.outcome and not self.running and self.rng.random() < 0.5):
            self.now, _, what, args = heapq.heappop(self.queue)
            what(*args)
            events += 1
            # Late reports of damage are how an attempt that waits for a lost input comes to an end.
            if not self.queue and self.scheduler.outcome is None:
                for attempt in sorted(self.damaged):
                    self.report(attempt)
            assert events < EVENTS_MAX, "the job goes on for ever"
        return self.scheduler.outcome


@pytest.mark.parametrize("batch", range(4))
def test_every_job_ends_with_all_of_its_outputs_whatever_breaks(batch):
    seen = Counter()
    for seed in range(batch * SEEDS_A_TEST, (batch + 1) * SEEDS_A_TEST):
        world = World(seed)
        try:
            assert world.run() is Outcome.DONE
            for task in world.result_tasks():
                winner = world.scheduler.winner_of(task)
                assert winner in world.damaged or world.can_be_read(winner)
        except BaseException:
            print(f"seed {seed}")
            raise
        seen += world.seen
    print(dict(seen))
    sometimes = "WorkerLost OutputLost OutputFound AttemptFailed WorkerDrained SlotsChanged TimePassed backup"
    for name in [*sometimes.split(), "CancelAttempt", "DropOutput"]:
        assert seen[name], f"no seed saw {name}: the simulation tests less than it says"


def test_the_same_events_give_the_same_actions():
    for seed in range(20):
        first, second = World(seed), World(seed)
        first.run()
        second.run()
        assert first.log == second.log, f"seed {seed}"


def test_a_cancelled_job_ends_with_nothing_running():
    for seed in range(50):
        world = World(seed)
        world.at(world.rng.uniform(0.0, 6.0), world.cancel)
        outcome = world.run()
        assert outcome in (Outcome.CANCELLED, Outcome.DONE), f"seed {seed}"
        if outcome is Outcome.CANCELLED:
            assert not world.running, f"seed {seed}"
