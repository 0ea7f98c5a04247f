"""What the machine wants recorded, on its way to the journal, and what the journal says when it is durable."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from kernelmill.cluster.failpoints import failpoint
from kernelmill.cluster.journal.records import Record
from kernelmill.cluster.journal.translate import record_of
from kernelmill.cluster.journal.writer import JournalBroke, JournalFilled, JournalWriter, Recorded
from kernelmill.cluster.logs import cluster_log
from kernelmill.cluster.master import events as told
from kernelmill.cluster.master.facts import Committing, EpochBegun, Fact, JobEnded, JobSubmitted, TaskCommitted

_log = cluster_log()
_NAME_OF_DURABLE: Final[dict[type, str]] = {
    JobSubmitted: "master.job.durable",
    TaskCommitted: "master.commit.durable",
    Committing: "master.committing.durable",
    JobEnded: "master.committed.durable",
}


class Recorder:
    """Gathers facts and gives them to the journal's writer together; tells the machine by `tell` what is durable."""

    def __init__(self, writer: JournalWriter, tell: Callable[[told.Event], None]) -> None:
        self._writer, self._tell = writer, tell
        self._recording: deque[tuple[int, tuple[Fact, ...]]] = deque()
        self._ordered: list[tuple[int, list[tuple[bytes, Record]]]] = []  # what the journal is to be given next
        self._is_full = False

    @property
    def is_behind(self) -> bool:
        """Whether the disk does not follow: then peers wait."""
        return self._writer.is_behind

    def record(self, action: told.Record) -> bool:
        """Take facts for the next `hand_over`; False if there is nothing to write, so that they are durable already."""
        facts = [fact for fact in action.facts if not isinstance(fact, EpochBegun)]  # which is durable already
        self._recording.append((action.number, action.facts))
        if facts:
            self._ordered.append((action.number, [record_of(fact) for fact in facts]))
        return bool(facts)

    def hand_over(self) -> None:
        """Give the journal what was ordered since, together."""
        if self._ordered:
            ordered, self._ordered = self._ordered, []
            self._writer.append_groups(ordered)

    def take_reports(self) -> bool:
        """Tell what the journal has done since; whether a job has ended durably. Raises what broke it."""
        is_over = False
        for report in self._writer.take_reports():
            match report:
                case Recorded(tokens):
                    if self._is_full:
                        self._is_full = False
                        self._tell(told.JournalFreed())
                    is_over |= self._gone_durable(tokens[-1])
                case JournalFilled(problem):
                    _log.error("%s", problem)
                    self._is_full = True
                    self._tell(told.JournalFilled())
                case JournalBroke(problem):
                    raise problem
        return is_over

    def _gone_durable(self, number: int) -> bool:
        is_over = False
        while self._recording and self._recording[0][0] <= number:
            for fact in self._recording.popleft()[1]:
                if (name := _NAME_OF_DURABLE.get(type(fact))) is not None:
                    failpoint(name)
                is_over |= isinstance(fact, JobEnded)
        self._tell(told.Recorded(number))
        return is_over
