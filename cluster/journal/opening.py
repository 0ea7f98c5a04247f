"""Opening the journal of a state folder: lock, replay, compaction, and a new epoch, durable before anything else.

A journal is only ever put in place whole: it is written under another name, fsynced and renamed. So a crash at any step
leaves the old file or the new one.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from kernelmill.cluster.fields import Place, Versions
from kernelmill.cluster.journal.chain import Event, Row, corrupt
from kernelmill.cluster.journal.head import NAME as HEAD_NAME
from kernelmill.cluster.journal.head import Head, Mark
from kernelmill.cluster.journal.leftovers import Leftovers
from kernelmill.cluster.journal.place import FolderLock, failed, prepare_folder, read_epoch, write_epoch
from kernelmill.cluster.journal.records import (
    KIND_OF,
    EpochStarted,
    JobCancelled,
    JobCommitted,
    JobFailed,
    JobForgotten,
    encode_record,
)
from kernelmill.cluster.journal.store import NAME, JournalFile, NewRow, write_new
from kernelmill.cluster.journal.translate import fact_of
from kernelmill.cluster.journal.writer import JournalWriter
from kernelmill.cluster.master.ledger import Ledger
from kernelmill.engine.durable import fsync_folder
from kernelmill.engine.errors import Code, InternalError, error


@dataclass
class Journal:
    """A master's journal in its new epoch: what earlier ones left, and the writer of what comes.

    The new epoch is durable and not yet in `ledger`: the machine that starts on it says so.
    `leftovers` are of jobs that earlier ones ended.
    `is_behind` tells that the journal lost its tail, and somebody removed its mark so that it opens nevertheless: the
    file beside it knows a later epoch. Workers offer again what they hold, so no row is lost by that; outcomes of jobs
    may be.
    """

    cluster: bytes
    secret: bytes = field(repr=False)
    epoch: int
    life: bytes
    is_behind: bool
    ledger: Ledger
    leftovers: Leftovers
    writer: JournalWriter
    _lock: FolderLock

    def close(self) -> None:
        """Write what is queued, close the journal and let others have the folder."""
        try:
            self.writer.close()
        finally:
            self._lock.release()


def open_journal(folder: Path, versions: Versions, wake: Callable[[], None], *, retry_s: float = 1.0) -> Journal:
    """Open or make the journal of a state folder, and begin a new epoch in it. `wake` is as for JournalWriter.

    Raises KM0107 on a network file system, KM0613 if another master has the folder, KM0611 if the journal is not as it
    was written, KM0606 on a full disk, KM0614 for other errors.
    """
    prepare_folder(folder)
    lock = FolderLock(folder)
    head: Head | None = None
    try:
        _remove_unfinished(folder)
        known_epoch, head = read_epoch(folder), Head.open(folder)
        path = folder / NAME
        if not os.path.lexists(path):
            _make_first(path, known_epoch, head)
        file, ledger, leftovers = _replayed(path, head)
        try:
            epoch, life = max(ledger.epoch, known_epoch) + 1, secrets.token_bytes(8)
            started = EpochStarted(epoch, life, versions)
            is_behind = known_epoch > ledger.epoch
            file.append([NewRow(epoch, _now_ms(), KIND_OF[EpochStarted], b"", encode_record(started))])
            head.move(*file.last, is_synced=True)
            write_epoch(folder, epoch)
        except BaseException:
            file.close()
            raise
        writer = JournalWriter(file, head, epoch, wake, retry_s=retry_s)
        return Journal(file.cluster, file.secret, epoch, life, is_behind, ledger, leftovers, writer, lock)
    except BaseException:
        if head is not None:
            head.close()
        lock.release()
        raise


def _make_first(path: Path, known_epoch: int, head: Head) -> None:
    if known_epoch or head.marks:
        known = f"epoch {known_epoch}" if known_epoch else f"record {head.marks[0].seq}"
        what = f"the journal is gone, though {known} was written here"
        hint = "restore it from a copy, or use --state with an empty folder for a new cluster"
        raise error(Code.JOURNAL_CORRUPT, what, where=str(path), hint=hint)
    with _new_file(path) as new:
        write_new(new, secrets.token_bytes(16), secrets.token_bytes(32), [])


@dataclass
class _Times:
    """When each job began and ended, as compaction must know it."""

    first_epoch: dict[bytes, int] = field(default_factory=dict)
    last_ms: dict[bytes, int] = field(default_factory=dict)

    def note(self, row: Row) -> None:
        if row.job:
            self.first_epoch.setdefault(row.job, row.epoch)
            self.last_ms[row.job] = row.at_ms


def _replayed(path: Path, head: Head) -> tuple[JournalFile, Ledger, Leftovers]:
    """Open the journal and read it; if there are ended jobs to be dropped, compact it and read it again."""
    while True:
        file = JournalFile.open(path)
        try:
            ledger, times, is_worth_it = Ledger(), _Times(), False
            for event in file.events():
                replay(ledger, event, str(path))
                head.meet(event.row.seq, event.row.digest)
                times.note(event.row)
                is_worth_it |= isinstance(event.record, JobCommitted | JobFailed | JobCancelled | JobForgotten)
            head.check(file.last[0], str(path))
            ended: dict[bytes, Place] = {}
            for job in ledger.ended:
                if job in ledger.jobs and (accepted := ledger.jobs[job].sheet.accepted) is not None:
                    ended[bytes.fromhex(job)] = accepted.sheet.output
                ledger.let_go(job)
            leftovers = Leftovers(path.parent, ledger.jobs)
            if ended:
                leftovers.add(ended)
            if not is_worth_it:
                return file, ledger, leftovers
            with _new_file(path) as new:
                compacted = Mark(*write_new(new, file.cluster, file.secret, _kept_rows(file, ledger, times)))
                head.move(*file.last, is_synced=True, instead=compacted)
                file.close()
        except BaseException:
            file.close()
            raise


def replay(ledger: Ledger, event: Event, where: str) -> None:
    """Take the journal's next event. Raises KM0611 with its number if it cannot follow; then nothing was changed."""
    row = event.row
    try:
        fact = fact_of(row.job, event.record)
        if isinstance(event.record, EpochStarted):
            is_at_home = not row.job and event.record.epoch == row.epoch
        else:
            is_at_home = len(row.job) == 16 and row.epoch == ledger.epoch > 0
        if not is_at_home:
            raise ValueError(f"written in epoch {row.epoch}, among those of epoch {ledger.epoch}, or for no job")
        ledger.apply(fact)
    except InternalError as problem:
        raise corrupt(where, row.seq, problem.what) from problem
    except ValueError as problem:
        raise corrupt(where, row.seq, str(problem)) from problem


def _kept_rows(file: JournalFile, ledger: Ledger, times: _Times) -> Iterator[NewRow]:
    """The rows of live jobs, the epochs since the first of them, and one row for each ended job."""
    live = {bytes.fromhex(job) for job in ledger.jobs}
    first = min((times.first_epoch[job] for job in live), default=ledger.epoch)
    for event in file.events():
        row = event.row
        if row.job in live or (not row.job and row.epoch >= first):
            yield NewRow(*row[1:6])
        if not row.job and row.epoch == first:
            for name, ended in ledger.ended.items():
                job = bytes.fromhex(name)
                yield NewRow(first, times.last_ms[job], KIND_OF[type(ended)], job, encode_record(ended))


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[Path]:
    """Give a name for a new journal and put what the block wrote there in place; the old one must be closed by then."""
    new = path.with_name(path.name + ".new")
    try:
        yield new
        _remove_log(path)
        os.rename(new, path)
        fsync_folder(str(path.parent))
    except OSError as problem:
        raise failed(path, "putting the journal in place", problem) from problem
    finally:
        with contextlib.suppress(OSError):
            os.unlink(new)


def _remove_unfinished(folder: Path) -> None:
    for name in (f"{NAME}.new", "epoch.new", f"{HEAD_NAME}.new"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(folder / name)


def _remove_log(path: Path) -> None:
    """See to it that no log of an older file is left, which SQLite would copy into the new one."""
    log = path.with_name(path.name + "-wal")
    try:
        if os.path.exists(log):
            if os.path.exists(path) and os.path.getsize(log):  # closing has copied it and made it empty, or removed it
                what = "the journal's log could not be copied into it"
                raise error(Code.JOURNAL_FAILED, what, where=str(log), hint="check the disk and start again")
            os.unlink(log)
        fsync_folder(str(path.parent))
    except OSError as problem:
        raise failed(log, "removing the log of the old journal", problem) from problem


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
