"""The folder of a journal: that its disk is local, that one master has it, and the file that keeps the epoch.

journal.db      the journal
journal.lock    flock of the master that has it, with its process number as text
epoch           the last epoch and a checksum; higher than the journal's if the journal lost its tail
head            the last record that was acknowledged (head.py)
leftovers       jobs that have ended, whose staging is to be removed (leftovers.py)
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
from pathlib import Path

import xxhash

from kernelmill.cluster.ownfiles import own_files
from kernelmill.engine.durable import fsync_folder
from kernelmill.engine.errors import Code, KernelmillError, error

# File systems whose locks, renames or fsyncs are another machine's business.
_NETWORK = re.compile(
    r"(nfs\d?|cifs|smb\d?|smbfs|ncpfs|afs|coda|ceph|glusterfs|lustre|gpfs|beegfs|pvfs2|orangefs|ocfs2|gfs2|9p|fuse(\..+)?)"
)
FULL = {errno.ENOSPC, errno.EDQUOT}
_EPOCH = re.compile(rb"kernelmill epoch (\d{1,10}) ([0-9a-f]{16})\n")


def prepare_folder(folder: Path, *, mounts: Path = Path("/proc/self/mountinfo")) -> None:
    """Make the folder, for this user alone, if it is missing.

    Raises KM0107 if it is open to others or not this user's, or if it lies on a network file system.
    """
    try:
        with own_files():  # who may write in a folder above could put another in its place
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as problem:
        raise failed(folder, "making the state folder", problem) from problem
    _check_owner(folder)
    kind = file_system_of(folder, mounts)
    if kind and _NETWORK.fullmatch(kind):
        what = f"the state folder lies on a network file system ({kind}): its locks and fsyncs cannot be relied on"
        raise error(Code.BAD_SETTING, what, where=str(folder), hint="use --state with a folder on a local disk")


def _check_owner(folder: Path) -> None:
    """The journal's secret and the parts of jobs lie there, and are gone by: nobody else may read or put any."""
    try:
        found = folder.stat()
    except OSError as problem:
        raise failed(folder, "looking at the state folder", problem) from problem
    if found.st_uid != os.geteuid() or found.st_mode & 0o077:
        what = "the state folder belongs to somebody else, or is open to others"
        hint = "give another --state, or, after a look at what is in it: chmod 700 and chown it to the master's user"
        raise error(Code.BAD_SETTING, what, where=str(folder), hint=hint)


def file_system_of(path: Path, mounts: Path) -> str:
    """The type of the file system that holds `path`, as the system names it; empty where it does not say."""
    try:
        lines = mounts.read_bytes().decode(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    real, found, length = os.path.realpath(path), "", -1
    for line in lines:  # of several at one place the last one covers the others
        before, _, after = line.partition(" - ")
        fields = before.split(" ")
        if len(fields) < 5 or not after:
            continue
        place = re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), fields[4]).rstrip("/")
        if (real == place or real.startswith(place + "/")) and len(place) >= length:
            found, length = after.split(" ")[0], len(place)
    return found


class FolderLock:
    """Holds a state folder until it is released or the process ends, however it ends. KM0613 if another has it."""

    def __init__(self, folder: Path) -> None:
        path = folder / "journal.lock"
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as problem:
            raise failed(path, "opening the lock of the state folder", problem) from problem
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._handle, 20, 0).decode(errors="replace").strip()
            os.close(self._handle)
            what = "another master has this state folder" + (f": process {holder}" if holder else "")
            raise error(
                Code.JOURNAL_BUSY, what, where=str(folder), hint="end that master, or use --state with another folder"
            ) from None
        except OSError as problem:
            os.close(self._handle)
            raise failed(path, "locking the state folder", problem) from problem
        with contextlib.suppress(OSError):  # the number is for people; on a full disk the lock holds without it
            os.ftruncate(self._handle, 0)
            os.pwrite(self._handle, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let others have the folder."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def read_epoch(folder: Path) -> int:
    """The epoch that the file says, 0 without a file. Raises KM0611 if the file is damaged."""
    path = folder / "epoch"
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return 0
    except OSError as problem:
        raise failed(path, "reading the epoch", problem) from problem
    found = _EPOCH.fullmatch(data)
    if found is None or found[2] != _checksum(found[1]):
        hint = "remove the file if the journal is known to be whole: the epoch is in there too"
        raise error(Code.JOURNAL_CORRUPT, "the file that keeps the epoch is damaged", where=str(path), hint=hint)
    return int(found[1])


def write_epoch(folder: Path, epoch: int) -> None:
    """Make the epoch durable in its file. Raises KM0606 on a full disk, else KM0614."""
    path, new = folder / "epoch", folder / "epoch.new"
    digits = str(epoch).encode()
    try:
        handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(handle, "wb") as file:
            file.write(b"kernelmill epoch %s %s\n" % (digits, _checksum(digits)))
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
        fsync_folder(str(folder))
    except OSError as problem:
        raise failed(path, "writing the epoch", problem) from problem


def _checksum(digits: bytes) -> bytes:
    return xxhash.xxh3_64_hexdigest(b"kernelmill epoch " + digits).encode()


def failed(path: Path, doing: str, problem: OSError) -> KernelmillError:
    """Turn a system error met in a state folder into KM0606 or KM0614."""
    reason = problem.strerror or str(problem)
    if problem.errno in FULL:
        return error(Code.JOURNAL_FULL, f"{doing}: {reason}", where=str(path), hint="free space on that disk")
    hint = "check that the folder is yours, writable and on a working disk"
    return error(Code.JOURNAL_FAILED, f"{doing} failed: {reason}", where=str(path), hint=hint)
