"""Opening and reading files where users' code can put something else under their names: no link is followed, no pipe
waited for, no device read, and no more bytes asked for than a file has.
"""

from __future__ import annotations

import errno
import os
import stat

_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK  # a pipe without a writer opens at once, too


def open_file(path: str) -> int:
    """Open a regular file for reading, following no link and waiting for no pipe. Raises OSError, EINVAL for others."""
    handle = os.open(path, _FILE)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return handle


def size_of(handle: int) -> int:
    """The length of an open file now."""
    return os.fstat(handle).st_size


def read_range(handle: int, offset: int, length: int) -> bytes:
    """These bytes of an open file. Raises OSError if it has not so many, before any memory is asked for."""
    check_range(handle, offset, length)
    found = os.pread(handle, length, offset)
    if len(found) == length:
        return found
    parts = [found]  # a call gives at most 2 GiB
    while (got := sum(map(len, parts))) < length:
        parts.append(os.pread(handle, length - got, offset + got) or _ended())
    return b"".join(parts)


def read_into(handle: int, offset: int, room: memoryview) -> None:
    """Fill `room` from an open file. Raises OSError if that ends before."""
    while room:
        got = os.preadv(handle, [room], offset)
        if not got:
            _ended()
        room, offset = room[got:], offset + got


def check_range(handle: int, offset: int, length: int) -> None:
    """Raise OSError unless an open file has these bytes."""
    if offset + length > size_of(handle):
        _ended()


def _ended() -> bytes:
    raise OSError(errno.EIO, "the file ends too early")
