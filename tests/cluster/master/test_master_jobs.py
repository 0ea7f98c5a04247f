"""A job's life: submitted once, shared with, paused, cancelled, ended; and the tables that say so."""

from __future__ import annotations

import msgspec
import pytest

from kernelmill.cluster import messages as m
from kernelmill.cluster.fields import COUNT_NAMES_BYTES_MAX, Count, names_bytes
from kernelmill.cluster.journal.translate import attempt_key
from kernelmill.cluster.master import answers
from kernelmill.cluster.master import events as ev
from kernelmill.cluster.master import jobs as states
from kernelmill.cluster.master.facts import JobSheet, StageSheet
from kernelmill.cluster.master.failures import REACTIONS, Failure, Reaction
from kernelmill.engine.errors import InternalError
from kernelmill.engine.plan.stages import Edge, EdgeKind

replace = msgspec.structs.replace


def test_no_table_leads_out_of_an_end_and_only_durable_or_published_jobs_get_there():
    assert not {state for state, _ in states.NEXT_JOB} & {states.COMMITTED, states.FAILED, states.CANCELLED}
    to_committed = {(state, cause) for (state, cause), ends in states.NEXT_JOB.items() if states.COMMITTED in ends}
    assert to_committed == {(states.COMMITTING, states.PUBLISHED), (states.PAUSED, states.PUBLISHED)}
    assert (states.COMMITTING, states.STOPPED) not in states.NEXT_JOB  # a cancel comes too late


def test_every_attempt_can_be_accepted_stopped_and_ended_in_any_state_and_reports_once():
    for state in (states.ASSIGNED, states.RUNNING, states.STOPPING, states.DONE, states.NAMING):
        for cause in (states.ACCEPTED, states.UNWANTED, states.ENDED):
            assert (state, cause) in states.NEXT_ATTEMPT
    for cause in (states.REPORTED_DONE, states.NAMED_POISON):
        assert {state for state, each in states.NEXT_ATTEMPT if each == cause} == {states.ASSIGNED, states.RUNNING}


def test_only_what_the_task_is_to_blame_for_is_charged():
    free = {Failure.CANCELLED, Failure.FETCH_UNREACHABLE, Failure.CORRUPT_BLOCK}
    assert {failure for failure, reaction in REACTIONS.items() if reaction is Reaction.FREE} == free
    assert REACTIONS[Failure.DISK_FULL] is Reaction.EXCLUDES


def test_a_job_is_accepted_when_it_is_durable_and_submitted_twice_is_one_job(bench, sheet, tools):
    assert tools.only(ev.Accept, bench.tell(ev.SubmitReceived("ada", sheet))) == []
    assert bench.tell(ev.SubmitReceived("ada", sheet)) == []
    assert tools.only(ev.Accept, bench.commit()) == [ev.Accept("ada", "j")]
    assert bench.submit(sheet) == [] and bench.orders[-1] == ev.Accept("ada", "j")


@pytest.mark.parametrize("change", [{"digest": b"other"}, {"client": "eve"}])
def test_another_job_under_the_same_id_is_refused(bench, sheet, tools, change):
    bench.submit(sheet)
    bench.submit(replace(sheet, **change))
    assert tools.only(ev.Refuse, bench.orders)[0].code == "JOB_EXISTS"


@pytest.mark.parametrize(
    "stages",
    [
        (),
        (StageSheet(0),),
        (StageSheet(1 << 21),),
        (StageSheet(1, (1,)),),  # blocks that nobody reads
        (StageSheet(1, (1 << 15,)), StageSheet(1 << 15, (), (Edge(0, EdgeKind.HASH),))),
        (StageSheet(1 << 20, (16,)), StageSheet(16, (), (Edge(0, EdgeKind.HASH),))),
        (StageSheet(1, (3,)), StageSheet(2, (), (Edge(0, EdgeKind.HASH),))),
        (StageSheet(1, (1,)), StageSheet(2, (), (Edge(0, EdgeKind.ONE_TO_ONE),))),
        (StageSheet(1, (1,)), StageSheet(1, (), (Edge(0, EdgeKind.HASH, 1),))),
        (StageSheet(1, (1,), (Edge(0, EdgeKind.HASH),)),),
    ],
)
def test_a_sheet_that_cannot_be_a_job_is_refused_and_not_recorded(bench, sheet, tools, stages):
    bench.submit(replace(sheet, stages=stages))
    assert tools.only(ev.Refuse, bench.orders)[0].code == "PROTOCOL"
    assert len(bench.facts) == 1


def test_a_client_has_at_most_64_live_jobs(bench, sheet, tools):
    for number in range(65):
        bench.submit(replace(sheet, job=f"j{number}"))
    (refused,) = tools.only(ev.Refuse, bench.orders)
    assert refused.code == "TOO_MANY_JOBS" and "64 jobs of ada" in refused.text and "kernelmill jobs" in refused.hint
    assert bench.master.has_too_many_jobs("ada") == refused.text and not bench.master.has_too_many_jobs("bob")


def test_a_job_can_be_cancelled_by_its_client_or_an_administrator(bench, sheet, tools):
    bench.submit(sheet)
    bench.tell(ev.CancelReceived("eve", "j"))
    assert tools.only(ev.Refuse, bench.orders)[0].code == "NO_JOB"
    bench.tell(ev.CancelReceived("eve", "j", is_admin=True))
    assert tools.only(ev.TellResult, bench.commit())[0].state == "CANCELLED"
    assert tools.only(ev.Refuse, bench.tell(ev.CancelReceived("ada", "j")))[0].code == "TOO_LATE"


def test_a_cancel_after_the_commit_has_begun_is_too_late(bench, sheet, tools):
    bench.hello()
    for _ in range(2):
        for order in tools.only(ev.Assign, bench.submit(sheet) or bench.orders):
            bench.done(order)
        bench.commit()
    assert bench.master.state_of("j") == "COMMITTING"
    (refused,) = tools.only(ev.Refuse, bench.tell(ev.CancelReceived("ada", "j")))
    assert refused.code == "TOO_LATE" and "will be finished" in refused.text and "delete it" in refused.hint
    bench.tell(ev.PublishFailed("j", "OUTPUT_FULL", "no space left"))
    (refused,) = tools.only(ev.Refuse, bench.tell(ev.CancelReceived("ada", "j")))
    assert refused.text.endswith("it waits: OUTPUT_FULL")


def test_a_cancel_of_a_job_whose_commit_is_ordered_and_waits_for_the_journals_disk_is_too_late(bench, sheet, tools):
    bench.hello()
    for order in tools.only(ev.Assign, bench.submit(sheet)):
        bench.done(order)
        said = bench.commit()
    (last,) = [order for order in tools.only(ev.Assign, said) if order.attempt.task.stage == 1]
    bench.done(last)
    bench.tell(ev.Recorded(bench.ordered))  # the last task's commit, not what it leads to
    bench.tell(ev.JournalFilled())  # JOB_COMMITTING is written, and perhaps on the disk: a restart may find it
    assert bench.master.state_of("j") == "PAUSED"
    (refused,) = tools.only(ev.Refuse, bench.tell(ev.CancelReceived("ada", "j")))
    assert refused.code == "TOO_LATE" and refused.text.endswith("it waits: JOURNAL_FULL")
    bench.tell(ev.JournalFreed())
    assert tools.only(ev.Publish, bench.commit())


def test_two_jobs_share_a_workers_slots_and_one_alone_has_them_all(bench, sheet, tools):
    wide = replace(sheet, stages=(StageSheet(8, (1,)), sheet.stages[1]))
    bench.hello("a", slots=4)
    first = tools.only(ev.Assign, bench.submit(wide))
    assert len(first) == 4
    assert tools.only(ev.Assign, bench.submit(replace(wide, job="k"))) == []  # nothing is taken from what runs
    jobs = []
    for order in first:
        bench.done(order)
        jobs += [each.job for each in tools.only(ev.Assign, bench.commit())]
    assert sorted(jobs) == ["j", "j", "k", "k"]


def test_without_workers_a_job_is_paused_after_a_minute_and_goes_on_by_itself(bench, sheet, tools):
    bench.submit(sheet)
    bench.pass_time(59.0)
    assert bench.master.state_of("j") == "RUNNING"
    bench.pass_time(2.0)
    assert bench.master.state_of("j") == "PAUSED"
    bench.hello()
    assert bench.master.state_of("j") == "RUNNING" and tools.only(ev.Assign, bench.orders)


def test_without_workers_a_job_fails_where_its_settings_say_so(bench, sheet, tools):
    bench.submit(replace(sheet, fail_without_workers=True))
    (result,) = tools.only(ev.TellResult, bench.pass_time(61.0))
    assert (result.state, result.code) == ("FAILED", "NO_WORKERS")


def test_a_full_journal_pauses_jobs_and_acknowledges_nothing(bench, sheet, tools):
    bench.hello()
    first, _ = tools.only(ev.Assign, bench.submit(sheet))
    bench.tell(ev.JournalFilled())
    assert bench.master.state_of("j") == "PAUSED"
    assert tools.only(ev.CommitAck, bench.done(first)) == []
    bench.tell(ev.JournalFreed())
    assert bench.master.state_of("j") == "RUNNING" and tools.only(ev.CommitAck, bench.commit())


def test_a_full_or_stuck_output_pauses_the_job_and_it_is_published_later(bench, sheet, tools):
    bench.hello()
    for order in tools.only(ev.Assign, bench.submit(sheet)):
        bench.done(order)
    (reduce,) = tools.only(ev.Assign, bench.commit())
    bench.done(reduce)
    bench.commit()
    bench.tell(ev.PublishFailed("j", "OUTPUT_FULL"))
    assert bench.master.state_of("j") == "PAUSED"
    assert len(tools.only(ev.Publish, bench.pass_time(5.0))) == 1
    bench.pass_time(60.0)
    assert bench.master.state_of("j") == "PAUSED"  # no answer
    bench.tell(ev.Published("j"))
    assert tools.only(ev.TellResult, bench.commit())[0].state == "COMMITTED"


def test_a_job_whose_staging_another_process_keeps_waits_and_is_published_later(bench, sheet, tools):
    bench.hello()
    for assign in tools.only(ev.Assign, bench.submit(sheet)):
        bench.done(assign)
    (reduce,) = tools.only(ev.Assign, bench.commit())
    bench.done(reduce)
    bench.commit()
    for _ in range(3):
        bench.tell(ev.PublishFailed("j", "OUTPUT_STUCK"))
        assert bench.master.state_of("j") == "PAUSED"
        assert len(tools.only(ev.Publish, bench.pass_time(5.0))) == 1
        assert bench.master.state_of("j") == "COMMITTING"
    bench.pass_time(60.0)
    assert bench.master.state_of("j") == "PAUSED"  # no answer
    bench.tell(ev.PublishFailed("j", "OUTPUT_STUCK"))
    assert len(tools.only(ev.Publish, bench.pass_time(5.0))) == 1
    bench.tell(ev.Published("j"))
    assert tools.only(ev.TellResult, bench.commit())[0].state == "COMMITTED"


def test_a_record_that_was_never_ordered_cannot_be_durable(bench):
    with pytest.raises(InternalError):
        bench.tell(ev.Recorded(99))


def test_counters_are_summed_over_the_commits_that_count_and_bounded_in_number(bench, sheet, tools):
    bench.hello("a", slots=2)
    maps = tools.only(ev.Assign, bench.submit(sheet))
    bench.done(maps[0], counters=(Count("lines", 3), Count("words", 1 << 62)))
    bench.done(maps[1], counters=(Count("lines", 4), Count("words", 1 << 62)))
    (reduce,) = tools.only(ev.Assign, bench.commit())
    bench.done(reduce, counters=(Count("groups", 1),))
    (publish,) = tools.only(ev.Publish, bench.commit())
    assert [each.name for each in bench.master.counters_of("j")] == ["groups", "lines", "words"]
    bench.tell(ev.Published(publish.job, 7, 70, b"M" * 16))
    bench.commit()
    ended = bench.master.desk.ledger.ended["j"]
    assert {each.name: each.count for each in ended.counters} == {"groups": 1, "lines": 7, "words": (1 << 63) - 1}
    assert (ended.rows, ended.size_bytes, ended.manifest_xxh3) == (7, 70, b"M" * 16)


def test_a_job_of_more_counters_than_a_message_holds_ends_and_says_so(bench, sheet, tools):
    bench.hello("a", slots=2)
    maps = tools.only(ev.Assign, bench.submit(sheet))
    bench.done(maps[0], counters=tuple(Count(f"a{n}", 1) for n in range(1000)))
    said = bench.done(maps[1], counters=tuple(Count(f"b{n}", 1) for n in range(1000))) + bench.commit()
    (result,) = tools.only(ev.TellResult, said)
    assert result.code == "USER_ERROR" and "1024 counters" in result.text


def test_reasons_that_are_more_than_a_message_holds_are_one_sum(bench, sheet, tools):
    bench.hello("a", slots=2)
    maps = tools.only(ev.Assign, bench.submit(sheet))
    for order, name in zip(maps, "ab", strict=True):
        bench.done(order, rejects=tuple(Count(f"{name}{n:04}", 1) for n in range(1000)))
    bench.commit()
    rejects = bench.master.desk.ledger.jobs["j"].sums()[1]
    assert len(rejects) == 1024 and rejects[-1] == Count("(others)", 977)
    assert sum(each.count for each in rejects) == 2000


def test_a_job_that_would_not_fit_the_master_is_refused(bench, tools):
    huge = tuple(StageSheet(1 << 20, ()) for _ in range(3))
    wide = (StageSheet(1 << 10, (1 << 14,)), StageSheet(1 << 14, (), (Edge(0, EdgeKind.HASH),)))
    for number, stages in enumerate((huge, wide)):
        bench.submit(JobSheet(f"k{number}", "ada", b"d", stages))
        refused = tools.only(ev.Refuse, bench.orders)[-1]
        assert refused.code == "PROTOCOL" and "more than" in refused.text


EMOJIS = "\N{GRINNING FACE}" * 250


def test_a_job_whose_counters_have_longer_names_than_a_result_holds_ends_and_says_so(bench, sheet, tools):
    bench.hello("a", slots=2)
    maps = tools.only(ev.Assign, bench.submit(sheet))
    bench.done(maps[0], counters=tuple(Count(f"{EMOJIS}a{n}", 1) for n in range(100)))
    said = bench.done(maps[1], counters=tuple(Count(f"{EMOJIS}b{n}", 1) for n in range(100))) + bench.commit()
    (result,) = tools.only(ev.TellResult, said)
    assert result.code == "USER_ERROR" and "bytes of names" in result.text


def test_reasons_with_longer_names_than_a_result_holds_are_one_sum(bench, sheet, tools):
    bench.hello("a", slots=2)
    maps = tools.only(ev.Assign, bench.submit(sheet))
    for order, name in zip(maps, "ab", strict=True):
        bench.done(order, rejects=tuple(Count(f"{EMOJIS}{name}{n:03}", 1) for n in range(500)))
    bench.commit()
    rejects = bench.master.desk.ledger.jobs["j"].sums()[1]
    assert COUNT_NAMES_BYTES_MAX // 2 < names_bytes(each.name for each in rejects) <= COUNT_NAMES_BYTES_MAX + 1024
    assert rejects[-1].name == "(others)" and sum(each.count for each in rejects) == 1000


def test_what_workers_say_of_their_rows_fits_a_status_however_they_lie(bench, sheet, tools):
    most, job = (1 << 63) - 1, bytes(16)
    bench.hello("a")
    bench.hello("b")
    orders = tools.only(ev.Assign, bench.submit(msgspec.structs.replace(sheet, job=job.hex())))
    mine = next(one for one in orders if one.worker == "a")
    lie = m.Progress(job, attempt_key(mine.attempt.number), "run", 0, most, most)
    status = answers.status_of(bench.master.desk, job.hex(), {"a": m.Beat((lie,) * 3, (), 1, 1)})
    assert status.stages[0].rows == status.stages[0].size_bytes == most
    status = answers.status_of(bench.master.desk, job.hex(), {"b": m.Beat((lie,), (), 1, 1)})
    assert status.stages[0].rows == 0  # of an attempt that it does not run
    bench.master.desk.jobs[job.hex()].rows_read[0] = most
    status = answers.status_of(bench.master.desk, job.hex(), {"a": m.Beat((lie,), (), 1, 1)})
    assert status.stages[0].rows == most
