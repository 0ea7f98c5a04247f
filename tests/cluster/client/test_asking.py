"""What people ask a master: a job by the first letters of its id, among those that this client may know."""

import pytest

from kernelmill.cluster.client.asking import job_named
from kernelmill.cluster.messages import JobRow, Jobs, ListJobs, Refused
from kernelmill.engine.errors import Code, KernelmillError

OWN, OTHERS = bytes.fromhex("aa" * 16), bytes.fromhex("bb" * 16)


class FakeLink:
    """A master with a job of this client's and one of somebody else's."""

    def __init__(self, own, *, is_admin):
        self._own, self._is_admin, self._answer = own, is_admin, None

    def say(self, message):
        assert isinstance(message, ListJobs)
        if message.everybodys and not self._is_admin:
            self._answer = Refused(b"", "AUTH", "the jobs of all are for administrators", "ask for your own")
            return
        known = [*self._own, *([OTHERS] if message.everybodys else [])]
        rows = [JobRow(job, "me", "RUNNING", 1, 0, "here:/out", "") for job in known]
        self._answer = Jobs(0, 1, tuple(rows))

    def hear(self, wait_s):
        return self._answer


@pytest.mark.parametrize("own", [[], [OWN]])
def test_an_administrator_names_jobs_of_others_whether_or_not_it_has_jobs_itself(own):
    assert job_named(FakeLink(own, is_admin=True), "bbb", "me") == OTHERS


def test_a_clients_own_job_is_found_first():
    assert job_named(FakeLink([OWN], is_admin=True), "aa", "me") == OWN


@pytest.mark.parametrize("own", [[], [OWN]])
def test_who_is_no_administrator_hears_that_there_is_no_such_job(own):
    with pytest.raises(KernelmillError) as caught:
        job_named(FakeLink(own, is_admin=False), "bbb", "me")
    assert caught.value.code is Code.NO_JOB
