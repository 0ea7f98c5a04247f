"""The mark beside the journal that says how far it went, so that an end that is missing does not go unnoticed.

The chain of digests ties a record to those before it, and SQLite takes a damaged log for one that ends there: of what
comes after, nothing is left that could not fit. The file `head` has two slots of SLOT_BYTES; a line in each, padded:

    kernelmill head <serial> <seq> <digest> <seq> <digest> <checksum>

The line with the higher serial holds. It names a record that the journal must have, by number and digest; the second
name is that of the same journal, compacted, while one takes the other's place. A mark is written when its record is
durable, never before, so a crash between leaves a mark that is behind, and that is no damage. Not every mark is synced
(`JournalWriter` says which); those that are not go to the slot that was not synced last, so one slot is always whole.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import NamedTuple, Self

import xxhash

from kernelmill.cluster.journal.place import failed
from kernelmill.engine.durable import fsync_folder
from kernelmill.engine.errors import Code, error

NAME = "head"
SLOT_BYTES = 4096
_LINE = re.compile(
    rb"(kernelmill head (\d{1,19}) (\d{1,19}) ([0-9a-f]{32}) (\d{1,19}) ([0-9a-f]{32})) ([0-9a-f]{16})\n *"
)
_HINT = (
    "restore the whole state folder from a copy; or remove the file `head` there and go on with what is left: "
    "jobs and results of after are forgotten then, outputs that are published stay whole"
)


class Mark(NamedTuple):
    """A record by its number, from 1, and its digest of 16 bytes."""

    seq: int
    digest: bytes


class Head:
    """The mark of a state folder. One thread at a time may use it; `close` ends it."""

    def __init__(self, path: Path, handle: int, serial: int, marks: tuple[Mark, ...], slot: int) -> None:
        self.path, self.marks = path, marks
        self._handle, self._serial, self._slot = handle, serial, slot
        self._met: set[Mark] = set()

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Read the mark of a folder, if it has one. Raises KM0611 if it is damaged, KM0614 if it cannot be read."""
        path = folder / NAME
        try:
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return cls(path, -1, 0, (), 0)
        except OSError as problem:
            raise failed(path, "opening the journal's mark", problem) from problem
        try:
            slots = [_read(os.pread(handle, SLOT_BYTES, at)) for at in (0, SLOT_BYTES)]
            serial, slot = max((found[0], number) for number, found in enumerate(slots))
            if not serial:
                raise error(Code.JOURNAL_CORRUPT, "the journal's mark is damaged", where=str(path), hint=_HINT)
            return cls(path, handle, serial, slots[slot][1], 1 - slot)
        except OSError as problem:
            os.close(handle)
            raise failed(path, "reading the journal's mark", problem) from problem
        except BaseException:
            os.close(handle)
            raise

    def meet(self, seq: int, digest: bytes) -> None:
        """Take note of a record of the journal; `check` comes after the last."""
        if any(seq == mark.seq for mark in self.marks) and (met := Mark(seq, digest)) in self.marks:
            self._met.add(met)

    def check(self, last: int, where: str) -> None:
        """Raise KM0611 if the journal, which ends with the record `last`, lacks the one that the mark names."""
        if not self.marks or self._met:
            self._met.clear()
            return
        seq = self.marks[0].seq
        what = (
            f"the journal ends with record {last}, and record {seq} was written"
            if last < seq
            else f"record {seq} of the journal is not the one that was written as the last"
        )
        raise error(Code.JOURNAL_CORRUPT, what, where=where, hint=_HINT)

    def move(self, seq: int, digest: bytes, *, is_synced: bool, instead: Mark | None = None) -> None:
        """Name the record that is the journal's last now, and is durable; `instead` may stand for it.

        With `is_synced` the mark is durable too when this returns. Raises KM0606 on a full disk, else KM0614.
        """
        marks = (Mark(seq, digest), instead if instead is not None else Mark(seq, digest))
        line = _line(self._serial + 1, marks)
        try:
            if self._handle < 0:
                self._make(line)
            else:
                os.pwrite(self._handle, line, self._slot * SLOT_BYTES)
                if is_synced:
                    os.fdatasync(self._handle)
                    self._slot = 1 - self._slot
        except OSError as problem:
            raise failed(self.path, "writing the journal's mark", problem) from problem
        self._serial, self.marks = self._serial + 1, marks

    def close(self) -> None:
        """Close the file; twice is no harm."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _make(self, line: bytes) -> None:
        new = self.path.with_name(NAME + ".new")
        handle = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            os.pwrite(handle, line + b" " * SLOT_BYTES, 0)  # both slots have their place on the disk from now on
            os.fsync(handle)
            os.rename(new, self.path)
            fsync_folder(str(self.path.parent))
        except BaseException:
            os.close(handle)
            with contextlib.suppress(OSError):
                os.unlink(new)
            raise
        self._handle, self._slot = handle, 1


def _line(serial: int, marks: tuple[Mark, Mark]) -> bytes:
    names = b" ".join(b"%d %s" % (mark.seq, mark.digest.hex().encode()) for mark in marks)
    text = b"kernelmill head %d %s" % (serial, names)
    return (text + b" " + xxhash.xxh3_64_hexdigest(text).encode() + b"\n").ljust(SLOT_BYTES)


def _read(slot: bytes) -> tuple[int, tuple[Mark, ...]]:
    """The serial and the marks of a slot; 0 and none if nothing whole is there."""
    found = _LINE.fullmatch(slot)
    if found is None or xxhash.xxh3_64_hexdigest(found[1]).encode() != found[7]:
        return 0, ()
    return int(found[2]), (
        Mark(int(found[3]), bytes.fromhex(found[4].decode())),
        Mark(int(found[5]), bytes.fromhex(found[6].decode())),
    )
