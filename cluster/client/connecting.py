"""`km.connect`: a cluster's client in this process. From then on every frame and MapReduce runs there."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from kernelmill.cluster.client.asking import cancel_job, job_named, jobs_of, log_of, workers_of
from kernelmill.cluster.client.ends import ClusterEnds
from kernelmill.cluster.client.handle import Job
from kernelmill.cluster.client.link import Link
from kernelmill.cluster.keys.bundle import Bundle, check_address, read_bundle
from kernelmill.cluster.messages import JobRow, LogRow
from kernelmill.cluster.roots import Roots
from kernelmill.cluster.sockets import new_context
from kernelmill.engine import execute
from kernelmill.engine.errors import Code, error
from kernelmill.engine.options import one_of


class Connection:
    """A cluster that this process uses: `close` it, or use it in a `with`; then jobs run here again.

    Connections nest: the one made last is used. Raises KM0601 if the master does not answer.
    """

    def __init__(
        self, bundle: Bundle, address: str, roots: Roots, verify_output: str = "tail", code_policy: str = "signed"
    ) -> None:
        self._bundle, self.address, self.roots = bundle, address, roots
        self._context = new_context()
        self._process = os.getpid()
        self._lock = threading.Lock()
        self._links, self._is_closed = 0, False
        self._ends = ClusterEnds(self._link, roots, bundle, verify_output, code_policy)
        try:
            self.workers()
        except BaseException:
            self._context.destroy(linger=0)
            raise
        execute.run_elsewhere(self._ends)

    def workers(self) -> list[str]:
        """The names of the workers that are there now."""
        with self._link() as link:
            return [one.name for one in workers_of(link)]

    def jobs(self) -> list[JobRow]:
        """The jobs of this client, the newest first."""
        with self._link() as link:
            return jobs_of(link)

    def job(self, job_id: str) -> Job:
        """The job that was run with this `job_id=`, or whose id begins so: to wait for it, take its result, end it.

        Raises KM0616 unless there is exactly one.
        """
        with self._link() as link:
            number = job_named(link, job_id, self._bundle.name)
        return Job(self._link, self.roots, number)

    def log(self, job: bytes) -> list[LogRow]:
        """The lines that a job's tasks wrote to standard output and error, as far as the master kept them."""
        with self._link() as link:
            return log_of(link, job)[0]

    def cancel(self, job: bytes) -> None:
        """Ask for a job's end without output. Raises KM0602 when it is too late."""
        with self._link() as link:
            cancel_job(link, job)

    def close(self) -> None:
        """Let jobs run in this process again; more than once is fine. Jobs of other threads go on to their end."""
        execute.run_here(self._ends)
        with self._lock:
            self._is_closed = True
            is_last = self._links == 0
        if is_last:
            self._end_context()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<kernelmill cluster at {self.address}, as {self._bundle.name}>"

    @contextlib.contextmanager
    def _link(self) -> Iterator[Link]:
        """A link of its own for the thread that asks. The sockets of one end with it, never under another thread."""
        if os.getpid() != self._process:
            what = "this connection to a cluster was made by the process of which this one is a copy"
            raise error(Code.BAD_SETTING, what, hint="call km.connect in the new process, or start it with 'spawn'")
        with self._lock:
            if self._is_closed:
                raise error(Code.BAD_SETTING, "this connection to a cluster is closed", hint="call km.connect again")
            self._links += 1
        try:
            with Link(self._context, self._bundle, self.address) as link:
                yield link
        finally:
            self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._links -= 1
            is_last = self._is_closed and self._links == 0
        if is_last:
            self._end_context()

    def _end_context(self) -> None:
        if os.getpid() == self._process and not self._context.closed:
            self._context.destroy(linger=200)


def connect(
    where: str | os.PathLike[str],
    *,
    bundle: str | os.PathLike[str] | None = None,
    roots: Mapping[str, str | os.PathLike[str]] | None = None,
    verify_output: str = "tail",
    code_policy: str = "signed",
) -> Connection:
    """Run all that follows on a cluster: `with km.connect("me.bundle", roots={"data": "/mnt/data"}): ...`.

    where: the bundle that `kernelmill keys add-client` made, or an address as "tcp://10.0.0.1:7440" with the bundle
    beside it. roots: the folders that this process and the workers share, by the names that the workers know: inputs
    and outputs must lie in them; rows that are collected come through the one called "scratch". verify_output: what is
    read of each part before an output is published: its "tail", or "full": all of it, in case a disk changed a byte.
    code_policy: "signed", or "registered" where workers run only functions that they list: these go by name.

    Raises KM0601 if the master does not answer, KM0615 for a bundle that is none, KM0107 for roots that are no folders.
    """
    one_of("verify_output", verify_output, ("tail", "full"))
    one_of("code_policy", code_policy, ("signed", "registered"))
    text = os.fspath(where)
    is_place = "://" in text
    if is_place and bundle is None:
        hint = f"give this client's keys: km.connect({text!r}, bundle='me.bundle')"
        raise error(Code.BAD_SETTING, "an address alone does not let anybody in", where=text, hint=hint)
    keys = read_bundle(Path(bundle if is_place and bundle is not None else text).expanduser(), "client")
    address = check_address(text) if is_place else keys.address
    return Connection(keys, address, Roots(dict(roots or {})), verify_output, code_policy)
