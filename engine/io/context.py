"""What a reader is given by the task that runs it: cancellation, progress, rejects, counters and reused buffers."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import msgspec


class Reject(msgspec.Struct, frozen=True, array_like=True):
    """A record that was set aside (I8): where it came from, its bytes, and why.

    `offset` is where a line begins, as scan_text's include_offsets counts; `row` is the number, from 0, of a row of a
    Parquet file or a table; both are None where the row is one that a shuffle or a sort has made. `line` counts from
    1, None where it was not counted. `record` is the line as it is in the file, or the row as JSON. `reason` is the
    same for all records of one kind, `code` the KMxxxx of the error it would have been.
    """

    file: str
    offset: int | None
    line: int | None
    record: bytes
    reason: str
    code: str
    row: int | None = None


class RowPlace(NamedTuple):
    """Where a row comes from: `offset` and `row` as in Reject; `count_line` reads the file to find the line."""

    file: str
    offset: int | None = None
    row: int | None = None
    count_line: Callable[[], int | None] = lambda: None

    def __str__(self) -> str:
        return where(self.file, self.offset, self.count_line(), self.row)


Place = Callable[[int], RowPlace]
"""Tells where row i of a batch comes from. Valid as long as the batch; costs nothing until it is asked."""


def where(file: str, offset: int | None, line: int | None, row: int | None = None) -> str:
    """A place for people, such as "a.txt, byte 1,234, line 5" or "a.parquet, row 7"."""
    parts = (("byte", offset), ("line", line), ("row", row))
    return ", ".join([file, *(f"{unit} {number:,}" for unit, number in parts if number is not None)])


class ReadContext(Protocol):
    """Code readers against this; a task's context satisfies it. Used from one thread at a time.

    on_bad: error, or reject: rows that cannot be read are set aside.
    """

    on_bad: str

    def check_cancelled(self) -> None:
        """Call at least once a block. Raises KM0701 once the job is cancelled."""

    def progress(self, bytes_done: int) -> None:
        """Report the input bytes of this split read so far, as they lie in the files: a total, never falling."""

    def reject(self, record: Reject) -> None:
        """Set a record aside, in order of occurrence. Raises KM0503 where the task has too many."""

    def rows_from(self, place: Place) -> None:
        """Say where the rows of the batch come from that is handed on next."""

    def count(self, name: str, n: int) -> None:
        """Add `n` to the counter `name`, such as utf8_replaced."""

    def buffer(self, name: str, size_bytes: int) -> bytearray:
        """Return the buffer called `name`, at least `size_bytes` long, its contents undefined.

        The same bytearray comes again as long as it is large enough. A larger request makes a new one and
        copies nothing; the old one stays valid for whoever still holds it. Nobody resizes a buffer.
        """


class PlainContext:
    """A context outside any task: never cancelled, keeps rejects and counters in plain attributes."""

    def __init__(self, on_bad: str = "error") -> None:
        self.on_bad = on_bad
        self.bytes_done = 0
        self.rejects: list[Reject] = []
        self.counters: dict[str, int] = {}
        self.place: Place = lambda _: RowPlace("")
        self._buffers: dict[str, bytearray] = {}

    def check_cancelled(self) -> None:
        """Return: nothing cancels this context."""

    def progress(self, bytes_done: int) -> None:
        """Keep `bytes_done`."""
        self.bytes_done = bytes_done

    def reject(self, record: Reject) -> None:
        """Keep the record in `rejects`."""
        self.rejects.append(record)

    def rows_from(self, place: Place) -> None:
        """Keep the place of the batch that comes next."""
        self.place = place

    def count(self, name: str, n: int) -> None:
        """Add to `counters[name]`."""
        self.counters[name] = self.counters.get(name, 0) + n

    def buffer(self, name: str, size_bytes: int) -> bytearray:
        """Return a buffer of at least this size; see ReadContext."""
        found = self._buffers.get(name)
        if found is None or len(found) < size_bytes:
            found = self._buffers[name] = bytearray(size_bytes)
        return found
