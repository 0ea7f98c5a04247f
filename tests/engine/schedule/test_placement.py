"""Tasks go where their input lies if a slot is free there, and nobody waits for one that is not."""

from __future__ import annotations

import random
import time
from collections import Counter, deque

import pytest

from kernelmill.engine.ids import TaskId
from kernelmill.engine.plan.stages import Edge, EdgeKind
from kernelmill.engine.schedule.events import (
    AttemptFailed,
    AttemptFinished,
    Outcome,
    OutputLost,
    StartAttempt,
    WorkerJoined,
    WorkerLost,
)
from kernelmill.engine.schedule.machine import Scheduler
from kernelmill.engine.schedule.state import StageShape

MAPS, READERS = StageShape(2), StageShape(4, (Edge(0, EdgeKind.HASH),), durable=True)
DECISIONS_A_SECOND_MIN = 20_000


def started(actions):
    return [(each.attempt.task, each.worker) for each in actions if isinstance(each, StartAttempt)]


def attempts(actions):
    return [each.attempt for each in actions if isinstance(each, StartAttempt)]


def until_readers(scheduler, *joined):
    """Let workers join, finish the maps, and return what starts then."""
    waiting = [action for event in joined for action in scheduler.handle(event, 0.0)]
    said = []
    for attempt in attempts(waiting):
        said += scheduler.handle(AttemptFinished(attempt), 0.0)
    return said


def test_whose_turn_it_is_takes_a_task_near_it(make):
    scheduler = make(MAPS, READERS, near=lambda stage: ["b", "b", "a", "a"])
    said = until_readers(scheduler, WorkerJoined("a", 1), WorkerJoined("b", 1))
    assert sorted(started(said)) == [(TaskId(1, 0), "b"), (TaskId(1, 2), "a")]


def test_a_task_goes_to_its_free_worker_though_it_is_anothers_turn(make):
    scheduler = make(MAPS, StageShape(1, (Edge(0, EdgeKind.HASH),), durable=True), near=lambda stage: ["b"])
    said = until_readers(scheduler, WorkerJoined("a", 1), WorkerJoined("b", 1))
    assert started(said) == [(TaskId(1, 0), "b")]


def test_nobody_waits_for_a_busy_worker(make):
    scheduler = make(MAPS, READERS, near=lambda stage: ["a"] * 4)
    said = until_readers(scheduler, WorkerJoined("a", 1), WorkerJoined("b", 1))
    assert sorted(started(said)) == [(TaskId(1, 0), "a"), (TaskId(1, 1), "b")]


def test_a_free_worker_of_the_same_host_is_next_best(make):
    one = StageShape(1, (Edge(0, EdgeKind.HASH),), durable=True)
    scheduler = make(MAPS, one, near=lambda stage: ["gone"])
    events = [WorkerJoined("gone", 1, "h1"), WorkerJoined("far", 1, "h2"), WorkerJoined("mate", 1, "h1")]
    waiting = [action for event in events for action in scheduler.handle(event, 0.0)]
    first, second = attempts(waiting)
    scheduler.handle(AttemptFinished(first), 0.0)
    scheduler.handle(WorkerJoined("late", 0, "h1"), 0.0)
    said = scheduler.handle(AttemptFinished(second), 0.0)
    assert started(said) == [(TaskId(1, 0), "gone")]
    said = scheduler.handle(WorkerLost("gone"), 1.0)  # with its map, which nobody has a second time
    again = attempts(said)
    assert [each.task for each in again] == [TaskId(0, 0)]
    said = scheduler.handle(AttemptFinished(again[0]), 2.0)
    assert started(said) == [(TaskId(1, 0), "mate")]


def test_a_task_does_not_return_to_the_near_worker_on_which_it_failed(make):
    scheduler = make(MAPS, READERS, near=lambda stage: ["a"] * 4)
    said = until_readers(scheduler, WorkerJoined("a", 2), WorkerJoined("b", 1))
    (mine,) = [one for one in attempts(said) if one.task == TaskId(1, 0)]
    other = next(each for each in said if isinstance(each, StartAttempt) and each.worker == "b").attempt
    assert TaskId(1, 0) not in [task for task, _ in started(scheduler.handle(AttemptFailed(mine, True, True), 1.0))]
    assert (TaskId(1, 0), "b") in started(scheduler.handle(AttemptFinished(other), 2.0))


def test_it_is_asked_anew_when_inputs_were_lost_and_made_again(make):
    answers = deque([["a"] * 4, ["b"] * 4])
    scheduler = make(MAPS, READERS, near=lambda stage: answers.popleft())
    said = until_readers(scheduler, WorkerJoined("a", 1), WorkerJoined("b", 1))
    lost = scheduler.winner_of(TaskId(0, 0))
    scheduler.handle(OutputLost(lost), 1.0)
    assert len(answers) == 1
    first = attempts(said)[0]
    said = scheduler.handle(AttemptFailed(first, True, False), 2.0)
    (again,) = attempts(said)
    assert again.task == TaskId(0, 0)
    scheduler.handle(AttemptFinished(again), 3.0)
    assert not answers


@pytest.mark.parametrize("kind", [EdgeKind.ONE_TO_ONE, EdgeKind.HASH])
def test_most_tasks_of_ten_workers_run_at_home_and_none_is_idle_for_it(make, kind):
    tasks, home = 1000, {}
    last = StageShape(tasks, (Edge(0, kind),), durable=True)
    scheduler = make(StageShape(tasks), last, near=lambda stage: [home[index] for index in range(tasks)])
    at_home, running, rng = Counter(), deque(), random.Random(7)

    def tell(event, now):
        for action in scheduler.handle(event, now):
            if isinstance(action, StartAttempt):
                running.append((action.attempt, action.worker))
                if action.attempt.task.stage == 0:
                    home[action.attempt.task.index] = action.worker
                else:
                    at_home[home[action.attempt.task.index] == action.worker] += 1

    for number in range(10):
        tell(WorkerJoined(f"w{number}", 2), 0.0)
    turn = 0
    while running:
        turn += 1
        running.rotate(-rng.randrange(min(5, len(running))))  # who ends first is not always who began first
        attempt, _ = running.popleft()
        tell(AttemptFinished(attempt), float(turn))
        assert len(running) == 20 or not scheduler.has_ready_tasks
    assert scheduler.outcome is Outcome.DONE
    print(f"{at_home[True]} of {tasks} at home")
    assert at_home[True] > 0.9 * tasks


def test_placing_a_hundred_thousand_readers_keeps_the_rate():
    tasks, workers = 100_000, 1000
    names = [f"w{index * 7919 % workers}" for index in range(tasks)]
    shapes = StageShape(10), StageShape(tasks, (Edge(0, EdgeKind.HASH),), durable=True)
    scheduler = Scheduler(shapes, near=lambda stage: names)
    waiting, begun = deque(), 0
    began_s = time.process_time()
    events = deque(WorkerJoined(f"w{number}", 4, f"h{number // 4}") for number in range(workers))
    while events or waiting:
        event = events.popleft() if events else AttemptFinished(waiting.popleft())
        for attempt in attempts(scheduler.handle(event, 0.0)):
            waiting.append(attempt)
            begun += 1
    rate = begun / (time.process_time() - began_s)
    print(f"{rate:.0f} decisions/s")
    assert scheduler.outcome is Outcome.DONE
    assert rate > DECISIONS_A_SECOND_MIN
