"""A worker's folder on its own disk: who has it, notes of what is done, and the deleting of what is not needed.

    <scratch>/<worker>/lock                       held by the supervisor that runs
    <scratch>/<worker>/notes                      which attempts are done (notes.py)
    <scratch>/<worker>/<job>/<epoch>-<number>/    an attempt's blocks
    <scratch>/<worker>/<job>/packs/               small ones of many attempts (data/packs.py)
    <scratch>/<worker>/parts, spool               parts of jobs, fetched blocks: of one life of the supervisor
    <scratch>/<worker>/trash                      what is being deleted
    <scratch>/<worker>/ticket.key                 checks the tickets of readers; as old as the blocks beside it

A note is written after the slot has closed its files, and is void before they are deleted.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import secrets
import shutil
import stat
import threading
from pathlib import Path
from typing import IO, Final

from kernelmill.cluster.data.blockindex import attempt_folder
from kernelmill.cluster.data.packs import PACKS
from kernelmill.cluster.fields import AttemptName, JobId
from kernelmill.cluster.messages import Done
from kernelmill.cluster.ownfiles import own_files
from kernelmill.cluster.worker.notes import Notes
from kernelmill.engine.durable import output_errors
from kernelmill.engine.errors import Code, DiskFullError, error

_NOTES: Final = "notes"
PARTS: Final = "parts"
SPOOL: Final = "spool"
_TRASH: Final = "trash"
_LOCK: Final = "lock"
_TICKET_KEY: Final = "ticket.key"
_TICKET_KEY_BYTES: Final = 32


class ScratchFolder:
    """The folder of one worker. Raises KM0107 if another supervisor has it, or if `scratch` is a link to nothing.

    KM0402 and KM0502 if it cannot be made.
    """

    def __init__(self, scratch: Path, worker: str) -> None:
        self.scratch, self.worker = scratch, worker
        self.path = scratch / worker
        if scratch.is_symlink() and not scratch.exists():
            what = f"the scratch folder is a link, and {os.readlink(scratch)}, where it leads, is not there"
            hint = "make or mount that folder, or give another --scratch"
            raise error(Code.BAD_SETTING, what, where=str(scratch), hint=hint)
        with output_errors("making the scratch folder", str(self.path)):
            with own_files():  # who may write in a folder above could put another in its place
                self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._check_owner()
            self._lock = self._take_lock()
            for name in (PARTS, SPOOL, _TRASH):
                shutil.rmtree(self.path / name, ignore_errors=True)
                (self.path / name).mkdir(mode=0o700)
        self._notes = Notes(self.path / _NOTES)
        self._count = 0
        self._doomed: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
        self._deleter = threading.Thread(target=self._delete_all, name="kernelmill-deleter", daemon=True)
        self._deleter.start()

    def close(self) -> None:
        """Delete what is left to delete, then let another supervisor have the folder."""
        self._doomed.put(None)
        self._deleter.join()
        for name in (PARTS, SPOOL, _TRASH):
            shutil.rmtree(self.path / name, ignore_errors=True)
        is_needed = bool(self._notes.attempts())  # what is held, and what was not answered, is for the next life
        self._notes.close()
        if not is_needed:
            shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()

    @property
    def free_bytes(self) -> int:
        """What the disk has left for this user."""
        found = os.statvfs(self.path)
        return found.f_bavail * found.f_frsize

    def ticket_key(self) -> bytes:
        """The key of readers' tickets: an earlier life's, so that tickets for its blocks still hold, or a new one."""
        path = self.path / _TICKET_KEY
        with contextlib.suppress(FileNotFoundError):
            key = path.read_bytes()
            if len(key) == _TICKET_KEY_BYTES:
                return key
        key = secrets.token_bytes(_TICKET_KEY_BYTES)
        with output_errors("making a key for tickets", str(path)):
            path.unlink(missing_ok=True)
            with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
                file.write(key)
        return key

    def read_notes(self) -> list[Done]:
        """What an earlier life left complete, in order of attempts; all else of it is deleted."""
        found = [done for name in self._notes.attempts() if (done := self._notes.read(name)) is not None]
        noted = {self._folder_of(done.attempt) for done in found}
        jobs = {folder.parent for folder in noted}
        for job in [each for each in self.path.iterdir() if each.is_dir() and _is_job(each.name)]:
            if job not in jobs:
                self._doom(job)
                continue
            for folder in [each for each in job.iterdir() if each not in noted and each.name != PACKS]:
                self._doom(folder)
        return found

    def read_note(self, attempt: AttemptName) -> Done | None:
        """The note of one attempt; None if there is none, or it is damaged."""
        return self._notes.read(attempt)

    def keep_note(self, done: Done) -> None:
        """Note that an attempt is done. Raises KM0402 or KM0502 if the disk does not take it."""
        self._notes.add(done)

    def delete_attempt(self, attempt: AttemptName) -> None:
        """Delete what an attempt left here, if anything."""
        with contextlib.suppress(
            DiskFullError
        ):  # a note too many is offered after a restart, and answered by a Discard
            self._notes.forget(attempt)
        self._doom(self._folder_of(attempt))

    def delete_job(self, job: JobId) -> None:
        """Delete all that a job left here."""
        with contextlib.suppress(DiskFullError):
            self._notes.forget_job(job)
        self._doom(self.path / job.hex())

    def delete_parts(self, parts: set[bytes]) -> None:
        """Delete these parts of jobs."""
        for sha256 in parts:
            (self.path / PARTS / sha256.hex()).unlink(missing_ok=True)

    def _folder_of(self, attempt: AttemptName) -> Path:
        return Path(attempt_folder(str(self.scratch), self.worker, attempt.job, attempt.attempt))

    def _check_owner(self) -> None:
        """Blocks and parts of jobs are read as they lie here: nobody else may put any."""
        found = self.path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            what = "the scratch folder of this worker belongs to somebody else, or is open to others"
            hint = "give another --scratch, or: chmod 700 and chown it to the worker's user"
            raise error(Code.BAD_SETTING, what, where=str(self.path), hint=hint)

    def _take_lock(self) -> IO[bytes]:
        lock = open(self.path / _LOCK, "ab")  # noqa: SIM115 - held as long as the supervisor lives
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            what = f"another process is the worker {self.worker} with this scratch folder"
            hint = "give each worker of a host a bundle of its own, made by kernelmill keys add-worker"
            raise error(Code.BAD_SETTING, what, where=str(self.path), hint=hint) from None
        return lock

    def _doom(self, path: Path) -> None:
        """Rename into the trash, so that its name is free at once, and let the other thread delete it."""
        doomed = self.path / _TRASH / str(self._count)
        self._count += 1
        try:
            path.rename(doomed)
        except FileNotFoundError:
            return
        self._doomed.put(doomed)

    def _delete_all(self) -> None:
        while (path := self._doomed.get()) is not None:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)  # what stays is deleted with the trash
            else:
                path.unlink(missing_ok=True)


def _is_job(name: str) -> bool:
    return len(name) == 32 and all(letter in "0123456789abcdef" for letter in name)
