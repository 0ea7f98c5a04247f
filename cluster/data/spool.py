"""Files into which streams are fetched: blocks for slots of this host, and parts of jobs under their digest."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from contextlib import suppress

from kernelmill.cluster.data.blockindex import HEAD_BYTES, OutputId, decode_index, index_length
from kernelmill.cluster.fields import JobPart
from kernelmill.cluster.openfiles import open_file
from kernelmill.engine.errors import CorruptBlockError

_READ_BYTES = 1 << 20
_NEW = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class Spool:
    """A folder of its own for one process; what an earlier one left in it is removed."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._count = 0
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder)

    def has_room(self, size_bytes: int) -> bool:
        """Whether a file of this length has room now. Raises OSError."""
        disk = os.statvfs(self._folder)
        return size_bytes <= disk.f_bavail * disk.f_frsize

    def new_path(self) -> str:
        """A name that was not given out before."""
        self._count += 1
        return os.path.join(self._folder, str(self._count))


class SpooledFile:
    """A stream on its way into a file: written in any order, opened when its first bytes come."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._handle = -1

    def write(self, data: memoryview, offset: int) -> None:
        """Write bytes at their place. Raises OSError."""
        if self._handle < 0:
            self._handle = os.open(self.path, _NEW, 0o600)
        while data:
            written = os.pwrite(self._handle, data, offset)
            data, offset = data[written:], offset + written

    def restart(self) -> None:
        """Throw away what is written. Raises OSError."""
        if self._handle >= 0:
            os.ftruncate(self._handle, 0)

    def close(self) -> None:
        """Close the file; it stays where it is."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def remove(self) -> None:
        """Close the file and remove it."""
        self.close()
        with suppress(FileNotFoundError):
            os.unlink(self.path)


def is_whole_block(path: str, id_: OutputId, partition: int) -> bool:
    """Tell whether a file is the stream of this partition of this attempt, every byte of it. Raises OSError."""
    try:
        with open(open_file(path), "rb") as file:
            size = os.fstat(file.fileno()).st_size  # lengths are the holder's word: none makes this side ask for memory
            head = file.read(HEAD_BYTES)
            length = index_length(head, where=path)
            if length > size:
                return False
            index = decode_index(head + file.read(length - HEAD_BYTES), where=path)
            if index.id != id_:
                return False
            at = length
            for piece in index.pieces(partition):
                if at + piece.length > size:
                    return False
                piece.check_at(file.fileno(), at, where=path)
                at += piece.length
            return at == size
    except (CorruptBlockError, IndexError):
        return False


def is_whole_part(path: str, part: JobPart) -> bool:
    """Tell whether a file is this part of a job, by its size and SHA-256. Raises OSError but for a missing file."""
    digest = hashlib.sha256()
    try:
        with open(open_file(path), "rb") as file:
            if os.fstat(file.fileno()).st_size != part.size_bytes:
                return False
            while data := file.read(_READ_BYTES):
                digest.update(data)
    except FileNotFoundError:
        return False
    return digest.digest() == part.sha256


def failure_of(problem: OSError) -> str:
    """What a fetch fails with that this side's disk has stopped."""
    return "DISK_FULL" if problem.errno in (errno.ENOSPC, errno.EDQUOT) else "FETCH_UNREACHABLE"
