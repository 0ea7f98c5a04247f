"""Bytes of one input file, in order: an open file held to its stamp, and streams that fill a caller's buffer."""

from __future__ import annotations

import errno
import os
from types import TracebackType
from typing import Protocol

from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.splits import FileStamp

_CHANGED_HINT = "run the job again when nothing writes to its inputs, or copy them first"


class ByteStream(Protocol):
    """Fills buffers front to back until its bytes end."""

    def read_into(self, view: memoryview) -> int:
        """Write up to len(view) bytes into `view`; returns how many, 0 only at the end (or for an empty view)."""

    @property
    def file_position(self) -> int:
        """Up to which byte the file itself was read."""


class InputFile:
    """A file opened for positioned reads, which must stay as its stamp says. Close it, or use it in a `with`.

    Raises KM0201 where it cannot be opened or read, KM0203 where it is not (or no longer) the file of the stamp.
    """

    def __init__(self, stamp: FileStamp) -> None:
        self.stamp = stamp
        try:
            # Without O_NONBLOCK, a pipe that took the file's place would hang the open; files do not notice it.
            self._fd = os.open(stamp.opened_path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as exc:
            raise unreadable(stamp.path, exc) from None
        try:
            self.check()
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        """Raise KM0203 if size or time differ from the stamp's; call it again after the last read."""
        try:
            now = os.fstat(self._fd)
        except OSError as exc:
            raise unreadable(self.stamp.path, exc) from None
        if now.st_size != self.stamp.size_bytes:
            raise self._changed(f"it had {self.stamp.size_bytes:,} bytes and now has {now.st_size:,}")
        if now.st_mtime_ns != self.stamp.mtime_ns:
            raise self._changed("it was written again")

    def read_into(self, view: memoryview, at: int) -> None:
        """Fill `view` with the bytes from `at` on; KM0203 where the file ends before."""
        done = 0
        while done < len(view):
            try:
                got = os.preadv(self._fd, [view[done:]], at + done)
            except OSError as exc:
                raise unreadable(self.stamp.path, exc) from None
            if got == 0:
                raise self._changed(f"it had {self.stamp.size_bytes:,} bytes and now ends at {at + done:,}")
            done += got

    def read(self, at: int, size: int) -> bytes:
        """The bytes [at, at + size), fewer where the stamp's end comes first."""
        size = max(0, min(size, self.stamp.size_bytes - at))
        try:
            data = os.pread(self._fd, size, at)
        except OSError as exc:
            raise unreadable(self.stamp.path, exc) from None
        if len(data) == size:
            return data
        view = bytearray(size)  # it came in parts, or the file has become shorter
        self.read_into(memoryview(view), at)
        return bytes(view)

    @property
    def is_open(self) -> bool:
        """Whether it was not closed yet."""
        return self._fd >= 0

    def close(self) -> None:
        """Close the file; more than once is fine."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> InputFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _changed(self, how: str) -> KernelmillError:
        what = f"{self.stamp.path} changed after it was scanned: {how}"
        return error(Code.INPUT_CHANGED, what, where=self.stamp.path, hint=_CHANGED_HINT)


class RangeStream:
    """Bytes [start, stop) of a file, as they are."""

    def __init__(self, file: InputFile, start: int, stop: int) -> None:
        self._file, self._at, self._stop = file, start, stop

    @property
    def file_position(self) -> int:
        """Up to which byte the file was read."""
        return self._at

    def read_into(self, view: memoryview) -> int:
        """Fill `view`, or what is left of the range; see ByteStream."""
        size = min(len(view), self._stop - self._at)
        if size > 0:
            self._file.read_into(view[:size], self._at)
            self._at += size
        return max(size, 0)


def unreadable(path: str, exc: OSError) -> KernelmillError:
    """The typed error for a failed open or read."""
    if exc.errno in (errno.EMFILE, errno.ENFILE):
        hint = "raise the limit (ulimit -n), or use fewer threads"
        return error(Code.FILE_LIMIT, f"{path} cannot be opened: {exc.strerror}", where=path, hint=hint)
    if exc.errno == errno.ENOENT:
        what, hint = f"{path} is gone: it was there when the inputs were scanned", "restore it, or scan again"
        return error(Code.INPUT_NOT_FOUND, what, where=path, hint=hint)
    hint = "check that it is a readable file and that its disk is well"
    return error(Code.INPUT_NOT_FOUND, f"{path} cannot be read: {exc.strerror}", where=path, hint=hint)
