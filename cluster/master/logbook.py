"""What tasks wrote, by job: the last lines of each, for `kernelmill logs`. In memory only; bounded. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

from kernelmill.cluster.messages import Lines, LogPage, LogRow

LINES_MAX: Final = 2000
"""Lines kept of one job."""
JOBS_MAX: Final = 256
PAGE_LINES: Final = 128


class LogBook:
    """Lines have numbers, so that a reader can go on where it was, and sees what was dropped in between."""

    def __init__(self) -> None:
        self._jobs: dict[bytes, tuple[list[int], deque[LogRow]]] = {}  # job -> number of the first line, lines

    def take(self, worker: str, lines: Lines) -> None:
        """Keep lines; the job that was heard of least recently makes room for a new one."""
        name = lines.attempt
        first, rows = self._jobs.pop(name.job, ([0], deque[LogRow]()))
        self._jobs[name.job] = first, rows
        for text in lines.lines:
            if len(rows) == LINES_MAX:
                rows.popleft()
                first[0] += 1
            rows.append(LogRow(worker, name.stage, name.index, name.attempt, text))
        if len(self._jobs) > JOBS_MAX:
            del self._jobs[next(iter(self._jobs))]

    def page(self, job: bytes, first: int) -> LogPage:
        """Lines from number `first` on, or from the first that is still here."""
        number, rows = self._jobs.get(job, ([0], deque[LogRow]()))
        start = max(first, number[0])
        place = start - number[0]
        return LogPage(job, start, tuple(rows[at] for at in range(place, min(len(rows), place + PAGE_LINES))))
