"""What a reader is given by the task that runs it: cancellation, progress, rejects, counters and reused buffers."""

from __future__ import annotations

from typing import Protocol

import msgspec


class Reject(msgspec.Struct, frozen=True, array_like=True):
    """A record that was set aside (I8): where it came from, its bytes, and why.

    `offset` is where the record begins, in bytes of the file (of its decompressed text where it is compressed);
    `line` counts from 1, None where it was not counted; `code` is the KMxxxx of the error it would have been.
    """

    file: str
    offset: int
    line: int | None
    record: bytes
    reason: str
    code: str


class ReadContext(Protocol):
    """Code readers against this; a task's context satisfies it. Used from one thread at a time."""

    def check_cancelled(self) -> None:
        """Call at least once a block. Raises KM0701 once the job is cancelled."""

    def progress(self, bytes_done: int) -> None:
        """Report the input bytes of this split read so far, as they lie in the files: a total, never falling."""

    def reject(self, record: Reject) -> None:
        """Set a record aside, in order of occurrence. Raises KM0503 where the task has too many."""

    def count(self, name: str, n: int) -> None:
        """Add `n` to the counter `name`, such as utf8_replaced."""

    def buffer(self, name: str, size_bytes: int) -> bytearray:
        """Return the buffer called `name`, at least `size_bytes` long, its contents undefined.

        The same bytearray comes again as long as it is large enough. A larger request makes a new one and
        copies nothing; the old one stays valid for whoever still holds it. Nobody resizes a buffer.
        """


class PlainContext:
    """A context outside any task: never cancelled, keeps rejects and counters in plain attributes."""

    def __init__(self) -> None:
        self.bytes_done = 0
        self.rejects: list[Reject] = []
        self.counters: dict[str, int] = {}
        self._buffers: dict[str, bytearray] = {}

    def check_cancelled(self) -> None:
        """Return: nothing cancels this context."""

    def progress(self, bytes_done: int) -> None:
        """Keep `bytes_done`."""
        self.bytes_done = bytes_done

    def reject(self, record: Reject) -> None:
        """Keep the record in `rejects`."""
        self.rejects.append(record)

    def count(self, name: str, n: int) -> None:
        """Add to `counters[name]`."""
        self.counters[name] = self.counters.get(name, 0) + n

    def buffer(self, name: str, size_bytes: int) -> bytearray:
        """Return a buffer of at least this size; see ReadContext."""
        found = self._buffers.get(name)
        if found is None or len(found) < size_bytes:
            found = self._buffers[name] = bytearray(size_bytes)
        return found
