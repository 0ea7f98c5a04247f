"""A client's conversation ends with its job's result, whatever is lost or comes twice, and never asks for ever."""

import random

import pytest

from kernelmill.cluster.client.talk import CANCELLING, OVER, SUBMITTING, WATCHING, Talk, error_of, error_of_result
from kernelmill.cluster.fields import JobPart, Place, Policy, Problem, Sheet, SheetStage, Versions
from kernelmill.cluster.messages import (
    BUSY,
    PIECE_BYTES_MAX,
    TOO_MANY_JOBS,
    Accepted,
    CancelJob,
    Need,
    PutPart,
    Refused,
    Result,
    Status,
    Submit,
    Watch,
)
from kernelmill.engine.errors import Code, KernelmillError

JOB = b"j" * 16
BODY = bytes(PIECE_BYTES_MAX * 2 + 5)
DIGEST = b"d" * 32
POLICY = Policy("error", 1000, "error", "signed", "tail", 4, False)
SHEET = Sheet((SheetStage("read", 1, (), ()),), Place("data", ("out",)), POLICY, Versions("1", "2", "3", "4", "5"))
SUBMIT = Submit(JOB, SHEET, (JobPart("plan", DIGEST, len(BODY)),), bytes(32), 1)


def result(state="COMMITTED", code="", problem=None):
    return Result(JOB, state, code, problem, SHEET.output, 1, 2, bytes(16), (), ())


@pytest.fixture
def said():
    return []


@pytest.fixture
def talk(said):
    return Talk(JOB, said.append, 0.0, submit=SUBMIT, contents={DIGEST: BODY})


def test_a_job_is_submitted_until_it_is_accepted_then_watched(talk, said):
    assert said == [SUBMIT]
    talk.tick(0.5)
    assert said == [SUBMIT]
    talk.tick(1.0)
    assert said == [SUBMIT, SUBMIT]
    talk.hear(Accepted(JOB, "RUNNING"), 1.2)
    assert (talk.state, said[2:]) == (WATCHING, [Watch(JOB)])
    talk.tick(3.3)
    assert said[3:] == [Watch(JOB)]
    talk.hear(result(), 3.4)
    assert (talk.state, talk.result) == (OVER, result())
    assert talk.tick(1e9) is False


def test_a_client_waits_for_a_place_among_the_submissions(talk, said):
    busy = Refused(JOB, BUSY, "too many jobs are on their way in", "try later")
    now = 0.0
    while now < 170:
        talk.hear(busy, now + 0.1)
        assert talk.state == SUBMITTING
        talk.tick(now + 0.9)
        now += 1.2
        assert talk.tick(now) is False
    assert said == [SUBMIT] * len(said) and 100 < len(said) < 200  # once a second, not at once
    talk.hear(Need(JOB, DIGEST, 0), now)
    talk.hear(busy, now + 100)  # it has a place, then waits anew
    talk.hear(busy, now + 250)
    talk.hear(Accepted(JOB, "RUNNING"), now + 251)
    assert talk.state == WATCHING


def test_a_master_that_is_busy_for_minutes_is_an_error_that_says_so(talk):
    busy = Refused(JOB, BUSY, "too many jobs are on their way in", "try later")
    talk.hear(busy, 1.0)
    talk.hear(busy, 180.9)
    with pytest.raises(KernelmillError) as caught:
        talk.hear(busy, 181.0)
    assert caught.value.code is Code.REFUSED and caught.value.hint == "try later"


def test_a_client_with_as_many_jobs_as_it_may_have_waits_longer_and_says_why(talk):
    full = Refused(JOB, TOO_MANY_JOBS, "64 jobs of ada are live", "wait for one of them")
    talk.hear(full, 1.0)
    talk.hear(full, 600.9)
    assert (talk.state, talk.waits_for) == (SUBMITTING, "64 jobs of ada are live")
    with pytest.raises(KernelmillError) as caught:
        talk.hear(full, 601.0)
    assert caught.value.code is Code.REFUSED and caught.value.hint == "wait for one of them"
    talk.hear(Accepted(JOB, "RUNNING"), 602.0)
    assert (talk.state, talk.waits_for) == (WATCHING, "")


def test_a_job_that_waits_for_a_place_is_cancelled_without_waiting_for_a_result(talk, said):
    talk.hear(Refused(JOB, TOO_MANY_JOBS, "64 jobs of ada are live", "wait for one of them"), 1.0)
    talk.cancel(2.0)
    assert (talk.state, talk.result, talk.was_accepted, said[-1]) == (OVER, None, False, CancelJob(JOB))


def test_a_cancel_that_comes_too_late_is_told_in_the_master_s_words(talk):
    talk.hear(Accepted(JOB, "RUNNING"), 0.1)
    talk.cancel(1.0)
    talk.hear(Refused(JOB, "TOO_LATE", "it will be finished", ""), 1.1)
    assert (talk.state, talk.too_late) == (CANCELLING, "it will be finished")
    talk.hear(result(), 2.0)
    assert talk.state == OVER


def test_parts_are_sent_as_they_are_asked_for(talk, said):
    for offset in (0, PIECE_BYTES_MAX, 2 * PIECE_BYTES_MAX, 0, len(BODY)):
        talk.hear(Need(JOB, DIGEST, offset), 0.1)
        assert said[-1] == PutPart(JOB, DIGEST, offset, BODY[offset : offset + PIECE_BYTES_MAX])
    talk.tick(0.9)
    assert SUBMIT not in said[1:]
    talk.tick(1.2)  # the next Need is lost: submitting again brings it
    assert said[-1] == SUBMIT
    for digest, offset in ((b"x" * 32, 0), (DIGEST, len(BODY) + 1)):
        with pytest.raises(KernelmillError) as caught:
            talk.hear(Need(JOB, digest, offset), 1.3)
        assert caught.value.code is Code.PROTOCOL


def test_messages_about_other_jobs_are_nobodys_business(talk, said):
    talk.hear(Accepted(b"x" * 16, "RUNNING"), 0.1)
    talk.hear(Refused(b"x" * 16, "OUTPUT_EXISTS", "", ""), 0.1)
    assert talk.state == SUBMITTING


def test_a_refusal_is_the_error_that_it_names(talk):
    with pytest.raises(KernelmillError) as caught:
        talk.hear(Refused(JOB, "VERSION", "versions differ", "use the same"), 0.1)
    assert (caught.value.code, caught.value.what, caught.value.hint) == (
        Code.VERSION,
        "versions differ",
        "use the same",
    )
    assert not talk.was_accepted


def test_a_master_that_forgot_the_job_gets_it_again(talk, said):
    talk.hear(Accepted(JOB, "RUNNING"), 0.1)
    talk.hear(Refused(JOB, "NO_JOB", "no such job", ""), 0.2)
    assert (talk.state, said[-1]) == (SUBMITTING, SUBMIT)
    talk.hear(Status(JOB, "me", "RUNNING", (), 2, "", ""), 0.3)
    assert talk.state == WATCHING


def test_silence_asks_for_a_new_connection_and_ends_at_last(talk):
    assert talk.tick(4.9) is False
    assert talk.tick(5.0) is True
    assert talk.tick(5.1) is False
    assert talk.tick(10.0) is True
    with pytest.raises(KernelmillError) as caught:
        talk.tick(20.5)
    assert caught.value.code is Code.UNREACHABLE
    assert "clients.allow" in caught.value.hint


def test_a_master_that_answered_once_may_be_away_for_longer(talk):
    talk.hear(Accepted(JOB, "RUNNING"), 1.0)
    talk.tick(599.0)
    with pytest.raises(KernelmillError) as caught:
        talk.tick(602.0)
    assert JOB.hex() in caught.value.hint


def test_a_cancel_is_said_until_the_job_is_over(talk, said):
    talk.hear(Accepted(JOB, "RUNNING"), 0.1)
    talk.cancel(1.0)
    assert said[-2:] == [CancelJob(JOB), Watch(JOB)]
    talk.hear(Refused(JOB, "REFUSED", "too late", ""), 1.1)
    talk.tick(2.0)
    assert (talk.state, said[-2:]) == (CANCELLING, [CancelJob(JOB), Watch(JOB)])
    talk.hear(result("CANCELLED", "CANCELLED"), 2.1)
    assert error_of_result(talk.result).code is Code.CANCELLED


@pytest.mark.parametrize("seed", range(200))
def test_what_is_lost_or_doubled_only_takes_time(seed):
    """A master that is forgetful, behind a line that loses and doubles, against the clock."""
    chance = random.Random(seed)
    inbox, outbox = [], []
    talk = Talk(JOB, outbox.append, 0.0, submit=SUBMIT, contents={DIGEST: BODY}, first_answer_s=1e6, patience_s=1e6)
    now, got, beats, is_known = 0.0, 0, 0, False

    def send(message, into):
        into.extend([message] * chance.choice((0, 1, 1, 1, 2)))

    while talk.state != OVER:
        now += chance.uniform(0.0, 1.5)
        assert now < 3000, (seed, talk.state)
        if chance.random() < 0.02:
            is_known, got = False, 0  # another master, without this job
        arrived, outbox[:] = list(outbox), []
        for message in arrived:
            match message:
                case Submit() if got == len(BODY):
                    is_known = True
                    send(Accepted(JOB, "RUNNING"), inbox)
                case Submit():
                    send(Need(JOB, DIGEST, got), inbox)
                case PutPart(offset=offset, piece=piece):
                    got = offset + len(piece) if offset == got else got
                    send(Need(JOB, DIGEST, got) if got < len(BODY) else Accepted(JOB, "RUNNING"), inbox)
                    is_known |= got == len(BODY)
                case Watch() if is_known:
                    beats += 1
                    send(result() if beats > 5 else Status(JOB, "me", "RUNNING", (), 1, "", ""), inbox)
                case Watch():
                    send(Refused(JOB, "NO_JOB", "no such job", ""), inbox)
        heard, inbox[:] = list(inbox), []
        for message in heard:
            talk.hear(message, now)
        if talk.tick(now):
            inbox.clear()
    assert talk.result == result()


def test_names_of_failures_become_codes():
    assert error_of(Problem("FUNCTION_FAILED", "a", "b", "c")).code is Code.FUNCTION_FAILED
    assert error_of(Problem("OOM_KILLED", "a", "b", "c")).code is Code.MEMORY_LIMIT
    assert error_of(Problem("SOMETHING_NEW", "a", "b", "c")).code is Code.REFUSED
    failed = error_of_result(result("FAILED", "INPUT_CHANGED", Problem("INPUT_CHANGED", "w", "a.txt", "h")))
    assert (failed.code, failed.where) == (Code.INPUT_CHANGED, "a.txt")
    assert error_of_result(result("FAILED", "NO_WORKERS")).code is Code.NO_WORKERS
