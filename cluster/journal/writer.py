"""The journal's thread: takes records from a bounded queue, makes them durable in groups, and says so.

A group is whatever has come while the one before was written, up to RECORDS_MAX: with an fsync of half a millisecond,
waiting for more would only delay the first. Records are written in the order in which they were given, always.

Once a group is durable, and before that is reported, the mark beside the journal names its last record (`head.py`). It
is synced where a group says something of a whole job or begins an epoch. Of commits that are lost after the last such
record nobody misses anything: workers offer again what they hold, and the rest is run again.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from kernelmill.cluster.journal.head import Head
from kernelmill.cluster.journal.records import (
    KIND_OF,
    OutputLost,
    Poisoned,
    Record,
    RolledBack,
    TaskCommitted,
    encode_record,
)
from kernelmill.cluster.journal.store import JournalFile, NewRow
from kernelmill.engine.errors import Code, KernelmillError, error

RECORDS_MAX = 256
"""Records of one transaction."""
QUEUE_RECORDS_MAX = 16384
QUEUE_BYTES_MAX = 64 << 20
_OF_TASKS = {KIND_OF[kind] for kind in (TaskCommitted, OutputLost, RolledBack, Poisoned)}


class Recorded(NamedTuple):
    """These records are durable: what they say may be acknowledged."""

    tokens: tuple[int, ...]


class JournalFilled(NamedTuple):
    """The disk is full. Records wait, and are tried again by themselves; the next Recorded says that there is space."""

    problem: KernelmillError


class JournalBroke(NamedTuple):
    """Nothing more can be recorded: the master must stop."""

    problem: KernelmillError


Report = Recorded | JournalFilled | JournalBroke


class JournalWriter:
    """Appends to a journal from a thread of its own, which `close` ends. Only that thread touches the file meanwhile.

    `wake` is called in that thread whenever there are reports to take; it must neither block nor raise.
    """

    def __init__(
        self, file: JournalFile, head: Head, epoch: int, wake: Callable[[], None], *, retry_s: float = 1.0
    ) -> None:
        self._head = head
        self._file, self._epoch, self._wake, self._retry_s = file, epoch, wake, retry_s
        self._changed = threading.Condition()
        self._queue: deque[tuple[int, list[NewRow]]] = (
            deque()
        )  # what is being written stays in front until it is durable
        self._queue_records = self._queue_bytes = 0
        self._reports: list[Report] = []
        self._broken: KernelmillError | None = None
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def append(self, token: int, job: bytes, record: Record) -> None:
        """Queue a record; a report names `token` once it is durable.

        Raises KM0606 if the queue is full: take reports first. Raises KM0614 if the journal broke or is closed.
        """
        self.append_all(token, [(job, record)])

    def append_all(self, token: int, records: Sequence[tuple[bytes, Record]]) -> None:
        """Queue records that must be durable together or not at all. Raises as `append` does."""
        self.append_groups([(token, records)])

    def append_groups(self, groups: Sequence[tuple[int, Sequence[tuple[bytes, Record]]]]) -> None:
        """Queue several such groups of records, each with its token, at once. Raises as `append` does."""
        at_ms = time.time_ns() // 1_000_000
        entries = []
        for token, records in groups:
            rows = [NewRow(self._epoch, at_ms, KIND_OF[type(one)], job, encode_record(one)) for job, one in records]
            entries.append((token, rows))
        count = sum(len(rows) for _, rows in entries)
        size = sum(len(row.body) for _, rows in entries for row in rows)
        with self._changed:
            if self._broken is not None:
                raise self._broken
            if self._closing:
                raise error(Code.JOURNAL_FAILED, "the journal is closed", where=str(self._file.path))
            if self._queue_records >= QUEUE_RECORDS_MAX or self._queue_bytes + size > QUEUE_BYTES_MAX:
                what = f"{self._queue_records} records wait for the journal's disk"
                raise error(Code.JOURNAL_FULL, what, where=str(self._file.path), hint="check that disk")
            self._queue.extend(entries)
            self._queue_records += count
            self._queue_bytes += size
            self._changed.notify()

    @property
    def is_behind(self) -> bool:
        """Whether so much waits for the disk that whoever makes records should pause."""
        return self._queue_records > QUEUE_RECORDS_MAX // 2 or self._queue_bytes > QUEUE_BYTES_MAX // 2

    def take_reports(self) -> list[Report]:
        """Return what has happened since the last call, in order."""
        with self._changed:
            reports, self._reports = self._reports, []
        return reports

    def close(self) -> None:
        """Write what is queued, as far as the disk allows, end the thread and close the file.

        What could not be written was never reported as durable. Raises KM0614 if closing fails.
        """
        with self._changed:
            self._closing = True
            self._changed.notify()
        self._thread.join()
        self._head.close()
        self._file.close()

    def _run(self) -> None:
        try:
            self._write_groups()
        except KernelmillError as problem:
            self._break(problem)
        except Exception as problem:  # a thread that ended silently would leave every job waiting
            internal = error(Code.INTERNAL, f"the journal's thread: {type(problem).__name__}: {problem}")
            internal.__cause__ = problem
            self._break(internal)

    def _write_groups(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closing)
                group = self._next_group()
            if not group:
                return
            rows = [row for _, rows in group for row in rows]
            is_synced = any(row.kind not in _OF_TASKS for row in rows)
            if not self._write(partial(self._file.append, rows)):
                return
            if not self._write(partial(self._head.move, *self._file.last, is_synced=is_synced)):
                return
            self._report_durable(group)
            self._file.checkpoint_if_long()

    def _write(self, write: Callable[[], object]) -> bool:
        """Do it, again and again while the disk is full; False if the journal is being closed meanwhile."""
        is_full = False
        while True:
            try:
                write()
                return True
            except KernelmillError as problem:
                if problem.code is not Code.JOURNAL_FULL:
                    raise
                if not self._wait_for_space(None if is_full else problem):
                    return False
                is_full = True

    def _next_group(self) -> list[tuple[int, list[NewRow]]]:
        """Whole entries from the front, at least one if there are any, and no more than RECORDS_MAX records else."""
        group: list[tuple[int, list[NewRow]]] = []
        records = 0
        for entry in self._queue:
            records += len(entry[1])
            if group and records > RECORDS_MAX:
                break
            group.append(entry)
        return group

    def _wait_for_space(self, news: KernelmillError | None) -> bool:
        """Report a full disk if that is news, and wait; False if the journal is being closed meanwhile."""
        if news is not None:
            with self._changed:
                self._reports.append(JournalFilled(news))
            self._wake()
        with self._changed:
            return not self._changed.wait_for(lambda: self._closing, timeout=self._retry_s)

    def _report_durable(self, group: list[tuple[int, list[NewRow]]]) -> None:
        with self._changed:
            for _, rows in group:
                self._queue.popleft()
                self._queue_records -= len(rows)
                self._queue_bytes -= sum(len(row.body) for row in rows)
            self._reports.append(Recorded(tuple(token for token, _ in group)))
        self._wake()

    def _break(self, problem: KernelmillError) -> None:
        with self._changed:
            self._broken = problem
            self._reports.append(JournalBroke(problem))
        self._wake()
