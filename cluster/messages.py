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
    AttemptName,
    Bounded,
    ClusterId,
    CodeName,
    Consumed,
    Counts,
    Epoch,
    Gen,
    JobId,
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
    Problem,
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
    TaskRecord,
    Text,
    TicketBytes,
    Versions,
    Word,
)

PROTOCOL = 2
"""Version of all shapes here."""
PIECE_BYTES_MAX = 256 << 10
"""Bytes of a job part in one PutPart."""
FETCH_BYTES_MAX = 1 << 20
"""Bytes that one Fetch may ask for in all."""
HELD_PAGE = 4096
"""Attempts that a page of Hello or Welcome names at most."""

_Page = Annotated[int, Meta(ge=0, lt=1 << 16)]
_Pages = Annotated[int, Meta(ge=1, le=1 << 16)]
_Attempts = Annotated[tuple[AttemptName, ...], Meta(max_length=HELD_PAGE)]
_Names = Annotated[tuple[PeerName, ...], Meta(max_length=1024)]

# Client and master ---------------------------------------------------------------------------------------------------


class Submit(Bounded, frozen=True, tag=1):
    """Run this job. Repeated until answered; the same job and signature again is the same job."""

    job: JobId
    sheet: Sheet
    parts: JobParts
    signature: Signature
    expires_s: Number  # since 1970, part of what is signed


class PutPart(Bounded, frozen=True, tag=2):
    """A piece of a part of a job that was submitted; one at a time, each as answer to a Need."""

    job: JobId
    sha256: Sha256
    offset: Number
    piece: Annotated[bytes, Meta(max_length=PIECE_BYTES_MAX)]


class Need(Bounded, frozen=True, tag=3):
    """Send this part of the job from `offset` on."""

    job: JobId
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
    hint: Text


class StageCounts(Bounded, frozen=True):
    """How far a stage is: tasks, and the rows and bytes that they have read, running ones included."""

    label: Annotated[str, Meta(max_length=64)]
    tasks: TaskCount
    committed: TaskCount
    running: TaskCount
    failed: Number  # attempts
    rows: Number
    size_bytes: Number


class Status(Bounded, frozen=True, tag=6):
    """How far a job is; `code` and `text` say why it is paused, and are empty otherwise."""

    job: JobId
    client: PeerName
    state: JobState
    stages: Annotated[tuple[StageCounts, ...], Meta(max_length=1024)]
    slots: Number  # of all workers
    code: Word
    text: Text


class Result(Bounded, frozen=True, tag=7):
    """The job's end: what it left, or what went wrong.

    `code` is why it ended in the master's words, `problem` the error to raise. Counters are sums over all tasks, as the
    rejects by reason. An output that is a folder has its manifest in it, whose digest is `manifest_xxh3`.
    """

    job: JobId
    state: Literal["COMMITTED", "FAILED", "CANCELLED"]
    code: Word
    problem: Problem | None
    output: Place
    rows: Number
    size_bytes: Number
    manifest_xxh3: Annotated[bytes, Meta(max_length=16)]
    counters: Counts
    rejects: Counts


class Watch(Bounded, frozen=True, tag=8):
    """Send Status of this job as it changes, and its Result; said again every few seconds by who still watches."""

    job: JobId


class ListJobs(Bounded, frozen=True, tag=9):
    """Send a page of jobs: one's own, or all of them, which takes `admin`."""

    everybodys: bool
    page: _Page


OUTPUT_CHARACTERS_MAX = 256
"""What a list of jobs tells of the place of an output."""


class JobRow(Bounded, frozen=True):
    """One line of a list of jobs; `output` is for people."""

    job: JobId
    client: PeerName
    state: JobState
    tasks: Number
    committed: Number
    output: Word
    code: Word


class Jobs(Bounded, frozen=True, tag=10):
    """A page of jobs, the newest first."""

    page: _Page
    pages: _Pages
    jobs: Annotated[tuple[JobRow, ...], Meta(max_length=512)]


class CancelJob(Bounded, frozen=True, tag=11):
    """End this job without output; too late once it is COMMITTING."""

    job: JobId


class Forget(Bounded, frozen=True, tag=12):
    """Remove this ended job from the list."""

    job: JobId


class ListWorkers(Bounded, frozen=True, tag=13):
    """Send the workers that are here."""


class WorkerRow(Bounded, frozen=True):
    """One line of the list of workers."""

    name: PeerName
    state: Literal["REGISTERED", "SUSPECT", "DRAINING"]
    host: Word
    slots: Number
    running: Number
    memory_bytes: Number
    rss_bytes: Number
    disk_free_bytes: Number


class Workers(Bounded, frozen=True, tag=14):
    """The workers that are here, by name."""

    workers: Annotated[tuple[WorkerRow, ...], Meta(max_length=1024)]


class DrainWorker(Bounded, frozen=True, tag=15):
    """Let this worker finish and go; takes `admin`."""

    worker: PeerName


class Granted(Bounded, frozen=True, tag=16):
    """What was asked for was done, or is being done: the answer to CancelJob, Forget and DrainWorker."""

    job: Annotated[bytes, Meta(max_length=16)]


class ReadLog(Bounded, frozen=True, tag=17):
    """Send lines of the job's log from number `first` on."""

    job: JobId
    first: Number


class LogRow(Bounded, frozen=True):
    """A line that a task wrote."""

    worker: PeerName
    stage: StageNumber
    index: TaskIndex
    attempt: AttemptKey
    text: Annotated[str, Meta(max_length=1024)]


class LogPage(Bounded, frozen=True, tag=18):
    """Lines of a job's log; `first` is the number of the first one here: what lies before it was dropped, or read."""

    job: JobId
    first: Number
    rows: Annotated[tuple[LogRow, ...], Meta(max_length=128)]


# Worker and master ---------------------------------------------------------------------------------------------------


class HeldAttempt(Bounded, frozen=True):
    """An attempt that a worker runs, or whose output it has, with the proof that it was assigned to it."""

    attempt: AttemptName
    gen: Gen
    seal: Seal


class Hello(Bounded, frozen=True, tag=20):
    """Register this worker, or register it again: all that it has, in pages.

    `nonce` is the process, `count` rises with every Hello of it. `running`: attempts in a slot; `done`: attempts whose
    Done or Failed is not answered, or whose blocks are held. `host` is for people; where the data socket is, the
    master sees for itself.
    """

    versions: Versions
    nonce: Nonce
    count: Number
    epoch_seen: Epoch
    host: Word
    data_port: Port
    slots: Annotated[int, Meta(ge=1, le=1024)]
    memory_bytes: Number
    disk_free_bytes: Number
    ticket_key: Secret  # in no text of this message, see __repr__
    page: _Page
    pages: _Pages
    running: Annotated[tuple[HeldAttempt, ...], Meta(max_length=HELD_PAGE)]
    done: Annotated[tuple[HeldAttempt, ...], Meta(max_length=HELD_PAGE)]

    def __repr__(self) -> str:
        return f"Hello(nonce={self.nonce!r}, count={self.count}, page={self.page}, pages={self.pages})"


class Welcome(Bounded, frozen=True, tag=21):
    """You are registered, in the envelope's session: go on with `keep`, hold the outputs `hold`, say `resend` again.

    In pages, as answer to the Hello of this count. All else is to be ended and deleted.
    """

    count: Number
    page: _Page
    pages: _Pages
    keep: _Attempts
    hold: _Attempts
    resend: _Attempts


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
    """Lets the reader ask this holder for its partition of an output of a stage."""

    stage: StageNumber
    output: OutputNumber
    holder: PeerName
    ticket: TicketBytes


TicketList = Annotated[tuple[Ticket, ...], Meta(max_length=4096)]


class InputVersion(Bounded, frozen=True):
    """Which Inputs of a stage an attempt needs to have been told of."""

    stage: StageNumber
    version: Number


class Assign(Bounded, frozen=True, tag=23):
    """Run this attempt, leaving out these rows. Said again if Beats do not show it; a doubled one is ignored."""

    attempt: AttemptName
    gen: Gen
    seal: Seal
    is_isolating: bool
    left_out: Annotated[tuple[Origin, ...], Meta(max_length=8192)]
    inputs: Annotated[tuple[InputVersion, ...], Meta(max_length=64)]
    tickets: TicketList


class HeldMap(Bounded, frozen=True):
    """Which attempt made a map task's blocks, and who holds them: a place in the page's list of holders."""

    task: TaskIndex
    attempt: AttemptKey
    holder: Annotated[int, Meta(ge=0, lt=1024)]


class Inputs(Bounded, frozen=True, tag=24):
    """Where the blocks of a stage lie, all of them; the pages of a newer version together replace an older one."""

    job: JobId
    stage: StageNumber
    gen: Gen
    version: Number
    page: _Page
    pages: _Pages
    holders: _Names
    held: Annotated[tuple[HeldMap, ...], Meta(max_length=16384)]


class Accept(Bounded, frozen=True, tag=25):
    """The attempt is in hand: the answer to an Assign that was repeated, and to a Welcome; else a Beat shows it."""

    attempt: AttemptName


class Failed(Bounded, frozen=True, tag=26):
    """The attempt ended without output; said again every second until Discard answers.

    `code` is one of master/failures. `problem` is what to tell the user, `batch` the number of the batch it was in or
    None, `origins` the rows to blame, named by an isolating attempt. A CancelAttempt of an unknown attempt is answered
    so, too.
    """

    attempt: AttemptName
    code: CodeName
    type_name: Word
    problem: Problem | None
    batch: Number | None
    origins: Annotated[tuple[Origin, ...], Meta(max_length=1024)]


class FetchFailed(Bounded, frozen=True, tag=27):
    """A block of this map attempt could not be had, or is damaged; the reader waits for newer Inputs."""

    attempt: AttemptName
    source: AttemptName
    code: CodeName


class Progress(Bounded, frozen=True):
    """Where an attempt is; `waiting` is one that has ended and is not answered."""

    job: JobId
    attempt: AttemptKey
    phase: Literal["compile", "fetch", "run", "write", "waiting"]
    batch: Number
    rows: Number
    size_bytes: Number


class Beat(Bounded, frozen=True, tag=28):
    """Alive; sent every second with all that is in hand, so that differences heal by themselves.

    `attempts` are all that run or have not had their answer, `jobs` all of which there are files here.
    """

    attempts: Annotated[tuple[Progress, ...], Meta(max_length=8192)]
    jobs: Annotated[tuple[JobId, ...], Meta(max_length=4096)]
    rss_bytes: Number
    disk_free_bytes: Number


class Done(Bounded, frozen=True, tag=29):
    """The attempt's output lies on this worker's disk or in staging; sent every second until answered.

    `consumed` has one entry an input edge of its stage; rows and size_bytes are what it read from files or blocks.
    """

    attempt: AttemptName
    gen: Gen
    seal: Seal
    record: TaskRecord
    consumed: Annotated[tuple[Consumed, ...], Meta(max_length=64)]
    rows: Number
    size_bytes: Number
    millis: Number


class CommitAck(Bounded, frozen=True, tag=30):
    """The attempt's record is durable: it is the one."""

    attempt: AttemptName


class Discard(Bounded, frozen=True, tag=31):
    """Delete the attempt's files; what you said of it changes nothing. The answer to Failed, too."""

    attempt: AttemptName


class CancelAttempt(Bounded, frozen=True, tag=32):
    """End the attempt and answer Failed with CANCELLED, also if it is not known; repeated while Beat shows it."""

    attempt: AttemptName


class Drop(Bounded, frozen=True, tag=33):
    """The job is over: delete all files of it; repeated while Beat shows it."""

    job: JobId


class Drain(Bounded, frozen=True, tag=34):
    """Take no new work. With `is_free` nothing here is needed any more: say Bye and end."""

    is_free: bool


class Bye(Bounded, frozen=True, tag=35):
    """This session is over."""


class Spec(Bounded, frozen=True, tag=36):
    """All of a job that is signed; its parts come over the parts socket. Goes before the job's first Assign."""

    job: JobId
    sheet: Sheet
    parts: JobParts
    signature: Signature
    expires_s: Number


class Pair(Bounded, frozen=True, tag=37):
    """Where the blocks of one map task lie that only task `index` of a reader gets, over a one-to-one edge."""

    job: JobId
    stage: StageNumber
    gen: Gen
    held: HeldMap  # its holder is always 0
    holder: PeerName
    ticket: TicketBytes


class Tickets(Bounded, frozen=True, tag=38):
    """Tickets for a running attempt, for holders that came after its Assign; they join those it has."""

    attempt: AttemptName
    tickets: TicketList


class Heard(Bounded, frozen=True, tag=39):
    """The answer to a Beat: the master lives."""


class WantDrain(Bounded, frozen=True, tag=42):
    """This worker wants to go: give it no new work, and tell it when it is free."""


class Lines(Bounded, frozen=True, tag=43):
    """Lines that an attempt wrote; the worker sends at most some hundred of them a second."""

    attempt: AttemptName
    lines: Annotated[tuple[Annotated[str, Meta(max_length=1024)], ...], Meta(max_length=128)]


# Reader and holder of blocks or parts --------------------------------------------------------------------------------


class BlockRange(Bounded, frozen=True, tag=1):
    """Bytes of one partition's stream of one map attempt."""

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
    """The answer to a Fetch; if OK one frame with `length` bytes comes after it.

    `total_bytes` is the length of all that the last range's stream or part has.
    """

    request: Number
    status: Literal["OK", "GONE", "DENIED", "CORRUPT", "BUSY"]
    length: Annotated[int, Meta(ge=0, le=FETCH_BYTES_MAX)]
    total_bytes: Number


ClientToMaster = Submit | PutPart | Watch | ListJobs | CancelJob | Forget | ListWorkers | DrainWorker | ReadLog
MasterToClient = Need | Accepted | Refused | Status | Result | Jobs | Workers | Granted | LogPage
WorkerToMaster = Hello | Accept | Failed | FetchFailed | Beat | Done | WantDrain | Bye | Lines
MasterToWorker = (
    Welcome
    | Refused
    | Peers
    | Spec
    | Assign
    | Inputs
    | Pair
    | Tickets
    | Heard
    | CommitAck
    | Discard
    | CancelAttempt
    | Drop
    | Drain
)
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
