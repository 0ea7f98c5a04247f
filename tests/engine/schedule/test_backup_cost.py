"""What backup tasks cost and what they save: jobs with slow and stopped workers, in virtual time (invariant L6)."""

from __future__ import annotations

import heapq
import random

import pytest

from kernelmill.engine.schedule.events import (
    AttemptFailed,
    AttemptFinished,
    CancelAttempt,
    FinishJob,
    StartAttempt,
    TimePassed,
    WorkerJoined,
)
from kernelmill.engine.schedule.machine import Scheduler
from kernelmill.engine.schedule.state import BackupPolicy, Policy, StageShape

EXTRA_SHARE_MAX = 0.10
SEEDS = 15
WAVES = 8  # tasks a slot


class World:
    """One stage on workers of which some are slow. `slowness`: worker -> by what its times are multiplied."""

    def __init__(self, rng: random.Random, workers: int, slots: int, slowness: dict[str, float], backups: bool) -> None:
        self.rng, self.slowness = rng, slowness
        policy = Policy(backups=BackupPolicy() if backups else None)
        self.scheduler = Scheduler((StageShape(WAVES * workers * slots),), policy)
        self.times = [rng.uniform(2.0, 4.0) for _ in range(WAVES * workers * slots)]
        self.queue: list[tuple[float, int, object]] = []
        self.sequence, self.now, self.end_s = 0, 0.0, 0.0
        self.began: dict[object, tuple[float, bool]] = {}
        self.backup_s = 0.0
        for number in range(workers):
            self.tell(WorkerJoined(f"w{number}", slots))

    def at(self, delay_s: float, event: object) -> None:
        heapq.heappush(self.queue, (self.now + delay_s, self.sequence, event))
        self.sequence += 1

    def tell(self, event) -> None:
        for action in self.scheduler.handle(event, self.now):
            match action:
                case StartAttempt(attempt, worker, backup):
                    self.began[attempt] = self.now, backup
                    slow = self.slowness.get(worker, 1.0)
                    self.at(self.times[attempt.task.index] * slow, AttemptFinished(attempt))
                case CancelAttempt(attempt):
                    self.over(attempt)
                    self.at(0.1, AttemptFailed(attempt, charged=False))
                case FinishJob():
                    self.end_s = self.now
        deadline = self.scheduler.next_deadline()
        if deadline is not None:
            self.at(max(deadline - self.now, 0.0), TimePassed())

    def over(self, attempt) -> None:
        if attempt in self.began:
            began_s, is_backup = self.began.pop(attempt)
            self.backup_s += (self.now - began_s) * is_backup

    def run(self) -> None:
        while self.queue and not self.end_s:
            self.now, _, event = heapq.heappop(self.queue)
            if isinstance(event, AttemptFinished):
                if event.attempt not in self.began:
                    continue  # it was cancelled before
                self.over(event.attempt)
            self.tell(event)
        self.scheduler.check()


def worlds(seed: int) -> tuple[World, World]:
    """The same job on the same workers, with backup tasks and without."""
    made = []
    for backups in (True, False):
        rng = random.Random(seed)
        workers, slots = rng.choice([(4, 1), (4, 2), (8, 1), (20, 2)])
        names = rng.sample([f"w{number}" for number in range(workers)], max(1, workers // 8))
        slowness = {name: rng.choice([3.0, 10.0, 1000.0]) for name in names}  # the last is as good as stopped
        made.append(World(rng, workers, slots, slowness, backups))
        made[-1].run()
    return made[0], made[1]


@pytest.mark.parametrize("batch", range(3))
def test_backups_take_a_tenth_of_the_work_at_most_and_end_jobs_earlier(batch):
    saved = 0
    for seed in range(batch * SEEDS, (batch + 1) * SEEDS):
        with_backups, without = worlds(seed)
        share = with_backups.backup_s / sum(with_backups.times)
        assert share <= EXTRA_SHARE_MAX, f"seed {seed}: {share:.1%} of the work was that of backups"
        assert with_backups.end_s <= without.end_s + 0.01, f"seed {seed}"
        saved += with_backups.end_s < 0.9 * without.end_s
    assert saved >= SEEDS // 3, "backups that save nothing"


def test_healthy_workers_get_no_backups_worth_the_name():
    for seed in range(20):
        world = World(random.Random(seed), 4, 2, {}, backups=True)
        world.run()
        assert world.backup_s <= 0.01 * sum(world.times), f"seed {seed}"
