"""What a master and its storage process say to each other over a socketpair.

    frame = length of the body, 4 bytes little-endian; body: one struct below, MessagePack, an array that begins with
    its tag

The master gives orders, each is answered once and in order. Both are of one version and trust each other, yet lengths
are bounded: a damaged length must not become an allocation. Pure: bytes in, structs out.
"""

from __future__ import annotations

import struct
from typing import Annotated, Generic, TypeVar

import msgspec
from msgspec import Meta

from kernelmill.cluster.fields import (
    TASKS_MAX,
    AttemptKey,
    Bounded,
    CodeName,
    Counts,
    JobId,
    Number,
    OutputFile,
    Place,
    Sheet,
    StageNumber,
    TaskIndex,
    Text,
)
from kernelmill.engine.errors import Code, error

FRAME_BYTES_MAX = 1 << 28
"""A winner takes some 100 bytes, so this is two million of them."""

_LENGTH = struct.Struct("<I")
_Path = Annotated[str, Meta(max_length=4096)]


class Winner(Bounded, frozen=True):
    """The attempt whose files count, of a task that left files in staging; names are relative to its folder."""

    stage: StageNumber
    task: TaskIndex
    attempt: AttemptKey
    files: Annotated[tuple[OutputFile, ...], Meta(max_length=1024)]


class Publish(Bounded, frozen=True, tag=1):
    """Put the winners' files under the job's public name: steps 6 to 9 of the commit; may be ordered again at will.

    `plan_path`: the job's part of role "plan"; `winners`: of all stages whose attempts left files; `counters`: the sums
    over all tasks.
    """

    job: JobId
    sheet: Sheet
    plan_path: _Path
    winners: Annotated[tuple[Winner, ...], Meta(max_length=TASKS_MAX)]
    counters: Counts


class Clean(Bounded, frozen=True, tag=2):
    """Rename the job's staging away and delete it: the job has ended, in whatever way."""

    job: JobId
    output: Place


class Published(Bounded, frozen=True, tag=10):
    """The output is under its public name, whole, and what the master's result says of it."""

    job: JobId
    rows: Number
    size_bytes: Number
    manifest_xxh3: Annotated[bytes, Meta(min_length=16, max_length=16)]


class PublishFailed(Bounded, frozen=True, tag=11):
    """Nothing is under the public name. `bad`: the winner whose file is missing or differs: its task must run again.

    Without `bad`: OUTPUT_FULL may be tried again, any other code ends the job.
    """

    job: JobId
    code: CodeName
    text: Text
    where: Text
    hint: Text
    bad: tuple[StageNumber, TaskIndex, AttemptKey] | None


class Cleaned(Bounded, frozen=True, tag=12):
    """The job's staging is gone, or was not there; `text` says what could not be removed, and is empty otherwise."""

    job: JobId
    text: Text


Order = Publish | Clean
Answer = Published | PublishFailed | Cleaned

_Kind = TypeVar("_Kind")
_ENCODER = msgspec.msgpack.Encoder()


def encode(message: Order | Answer) -> bytes:
    """The frame of a message. Raises KM0607 if it is longer than a frame may be."""
    body = _ENCODER.encode(message)
    if len(body) > FRAME_BYTES_MAX:
        raise error(Code.PROTOCOL, f"a {type(message).__name__} of {len(body)} bytes; {FRAME_BYTES_MAX} are allowed")
    return _LENGTH.pack(len(body)) + body


class Reader(Generic[_Kind]):
    """Takes bytes as they come, gives whole messages: `orders()` on the child's side, `answers()` on the master's."""

    def __init__(self, decoder: msgspec.msgpack.Decoder[_Kind]) -> None:
        self._decoder, self._bytes = decoder, bytearray()

    def feed(self, data: bytes) -> list[_Kind]:
        """The messages that are whole by now. Raises KM0607 for bytes that are none."""
        self._bytes += data
        messages = []
        while len(self._bytes) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._bytes)
            if length > FRAME_BYTES_MAX:
                raise error(Code.PROTOCOL, f"a frame of {length} bytes between master and storage")
            end = _LENGTH.size + length
            if len(self._bytes) < end:
                break
            body = bytes(self._bytes[_LENGTH.size : end])
            del self._bytes[:end]
            try:
                messages.append(self._decoder.decode(body))
            except (msgspec.DecodeError, UnicodeDecodeError) as problem:
                raise error(Code.PROTOCOL, f"not a message between master and storage: {problem}") from problem
        return messages


def orders() -> Reader[Order]:
    """A reader of what the master sends."""
    return Reader(msgspec.msgpack.Decoder(Order))


def answers() -> Reader[Answer]:
    """A reader of what the storage process sends."""
    return Reader(msgspec.msgpack.Decoder(Answer))
