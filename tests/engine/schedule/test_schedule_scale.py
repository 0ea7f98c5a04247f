"""A million tasks on a thousand workers, some of which are lost on the way: issue 2's figures."""

from __future__ import annotations

import time
import tracemalloc
from collections import deque

from kernelmill.engine.plan.stages import Edge, EdgeKind
from kernelmill.engine.schedule.events import AttemptFinished, Outcome, StartAttempt, WorkerJoined, WorkerLost
from kernelmill.engine.schedule.machine import Scheduler
from kernelmill.engine.schedule.state import BackupPolicy, Policy, StageShape

DECISIONS_A_SECOND_MIN = 20_000
BYTES_A_TASK_MAX = 100


def shapes_for(tasks):
    reduces = tasks // 100
    return StageShape(tasks - reduces), StageShape(reduces, (Edge(0, EdgeKind.HASH),), durable=True)


def run(scheduler, workers, slots, lost_workers=(), lose_at=0):
    """Finish attempts in the order in which they were started; return how many were started."""
    waiting, absent, started, now = deque(), set(), 0, 0.0

    def tell(event):
        nonlocal started
        for action in scheduler.handle(event, now):
            if type(action) is StartAttempt:
                waiting.append((action.attempt, action.worker))
                started += 1

    for number in range(workers):
        tell(WorkerJoined(f"w{number}", slots))
    while waiting:
        attempt, worker = waiting.popleft()
        now += 0.001
        if worker not in absent:
            tell(AttemptFinished(attempt))
        if started > lose_at and not absent:
            absent.update(lost_workers)
            for name in lost_workers:
                tell(WorkerLost(name))
    return started


def test_a_million_tasks_are_decided_at_twenty_thousand_a_second_or_more():
    tasks = 1_000_000
    scheduler = Scheduler(shapes_for(tasks))
    lost_workers = [f"w{number}" for number in range(0, 1000, 20)]
    began_s = time.process_time()  # others may use the machine
    started = run(scheduler, 1000, 4, lost_workers, lose_at=tasks // 2)
    rate = started / (time.process_time() - began_s)
    print(f"{started} attempts for {tasks} tasks, {rate:.0f} decisions/s")
    assert scheduler.outcome is Outcome.DONE
    assert (
        tasks + tasks // 2 // 20 * 0.9 < started < tasks + tasks // 2 // 20 * 1.1
    )  # a twentieth of the outputs was lost
    assert rate > DECISIONS_A_SECOND_MIN


def test_watching_for_backups_keeps_the_rate():
    tasks = 100_000
    rates = []
    for policy in (Policy(), Policy(backups=BackupPolicy())):
        began_s = time.process_time()  # others may use the machine
        run(Scheduler(shapes_for(tasks), policy), 1000, 4)
        rates.append(tasks / (time.process_time() - began_s))
    print(f"without, with backups: {rates[0]:.0f}, {rates[1]:.0f} decisions/s")
    assert rates[1] > DECISIONS_A_SECOND_MIN


def test_a_task_takes_less_than_a_hundred_bytes_at_every_stage_of_its_life():
    tasks = 50_000  # tracemalloc makes this five times slower; what a task takes does not depend on their number
    tracemalloc.start()
    try:
        scheduler = Scheduler(shapes_for(tasks), Policy(backups=BackupPolicy()))
        run(scheduler, 100, 4)
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    print(f"{now / tasks:.1f} bytes a task at the end, {peak / tasks:.1f} at most")
    assert scheduler.outcome is Outcome.DONE
    assert peak / tasks < BYTES_A_TASK_MAX
