from __future__ import annotations

import copy
import subprocess
import sys

import pytest

from kernelmill.engine.errors import Code
from kernelmill.engine.ids import AttemptId, TaskId
from kernelmill.engine.plan.stages import Edge, EdgeKind, Stage, StageGraph
from kernelmill.engine.schedule.attempts import Numbers
from kernelmill.engine.schedule.events import (
    AttemptFailed,
    AttemptFinished,
    AttemptFound,
    CancelAttempt,
    CancelRequested,
    DropOutput,
    FinishJob,
    FinishStage,
    IllegalEvent,
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
from kernelmill.engine.schedule.state import Policy, StageCounts, StageShape, shapes_of


def attempt(stage, index, number):
    return AttemptId(TaskId(stage, index), number)


def start(stage, index, number, worker="a", backup=False):
    return StartAttempt(attempt(stage, index, number), worker, backup)


def finish_all(scheduler, actions, now=1.0):
    """Finish every attempt that is started, in order, until the scheduler starts no more; return all later actions."""
    waiting, seen = list(actions), []
    while waiting:
        action = waiting.pop(0)
        if isinstance(action, StartAttempt):
            more = scheduler.handle(AttemptFinished(action.attempt), now)
            waiting += more
            seen += more
    return seen


# Order and readiness.


def test_ready_tasks_start_in_the_order_of_their_numbers_as_slots_allow(make, map_reduce):
    scheduler = make(*map_reduce)
    assert scheduler.handle(WorkerJoined("a", 2), 0.0) == [start(0, 0, 0), start(0, 1, 1)]
    assert scheduler.handle(AttemptFinished(attempt(0, 1, 1)), 1.0) == [start(0, 2, 2)]


def test_a_hash_reader_waits_for_all_source_tasks(make, map_reduce):
    scheduler = make(*map_reduce)
    scheduler.handle(WorkerJoined("a", 3), 0.0)
    assert scheduler.handle(AttemptFinished(attempt(0, 2, 2)), 1.0) == []
    assert scheduler.handle(AttemptFinished(attempt(0, 0, 0)), 1.0) == []
    done = scheduler.handle(AttemptFinished(attempt(0, 1, 1)), 1.0)
    assert done == [FinishStage(0), start(1, 0, 3), start(1, 1, 4)]


def test_a_one_to_one_reader_waits_for_its_own_source_task_only(make):
    scheduler = make(StageShape(3), StageShape(3, (Edge(0, EdgeKind.ONE_TO_ONE),)))
    scheduler.handle(WorkerJoined("a", 3), 0.0)
    assert scheduler.handle(AttemptFinished(attempt(0, 1, 1)), 1.0) == [start(1, 1, 3)]


def test_a_stage_with_two_inputs_waits_for_both(make):
    join = StageShape(2, (Edge(0, EdgeKind.HASH), Edge(1, EdgeKind.BROADCAST)))
    scheduler = make(StageShape(1), StageShape(1), join)
    scheduler.handle(WorkerJoined("a", 4), 0.0)
    assert scheduler.handle(AttemptFinished(attempt(0, 0, 0)), 1.0) == [FinishStage(0)]
    done = scheduler.handle(AttemptFinished(attempt(1, 0, 1)), 1.0)
    assert done == [FinishStage(1), start(2, 0, 2), start(2, 1, 3)]


def test_the_job_is_done_with_the_last_output_of_its_last_stages(make, map_reduce):
    scheduler = make(*map_reduce)
    seen = finish_all(scheduler, scheduler.handle(WorkerJoined("a", 2), 0.0))
    assert seen[-2:] == [FinishStage(1), FinishJob(Outcome.DONE)]
    assert scheduler.outcome is Outcome.DONE
    assert scheduler.counts_of(0) == StageCounts(0, 0, 0, 3, 0, 0)


def test_several_last_stages_are_all_waited_for(make):
    read = (Edge(0, EdgeKind.HASH),)
    scheduler = make(StageShape(1), StageShape(1, read), StageShape(1, read))
    scheduler.handle(WorkerJoined("a", 2), 0.0)
    scheduler.handle(AttemptFinished(attempt(0, 0, 0)), 1.0)
    assert scheduler.handle(AttemptFinished(attempt(1, 0, 1)), 1.0) == [FinishStage(1)]
    done = scheduler.handle(AttemptFinished(attempt(2, 0, 2)), 1.0)
    assert done == [FinishStage(2), FinishJob(Outcome.DONE)]


def test_given_stages_are_not_run_and_neither_is_what_only_they_read(make):
    read = Edge(0, EdgeKind.HASH)
    scheduler = make(
        StageShape(2), StageShape(2, (read,)), StageShape(1, (Edge(1, EdgeKind.GATHER),)), given_stages={1}
    )
    assert scheduler.handle(WorkerJoined("a", 4), 0.0) == [start(2, 0, 0)]


def test_a_job_whose_result_is_given_or_empty_is_done_at_the_first_event(make):
    assert make(StageShape(2), given_stages={0}).handle(TimePassed(), 0.0) == [FinishJob(Outcome.DONE)]
    assert make(StageShape(0)).handle(TimePassed(), 0.0) == [FinishJob(Outcome.DONE)]


def test_attempts_are_numbered_from_where_the_caller_says(make):
    scheduler = make(StageShape(1), numbers=Numbers(1000))
    assert scheduler.handle(WorkerJoined("a", 1), 0.0) == [start(0, 0, 1000)]


def test_shapes_that_do_not_fit_together_are_refused(make):
    with pytest.raises(ValueError, match="before"):
        make(StageShape(1, (Edge(0, EdgeKind.HASH),)))
    with pytest.raises(ValueError, match="one-to-one"):
        make(StageShape(1), StageShape(2, (Edge(0, EdgeKind.ONE_TO_ONE),)))


def test_shapes_are_taken_from_a_stage_graph():
    edges = (Edge(0, EdgeKind.HASH),)
    graph = StageGraph((Stage(0, "map", b"", 3, 2), Stage(1, "reduce", b"", 2, 0, edges)))
    assert shapes_of(graph) == (StageShape(3), StageShape(2, edges, durable=True))


# Failures.


def test_a_failed_attempt_is_tried_again_under_a_new_number(make):
    scheduler = make(StageShape(1))
    scheduler.handle(WorkerJoined("a", 1), 0.0)
    assert scheduler.handle(AttemptFailed(attempt(0, 0, 0)), 1.0) == [start(0, 0, 1)]


def test_a_failure_that_no_retry_mends_ends_the_job_when_the_others_have_stopped(make):
    scheduler = make(StageShape(3))
    scheduler.handle(WorkerJoined("a", 2), 0.0)
    failed = scheduler.handle(AttemptFailed(attempt(0, 0, 0), retryable=False), 1.0)
    assert failed == [CancelAttempt(attempt(0, 1, 1))]
    assert scheduler.outcome is None
    ended = scheduler.handle(AttemptFailed(attempt(0, 1, 1)), 2.0)
    assert ended == [FinishJob(Outcome.FAILED, attempt(0, 0, 0))]


def test_the_budget_counts_charged_failures_only(make):
    scheduler = make(StageShape(1), policy=Policy(max_attempts=2))
    scheduler.handle(WorkerJoined("a", 1), 0.0)
    scheduler.handle(AttemptFailed(attempt(0, 0, 0), charged=False), 1.0)
    scheduler.handle(AttemptFailed(attempt(0, 0, 1)), 1.0)
    scheduler.handle(AttemptFailed(attempt(0, 0, 2), charged=False), 1.0)
    spent = scheduler.handle(AttemptFailed(attempt(0, 0, 3)), 1.0)
    assert spent == [FinishJob(Outcome.FAILED, attempt(0, 0, 3))]


def test_a_task_is_not_tried_for_ever_even_if_it_is_never_to_blame(make):
    scheduler = make(StageShape(1), policy=Policy(fruitless_max=3))
    for _ in range(3):
        assert scheduler.outcome is None
        scheduler.handle(WorkerJoined("a", 1), 0.0)
        actions = scheduler.handle(WorkerLost("a"), 1.0)
    assert actions == [FinishJob(Outcome.FAILED, attempt(0, 0, 2))]


def test_a_task_is_tried_again_on_another_worker_where_there_is_one(make):
    scheduler = make(StageShape(2))
    scheduler.handle(WorkerJoined("a", 1), 0.0)
    scheduler.handle(WorkerJoined("b", 1), 0.0)
    assert scheduler.handle(AttemptFailed(attempt(0, 0, 0)), 1.0) == []  # a is free, and b will be
    assert scheduler.handle(AttemptFinished(attempt(0, 1, 1)), 2.0) == [start(0, 0, 2, "b")]


def test_a_task_that_waits_for_another_worker_holds_up_no_other_task(make):
    scheduler = make(StageShape(3))
    scheduler.handle(WorkerJoined("a", 1), 0.0)
    scheduler.handle(WorkerJoined("b", 1), 0.0)
    assert scheduler.handle(AttemptFailed(attempt(0, 0, 0)), 1.0) == [start(0, 2, 2, "a")]


def test_a_task_goes_back_to_its_worker_when_no_other_is_left(make):
    scheduler = make(StageShape(2))
    scheduler.handle(WorkerJoined("a", 1), 0.0)
    scheduler.handle(WorkerJoined("b", 1), 0.0)
    scheduler.handle(AttemptFailed(attempt(0, 0, 0)), 1.0)
    assert scheduler.handle(WorkerLost("b"), 2.0) == [start(0, 0, 2, "a")]


def test_a_worker_on_which_two_tasks_of_a_stage_failed_gets_no_more_of_it(make):
    scheduler = make(StageShape(6))
    scheduler.handle(WorkerJoined("bad", 2), 0.0)
    scheduler.handle(WorkerJoined("good", 1), 0.0)
    assert scheduler.handle(AttemptFailed(attempt(0, 0, 0)), 1.0) == [start(0, 3, 3, "bad")]
    assert scheduler.handle(AttemptFailed(attempt(0, 1, 1)), 1.0) == []
    assert scheduler.handle(AttemptFinished(attempt(0, 3, 3)), 1.0) == []
    assert scheduler.handle(AttemptFinished(attempt(0, 2, 2)), 1.0) == [start(0, 0, 4, "good")]


def test_an_exclusion_is_lifted_when_it_would_leave_a_stage_without_workers(make):
    scheduler = make(StageShape(4))
    scheduler.handle(WorkerJoined("a", 2), 0.0)
    scheduler.handle(AttemptFailed(attempt(0, 0, 0)), 1.0)
    assert scheduler.handle(AttemptFailed(attempt(0, 1, 1)), 1.0) == [start(0, 1, 3)]


def test_a_worker_that_comes_back_in_a_new_session_is_no_longer_excluded(make):
    scheduler = make(StageShape(6))
    scheduler.handle(WorkerJoined("a", 2), 0.0)
    scheduler.handle(WorkerJoined("b", 1), 0.0)
    scheduler.handle(AttemptFailed(attempt(0, 0, 0)), 1.0)
    scheduler.handle(AttemptFailed(attempt(0, 1, 1)), 1.0)
    scheduler.handle(WorkerLost("a"), 2.0)
    assert [action.worker for action in scheduler.handle(WorkerJoined("a", 1), 3.0)] == ["a"]


def test_uncharged_failures_exclude_nobody(make):
    scheduler = make(StageShape(5))
    scheduler.handle(WorkerJoined("a", 2), 0.0)
    scheduler.handle(WorkerJoined("b", 1), 0.0)
    scheduler.handle(AttemptFailed(attempt(0, 0, 0), charged=False), 1.0)
    assert scheduler.handle(AttemptFailed(attempt(0, 1, 1), charged=False), 1.0) == [start(0, 4, 4, "a")]


# Workers.


def test_work_is_spread_over_the_free_workers(make):
    scheduler = make(StageShape(2), StageShape(4, (Edge(0, EdgeKind.HASH),)))
    scheduler.handle(WorkerJoined("a", 2), 0.0)
    scheduler.handle(WorkerJoined("b", 2), 0.0)
    scheduler.handle(AttemptFinished(attempt(0, 0, 0)), 1.0)
    started = scheduler.handle(AttemptFinished(attempt(0, 1, 1)), 1.0)
    assert [action.worker for action in started if isinstance(action, StartAttempt)] == ["b", "a", "b", "a"]


def test_slots_may_change_and_running_attempts_go_on(make):
    scheduler = make(StageShape(4))
    scheduler.handle(WorkerJoined("a", 2), 0.0)
    assert scheduler.handle(SlotsChanged("a", 1), 0.0) == []
    assert scheduler.handle(AttemptFinished(attempt(0, 0, 0)), 1.0) == []
    assert scheduler.handle(AttemptFinished(attempt(0, 1, 1)), 1.0) == [start(0, 2, 2)]
    assert scheduler.handle(SlotsChanged("a", 2), 1.0) == [start(0, 3, 3)]


def test_a_draining_worker_gets_no_work_and_may_go_when_nothing_of_it_is_needed(make, map_reduce):
    scheduler = make(*map_reduce)
    scheduler.handle(WorkerJoined("a", 2), 0.0)
    assert scheduler.handle(WorkerDrained("a"), 0.0) == []
    assert scheduler.handle(AttemptFinished(attempt(0, 0, 0)), 1.0) == []
    scheduler.handle(AttemptFinished(attempt(0, 1, 1)), 1.0)
    assert scheduler.needs_worker("a")  # it holds map outputs
    finish_all(scheduler, scheduler.handle(WorkerJoined("b", 1), 1.0))
    assert not scheduler.needs_worker("a")
    assert not scheduler.needs_worker("nobody")


def test_a_lost_workers_attempts_and_needed_outputs_are_made_again(make, map_reduce):
    scheduler = make(*map_reduce)
    scheduler.handle(WorkerJoined("a", 1), 0.0)
    scheduler.handle(AttemptFinished(attempt(0, 0, 0)), 1.0)
    scheduler.handle(WorkerJoined("b", 2), 1.0)  # takes 0.2
    assert scheduler.handle(WorkerLost("a"), 2.0) == [start(0, 0, 3, "b")]
    assert scheduler.winner_of(TaskId(0, 0)) is None


def test_outputs_that_nobody_needs_are_not_made_again(make, map_reduce):
    scheduler = make(*map_reduce)
    finish_all(scheduler, scheduler.handle(WorkerJoined("a", 1), 0.0))
    assert scheduler.handle(WorkerLost("a"), 2.0) == []  # the job is done, its files are not on a
    assert scheduler.outcome is Outcome.DONE
    assert scheduler.counts_of(0).gone == 3


def test_a_lost_result_takes_a_finished_job_back_and_with_it_the_inputs_it_needs(make):
    scheduler = make(StageShape(1), StageShape(1, (Edge(0, EdgeKind.HASH),)))
    finish_all(scheduler, scheduler.handle(WorkerJoined("a", 1), 0.0))
    assert scheduler.handle(WorkerLost("a"), 2.0) == []
    assert scheduler.outcome is None
    seen = scheduler.handle(WorkerJoined("b", 1), 3.0)
    assert seen == [start(0, 0, 2, "b")]
    assert finish_all(scheduler, seen)[-1] == FinishJob(Outcome.DONE)


def test_lost_outputs_may_come_back_within_the_grace(make, map_reduce):
    scheduler = make(*map_reduce, policy=Policy(rejoin_grace_s=5.0))
    scheduler.handle(WorkerJoined("a", 3), 0.0)
    for index in range(3):
        started = scheduler.handle(AttemptFinished(attempt(0, index, index)), 1.0)
    assert started == [FinishStage(0), start(1, 0, 3), start(1, 1, 4)]
    scheduler.handle(WorkerLost("a"), 2.0)
    assert scheduler.next_deadline() == 7.0
    assert scheduler.handle(WorkerJoined("a", 2), 3.0) == []  # readers wait, and so does the re-run
    scheduler.handle(OutputFound(attempt(0, 0, 0), "a"), 3.0)
    scheduler.handle(OutputFound(attempt(0, 1, 1), "a"), 3.0)
    assert scheduler.holder_of(TaskId(0, 1)) == "a"
    assert scheduler.handle(TimePassed(), 7.0) == [start(0, 2, 5)]
    assert scheduler.next_deadline() is None


def test_a_silence_before_the_loss_counts_for_the_grace(make, map_reduce):
    scheduler = make(*map_reduce, policy=Policy(rejoin_grace_s=5.0))
    for name in ("a", "b", "c"):
        scheduler.handle(WorkerJoined(name, 1), 0.0)
    for index in range(3):
        scheduler.handle(AttemptFinished(attempt(0, index, index)), 1.0)
    scheduler.handle(WorkerLost("a"), 2.0)
    scheduler.handle(WorkerLost("b", silent_s=4.0), 2.5)
    assert scheduler.next_deadline() == 3.5
    assert scheduler.handle(WorkerLost("c", silent_s=9.0), 3.0) == []
    assert [scheduler.counts_of(0).ready, scheduler.counts_of(0).unavailable] == [1, 2]
    scheduler.handle(TimePassed(), 3.5)
    assert scheduler.counts_of(0).ready == 2
    assert scheduler.next_deadline() == 7.0
    assert scheduler.handle(WorkerJoined("d", 1), 4.0) == [start(0, 1, 5, "d")]


def test_an_output_that_was_given_up_counts_if_it_comes_back_before_it_is_made_again(make, map_reduce):
    scheduler = make(*map_reduce)
    scheduler.handle(WorkerJoined("a", 3), 0.0)
    for index in range(3):
        scheduler.handle(AttemptFinished(attempt(0, index, index)), 1.0)  # 1.0 and 1.1 run
    scheduler.handle(WorkerLost("a"), 2.0)
    assert scheduler.handle(WorkerJoined("b", 1), 3.0) == [start(0, 0, 5, "b")]
    assert scheduler.handle(AttemptFinished(attempt(0, 0, 5)), 4.0) == [start(0, 1, 6, "b")]
    scheduler.handle(WorkerJoined("a", 0), 5.0)
    assert scheduler.handle(OutputFound(attempt(0, 0, 0), "a"), 5.0) == [DropOutput(attempt(0, 0, 0))]
    assert scheduler.handle(OutputFound(attempt(0, 1, 1), "a"), 5.0) == [CancelAttempt(attempt(0, 1, 6))]
    assert scheduler.handle(OutputFound(attempt(0, 2, 2), "a"), 5.0) == [FinishStage(0)]
    assert [scheduler.holder_of(TaskId(0, index)) for index in range(3)] == ["b", "a", "a"]
    assert scheduler.handle(AttemptFailed(attempt(0, 1, 6), charged=False), 6.0) == [start(1, 0, 7, "b")]


def test_a_second_loss_begins_the_grace_anew(make):
    scheduler = make(StageShape(2), StageShape(1, (Edge(0, EdgeKind.GATHER),)), policy=Policy(rejoin_grace_s=5.0))
    scheduler.handle(WorkerJoined("a", 1), 0.0)
    scheduler.handle(AttemptFinished(attempt(0, 0, 0)), 1.0)
    scheduler.handle(WorkerLost("a"), 2.0)
    scheduler.handle(WorkerJoined("a", 0), 3.0)
    scheduler.handle(OutputFound(attempt(0, 0, 0), "a"), 4.0)
    scheduler.handle(WorkerLost("a"), 6.0)
    scheduler.handle(TimePassed(), 7.0)
    assert scheduler.counts_of(0).unavailable == 1
    assert scheduler.next_deadline() == 11.0
    scheduler.handle(TimePassed(), 11.0)
    assert scheduler.counts_of(0).ready == 2


# Outputs.


def test_a_lost_output_sends_waiting_readers_back_and_is_made_again(make, map_reduce):
    scheduler = make(*map_reduce)
    scheduler.handle(WorkerJoined("a", 1), 0.0)
    for index in range(3):
        scheduler.handle(AttemptFinished(attempt(0, index, index)), 1.0)  # 1.0 runs
    assert scheduler.handle(OutputLost(attempt(0, 1, 1)), 2.0) == []
    failed = scheduler.handle(AttemptFailed(attempt(1, 0, 3), charged=False), 3.0)
    assert failed == [start(0, 1, 4)]
    assert scheduler.handle(AttemptFinished(attempt(0, 1, 4)), 4.0) == [FinishStage(0), start(1, 0, 5)]
    assert scheduler.winner_of(TaskId(0, 1)) == attempt(0, 1, 4)


def test_a_reader_whose_input_is_reported_lost_after_its_failure_starts_once_more_in_vain(make, map_reduce):
    scheduler = make(*map_reduce)
    scheduler.handle(WorkerJoined("a", 1), 0.0)
    for index in range(3):
        scheduler.handle(AttemptFinished(attempt(0, index, index)), 1.0)  # 1.0 runs
    assert scheduler.handle(AttemptFailed(attempt(1, 0, 3), charged=False), 2.0) == [start(1, 0, 4)]
    assert scheduler.handle(OutputLost(attempt(0, 1, 1)), 2.0) == []


def test_slots_that_shrink_before_the_last_task_of_a_stage_bind_the_next_stage(make, map_reduce):
    scheduler = make(*map_reduce)
    scheduler.handle(WorkerJoined("a", 3), 0.0)
    scheduler.handle(AttemptFinished(attempt(0, 0, 0)), 1.0)
    scheduler.handle(AttemptFinished(attempt(0, 1, 1)), 1.0)
    scheduler.handle(SlotsChanged("a", 1), 1.0)
    assert scheduler.handle(AttemptFinished(attempt(0, 2, 2)), 1.0) == [FinishStage(0), start(1, 0, 3)]


def test_a_report_about_an_output_that_was_replaced_changes_nothing(make, map_reduce):
    scheduler = make(*map_reduce)
    scheduler.handle(WorkerJoined("a", 1), 0.0)
    scheduler.handle(AttemptFailed(attempt(0, 0, 0)), 1.0)
    scheduler.handle(AttemptFinished(attempt(0, 0, 1)), 1.0)
    assert scheduler.handle(OutputLost(attempt(0, 0, 0)), 2.0) == []
    assert scheduler.counts_of(0).done == 1


def test_a_re_run_that_its_last_reader_no_longer_needs_is_cancelled(make, map_reduce):
    scheduler = make(*map_reduce)
    scheduler.handle(WorkerJoined("a", 3), 0.0)
    for index in range(3):
        scheduler.handle(AttemptFinished(attempt(0, index, index)), 1.0)
    assert scheduler.handle(OutputLost(attempt(0, 0, 0)), 2.0) == [start(0, 0, 5)]
    assert scheduler.handle(AttemptFinished(attempt(1, 0, 3)), 3.0) == []
    done = scheduler.handle(AttemptFinished(attempt(1, 1, 4)), 3.0)
    assert done == [CancelAttempt(attempt(0, 0, 5)), FinishStage(1), FinishJob(Outcome.DONE)]
    assert scheduler.handle(AttemptFinished(attempt(0, 0, 5)), 4.0) == [DropOutput(attempt(0, 0, 5))]


def test_a_lost_one_to_one_input_holds_back_its_own_reader_only(make):
    scheduler = make(StageShape(2), StageShape(2, (Edge(0, EdgeKind.ONE_TO_ONE),)))
    scheduler.handle(WorkerJoined("a", 2), 0.0)
    scheduler.handle(SlotsChanged("a", 0), 0.0)
    scheduler.handle(AttemptFinished(attempt(0, 0, 0)), 1.0)
    scheduler.handle(AttemptFinished(attempt(0, 1, 1)), 1.0)
    scheduler.handle(OutputLost(attempt(0, 0, 0)), 2.0)
    assert scheduler.counts_of(1) == StageCounts(1, 1, 0, 0, 0, 0)
    assert scheduler.handle(SlotsChanged("a", 2), 3.0) == [start(0, 0, 2), start(1, 1, 3)]


def test_an_output_found_again_stops_its_re_run(make, map_reduce):
    scheduler = make(*map_reduce)
    scheduler.handle(WorkerJoined("a", 1), 0.0)
    scheduler.handle(WorkerLost("a"), 1.0)
    scheduler.handle(WorkerJoined("a", 1), 2.0)
    found = scheduler.handle(OutputFound(attempt(0, 0, 0), "a"), 3.0)  # the zombie had finished after all
    assert found == [CancelAttempt(attempt(0, 0, 1))]
    assert scheduler.winner_of(TaskId(0, 0)) == attempt(0, 0, 0)
    assert scheduler.handle(OutputFound(attempt(0, 0, 0), "a"), 3.0) == []  # said again


def test_an_output_declared_lost_or_late_is_dropped_when_it_comes_back(make, map_reduce):
    scheduler = make(*map_reduce)
    scheduler.handle(WorkerJoined("a", 1), 0.0)
    scheduler.handle(AttemptFinished(attempt(0, 0, 0)), 1.0)
    scheduler.handle(OutputLost(attempt(0, 0, 0)), 1.0)
    scheduler.handle(WorkerLost("a"), 1.0)
    scheduler.handle(WorkerJoined("a", 1), 2.0)
    assert scheduler.handle(OutputFound(attempt(0, 0, 0), "a"), 3.0) == [DropOutput(attempt(0, 0, 0))]
    scheduler.handle(AttemptFinished(attempt(0, 0, 2)), 4.0)
    assert scheduler.handle(OutputFound(attempt(0, 0, 0), "a"), 5.0) == [DropOutput(attempt(0, 0, 0))]


def test_a_job_goes_on_from_the_outputs_it_is_told_of(make, map_reduce):
    scheduler = make(*map_reduce, numbers=Numbers(100))
    scheduler.handle(OutputFound(attempt(1, 1, 17), ""), 0.0)  # files are held by no worker
    assert scheduler.holder_of(TaskId(1, 1)) is None
    seen = finish_all(scheduler, scheduler.handle(WorkerJoined("a", 1), 0.0))
    assert seen[-1] == FinishJob(Outcome.DONE)
    assert scheduler.winner_of(TaskId(1, 1)) == attempt(1, 1, 17)


# The end.


def test_cancelling_stops_what_runs_and_then_ends_the_job(make, map_reduce):
    scheduler = make(*map_reduce)
    scheduler.handle(WorkerJoined("a", 2), 0.0)
    cancelled = scheduler.handle(CancelRequested(), 1.0)
    assert cancelled == [CancelAttempt(attempt(0, 0, 0)), CancelAttempt(attempt(0, 1, 1))]
    assert scheduler.handle(AttemptFinished(attempt(0, 0, 0)), 2.0) == [DropOutput(attempt(0, 0, 0))]
    assert scheduler.handle(WorkerLost("a"), 2.0) == [FinishJob(Outcome.CANCELLED)]
    assert scheduler.handle(WorkerJoined("b", 1), 3.0) == []


def test_cancelling_a_job_that_is_done_is_too_late(make):
    scheduler = make(StageShape(1), given_stages={0})
    scheduler.handle(TimePassed(), 0.0)
    assert scheduler.handle(CancelRequested(), 1.0) == []
    assert scheduler.outcome is Outcome.DONE


def test_two_budgets_spent_by_one_loss_name_one_culprit(make):
    scheduler = make(StageShape(3), policy=Policy(fruitless_max=1))
    scheduler.handle(WorkerJoined("a", 2), 0.0)
    scheduler.handle(WorkerJoined("b", 1), 0.0)
    assert scheduler.handle(WorkerLost("a"), 1.0) == [CancelAttempt(attempt(0, 2, 2))]
    ended = scheduler.handle(AttemptFinished(attempt(0, 2, 2)), 1.0)
    assert ended == [DropOutput(attempt(0, 2, 2)), FinishJob(Outcome.FAILED, attempt(0, 0, 0))]


# What is illegal.


@pytest.mark.parametrize(
    "event",
    [
        AttemptFinished(attempt(0, 0, 7)),  # never started
        AttemptFinished(attempt(0, 1, 0)),  # another task's number
        AttemptFailed(attempt(0, 0, 7)),
        WorkerJoined("a", 1),
        WorkerJoined("b", -1),
        WorkerLost("b"),
        WorkerDrained("b"),
        SlotsChanged("b", 1),
        SlotsChanged("a", -1),
        OutputLost(attempt(0, 0, 0)),  # it is running
        OutputLost(attempt(0, 0, 7)),
        OutputLost(attempt(0, 9, 0)),
        OutputFound(attempt(5, 0, 0), "a"),
        OutputFound(attempt(0, 0, 2), "b"),  # its worker is not here
        OutputFound(attempt(0, 0, 2), ""),  # not durable
    ],
    ids=str,
)
def test_an_illegal_event_raises_and_changes_nothing(make, map_reduce, event):
    scheduler = make(*map_reduce)
    scheduler.handle(WorkerJoined("a", 3), 0.0)
    scheduler.handle(AttemptFailed(attempt(0, 2, 2)), 1.0)
    untouched = copy.deepcopy(scheduler)
    with pytest.raises(IllegalEvent) as raised:
        scheduler.handle(event, 9.0)
    assert raised.value.code is Code.INTERNAL
    follow_up = AttemptFinished(attempt(0, 0, 0))
    assert scheduler.handle(follow_up, 2.0) == untouched.handle(follow_up, 2.0)
    assert [scheduler.counts_of(stage) for stage in (0, 1)] == [untouched.counts_of(stage) for stage in (0, 1)]


def test_an_attempt_ends_only_once(make):
    scheduler = make(StageShape(2))
    scheduler.handle(WorkerJoined("a", 1), 0.0)
    scheduler.handle(AttemptFinished(attempt(0, 0, 0)), 1.0)
    with pytest.raises(IllegalEvent):
        scheduler.handle(AttemptFinished(attempt(0, 0, 0)), 1.0)


def test_the_scheduler_is_imported_without_arrow_numba_or_sockets():
    heavy = ["pyarrow", "numba", "numpy", "zmq", "socket", "threading", "random"]
    code = "import sys; old = set(sys.modules); import kernelmill.engine.schedule.machine; "
    code += f"print([m for m in {heavy} if m in sys.modules and m not in old])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"


def test_an_attempt_that_came_back_with_its_worker_is_followed_beyond_its_slots(make, map_reduce):
    scheduler = make(*map_reduce, numbers=Numbers(100))
    scheduler.handle(WorkerJoined("a", 0), 0.0)
    assert scheduler.handle(AttemptFound(attempt(0, 1, 7), "a"), 0.0) == []
    assert scheduler.handle(SlotsChanged("a", 2), 0.0) == [start(0, 0, 100)]
    assert scheduler.handle(AttemptFinished(attempt(0, 1, 7)), 1.0) == [start(0, 2, 101)]
    assert scheduler.winner_of(TaskId(0, 1)) == attempt(0, 1, 7)


def test_an_attempt_that_came_back_too_late_is_cancelled_and_not_followed(make, map_reduce):
    scheduler = make(*map_reduce, numbers=Numbers(100))
    scheduler.handle(WorkerJoined("a", 1), 0.0)
    assert scheduler.handle(AttemptFound(attempt(0, 0, 7), "a"), 0.0) == [CancelAttempt(attempt(0, 0, 7))]
    assert scheduler.attempts_running == 1
    with pytest.raises(IllegalEvent, match="not here"):
        scheduler.handle(AttemptFound(attempt(0, 1, 8), "b"), 0.0)
    with pytest.raises(IllegalEvent, match="never started"):
        scheduler.handle(AttemptFound(attempt(0, 1, 800), "a"), 0.0)


def test_a_reader_that_came_back_before_its_inputs_is_followed(make, map_reduce):
    scheduler = make(*map_reduce, numbers=Numbers(100))
    scheduler.handle(WorkerJoined("a", 0), 0.0)
    assert scheduler.handle(AttemptFound(attempt(1, 0, 7), "a"), 0.0) == []
    assert scheduler.handle(AttemptFailed(attempt(1, 0, 7), charged=False), 1.0) == []
    assert scheduler.is_open(TaskId(1, 0)) and not scheduler.is_running(attempt(1, 0, 7))


def test_schedulers_that_share_their_numbers_give_none_twice(make):
    numbers = Numbers(5)
    first, second = make(StageShape(1), numbers=numbers), make(StageShape(1), numbers=numbers)
    assert first.handle(WorkerJoined("a", 1), 0.0) == [start(0, 0, 5)]
    assert second.handle(WorkerJoined("a", 1), 0.0) == [start(0, 0, 6)]
