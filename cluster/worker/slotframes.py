"""Frames between a supervisor and its slots, over a socketpair: length (u32, little-endian), then one msgspec array.

    to the slot         OpenJob; for each task SourceInputs (by the page), RunTask, BlockHere ...;
                        CancelTask, TakeBack, CloseJob, EndSlot
    to the supervisor   SlotReady, JobOpened | JobRefused;
                        for each task BlockWanted ..., TaskDone | TaskFailed | TaskReturned

A slot has one job and runs one task at a time; more RunTasks may stand in line in it, if the job has no code of users
and the tasks read no blocks: then the next one need not be waited for. Before RunTask it has been told, by
SourceInputs, who holds the blocks that the task reads; what does not lie on this host, or is damaged there, it asks for
by BlockWanted and waits. Pure: `FrameReader` cuts what was received, `frame_bytes` makes frames, the sockets are the
caller's.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Annotated, Any, Generic, TypeVar

import msgspec
from msgspec import Meta

from kernelmill.cluster import wire
from kernelmill.cluster.fields import (
    AttemptKey,
    Bounded,
    CodeName,
    Consumed,
    Gen,
    JobId,
    JobParts,
    Number,
    Origin,
    OutputNumber,
    Partition,
    PeerName,
    Problem,
    Secret,
    Sheet,
    Signature,
    StageNumber,
    TaskBits,
    TaskIndex,
    TaskKey,
    TaskRecord,
    Word,
)
from kernelmill.engine.errors import Code, error

FRAME_BYTES_MAX = wire.FRAME_BYTES_MAX - (64 << 10)
"""Bytes of a frame to the supervisor, its length not counted: what it says must fit a message to the master."""
TO_SLOT_BYTES_MAX = 4 << 20
"""Bytes of a frame to a slot: a whole Spec, and the worker's places of all roots."""
HELD_MAX = 16384
"""Entries of a SourceInputs."""

REGISTERED_MAX = 4096
"""Functions that a worker may list."""

_LENGTH = struct.Struct("<I")
_Path = Annotated[str, Meta(max_length=4096)]
Registered = Annotated[tuple[Annotated[str, Meta(max_length=512)], ...], Meta(max_length=REGISTERED_MAX)]


class OpenJob(Bounded, frozen=True, tag=1):
    """Open this job: check `signature` over its sheet and parts, then unpickle its functions; the slot's first frame.

    registered: the functions that this worker runs; None for all that is signed. roots: names and places.
    scratch: the folder in which each worker of this host has a folder of its name. hung_ms: how long an attempt may
    show no sign of life.
    """

    job: JobId
    sheet: Sheet
    parts: JobParts
    parts_folder: _Path
    signature: Signature
    expires_s: Number
    code_key: Secret  # in no text of this frame, see __repr__
    roots: Annotated[tuple[tuple[PeerName, _Path], ...], Meta(max_length=64)]
    memory_bytes: Number
    scratch: _Path
    worker: PeerName
    registered: Registered | None = None
    hung_ms: Number = 30_000

    def __repr__(self) -> str:
        return f"OpenJob(job={self.job.hex()}, worker={self.worker!r})"


class MapHeld(Bounded, frozen=True):
    """Which attempt made a map task's blocks; `holder` is a place in the frame's list."""

    task: TaskIndex
    attempt: AttemptKey
    holder: Annotated[int, Meta(ge=0, lt=1024)]


class SourceInputs(Bounded, frozen=True, tag=2):
    """Who holds the outputs of these tasks of a stage; replaces what earlier frames said of them.

    without_rows: which of all tasks of the stage left no rows, as Inputs says it; None in frames that do not say.
    """

    stage: StageNumber
    gen: Gen
    holders: Annotated[tuple[PeerName, ...], Meta(max_length=1024)]
    held: Annotated[tuple[MapHeld, ...], Meta(max_length=HELD_MAX)]
    without_rows: TaskBits | None = None


class Only(Bounded, frozen=True):
    """A probe's rows, from `first` to `last`: numbers of rows in the order of reading, or with `by_key` hashes of keys.

    What a probe makes is thrown away. is_naming: it runs nothing, but says what its only row, or group, is.
    """

    first: Annotated[int, Meta(ge=0)]
    last: Annotated[int, Meta(ge=0)]
    by_key: bool
    is_naming: bool


class RunTask(Bounded, frozen=True, tag=3):
    """Run this attempt, leaving out these rows; is_isolating: find the rows that it fails for.

    `only` is of slots that a slot starts itself to find such rows.
    """

    attempt: AttemptKey
    task: TaskKey
    left_out: Annotated[tuple[Origin, ...], Meta(max_length=8192)]
    is_isolating: bool
    only: Only | None = None


class BlockHere(Bounded, frozen=True, tag=4):
    """The answer to BlockWanted: the block, by this attempt, is in the spooled file `path`.

    With an empty path it lies in place, in the holder's folder on this host. With a `code` it cannot be had: the task
    is to end with that. One that is not whole has its index in that file; a second answer follows when all is there.
    """

    stage: StageNumber
    map_task: TaskIndex
    output: OutputNumber
    partition: Partition
    attempt: AttemptKey
    holder: PeerName
    path: _Path
    code: Word
    is_whole: bool = True


class CancelTask(Bounded, frozen=True, tag=5):
    """End this attempt; nothing happens if it is not the one that runs."""

    attempt: AttemptKey


class TakeBack(Bounded, frozen=True, tag=8):
    """Answer TaskReturned if this attempt waits behind another and was not begun; nothing happens if it was."""

    attempt: AttemptKey


class CloseJob(Bounded, frozen=True, tag=7):
    """The job is over, and nothing of a user's was in it: forget it, give memory back and be ready for another."""


class EndSlot(Bounded, frozen=True, tag=6):
    """Exit at once."""


class SlotReady(Bounded, frozen=True, tag=1):
    """All is imported; a job may be opened."""

    pid: Number


class JobOpened(Bounded, frozen=True, tag=2):
    """The job's signature holds and its functions are there; tasks may be run."""

    job: JobId


class JobRefused(Bounded, frozen=True, tag=3):
    """The job was not opened; the slot ends."""

    job: JobId
    problem: Problem


class BlockWanted(Bounded, frozen=True, tag=4):
    """The running task cannot go on without this block. Asked once; BlockHere is the answer.

    code: empty if the block is not on this host; CORRUPT_BLOCK or FETCH_UNREACHABLE if that attempt's copy, in place or
    as BlockHere gave it, is damaged or gone.
    """

    stage: StageNumber
    gen: Gen
    map_task: TaskIndex
    output: OutputNumber
    partition: Partition
    attempt: AttemptKey
    holder: PeerName
    code: Word


class TaskDone(Bounded, frozen=True, tag=5):
    """The attempt's blocks or files are complete; `consumed` has one entry an edge of its stage.

    rows and size_bytes are what it read from files or blocks, as far as it counted.
    """

    attempt: AttemptKey
    record: TaskRecord
    consumed: Annotated[tuple[Consumed, ...], Meta(max_length=64)]
    rows: Number
    size_bytes: Number
    millis: Number


class TaskFailed(Bounded, frozen=True, tag=6):
    """The attempt ended without output.

    `code` is one of master/failures; `problem` what to tell the user; `batch` the number of the batch it was in, None
    if it was in none; `origins` the rows to blame, named by an isolating attempt.
    """

    attempt: AttemptKey
    code: CodeName
    type_name: Word
    problem: Problem | None
    batch: Number | None
    origins: Annotated[tuple[Origin, ...], Meta(max_length=1024)]


class TaskReturned(Bounded, frozen=True, tag=7):
    """The attempt was not begun, and will not be: it may run elsewhere."""

    attempt: AttemptKey


ToSlot = OpenJob | SourceInputs | RunTask | BlockHere | CancelTask | TakeBack | EndSlot | CloseJob
ToSupervisor = SlotReady | JobOpened | JobRefused | BlockWanted | TaskDone | TaskFailed | TaskReturned
_Frame = TypeVar("_Frame", bound=ToSlot | ToSupervisor)
_ENCODER = msgspec.msgpack.Encoder()


def frame_bytes(frame: ToSlot | ToSupervisor) -> bytes:
    """The bytes of a frame, its length first. Raises KM0607 if it is longer than a frame may be."""
    data = _ENCODER.encode(frame)
    bytes_max = TO_SLOT_BYTES_MAX if isinstance(frame, ToSlot) else FRAME_BYTES_MAX
    if len(data) > bytes_max:
        what = f"a {type(frame).__name__} of {len(data)} bytes; {bytes_max} are allowed"
        raise error(Code.PROTOCOL, what, hint="a job with fewer or shorter counters and texts has smaller frames")
    return _LENGTH.pack(len(data)) + data


class FrameReader(Generic[_Frame]):
    """Cuts what comes from the other side into frames; holds at most one that is not complete."""

    def __init__(self, frames: Any, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._decoder: msgspec.msgpack.Decoder[_Frame] = msgspec.msgpack.Decoder(frames)
        self._rest = bytearray()

    def feed(self, data: bytes) -> Iterator[_Frame]:
        """Take bytes and give the frames that they complete. Raises KM0607 for what is no frame: end that process."""
        self._rest += data
        while len(self._rest) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._rest)
            if length > self._bytes_max:
                raise _no_frame(f"a frame of {length} bytes; {self._bytes_max} are allowed")
            end = _LENGTH.size + length
            if len(self._rest) < end:
                return
            frame, self._rest = bytes(self._rest[_LENGTH.size : end]), self._rest[end:]
            try:
                decoded = self._decoder.decode(frame)
            except Exception as problem:  # the other side runs users' code: whatever it sends must not end this one
                raise _no_frame(f"not a frame: {problem}") from problem
            yield decoded


def from_supervisor() -> FrameReader[ToSlot]:
    """A reader for the slot's side."""
    return FrameReader(ToSlot, TO_SLOT_BYTES_MAX)


def from_slot() -> FrameReader[ToSupervisor]:
    """A reader for the supervisor's side."""
    return FrameReader(ToSupervisor, FRAME_BYTES_MAX)


def _no_frame(what: str) -> Exception:
    return error(Code.PROTOCOL, what, where="between supervisor and slot", hint="the slot is to be ended")
