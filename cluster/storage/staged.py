"""A job's staging folder as those find it who publish: under its lock, with the manifest that an earlier process noted.

Two processes never publish one job at a time: flock on staging, which a dead process gives up; who cannot get it within
LOCK_S says so, and is ordered again later.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator

import xxhash

from kernelmill.cluster.openfiles import open_file
from kernelmill.cluster.storage.folders import held
from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.staging import write_durably

LOCK_S = 0.5
"""How long a lock of staging that another process has is waited for."""
_LOCK = "lock"
_LOCK_POLL_S = 0.02
_DIGEST_BYTES = 16
_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_NOT_OURS = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL, errno.ENXIO}


@contextlib.contextmanager
def locked(staging: str) -> Iterator[str]:
    """Hold the staging and its lock: a path of it, see `held`.

    Raises KM0502 if staging is gone or no folder, KM0610 if another process has the lock and keeps it.
    """
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(held(staging))
            handle = os.open(os.path.join(folder, _LOCK), _LOCK_FLAGS, 0o644)
        except KernelmillError:
            raise
        except OSError as problem:
            what = f"the job's staging folder cannot be used: {os.strerror(problem.errno or 0)}"
            raise error(Code.COMMIT, what, where=staging, hint="somebody removed it: run the job again") from problem
        stack.callback(os.close, handle)
        _lock(handle, staging)
        yield folder


def _lock(handle: int, staging: str) -> None:
    """Take the lock, waiting a little while for one who is about to end: other jobs wait with this one.

    Who has it longer may be stopped, or stand in a file server's call, and go on writing at any time: nobody else may
    publish before its process has ended.
    """
    until_s = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() >= until_s:
                break
        time.sleep(_LOCK_POLL_S)
    what = "another process holds the lock of the job's staging and does not end"
    hint = f"fuser {os.path.join(staging, _LOCK)} names it; once it has ended, or goes on, the job does"
    raise error(Code.OUTPUT_STUCK, what, where=staging, hint=hint)


def read_whole(path: str) -> bytes | None:
    """The bytes of a file; None if it is not there, or is a link, a pipe or a folder: not what this process wrote."""
    try:
        with open(open_file(path), "rb") as file:
            return file.read()
    except OSError as problem:
        if problem.errno in _NOT_OURS:
            return None
        raise


def noted_manifest(path: str) -> bytes | None:
    """The manifest that an earlier process noted; None if it did not, or if that is not as it was written."""
    data = read_whole(path) or b""
    noted, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    return noted if len(digest) == _DIGEST_BYTES and xxhash.xxh3_128_digest(noted) == digest else None


def write_again(path: str, data: bytes) -> None:
    """Write a file whole, in place of one that may be there. Raises OSError."""
    new = path + ".new"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    write_durably(new, data)
    os.replace(new, path)
