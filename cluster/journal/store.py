"""The journal's file: a SQLite database that is only ever appended to.

    meta(key text primary key, value blob)     cluster: 16 bytes, secret: 32 bytes, format: text
    events(seq integer primary key, epoch, at, kind, job, body, digest)    rows as in chain.py

Write-ahead log, fsynced at every commit; one connection, exclusive, so there is no shared-memory file. Checkpoints are
ours, for SQLite's own ones hide the errors of fsync. SQLite checks little of what it reads: the chain of digests does.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Self

from kernelmill.cluster.journal.chain import Event, Row, checked, digest_of, first_digest
from kernelmill.cluster.journal.place import failed
from kernelmill.cluster.journal.records import FORMAT
from kernelmill.engine.durable import fsync_folder
from kernelmill.engine.errors import Code, KernelmillError, error

NAME = "journal.db"
CHECKPOINT_BYTES = 4 << 20
"""Length of the write-ahead log from which it is copied into the main file."""

_TABLES = """
create table meta(key text primary key, value blob not null) without rowid;
create table events(seq integer primary key, epoch integer not null, at integer not null, kind integer not null,
                    job blob not null, body blob not null, digest blob not null);
"""
_INSERT = "insert into events values (?, ?, ?, ?, ?, ?, ?)"
_CAREFUL = ("locking_mode = exclusive", "cell_size_check = on", "trusted_schema = off", "mmap_size = 0")
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_FORMAT, sqlite3.SQLITE_SCHEMA}


class NewRow(NamedTuple):
    """A row that has no number and digest yet."""

    epoch: int
    at_ms: int
    kind: int
    job: bytes
    body: bytes


class JournalFile:
    """An open journal. Read all of it with `events` before the first `append`. One thread at a time may use it."""

    def __init__(self, path: Path, connection: sqlite3.Connection, cluster: bytes, secret: bytes) -> None:
        self.path, self.cluster, self.secret = path, cluster, secret
        self.connection = connection
        self._seq, self._digest = 0, first_digest(cluster, secret)
        self._checkpoint_at = CHECKPOINT_BYTES

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open an existing journal. Raises KM0611 if it is damaged, KM0613 if it is open elsewhere, KM0614."""
        with typed_errors(path, "opening the journal", reading=True):
            uri = f"{path.absolute().as_uri()}?mode=rw"
            connection = sqlite3.connect(uri, uri=True, timeout=0, isolation_level=None, check_same_thread=False)
            try:
                connection.text_factory = bytes  # what is not UTF-8 in a damaged file must reach our own checks
                for pragma in _CAREFUL:
                    connection.execute(f"pragma {pragma}")
                mode = connection.execute("pragma journal_mode = wal").fetchone()
                if mode != (b"wal",):
                    raise sqlite3.OperationalError(f"no write-ahead log here: {mode}")
                connection.execute("pragma synchronous = full")
                connection.execute("pragma wal_autocheckpoint = 0")
                found = connection.execute("pragma integrity_check(1)").fetchone()
                if found != (b"ok",):
                    raise _damaged(path, str(found[0] if found else "no tables"))
                meta = dict(connection.execute("select key, value from meta").fetchall())
                return cls(path, connection, *_checked_meta(path, meta))
            except BaseException:
                connection.close()
                raise

    @property
    def last(self) -> tuple[int, bytes]:
        """Number and digest of the last row that was read or written; 0 and the first digest before."""
        return self._seq, self._digest

    def events(self) -> Iterator[Event]:
        """Yield every event, in order. Raises KM0611 at the first row that is not as it was written."""
        digest = first_digest(self.cluster, self.secret)
        with typed_errors(self.path, "reading the journal", reading=True):
            rows = self.connection.execute("select seq, epoch, at, kind, job, body, digest from events order by seq")
            for event in checked(rows, digest, str(self.path)):
                self._seq, self._digest = event.row.seq, event.row.digest
                yield event

    def append(self, rows: Sequence[NewRow]) -> int:
        """Write rows in one transaction and return the number of the last once all are durable.

        Raises KM0606 if the disk is full: nothing was written, and the same may be tried again. Any other error is
        KM0614, after which the file must not be used: a second fsync may succeed without having written anything.
        """
        full_rows = list(_chained(rows, self._seq, self._digest))
        with typed_errors(self.path, "writing the journal"):
            try:
                self.connection.execute("begin immediate")
                self.connection.executemany(_INSERT, full_rows)
                self.connection.execute("commit")
            except sqlite3.Error:
                if self.connection.in_transaction:
                    self.connection.execute("rollback")
                raise
        self._seq, self._digest = full_rows[-1].seq, full_rows[-1].digest
        return self._seq

    def checkpoint_if_long(self) -> None:
        """Copy the write-ahead log into the main file once it is long; on a full disk it stays as it is.

        Raises KM0614 for any other error.
        """
        log = self.path.with_name(self.path.name + "-wal")
        try:
            length = os.path.getsize(log)
        except FileNotFoundError:
            length = 0
        if length < self._checkpoint_at:
            return
        try:
            with typed_errors(self.path, "copying the journal's log"):
                self.connection.execute("pragma wal_checkpoint(truncate)").fetchone()
            self._checkpoint_at = CHECKPOINT_BYTES
        except KernelmillError as problem:
            if problem.code is not Code.JOURNAL_FULL:
                raise
            self._checkpoint_at = (
                2 * length
            )  # the commits are durable in the log; it may grow, but is not tried each time

    def close(self) -> None:
        """Close the file; what was appended is durable, closed or not."""
        with typed_errors(self.path, "closing the journal"):
            self.connection.close()


def write_new(path: Path, cluster: bytes, secret: bytes, rows: Iterable[NewRow]) -> tuple[int, bytes]:
    """Write a whole journal under a name that is not in use yet, make it durable, and return its last row's name.

    That is number and digest; 0 and the first digest if there are no rows.

    Raises KM0606 if the disk is full, KM0614 for other errors; the caller removes the file then.
    """
    last = 0, first_digest(cluster, secret)

    def chained() -> Iterator[Row]:
        nonlocal last
        for row in _chained(rows, *last):
            last = row.seq, row.digest
            yield row

    with typed_errors(path, "writing a new journal"):
        connection = sqlite3.connect(path, isolation_level=None)
        try:
            os.chmod(path, 0o600)  # it holds the secret of the seals
            connection.execute("pragma journal_mode = off")  # a crash leaves a file that nobody looks at
            connection.execute("pragma synchronous = off")
            connection.executescript(_TABLES)
            connection.execute("begin immediate")
            meta = {"cluster": cluster, "secret": secret, "format": str(FORMAT).encode()}
            connection.executemany("insert into meta values (?, ?)", meta.items())
            connection.executemany(_INSERT, chained())
            connection.execute("commit")
        finally:
            connection.close()
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
        fsync_folder(str(path.parent))
    return last


def _chained(rows: Iterable[NewRow], seq: int, digest: bytes) -> Iterator[Row]:
    """Number the rows and chain them to the row `seq` with this digest."""
    for row in rows:
        seq += 1
        digest = digest_of(digest, seq, *row)
        yield Row(seq, *row, digest)


def _checked_meta(path: Path, meta: dict[object, object]) -> tuple[bytes, bytes]:
    cluster, secret, form = meta.get(b"cluster"), meta.get(b"secret"), meta.get(b"format")
    if form != str(FORMAT).encode():
        what = f"the journal has format {form!r}, this kernelmill reads and writes {FORMAT}"
        raise error(Code.JOURNAL_CORRUPT, what, where=str(path), hint="use the version of kernelmill that wrote it")
    if not (isinstance(cluster, bytes) and isinstance(secret, bytes) and (len(cluster), len(secret)) == (16, 32)):
        raise _damaged(path, "its table meta")
    return cluster, secret


def _damaged(path: Path, what: str) -> KernelmillError:
    hint = "restore the state folder from a copy, or start with an empty one; outputs that are published stay whole"
    return error(Code.JOURNAL_CORRUPT, f"the journal is damaged: {what}", where=str(path), hint=hint)


@contextmanager
def typed_errors(path: Path, doing: str, *, reading: bool = False) -> Iterator[None]:
    """Turn errors of SQLite and the system into KM0606, KM0611, KM0613 or KM0614."""
    try:
        yield
    except sqlite3.Error as problem:
        raise _typed(path, doing, problem, reading) from problem
    except UnicodeDecodeError as problem:  # SQLite quotes damaged bytes in its messages
        raise _damaged(path, str(problem)) from problem
    except OSError as problem:
        raise failed(path, doing, problem) from problem


def _typed(path: Path, doing: str, problem: sqlite3.Error, reading: bool) -> KernelmillError:
    number = getattr(problem, "sqlite_errorcode", 0) & 0xFF  # the low byte is the kind, the rest says more of it
    where = str(path)
    if number == sqlite3.SQLITE_FULL:
        return error(Code.JOURNAL_FULL, f"{doing}: the disk is full", where=where, hint="free space on that disk")
    if number in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        hint = "end the process that has it open"
        return error(Code.JOURNAL_BUSY, f"{doing}: it is open elsewhere", where=where, hint=hint)
    if number in _DAMAGED or (reading and number in (0, sqlite3.SQLITE_ERROR)):
        return _damaged(path, str(problem))
    hint = "check the disk, then start the master again: it goes on from what is durable"
    return error(Code.JOURNAL_FAILED, f"{doing} failed: {problem}", where=where, hint=hint)
