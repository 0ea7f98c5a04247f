"""The notes of a worker: which attempts are done, in one file that is only appended to.

    KMN1, then for each note: length of its body (u32), xxh3-64 of its body (u64), body (msgpack)

A body is the Done of an attempt, or the name of an attempt or job whose notes are void from here on. Each is one write:
a supervisor that is killed leaves the last one whole, cut off or not at all, and reading ends where something is not as
it was written. Nothing is synced: after a crash of the host, what is missing is made again. A file of its own for each
note cost 0.7 ms of processor time a task.
"""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path
from typing import Final

import msgspec
import xxhash

from kernelmill.cluster.fields import AttemptName, JobId
from kernelmill.cluster.messages import Done
from kernelmill.engine.durable import output_errors

_MAGIC: Final = b"KMN1"
_HEAD: Final = struct.Struct("<IQ")
_DOING: Final = "noting that a task is done"
REWRITE_BYTES_MIN: Final = 32 << 20
"""Below this the file is not rewritten, however much of it is void."""
_BODY_BYTES_MAX: Final = 4 << 20


class _IsDone(msgspec.Struct, frozen=True, array_like=True, tag=1):
    done: Done


class _IsGone(msgspec.Struct, frozen=True, array_like=True, tag=2):
    attempt: AttemptName


class _JobIsGone(msgspec.Struct, frozen=True, array_like=True, tag=3):
    job: JobId


_Note = _IsDone | _IsGone | _JobIsGone
_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final[msgspec.msgpack.Decoder[_Note]] = msgspec.msgpack.Decoder(_Note)


class Notes:
    """The notes in one file; there is one of this for a file. Raises KM0402 and KM0502 if the disk does not do."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._places: dict[AttemptName, tuple[int, int]] = {}  # offset and length of the body
        self._live_bytes = 0
        with output_errors("reading the notes of a worker", str(path)):
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._end = self._read_all()
            os.ftruncate(self._file, self._end)  # what follows is cut off or damaged
        self._rewrite()

    def attempts(self) -> list[AttemptName]:
        """The attempts that are noted as done, in order."""
        return sorted(self._places)

    def read(self, attempt: AttemptName) -> Done | None:
        """The note of an attempt; None if there is none, or it is not as it was written."""
        place = self._places.get(attempt)
        note = self._note_at(*place) if place is not None else None
        return note.done if isinstance(note, _IsDone) and note.done.attempt == attempt else None

    def add(self, done: Done) -> None:
        """Note that an attempt is done."""
        self.forget(done.attempt)
        place = self._append(_IsDone(done))
        self._places[done.attempt] = place
        self._live_bytes += place[1]

    def forget(self, attempt: AttemptName) -> None:
        """Make the note of an attempt void, if there is one."""
        place = self._places.pop(attempt, None)
        if place is not None:
            self._live_bytes -= place[1]
            self._void(_IsGone(attempt))

    def forget_job(self, job: JobId) -> None:
        """Make all notes of a job void."""
        gone = [attempt for attempt in self._places if attempt.job == job]
        for attempt in gone:
            self._live_bytes -= self._places.pop(attempt)[1]
        if gone:
            self._void(_JobIsGone(job))

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _void(self, note: _IsGone | _JobIsGone) -> None:
        """Write that notes are void, or all anew where nothing, or little, is left of them."""
        if not self._places:
            with output_errors(_DOING, str(self._path)):
                os.ftruncate(self._file, len(_MAGIC))
            self._end = len(_MAGIC)
        elif self._end > max(REWRITE_BYTES_MIN, 4 * self._live_bytes):
            self._rewrite()
        else:
            self._append(note)

    def _append(self, note: _Note) -> tuple[int, int]:
        body = _ENCODER.encode(note)
        data = _HEAD.pack(len(body), xxhash.xxh3_64_intdigest(body)) + body
        with output_errors(_DOING, str(self._path)):
            try:
                written = os.pwrite(self._file, data, self._end)
                if written < len(data):  # a disk that is nearly full takes a part
                    os.pwrite(self._file, data[written:], self._end + written)
            except OSError:
                with contextlib.suppress(OSError):
                    os.ftruncate(self._file, self._end)
                raise
        place = self._end + _HEAD.size, len(body)
        self._end += len(data)
        return place

    def _note_at(self, offset: int, length: int) -> _Note | None:
        try:
            head = os.pread(self._file, _HEAD.size, offset - _HEAD.size)
            body = os.pread(self._file, length, offset)
            if _HEAD.unpack(head) != (len(body), xxhash.xxh3_64_intdigest(body)):
                return None
            return _DECODER.decode(body)
        except (OSError, ValueError, struct.error):  # whatever is wrong with it, it is no note
            return None

    def _read_all(self) -> int:
        """Read the notes up to the first that is not as it was written; return where it begins."""
        if os.pread(self._file, len(_MAGIC), 0) != _MAGIC:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, _MAGIC, 0)
            return len(_MAGIC)
        at, size = len(_MAGIC), os.fstat(self._file).st_size
        while at + _HEAD.size <= size:
            length, _ = _HEAD.unpack(os.pread(self._file, _HEAD.size, at))
            note = self._note_at(at + _HEAD.size, length) if length <= _BODY_BYTES_MAX else None
            match note:
                case _IsDone(done=done):
                    self._places[done.attempt] = at + _HEAD.size, length
                case _IsGone(attempt=attempt):
                    self._places.pop(attempt, None)
                case _JobIsGone(job=job):
                    for name in [name for name in self._places if name.job == job]:
                        del self._places[name]
                case _:
                    return at
            at += _HEAD.size + length
        self._live_bytes = sum(length for _, length in self._places.values())
        return at

    def _rewrite(self) -> None:
        """Write what is not void to a new file, and put it into the old one's place."""
        new_path = self._path.with_suffix(".new")
        with output_errors(_DOING, str(new_path)):
            new = os.open(new_path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                places, at = {}, os.pwrite(new, _MAGIC, 0)
                for attempt, (offset, length) in self._places.items():
                    record = os.pread(self._file, _HEAD.size + length, offset - _HEAD.size)
                    places[attempt] = at + _HEAD.size, length
                    at += os.pwrite(new, record, at)
                os.rename(new_path, self._path)
            except BaseException:
                os.close(new)
                raise
        os.close(self._file)
        self._file, self._places, self._end = new, places, at
        self._live_bytes = sum(length for _, length in places.values())
