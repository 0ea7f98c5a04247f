"""A job of a cluster that some process submitted, this one or another: `Connection.job`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable

from kernelmill.cluster.client.asking import cancel_job, log_of, look_at
from kernelmill.cluster.client.following import follow
from kernelmill.cluster.client.link import Link
from kernelmill.cluster.client.results import job_result
from kernelmill.cluster.client.talk import Talk, error_of_result
from kernelmill.cluster.messages import LogRow, Result
from kernelmill.cluster.roots import Roots
from kernelmill.engine.job import JobResult

OpenLink = Callable[[], contextlib.AbstractContextManager[Link]]


class Job:
    """A job by its id. Every method asks the master: KM0601 if it does not answer, KM0616 if it has forgotten the job.

    Waiting and leaving change nothing: the job goes on, but for `cancel`.
    """

    def __init__(self, open_link: OpenLink, roots: Roots, job: bytes) -> None:
        self._open_link, self._roots, self._job = open_link, roots, job

    @property
    def id(self) -> str:
        """The id, 32 hexadecimal letters."""
        return self._job.hex()

    @property
    def state(self) -> str:
        """The state now: RUNNING, PAUSED, COMMITTING, or an end: COMMITTED, FAILED, CANCELLED."""
        with self._open_link() as link:
            return look_at(link, self._job).state

    def wait(self, timeout_s: float | None = None) -> str:
        """Wait for the job's end, or for so many seconds, and tell the state."""
        found = self._wait(timeout_s)
        return found.state if found is not None else self.state

    def result(self) -> JobResult:
        """Wait for the job's end, and return what whoever ran it got; raises the error that the job ended by.

        `seconds` are those that were waited here.
        """
        began = time.monotonic()
        found = self._wait(None)
        assert found is not None
        if found.state != "COMMITTED":
            raise error_of_result(found)
        place = self._roots.path_of(found.output)
        return job_result(place, place, found, time.monotonic() - began)

    def cancel(self) -> None:
        """Ask for the job's end without output. Raises KM0602 when it is too late."""
        with self._open_link() as link:
            cancel_job(link, self._job)

    def log(self) -> list[LogRow]:
        """The lines that its tasks wrote to standard output and error, as far as the master kept them."""
        with self._open_link() as link:
            return log_of(link, self._job)[0]

    def __repr__(self) -> str:
        return f"<kernelmill job {self.id}>"

    def _wait(self, timeout_s: float | None) -> Result | None:
        until_s = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        with self._open_link() as link:
            talk = Talk(self._job, link.say, time.monotonic())
            follow(talk, link, lambda status: None, until_s)
            return talk.result
