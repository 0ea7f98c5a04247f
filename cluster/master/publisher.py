"""Outputs on their way to the storage process, which publishes and cleans, and what it answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from kernelmill.cluster.failpoints import failpoint
from kernelmill.cluster.fields import Count, Problem
from kernelmill.cluster.journal.leftovers import Leftovers
from kernelmill.cluster.journal.records import JobAccepted
from kernelmill.cluster.journal.translate import attempt_key, attempt_number
from kernelmill.cluster.logs import cluster_log
from kernelmill.cluster.master import events as told
from kernelmill.cluster.master.facts import Fact, JobSubmitted
from kernelmill.cluster.master.failures import Failure
from kernelmill.cluster.master.machine import Master
from kernelmill.cluster.master.partsfolder import PartsFolder
from kernelmill.cluster.master.storagelink import StorageLink
from kernelmill.cluster.storage import frames

_log = cluster_log()


class Publisher:
    """Orders of the machine become frames of `storage`, its answers events. `take` them when `storage` is ready.

    accepted: the jobs whose staging may be there; kept here from now on.
    """

    def __init__(
        self,
        storage: StorageLink,
        master: Master,
        parts: PartsFolder,
        accepted: dict[str, JobAccepted],
        leftovers: Leftovers,
        tell: Callable[[told.Event], None],
    ) -> None:
        self._storage, self._master, self._parts, self._tell = storage, master, parts, tell
        self._accepted, self._leftovers = accepted, leftovers

    def clean_leftovers(self) -> None:
        """Have removed what jobs left that earlier masters ended."""
        for job, place in self._leftovers.jobs.items():
            self._storage.order(frames.Clean(job, place))

    def note(self, facts: Iterable[Fact]) -> None:
        """Learn of jobs that are being recorded."""
        for fact in facts:
            if isinstance(fact, JobSubmitted) and fact.sheet.accepted is not None:
                self._accepted[fact.sheet.job] = fact.sheet.accepted

    def publish(self, action: told.Publish) -> None:
        """Order that the winners' files of a job become its output."""
        accepted = self._accepted[action.job]
        plan = next(part for part in accepted.parts if part.role == "plan")
        winners = tuple(
            frames.Winner(stage, task, attempt_key(number), files)
            for stage, task, number, files in self._master.files_left(action.job)
        )
        counters: tuple[Count, ...] = self._master.counters_of(action.job)
        place = str(self._parts.path_of(plan.sha256))
        order = frames.Publish(bytes.fromhex(action.job), accepted.sheet, place, winners, counters)
        self._storage.order(order)
        failpoint("master.publish.sent")

    def clean(self, action: told.CleanStaging) -> None:
        """Order that what a job's attempts staged is removed."""
        accepted = self._accepted.pop(action.job)
        self._storage.order(frames.Clean(bytes.fromhex(action.job), accepted.sheet.output))

    def take(self) -> None:
        """Send what is ordered, and tell the master what became of earlier orders."""
        self._storage.write()
        for answer in self._storage.read(time.monotonic()):
            job = answer.job.hex()
            match answer:
                case frames.Published():
                    self._tell(told.Published(job, answer.rows, answer.size_bytes, answer.manifest_xxh3))
                case frames.PublishFailed(bad=bad):
                    place = (bad[0], bad[1], attempt_number(bad[2])) if bad is not None else None
                    problem = _problem_of(answer)
                    if answer.code == Failure.OUTPUT_STUCK.value:
                        _log.warning("job %s: %s: %s; %s", job, answer.where, answer.text, answer.hint)
                    self._tell(told.PublishFailed(job, answer.code, answer.text, place, problem))
                case frames.Cleaned(text=text):
                    if text:
                        _log.warning("staging of job %s: %s", job, text)
                    else:
                        self._leftovers.removed(answer.job)


def _problem_of(answer: frames.PublishFailed) -> Problem | None:
    """The error that the client raises, if the job ends by this."""
    if answer.bad is not None or answer.code in (Failure.OUTPUT_FULL.value, Failure.OUTPUT_STUCK.value):
        return None
    return Problem(answer.code, answer.text, answer.where, answer.hint)
