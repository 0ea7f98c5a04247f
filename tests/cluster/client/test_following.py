"""The loop around a conversation: what it tells whoever waits, and when it leaves."""

import logging
import time

import pytest

from kernelmill.cluster.client.following import cancel, follow
from kernelmill.cluster.client.talk import OVER, Talk
from kernelmill.cluster.fields import Place, Policy, Sheet, SheetStage, Versions
from kernelmill.cluster.messages import BUSY, TOO_MANY_JOBS, Accepted, CancelJob, Refused, Result, Submit

JOB = b"j" * 16
POLICY = Policy("error", 1000, "error", "signed", "tail", 4, False)
SHEET = Sheet((SheetStage("read", 1, (), ()),), Place("data", ("out",)), POLICY, Versions("1", "2", "3", "4", "5"))
FULL = Refused(JOB, TOO_MANY_JOBS, "64 jobs of ada are live", "")
DONE = Result(JOB, "COMMITTED", "", None, SHEET.output, 1, 2, bytes(16), (), ())
CANCELLED = Result(JOB, "CANCELLED", "CANCELLED", None, SHEET.output, 0, 0, b"", (), ())


class Link:
    """A link over which the given messages come, one at a time."""

    def __init__(self, *messages):
        self.messages, self.said = list(messages), []

    def say(self, message):
        self.said.append(message)

    def hear(self, wait_s):
        return self.messages.pop(0)

    def reconnect(self):
        raise AssertionError("nobody was silent")


def talk_over(link):
    return Talk(JOB, link.say, time.monotonic(), submit=Submit(JOB, SHEET, (), bytes(32), 1))


def test_whoever_waits_for_a_place_is_told_why_once():
    link, told = Link(FULL, FULL, Refused(JOB, BUSY, "so many", ""), Accepted(JOB, "RUNNING"), DONE), []
    talk = talk_over(link)
    follow(talk, link, lambda status: None, on_wait=told.append)
    assert told == ["64 jobs of ada are live"] and talk.result == DONE


def test_a_check_ends_the_following_of_a_job_that_waits_for_a_place_but_not_of_one_that_is_over():
    left = iter([None, None])
    with pytest.raises(StopIteration):
        follow(talk_over(link := Link(*[FULL] * 9)), link, lambda status: None, check=lambda: next(left))
    assert len(link.messages) == 7
    talk = talk_over(link := Link(DONE))
    checks = []
    follow(talk, link, lambda status: None, check=lambda: checks.append(talk.state))
    assert checks == ["SUBMITTING"] and talk.result == DONE


@pytest.mark.parametrize(("end", "lines"), [(DONE, 1), (CANCELLED, 0)])
def test_a_cancel_that_is_too_late_is_told_unless_the_job_ended_otherwise(end, lines, caplog):
    link = Link(Refused(JOB, "TOO_LATE", "it will be finished", ""), end)
    talk = talk_over(link)
    talk.hear(Accepted(JOB, "RUNNING"), time.monotonic())
    with caplog.at_level(logging.WARNING, "kernelmill.cluster"):
        cancel(talk, link)
    assert talk.state == OVER and CancelJob(JOB) in link.said
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == lines and all("it will be finished" in line for line in said)
