"""Folders that users' code can reach, opened so that no link or change of names leads elsewhere; for files: openfiles.

A job's functions run as a user who can write into the job's staging, and may put a link where a folder is expected,
before or while storage works there. So a folder is opened once, without following a link, and then named by its
descriptor: whatever becomes of its name, what is done below `held` is done in the folder that was looked at.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator

from kernelmill.engine.errors import Code, error

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
_DESCRIPTORS = "/proc/self/fd"


@contextlib.contextmanager
def held(path: str) -> Iterator[str]:
    """Open a folder, only `path` itself being looked at for links: a path that names it as long as this lasts.

    Raises KM0502 if it is a link or no folder, other OSErrors as they are. Where the system has no names for open
    folders, the path itself is given back after the look.
    """
    try:
        handle = os.open(path, _FOLDER)
    except OSError as problem:
        if problem.errno not in {errno.ENOTDIR, errno.ELOOP}:
            raise
        hint = "something of the job changed its staging folder: run the job again without that"
        what = f"{os.path.basename(path)} in the job's staging is a link or no folder"
        raise error(Code.COMMIT, what, hint=hint) from problem
    try:
        is_named = sys.platform.startswith("linux") and os.path.isdir(_DESCRIPTORS)
        yield f"{_DESCRIPTORS}/{handle}" if is_named else path
    finally:
        os.close(handle)


@contextlib.contextmanager
def made(folder: str, name: str) -> Iterator[str]:
    """The folder `name` in `folder` as `held` gives it, made before that if it is not there.

    Raises KM0607 for a name that leads anywhere else, whoever has checked it before.
    """
    if name in ("", os.curdir, os.pardir) or os.sep in name or "\0" in name:
        raise error(Code.PROTOCOL, f"{name!r} is no name of a folder in the job's output")
    path = os.path.join(folder, name)
    with contextlib.suppress(FileExistsError):
        os.mkdir(path)
    with held(path) as handle:
        yield handle
