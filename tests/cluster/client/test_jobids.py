"""The id of a job that has a name: the same for the same plan, a new one for what failed, and never another's."""

import pytest

from kernelmill.cluster.client.jobids import ending, id_of, meant, name_part, named_so
from kernelmill.cluster.messages import JobRow
from kernelmill.engine.errors import Code, KernelmillError

SAME, OTHER = b"s" * 32, b"o" * 32


def row(job, state, client="me", code=""):
    return JobRow(job, client, state, 1, 1, "data:/out", code)


def test_a_name_is_free_until_it_was_used():
    job, is_there = id_of([], "me", "daily", SAME)
    assert (len(job), is_there) == (16, False)
    assert id_of([], "me", "daily", SAME) == (job, False)
    assert len({id_of([], *who, plan)[0] for who in (("me", "daily"), ("me", "weekly"), ("you", "daily"))
                for plan in (SAME, OTHER)}) == 6  # fmt: skip


@pytest.mark.parametrize("state", ["RUNNING", "PAUSED", "COMMITTING", "COMMITTED"])
def test_a_job_that_runs_or_was_committed_is_found(state):
    job, _ = id_of([], "me", "daily", SAME)
    assert id_of([row(bytes(16), "RUNNING"), row(job, state)], "me", "daily", SAME) == (job, True)


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED"])
def test_a_job_that_failed_is_run_again_under_another_id_and_found_under_that(state):
    first, _ = id_of([], "me", "daily", SAME)
    second, is_there = id_of([row(first, state)], "me", "daily", SAME)
    assert (second[:15], second[15], is_there) == (first[:15], 1, False)
    rows = [row(second, "RUNNING"), row(first, state)]
    assert id_of(rows, "me", "daily", SAME) == (second, True)
    assert named_so([*rows, row(bytes(16), "RUNNING")], "me", "daily") == rows


@pytest.mark.parametrize("state", ["RUNNING", "COMMITTED"])
def test_another_plan_does_not_get_the_name(state):
    job, _ = id_of([], "me", "daily", OTHER)
    with pytest.raises(KernelmillError) as caught:
        id_of([row(job, state)], "me", "daily", SAME)
    assert caught.value.code is Code.JOB_EXISTS
    assert job.hex() in caught.value.what


def test_another_plan_that_failed_is_no_hindrance():
    job, _ = id_of([], "me", "daily", OTHER)
    found, is_there = id_of([row(job, "FAILED")], "me", "daily", SAME)
    assert (found[:8], is_there) == (job[:8], False)
    assert found != job


def test_jobs_of_others_do_not_count_whatever_their_ids():
    job, _ = id_of([], "me", "daily", SAME)
    assert id_of([row(job, "RUNNING", client="mallory")], "me", "daily", SAME) == (job, False)


def test_a_name_is_given_up_after_so_many_failures():
    last = name_part("me", "daily") + SAME[:7] + b"\xff"
    with pytest.raises(KernelmillError) as caught:
        id_of([row(last, "FAILED")], "me", "daily", SAME)
    assert caught.value.code is Code.JOB_EXISTS


def test_a_name_means_what_has_not_failed_or_else_the_last_try():
    first, _ = id_of([], "me", "daily", SAME)
    second, _ = id_of([row(first, "FAILED")], "me", "daily", SAME)
    assert meant([], "me", "daily") is None
    assert meant([row(first, "FAILED"), row(second, "CANCELLED")], "me", "daily") == second
    assert meant([row(first, "COMMITTED"), row(second, "FAILED")], "me", "daily") == first
    assert meant([row(first, "RUNNING", client="you")], "me", "daily") is None


def test_a_job_that_is_being_stopped_is_known_by_its_name_whatever_its_plan():
    job, _ = id_of([], "me", "daily", OTHER)
    rows = [row(bytes(16), "RUNNING", code="CANCELLED"), row(job, "RUNNING", code="CANCELLED")]
    assert ending(rows, "me", "daily") == job
    for other in (row(job, "CANCELLED", code="CANCELLED"), row(job, "PAUSED", code="NO_WORKERS"), row(job, "RUNNING")):
        assert ending([other], "me", "daily") is None
    assert ending(rows, "me", "weekly") is None
