from __future__ import annotations

import pytest

from kernelmill.engine.ids import AttemptId, TaskId
from kernelmill.engine.plan.stages import Edge, EdgeKind
from kernelmill.engine.schedule.backup import Durations
from kernelmill.engine.schedule.events import (
    AttemptFailed,
    AttemptFinished,
    CancelAttempt,
    DropOutput,
    FinishJob,
    FinishStage,
    Outcome,
    OutputLost,
    StartAttempt,
    TimePassed,
    WorkerJoined,
    WorkerLost,
)
from kernelmill.engine.schedule.state import BackupPolicy, Policy, StageShape

BACKUPS = Policy(backups=BackupPolicy(done_share=0.75, median_factor=2.0, late_s_min=5.0, slots_share=0.5))


def attempt(index, number):
    return AttemptId(TaskId(0, index), number)


@pytest.fixture
def one_late(make):
    """Four tasks on workers a and b; three finished after 1 s, 0.0 on worker a goes on."""
    scheduler = make(StageShape(4), policy=BACKUPS)
    scheduler.handle(WorkerJoined("a", 1), 0.0)  # 0.0
    scheduler.handle(WorkerJoined("b", 3), 0.0)  # 0.1, 0.2, 0.3
    for index in (1, 2, 3):
        scheduler.handle(AttemptFinished(attempt(index, index)), 1.0)
    return scheduler


def test_a_late_attempt_gets_one_backup_on_another_worker_and_no_second_one(one_late):
    assert one_late.next_deadline() == 5.0  # twice the median is less than late_s_min
    assert one_late.handle(TimePassed(), 4.9) == []
    assert one_late.handle(TimePassed(), 5.0) == [StartAttempt(attempt(0, 4), "b", backup=True)]
    assert one_late.handle(TimePassed(), 500.0) == []
    assert one_late.next_deadline() is None


def test_the_first_output_counts_and_its_rival_is_cancelled_and_dropped(one_late):
    one_late.handle(TimePassed(), 5.0)
    done = one_late.handle(AttemptFinished(attempt(0, 4)), 6.0)
    assert done == [CancelAttempt(attempt(0, 0)), FinishStage(0), FinishJob(Outcome.DONE)]
    assert one_late.winner_of(TaskId(0, 0)) == attempt(0, 4)
    assert one_late.handle(AttemptFinished(attempt(0, 0)), 7.0) == [DropOutput(attempt(0, 0))]


def test_the_original_may_win(one_late):
    one_late.handle(TimePassed(), 5.0)
    done = one_late.handle(AttemptFinished(attempt(0, 0)), 6.0)
    assert done == [CancelAttempt(attempt(0, 4)), FinishStage(0), FinishJob(Outcome.DONE)]
    assert one_late.handle(AttemptFailed(attempt(0, 4)), 7.0) == []


def test_the_backup_goes_on_alone_when_the_original_fails_or_its_worker_is_lost(one_late):
    one_late.handle(TimePassed(), 5.0)
    assert one_late.handle(WorkerLost("a"), 6.0) == []
    assert one_late.handle(AttemptFinished(attempt(0, 4)), 7.0) == [FinishStage(0), FinishJob(Outcome.DONE)]


def test_the_budget_ends_the_job_only_when_the_last_rival_ended(make):
    policy = Policy(max_attempts=1, backups=BACKUPS.backups)
    scheduler = make(StageShape(4), policy=policy)
    scheduler.handle(WorkerJoined("a", 1), 0.0)
    scheduler.handle(WorkerJoined("b", 3), 0.0)
    for index in (1, 2, 3):
        scheduler.handle(AttemptFinished(attempt(index, index)), 1.0)
    scheduler.handle(TimePassed(), 5.0)
    assert scheduler.handle(AttemptFailed(attempt(0, 0)), 6.0) == []
    assert scheduler.handle(WorkerLost("b"), 7.0) == [FinishJob(Outcome.FAILED, attempt(0, 4))]


def test_a_late_attempt_waits_for_a_slot_without_a_deadline_that_has_passed(make):
    scheduler = make(StageShape(4), policy=BACKUPS)
    scheduler.handle(WorkerJoined("a", 4), 0.0)
    for index in (1, 2, 3):
        scheduler.handle(AttemptFinished(attempt(index, index)), 1.0)
    assert scheduler.handle(TimePassed(), 5.0) == []  # only its own worker is free
    assert scheduler.next_deadline() is None
    assert scheduler.handle(WorkerJoined("b", 1), 9.0) == [StartAttempt(attempt(0, 4), "b", backup=True)]


def test_no_backup_goes_to_a_worker_that_is_late_itself(make):
    scheduler = make(StageShape(8), policy=BACKUPS)
    scheduler.handle(WorkerJoined("a", 4), 0.0)
    scheduler.handle(WorkerJoined("b", 4), 0.0)
    for index in (1, 2, 3, 5, 6, 7):
        scheduler.handle(AttemptFinished(attempt(index, index)), 1.0)
    assert scheduler.handle(TimePassed(), 5.0) == []  # 0.0 on a and 0.4 on b are both late
    assert len(scheduler.handle(WorkerJoined("c", 4), 6.0)) == 2


def test_backups_take_no_more_than_their_share_of_slots(make):
    policy = Policy(backups=BackupPolicy(slots_share=0.25))
    scheduler = make(StageShape(8), policy=policy)
    scheduler.handle(WorkerJoined("a", 2), 0.0)
    scheduler.handle(WorkerJoined("b", 6), 0.0)
    for index in range(2, 8):
        scheduler.handle(AttemptFinished(attempt(index, index)), 1.0)
    assert len(scheduler.handle(TimePassed(), 5.0)) == 2  # a quarter of eight slots
    narrow = make(StageShape(8), policy=Policy(backups=BackupPolicy(slots_share=0.0)))
    narrow.handle(WorkerJoined("a", 2), 0.0)
    narrow.handle(WorkerJoined("b", 6), 0.0)
    for index in range(2, 8):
        narrow.handle(AttemptFinished(attempt(index, index)), 1.0)
    assert len(narrow.handle(TimePassed(), 5.0)) == 1  # but one in any case


def test_ready_tasks_go_before_backups(make):
    scheduler = make(StageShape(5), policy=BACKUPS)
    scheduler.handle(WorkerJoined("a", 1), 0.0)
    scheduler.handle(WorkerJoined("b", 1), 0.0)
    number = 1
    for index in (1, 2, 3):
        started = scheduler.handle(AttemptFinished(attempt(index, number)), float(index))
        number = started[0].attempt.number
        assert started == [StartAttempt(attempt(index + 1, number), "b")]
    assert scheduler.handle(AttemptFinished(attempt(4, number)), 9.0) == [
        StartAttempt(attempt(0, number + 1), "b", backup=True)
    ]


def test_no_backup_is_started_before_most_of_the_stage_is_done(make):
    scheduler = make(StageShape(4), policy=BACKUPS)
    scheduler.handle(WorkerJoined("a", 4), 0.0)
    scheduler.handle(WorkerJoined("b", 4), 0.0)
    scheduler.handle(AttemptFinished(attempt(1, 1)), 1.0)
    assert scheduler.next_deadline() is None
    assert scheduler.handle(TimePassed(), 100.0) == []


def test_no_backup_is_started_without_its_inputs(make):
    scheduler = make(StageShape(1), StageShape(4, (Edge(0, EdgeKind.HASH),)), policy=BACKUPS)
    scheduler.handle(WorkerJoined("a", 4), 0.0)
    scheduler.handle(AttemptFinished(attempt(0, 0)), 1.0)
    for index in (1, 2, 3):
        scheduler.handle(AttemptFinished(AttemptId(TaskId(1, index), index + 1)), 2.0)
    scheduler.handle(OutputLost(attempt(0, 0)), 3.0)  # 0.0 runs again, as attempt 5
    assert scheduler.handle(WorkerJoined("b", 1), 100.0) == []
    made_again = scheduler.handle(AttemptFinished(attempt(0, 5)), 101.0)
    assert made_again == [FinishStage(0), StartAttempt(AttemptId(TaskId(1, 0), 6), "b", backup=True)]


def test_the_median_of_running_times_is_right_within_a_bucket():
    durations = Durations()
    assert durations.median_s() == 0.0
    for seconds in (0.0, 3.0, 3.1, 3.2, 1e12):
        durations.add(seconds)
    assert 3.1 <= durations.median_s() <= 3.1 * 2 ** (1 / 8)
