"""Every message between client, master, worker and reader of blocks, and who may send which to whom.

A message is one frame: an envelope, as a MessagePack array, whose last element is one of the structs below, an array
that begins with its tag. The unions at the end are what a receiver decodes: a message in the wrong direction is a
decoding error like any other. Tags are never used again; a change of any shape counts PROTOCOL up, and
`tests/cluster/golden_messages.txt` holds the bytes of this version. Pure; `wire.py` makes and reads the bytes.
"""

from __future__ import annotations

from typing import Annotated, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta

from kernelmill.cluster.fields import (
    AttemptKey,
    Bounded,
    Checks,
    ClusterId,
    CodeName,
    Epoch,
    Gen,
    JobId,
    JobPart,
    JobParts,
    JobState,
    Life,
    Nonce,
    Number,
    Origin,
    OutputNumber,
    Partition,
    PeerName,
    Place,
    Port,
    PublicKey,
    Seal,
    Secret,
    Session,
    Sha256,
    Sheet,
    Signature,
    StageNumber,
    TaskCount,
    TaskIndex,
    TaskKey,
    TaskRecord,
    Text,
    TicketBytes,
    Versions,
    Word,
    Xxh3,
)

PROTOCOL = 1
"""Version of all shapes here."""
PIECE_BYTES_MAX = 256 << 10
"""Bytes of a job part in one PutPart."""
FETCH_BYTES_MAX = 1 << 20
"""Bytes that one Fetch may ask for in all."""

_Page = Annotated[int, Meta(ge=0, lt=1 << 16)]
_Pages = Annotated[int, Meta(ge=1, le=1 << 16)]
_Attempts = Annotated[tuple[AttemptKey, ...], Meta(max_length=4096)]

# Client and master ---------------------------------------------------------------------------------------------------


class Submit(Bounded, frozen=True, tag=1):
    """Run this job. Repeated until answered; the same job and signature again is the same job."""

    job: JobId
    sheet: Sheet
    parts: JobParts
    signature: Signature
    expires_s: Number  # since 1970, part of what is signed


class PutPart(Bounded, frozen=True, tag=2):
    """A piece of a job part; one at a time, each as answer to a Need."""

    part: JobPart
    offset: Number
    piece: Annotated[bytes, Meta(max_length=PIECE_BYTES_MAX)]


class Need(Bounded, frozen=True, tag=3):
    """Send this part from `offset` on."""

    sha256: Sha256
    offset: Number


class Accepted(Bounded, frozen=True, tag=4):
    """The job is durable; it is in this state."""

    job: JobId
    state: JobState


class Refused(Bounded, frozen=True, tag=5):
    """What was asked is not done, and why: to a client, or to a Hello; `job` is empty if it is about none."""

    job: Annotated[bytes, Meta(max_length=16)]
    code: CodeName
    text: Text


class StageCounts(Bounded, frozen=True):
    """How far a stage is."""

    tasks: TaskCount
    committed: TaskCount
    running: TaskCount
    rows: Number
    size_bytes: Number


class Status(Bounded, frozen=True, tag=6):
    """How far a job is; `code` and `text` say why it is paused, and are empty otherwise."""

    job: JobId
    client: PeerName
    state: JobState
    stages: Annotated[tuple[StageCounts, ...], Meta(max_length=1024)]
    code: Word
    text: Text


class Result(Bounded, frozen=True, tag=7):
    """The job's end: its output and the digest of its manifest, or what went wrong."""

    job: JobId
    state: Literal["COMMITTED", "FAILED", "CANCELLED"]
    code: Word
    text: Text
    output: Place
    manifest_xxh3: Annotated[bytes, Meta(max_length=16)]


class Watch(Bounded, frozen=True, tag=8):
    """Send Status of this job as it changes, and its Result."""

    job: JobId


class ListJobs(Bounded, frozen=True, tag=9):
    """Send a page of jobs: one's own, or all of them, which takes `admin`."""

    everybodys: bool
    page: _Page


class Jobs(Bounded, frozen=True, tag=10):
    """A page of jobs, the newest first: job, client, state."""

    page: _Page
    pages: _Pages
    jobs: Annotated[tuple[tuple[JobId, PeerName, JobState], ...], Meta(max_length=4096)]


class CancelJob(Bounded, frozen=True, tag=11):
    """End this job without output; too late once it is COMMITTING."""

    job: JobId


class Forget(Bounded, frozen=True, tag=12):
    """Remove this ended job from the list."""

    job: JobId


# Worker and master ---------------------------------------------------------------------------------------------------


class Offer(Bounded, frozen=True):
    """A Done that was not answered: its record is sent if the master wants it."""

    attempt: AttemptKey
    seal: Seal
    record_xxh3: Xxh3


class Hello(Bounded, frozen=True, tag=20):
    """Register this worker, or register it again: all that it has, in pages."""

    versions: Versions
    nonce: Nonce
    data_port: Port
    slots: Annotated[int, Meta(ge=1, le=1024)]
    memory_bytes: Number
    disk_bytes: Number
    ticket_key: Secret  # in no text of this message, see __repr__
    page: _Page
    pages: _Pages
    running: _Attempts
    held: _Attempts
    offers: Annotated[tuple[Offer, ...], Meta(max_length=4096)]

    def __repr__(self) -> str:
        return f"Hello(nonce={self.nonce!r}, page={self.page}, pages={self.pages})"


class Welcome(Bounded, frozen=True, tag=21):
    """You are registered; keep these, send these Dones again, end and delete all else. In pages."""

    page: _Page
    pages: _Pages
    keep_running: _Attempts
    keep_held: _Attempts
    send_again: _Attempts


class Peer(Bounded, frozen=True):
    """A worker's data socket and the key that it must show."""

    name: PeerName
    endpoint: Word
    public_key: PublicKey


class Peers(Bounded, frozen=True, tag=22):
    """All who may ask your data socket, and where theirs are."""

    version: Number
    peers: Annotated[tuple[Peer, ...], Meta(max_length=1024)]


class Ticket(Bounded, frozen=True):
    """Lets the reader ask this holder for its partition."""

    holder: PeerName
    ticket: TicketBytes


class Assign(Bounded, frozen=True, tag=23):
    """Run this attempt, leaving out these rows; its inputs are as the Inputs of that version say."""

    attempt: AttemptKey
    seal: Seal
    task: TaskKey
    left_out: Annotated[tuple[Origin, ...], Meta(max_length=8192)]
    inputs_version: Number
    tickets: Annotated[tuple[Ticket, ...], Meta(max_length=1024)]


class HeldMap(Bounded, frozen=True):
    """Which attempt made a map task's blocks, and who holds them: a place in the page's list of holders."""

    task: TaskIndex
    attempt: AttemptKey
    holder: Annotated[int, Meta(ge=0, lt=1024)]


class Inputs(Bounded, frozen=True, tag=24):
    """Where the blocks of a stage lie; a newer version replaces what it names."""

    job: JobId
    stage: StageNumber
    gen: Gen
    version: Number
    page: _Page
    pages: _Pages
    holders: Annotated[tuple[PeerName, ...], Meta(max_length=1024)]
    held: Annotated[tuple[HeldMap, ...], Meta(max_length=16384)]


class Accept(Bounded, frozen=True, tag=25):
    """The attempt runs."""

    attempt: AttemptKey


class Failed(Bounded, frozen=True, tag=26):
    """The attempt ended without output."""

    attempt: AttemptKey
    code: CodeName
    type_name: Word
    text: Text
    origin: Origin | None  # of the row that was isolated


class FetchFailed(Bounded, frozen=True, tag=27):
    """A block of this map attempt could not be had, or is damaged; the reader's attempt is not to blame."""

    attempt: AttemptKey
    map_task: TaskIndex
    map_attempt: AttemptKey
    code: CodeName


class Progress(Bounded, frozen=True):
    """Where an attempt is."""

    attempt: AttemptKey
    phase: Literal["compile", "fetch", "run", "write"]
    batch: Number
    rows: Number
    size_bytes: Number


class Beat(Bounded, frozen=True, tag=28):
    """Alive; sent every second with all that is in hand, so that differences heal by themselves."""

    progress: Annotated[tuple[Progress, ...], Meta(max_length=1024)]
    rss_bytes: Number
    disk_free_bytes: Number
    held_outputs: Number
    held_xxh3: Xxh3


class Done(Bounded, frozen=True, tag=29):
    """The attempt's output lies on this worker's disk or in staging; sent every second until answered."""

    attempt: AttemptKey
    seal: Seal
    task: TaskKey
    record: TaskRecord
    maps_consumed: TaskCount
    consumed: Checks


class CommitAck(Bounded, frozen=True, tag=30):
    """The attempt's record is durable: it is the one."""

    attempt: AttemptKey


class Discard(Bounded, frozen=True, tag=31):
    """Delete the attempt's files; what you said of it changes nothing."""

    attempt: AttemptKey


class CancelAttempt(Bounded, frozen=True, tag=32):
    """End the attempt; repeated while Beat shows it."""

    attempt: AttemptKey


class Drop(Bounded, frozen=True, tag=33):
    """Delete these held outputs; repeated while Beat shows them."""

    attempts: _Attempts


class Drain(Bounded, frozen=True, tag=34):
    """From a worker: give me no new work. From a master: take none. Blocks are served while they are needed."""


class Bye(Bounded, frozen=True, tag=35):
    """This session is over."""


# Reader and holder of blocks or parts --------------------------------------------------------------------------------


class BlockRange(Bounded, frozen=True, tag=1):
    """Bytes of one partition's block of one map attempt."""

    job: JobId
    stage: StageNumber
    gen: Gen
    map_task: TaskIndex
    attempt: AttemptKey
    output: OutputNumber
    partition: Partition
    offset: Number
    length: Annotated[int, Meta(ge=0, le=FETCH_BYTES_MAX)]


class PartRange(Bounded, frozen=True, tag=2):
    """Bytes of a job part."""

    sha256: Sha256
    offset: Number
    length: Annotated[int, Meta(ge=0, le=FETCH_BYTES_MAX)]


class Fetch(Bounded, frozen=True, tag=40):
    """Send these ranges, one after the other in one body; the asking is the credit."""

    request: Number
    ticket: Annotated[bytes, Meta(max_length=16)]  # empty for parts: the session is the right
    ranges: Annotated[tuple[BlockRange | PartRange, ...], Meta(min_length=1, max_length=1024)]


class Chunk(Bounded, frozen=True, tag=41):
    """The answer to a Fetch; if OK one frame with `length` bytes comes after it."""

    request: Number
    status: Literal["OK", "GONE", "DENIED", "CORRUPT", "BUSY"]
    length: Annotated[int, Meta(ge=0, le=FETCH_BYTES_MAX)]


ClientToMaster = Submit | PutPart | Watch | ListJobs | CancelJob | Forget
MasterToClient = Need | Accepted | Refused | Status | Result | Jobs
WorkerToMaster = Hello | Accept | Failed | FetchFailed | Beat | Done | Drain | Bye
MasterToWorker = Welcome | Refused | Peers | Assign | Inputs | CommitAck | Discard | CancelAttempt | Drop | Drain | Bye
ReaderToHolder = Fetch
HolderToReader = Chunk

Message = ClientToMaster | MasterToClient | WorkerToMaster | MasterToWorker | ReaderToHolder | HolderToReader

Body = TypeVar("Body")


class Envelope(msgspec.Struct, Generic[Body], frozen=True, array_like=True, forbid_unknown_fields=True):
    """What is around every message: version, which cluster and master, which session, and what was seen of the peer.

    `session` is empty before Welcome; `seq` counts this sender's messages in the session, `ack` is the highest seen.
    """

    proto: Annotated[int, Meta(ge=0, le=(1 << 16) - 1)]
    cluster: ClusterId
    epoch: Epoch
    life: Life
    session: Session
    seq: Number
    ack: Number
    body: Body
