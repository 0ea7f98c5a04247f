"""DONE, FAILED and FETCH_FAILED: what counts, what is discarded, what is charged."""

from __future__ import annotations

import msgspec
import pytest

from kernelmill.cluster.fields import Origin, Problem
from kernelmill.cluster.master import events as ev
from kernelmill.cluster.master.facts import OutputLost, Poisoned, RolledBack, TaskCommitted
from kernelmill.engine.ids import AttemptId, TaskId


@pytest.fixture
def maps(bench, sheet, tools):
    """Both maps assigned to worker a."""
    bench.hello()
    return tools.only(ev.Assign, bench.submit(sheet))


def test_a_commit_is_acknowledged_when_it_is_durable_and_not_before(bench, maps, tools):
    assert tools.only(ev.CommitAck, bench.done(maps[0])) == []
    (ack,) = tools.only(ev.CommitAck, bench.commit())
    assert ack.attempt == maps[0].attempt
    assert [type(fact) for fact in bench.facts][-1] is TaskCommitted


def test_a_done_said_again_is_acknowledged_again_and_recorded_once(bench, maps, tools):
    bench.done(maps[0])
    assert bench.done(maps[0]) == []  # not durable yet
    bench.commit()
    assert len(tools.only(ev.CommitAck, bench.done(maps[0]))) == 1
    assert sum(isinstance(fact, TaskCommitted) for fact in bench.facts) == 1


@pytest.mark.parametrize(
    "change", [{"seal": b"forged"}, {"gen": 1}, {"attempt": AttemptId(TaskId(0, 9), 1)}, {"worker": "b"}]
)
def test_what_was_not_assigned_so_changes_nothing(bench, maps, tools, change):
    bench.hello("b")
    ordered = bench.ordered
    bench.done(maps[0], **change)
    assert bench.ordered == ordered
    assert sum(bench.master.seen.values()) == 1


@pytest.mark.parametrize("change", [{"vector": b""}, {"data_bytes": 11}, {"consumed": (ev.Consumed(1, 1, 1, 1),)}])
def test_blocks_that_do_not_add_up_are_discarded_and_the_task_is_tried_again(bench, maps, tools, change):
    said = bench.done(maps[0], **change)
    assert [order.attempt for order in tools.only(ev.Discard, said)] == [maps[0].attempt]
    (again,) = tools.only(ev.Assign, said)
    assert again.attempt.task == maps[0].attempt.task and again.attempt != maps[0].attempt


@pytest.fixture
def reduce(bench, maps, tools):
    """The reduce, assigned after both maps are committed."""
    for order in maps:
        bench.done(order)
    (order,) = tools.only(ev.Assign, bench.commit())
    return order


@pytest.mark.parametrize("consumed", [(1, 2, 10, 0), (2, 1, 10, 0), (2, 2, 9, 0), (2, 2, 10, 1)])
def test_a_reduce_that_consumed_other_rows_than_the_maps_made_is_tried_again(bench, reduce, tools, consumed):
    said = bench.done(reduce, consumed=(ev.Consumed(*consumed),))
    assert tools.only(ev.Discard, said) and tools.only(ev.Assign, said)
    assert bench.ordered == bench.durable


def test_readers_are_told_of_their_inputs_before_they_are_assigned(bench, reduce):
    kinds = [type(order) for order in bench.orders]
    assert kinds.index(ev.TellInputs) < len(kinds) - 1 - kinds[::-1].index(ev.Assign)
    assert reduce.inputs == ((0, 1),)
    assert [(task, holder) for task, _, holder, _ in bench.master.inputs_of("j", 0)] == [(0, "a"), (1, "a")]


def test_outputs_without_rows_are_not_told_one_by_one(bench, maps, tools):
    bench.done(maps[0], data_bytes=0, vector=tools.vector(0, 0, 0, 0))
    bench.done(maps[1])
    bench.commit()
    assert [(task, holder) for task, _, holder, _ in bench.master.inputs_of("j", 0)] == [(1, "a")]
    assert bench.master.without_rows("j", 0) == b"\x01"


def test_a_finished_job_is_published_after_its_record_and_told_after_the_next(bench, reduce, tools):
    bench.done(reduce)
    (publish,) = tools.only(ev.Publish, bench.commit())
    assert publish.winners == ((1, 0, reduce.attempt.number),)
    assert bench.master.state_of("j") == "COMMITTING"
    assert tools.only(ev.TellResult, bench.tell(ev.Published("j"))) == []
    (result,) = tools.only(ev.TellResult, bench.commit())
    assert result.state == bench.master.state_of("j") == "COMMITTED"


def test_a_file_found_bad_before_publishing_is_made_again(bench, reduce, tools):
    bench.done(reduce)
    (publish,) = tools.only(ev.Publish, bench.commit())
    bench.tell(ev.PublishFailed("j", "BAD", "short", publish.winners[0]))
    (again,) = tools.only(ev.Assign, bench.commit())
    bench.done(again)
    assert tools.only(ev.Publish, bench.commit())[0].winners == ((1, 0, again.attempt.number),)
    bench.tell(ev.PublishFailed("j", "BAD", "an old failure", publish.winners[0]))
    assert bench.master.state_of("j") == "COMMITTING"


def test_an_output_that_cannot_be_published_for_another_reason_ends_the_job(bench, reduce, tools):
    bench.done(reduce)
    bench.commit()
    bench.tell(ev.PublishFailed("j", "OUTPUT_EXISTS", "it is there"))
    (result,) = tools.only(ev.TellResult, bench.commit())
    assert (result.state, result.code) == ("FAILED", "OUTPUT_EXISTS")


def test_a_corrupt_block_makes_its_map_run_again_and_no_other(bench, reduce, maps, tools):
    bench.tell(ev.FetchFailedReceived("a", reduce.session, "j", reduce.attempt, maps[1].attempt, "CORRUPT_BLOCK"))
    (again,) = tools.only(ev.Assign, bench.commit())
    assert again.attempt.task == TaskId(0, 1)
    bench.done(again)
    (told,) = tools.only(ev.TellInputs, bench.commit())
    assert told.version == 2
    assert [type(fact) for fact in bench.facts[-2:]] == [OutputLost, TaskCommitted]


def test_one_reader_alone_must_fail_for_as_long_as_a_lost_holder_gets(bench, reduce, maps):
    said = ev.FetchFailedReceived("a", reduce.session, "j", reduce.attempt, maps[1].attempt, "FETCH_UNREACHABLE")
    bench.tell(said)
    bench.tell(said, after_s=2.0)
    bench.tell(said, after_s=2.0)
    assert bench.ordered == bench.durable
    bench.tell(said, after_s=1.1)
    assert bench.ordered > bench.durable


def test_a_map_that_makes_other_rows_when_run_again_voids_what_was_made_of_the_old_ones(bench, reduce, maps, tools):
    bench.tell(ev.FetchFailedReceived("a", reduce.session, "j", reduce.attempt, maps[1].attempt, "CORRUPT_BLOCK"))
    (again,) = tools.only(ev.Assign, bench.commit())
    bench.done(again, vector=tools.vector(7))
    said = bench.commit()
    assert [type(fact) for fact in bench.facts[-2:]] == [RolledBack, TaskCommitted]
    assert [order.attempt for order in tools.only(ev.Cancel, said)] == [reduce.attempt]
    (discarded,) = tools.only(ev.Discard, bench.done(reduce))
    assert discarded.attempt == reduce.attempt
    (anew,) = [o for o in tools.only(ev.Assign, bench.orders) if o.attempt.task.stage == 1 and o.gen == 1]
    bench.done(anew, consumed=(ev.Consumed(2, 8, 10, 0),))
    assert tools.only(ev.Publish, bench.commit())


def test_the_fourth_roll_back_of_a_stage_ends_the_job(bench, reduce, maps, tools):
    reader, source = reduce, maps[1]
    for rows in (7, 8, 9, 10):
        bench.tell(ev.FetchFailedReceived("a", reader.session, "j", reader.attempt, source.attempt, "CORRUPT_BLOCK"))
        (source,) = tools.only(ev.Assign, bench.commit())
        said = bench.done(source, vector=tools.vector(rows)) + bench.commit()
        for order in tools.only(ev.Cancel, said):
            said += bench.failed(order, "CANCELLED")
        reader = next((o for o in tools.only(ev.Assign, said) if o.attempt.task.stage == 1), reader)
    for order in tools.only(ev.Cancel, bench.orders):
        bench.failed(order, "CANCELLED")
    (result,) = tools.only(ev.TellResult, bench.commit())
    assert (result.state, result.code) == ("FAILED", "NONDETERMINISTIC")


@pytest.mark.parametrize("code", ["WORKER_LOST", "FETCH_UNREACHABLE", "CORRUPT_BLOCK", "CANCELLED"])
def test_what_a_task_is_not_to_blame_for_never_uses_its_budget(bench, maps, tools, code):
    order = maps[0]
    for _ in range(6):
        (order,) = tools.only(ev.Assign, bench.failed(order, code if code != "WORKER_LOST" else "CANCELLED"))
    assert bench.master.state_of("j") == "RUNNING"


def test_a_task_that_fails_too_often_for_reasons_of_others_tells_the_last_of_them(bench, maps, tools):
    order = maps[0]
    for _ in range(40):
        orders = bench.failed(order, "FETCH_UNREACHABLE")
        if tools.only(ev.Cancel, orders):
            break
        (order,) = tools.only(ev.Assign, orders)
    (cancel,) = tools.only(ev.Cancel, orders)
    bench.failed(cancel, "CANCELLED")
    (result,) = tools.only(ev.TellResult, bench.commit())
    assert (result.state, result.code) == ("FAILED", "FETCH_UNREACHABLE")


@pytest.mark.parametrize("code", ["USER_ERROR", "SIGNALLED", "OOM_KILLED", "HUNG", "no such code"])
def test_the_fourth_charged_failure_ends_the_job_with_its_code(bench, maps, tools, code):
    order = maps[0]
    for _ in range(3):
        (order,) = tools.only(ev.Assign, bench.failed(order, code))
    (cancel,) = tools.only(ev.Cancel, bench.failed(order, code))
    bench.failed(cancel, "CANCELLED")
    (result,) = tools.only(ev.TellResult, bench.commit())
    assert (result.state, result.code) == ("FAILED", code if code != "no such code" else "PROTOCOL")


@pytest.mark.parametrize("code", ["INPUT_CHANGED", "INPUT_CORRUPT"])
def test_what_no_retry_mends_ends_the_job_at_once(bench, maps, tools, code):
    (cancel,) = tools.only(ev.Cancel, bench.failed(maps[0], code))
    bench.failed(cancel, "CANCELLED")
    (result,) = tools.only(ev.TellResult, bench.commit())
    assert (result.state, result.code) == ("FAILED", code)


UNFIT = ["CODE_REFUSED", "ROOT_MISSING", "WORKER_SMALL"]


@pytest.mark.parametrize("code", UNFIT)
def test_a_job_ends_at_once_where_nobody_is_fit_for_it(bench, maps, tools, code):
    problem = Problem("CODE_REFUSED", "worker a: expired", "", "")
    (cancel,) = tools.only(ev.Cancel, bench.failed(maps[0], code, problem=problem))
    bench.failed(cancel, "CANCELLED")
    (result,) = tools.only(ev.TellResult, bench.commit())
    assert (result.state, result.code, bench.facts[-1].problem) == ("FAILED", code, problem)


@pytest.mark.parametrize("code", UNFIT)
def test_an_unfit_worker_gets_none_of_the_job_and_costs_it_nothing_while_others_may_be_fit(tools, sheet, code):
    bench = tools.Bench()
    for worker in ("a", "b", "c"):
        bench.hello(worker, slots=2)
    given = tools.only(ev.Assign, bench.submit(sheet))
    for worker in ("a", "b"):  # neither is fit: each says so of all that it was given
        for order in [order for order in given if order.worker == worker]:
            said = bench.failed(order, code)
            given = [*given, *tools.only(ev.Assign, said)]
    last = {order.attempt.task: order for order in given}
    assert {order.worker for order in last.values()} == {"c"}
    for order in last.values():
        bench.done(order)
    (reduce,) = tools.only(ev.Assign, bench.commit())
    assert reduce.worker == "c" and bench.master.state_of("j") == "RUNNING"


@pytest.mark.parametrize("goes", ["lost", "drained"])
def test_a_job_that_only_a_worker_was_fit_for_that_goes_ends_by_what_the_others_say(tools, sheet, goes):
    bench = tools.Bench()
    for worker in ("a", "b"):
        bench.hello(worker, slots=1)
    given = tools.only(ev.Assign, bench.submit(sheet))
    (of_a,) = [order for order in given if order.worker == "a"]
    (of_b,) = [order for order in given if order.worker == "b"]
    assert tools.only(ev.Assign, bench.failed(of_a, "WORKER_SMALL")) == []
    if goes == "lost":
        said = bench.tell(ev.PeerGone("b", of_b.session, "unreachable"))
    else:
        said = bench.tell(ev.DrainRequested("b"))
    (again,) = tools.only(ev.Assign, said)
    assert again.worker == "a", "nobody else is left to try it"
    for cancel in tools.only(ev.Cancel, bench.failed(again, "WORKER_SMALL")):
        bench.failed(cancel, "CANCELLED")
    (result,) = tools.only(ev.TellResult, bench.commit())
    assert (result.state, result.code) == ("FAILED", "WORKER_SMALL")


def test_a_worker_that_was_started_anew_is_tried_again(tools, sheet):
    bench = tools.Bench()
    for worker in ("a", "b"):
        bench.hello(worker, slots=2)
    given = tools.only(ev.Assign, bench.submit(sheet))
    for order in [order for order in given if order.worker == "a"]:
        bench.failed(order, "WORKER_SMALL")
    job = bench.master.desk.jobs["j"]
    assert job.unfit == {"a"} and not job.grants["a"]
    bench.tell(ev.PeerGone("a", given[0].session, "unreachable"))
    bench.hello("a", slots=2, count=2, nonce=2)
    assert not job.unfit


def test_a_full_disk_excludes_the_worker_until_it_has_room(bench, maps, tools):
    assert tools.only(ev.Assign, bench.failed(maps[0], "DISK_FULL")) == []
    hand = (("j", maps[1].attempt.number),)
    assert tools.only(ev.Assign, bench.tell(ev.BeatReceived("a", maps[0].session, hand, (), 0))) == []
    assert len(tools.only(ev.Assign, bench.tell(ev.BeatReceived("a", maps[0].session, hand, (), 1 << 40)))) == 1


def test_jobs_pause_at_once_where_all_disks_are_full_and_go_on_by_themselves(bench, maps, tools):
    bench.failed(maps[0], "DISK_FULL")
    assert list(bench.master.desk.jobs["j"].pauses) == ["DISK_FULL"]
    hand = (("j", maps[1].attempt.number),)
    assert len(tools.only(ev.Assign, bench.tell(ev.BeatReceived("a", maps[0].session, hand, (), 1 << 40)))) == 1
    assert not bench.master.desk.jobs["j"].pauses


def test_a_batch_that_failed_on_two_workers_is_isolated_and_its_row_left_out_once_that_is_durable(tools, sheet):
    bench = tools.Bench()
    bench.hello("a", slots=1)
    bench.hello("b", slots=1)
    orders = tools.only(ev.Assign, bench.submit(msgspec.structs.replace(sheet, on_bad="reject")))
    task = orders[0].attempt.task
    other = orders[1]
    bench.done(other)
    bench.commit()
    (second,) = tools.only(ev.Assign, bench.failed(orders[0], "USER_ERROR", batch=3))
    assert not second.is_isolating and second.worker != orders[0].worker
    (third,) = tools.only(ev.Assign, bench.failed(second, "USER_ERROR", batch=3))
    assert third.is_isolating and third.attempt.task == task
    row = Origin(0, 10, 2, b"")
    assert tools.only(ev.Assign, bench.failed(third, "POISON", origins=(row,))) == []
    (fourth,) = tools.only(ev.Assign, bench.commit())
    assert isinstance(bench.facts[-1], Poisoned) and fourth.poison == (row,)
    assert [o.attempt for o in tools.only(ev.Discard, bench.orders)].count(third.attempt) == 1


@pytest.mark.parametrize("wants_rejects", [False, True])
def test_what_a_function_raises_twice_ends_a_job_that_does_not_want_rejects(tools, sheet, wants_rejects):
    problem = Problem("FUNCTION_FAILED", "map function 'f' raised KeyError: 'x'", "a.txt, byte 3, line 1", "")
    bench = tools.Bench()
    for worker in ("a", "b"):
        bench.hello(worker, slots=1)
    on_bad = "reject" if wants_rejects else "error"
    orders = tools.only(ev.Assign, bench.submit(msgspec.structs.replace(sheet, on_bad=on_bad)))
    bench.done(orders[1])
    bench.commit()
    (second,) = tools.only(ev.Assign, bench.failed(orders[0], "USER_ERROR", batch=3, problem=problem))
    again = tools.only(ev.Assign, bench.failed(second, "USER_ERROR", batch=3, problem=problem))
    results = tools.only(ev.TellResult, bench.commit())
    if wants_rejects:
        assert again[0].is_isolating and results == []
    else:
        assert again == [] and [one.code for one in results] == ["USER_ERROR"]
        assert bench.facts[-1].problem == problem


def test_a_poison_row_ends_a_job_that_does_not_want_rejects(bench, maps, tools):
    said = bench.failed(maps[0], "POISON", origins=(Origin(0, 10, 2, b""),))
    bench.failed(tools.only(ev.Cancel, said)[0], "CANCELLED")
    (result,) = tools.only(ev.TellResult, bench.commit())
    assert result.code == "POISON" and "at 10, row 2" in result.text
