"""Putting files in place so that a crash leaves the old or the new: fsync, renames that replace nothing, exchanges.

Also the one translation of the system's output errors into typed ones.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import sys
import threading
from collections.abc import Callable

from kernelmill.engine.errors import Code, KernelmillError, error

_AT_FDCWD = -100
_RENAME_NOREPLACE = 1
_RENAME_EXCHANGE = 2
_FULL = {errno.ENOSPC, errno.EDQUOT}
_TOO_MANY_FILES = {errno.EMFILE, errno.ENFILE}
# What systems and file systems answer that lack a call or a flag of it.
_UNSUPPORTED = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EPERM}


def output_error(problem: OSError, doing: str, path: str) -> KernelmillError:
    """Turn a system error met while writing into the typed one: KM0402, KM0403 or KM0502, with `path` named."""
    if problem.errno in _FULL:
        hint = "free space there, or write the output to another disk"
        return error(Code.DISK_FULL, f"the disk is full: {doing}", where=path, hint=hint)
    if problem.errno in _TOO_MANY_FILES:
        return error(Code.FILE_LIMIT, f"too many open files: {doing}", where=path, hint="raise the limit: ulimit -n")
    reason = os.strerror(problem.errno) if problem.errno else str(problem)
    if problem.errno == errno.EFBIG:
        hint = "a limit on the size of files forbids it, as ulimit -f or a function that calls setrlimit sets: lift it"
        return error(Code.COMMIT, f"{doing} failed: {reason}", where=path, hint=hint)
    hint = "check that the folder exists, is writable and lies on a working disk"
    return error(Code.COMMIT, f"{doing} failed: {reason}", where=path, hint=hint)


class output_errors:
    """Run a block, `with output_errors(doing, path):`, whose OSErrors become typed output errors.

    Typed errors pass unchanged. A class, for each block of a small task is written in one: a generator costs more.
    """

    __slots__ = ("_doing", "_path")

    def __init__(self, doing: str, path: str) -> None:
        self._doing, self._path = doing, path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, problem: BaseException | None, trace: object) -> None:
        if isinstance(problem, OSError) and not isinstance(problem, KernelmillError):
            raise output_error(problem, self._doing, self._path) from problem


def fsync_folder(path: str) -> None:
    """Make the names in a folder durable. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_folders(*paths: str) -> None:
    """Make the names in several folders durable at once, for a file system's journal takes them together.

    Raises OSError, the first that was met, when all have ended.
    """
    problems: list[OSError] = []

    def sync(path: str) -> None:
        try:
            fsync_folder(path)
        except OSError as problem:
            problems.append(problem)

    threads = [threading.Thread(target=sync, args=(path,), name="kernelmill-sync") for path in paths[1:]]
    for thread in threads:
        thread.start()
    sync(paths[0])
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


def rename_new(source: str, target: str) -> None:
    """Give a file the name `target`, which must be free: raises FileExistsError, never replaces anything."""
    if _renameat2(source, target, _RENAME_NOREPLACE):
        return
    link_new(source, target)
    os.unlink(source)


def link_new(source: str, target: str) -> None:
    """Give a file the second name `target`, which must be free; the first one stays as a trace of what was done.

    A file system without links gets a rename, after a look whether the name is free: no trace, and a small race.
    """
    try:
        os.link(source, target)
    except OSError as problem:
        if problem.errno not in _UNSUPPORTED | {errno.EMLINK}:
            raise
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target) from None
        os.rename(source, target)


def exchange(first: str, second: str) -> bool:
    """Swap two names in one atomic step; False, with nothing done, where the system or file system cannot."""
    return _renameat2(first, second, _RENAME_EXCHANGE)


def _renameat2(source: str, target: str, flag: int) -> bool:
    call = _renameat2_of_libc()
    if call is None:
        return False
    if call(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), flag) == 0:
        return True
    number = ctypes.get_errno()
    if number in _UNSUPPORTED:
        return False
    raise OSError(number, os.strerror(number), source, None, target)


@functools.cache
def _renameat2_of_libc() -> Callable[..., int] | None:
    if not sys.platform.startswith("linux"):
        return None
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is not None:
        call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
        call.restype = ctypes.c_int
    return call
