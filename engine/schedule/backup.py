"""Which attempts are late, and when the next one will be: the watch that backup tasks are started by.

Attempts of a stage are watched in the order of their starts, so the first in line is the first to be late. What was
found late stays late, even if the stage's median grows: it leaves the line and waits for a slot, not for a deadline.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable

from kernelmill.engine.schedule.state import DONE, LIVE, AttemptRecord, BackupPolicy, StageRecord

_BUCKETS_PER_OCTAVE = 8
_BUCKETS = 256
_SHORTEST_S = 0.001


class Durations:
    """Counts running times in buckets 9 % apart, from 1 ms to 48 days: a median in bounded space."""

    __slots__ = ("_counts", "_median_s", "_stale_from", "_total")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self._total = 0
        self._median_s = 0.0
        self._stale_from = 1  # the total from which the median is computed anew

    def add(self, seconds: float) -> None:
        """Count one running time."""
        octaves = math.log2(max(seconds, _SHORTEST_S) / _SHORTEST_S)
        self._counts[min(int(octaves * _BUCKETS_PER_OCTAVE), _BUCKETS - 1)] += 1
        self._total += 1

    def median_s(self) -> float:
        """Tell the upper bound of the bucket in which the median lies; 0.0 before the first time was added.

        Up to 1/16 of the times may be newer than the answer: to look again after each cost a third of all decisions.
        """
        if self._total >= self._stale_from:
            self._median_s = self._find_median_s()
            self._stale_from = self._total + self._total // 16 + 1
        return self._median_s

    def _find_median_s(self) -> float:
        below = 0
        for bucket, count in enumerate(self._counts):
            below += count
            if count and below * 2 >= self._total:
                return float(_SHORTEST_S * 2.0 ** ((bucket + 1) / _BUCKETS_PER_OCTAVE))
        return 0.0


class BackupWatch:
    """Watches the live attempts of tasks that have no backup yet."""

    def __init__(self, policy: BackupPolicy, stages: list[StageRecord]) -> None:
        self._policy, self._stages = policy, stages
        self._durations: list[Durations] = [Durations() for _ in stages]
        self._lines: list[OrderedDict[int, AttemptRecord]] = [OrderedDict() for _ in stages]
        self._late: dict[int, AttemptRecord] = {}
        self.running = 0  # backups that have not ended

    def start(self, stage: StageRecord, record: AttemptRecord) -> None:
        """Watch an attempt, or count it if it is a backup."""
        if record.is_backup:
            self.running += 1
        else:
            self._lines[stage.number][record.id.number] = record

    def forget(self, stage: StageRecord, record: AttemptRecord) -> None:
        """Watch the attempt no more: it ended, is not wanted, or has its backup."""
        self._lines[stage.number].pop(record.id.number, None)
        self._late.pop(record.id.number, None)

    def end(self, stage: StageRecord, record: AttemptRecord) -> None:
        """Note that an attempt ended in any way."""
        self.forget(stage, record)
        self.running -= record.is_backup

    def finish(self, stage: StageRecord, seconds: float) -> None:
        """Count the running time of an attempt whose output counts."""
        self._durations[stage.number].add(seconds)

    def may_start(self, slots: int) -> bool:
        """Tell whether the cap on backups leaves room for one more, given all slots."""
        return self.running < max(1, int(self._policy.slots_share * slots))

    def late_attempts(self, now: float) -> list[AttemptRecord]:
        """Move those that are late by now out of their lines; return all late ones, the longest known first."""
        for line, since_s in self._lines_with_limits():
            while line:
                number, record = next(iter(line.items()))
                if record.started_s + since_s > now:
                    break
                del line[number]
                record.is_late = True
                self._late[number] = record
        return list(self._late.values())

    def next_deadline(self) -> float | None:
        """Tell when the next attempt will be late, or None. Those that are late already are not counted."""
        firsts = [next(iter(line.values())).started_s + since_s for line, since_s in self._lines_with_limits()]
        return min(firsts, default=None)

    def check(self, records: Iterable[AttemptRecord]) -> None:
        """Assert every invariant that concerns the watch, given all attempts that have not ended."""
        unbacked = {}
        for record in records:
            if record.state == LIVE and not record.is_backup:
                number = record.id.number
                is_watched = number in self._lines[record.id.task.stage]
                assert record.is_late or is_watched, f"attempt {record.id} is not watched"
                assert (number in self._late) <= (record.is_late and record.rival is None), f"attempt {record.id}"
                unbacked[number] = record
        watched = {number for line in self._lines for number in line} | set(self._late)
        assert watched <= set(unbacked), "an attempt is watched that has ended"
        for line in self._lines:
            starts = [record.started_s for record in line.values()]
            assert starts == sorted(starts), "a line out of order"

    def _lines_with_limits(self) -> list[tuple[OrderedDict[int, AttemptRecord], float]]:
        return [
            (line, self._limit_s(stage))
            for stage, line in zip(self._stages, self._lines, strict=True)
            if line and stage.counts[DONE] >= self._policy.done_share * stage.tasks
        ]

    def _limit_s(self, stage: StageRecord) -> float:
        median_s = self._durations[stage.number].median_s()
        return max(self._policy.late_s_min, self._policy.median_factor * median_s)
