"""What workers and the master say to each other: one struct a message, see messages.py. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from kernelmill.cluster.fields import (
    AttemptKey,
    AttemptName,
    Bounded,
    CodeName,
    Consumed,
    Epoch,
    Gen,
    JobId,
    JobParts,
    Nonce,
    Number,
    Origin,
    OutputNumber,
    Page,
    Pages,
    PeerName,
    Port,
    Problem,
    PublicKey,
    Seal,
    Secret,
    Sheet,
    Signature,
    StageNumber,
    TaskBits,
    TaskIndex,
    TaskRecord,
    TicketBytes,
    Versions,
    Word,
)

HELD_PAGE = 4096
"""Attempts that a page of Hello or Welcome names at most."""
_Attempts = Annotated[tuple[AttemptName, ...], Meta(max_length=HELD_PAGE)]
_Names = Annotated[tuple[PeerName, ...], Meta(max_length=1024)]


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
    page: Page
    pages: Pages
    running: Annotated[tuple[HeldAttempt, ...], Meta(max_length=HELD_PAGE)]
    done: Annotated[tuple[HeldAttempt, ...], Meta(max_length=HELD_PAGE)]

    def __repr__(self) -> str:
        return f"Hello(nonce={self.nonce!r}, count={self.count}, page={self.page}, pages={self.pages})"


class Welcome(Bounded, frozen=True, tag=21):
    """You are registered, in the envelope's session: go on with `keep`, hold the outputs `hold`, say `resend` again.

    In pages, as answer to the Hello of this count. All else is to be ended and deleted.
    """

    count: Number
    page: Page
    pages: Pages
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
    """Which attempt made a map task's blocks, and who holds them: a place in the page's list of holders.

    `block_bytes` is the length of the largest of them, as its record says: a holder that sends more lies.
    """

    task: TaskIndex
    attempt: AttemptKey
    holder: Annotated[int, Meta(ge=0, lt=1024)]
    block_bytes: Number


class Inputs(Bounded, frozen=True, tag=24):
    """Where the blocks of a stage lie, all of them; the pages of a newer version together replace an older one.

    Map tasks that left no rows are not `held`: there is nothing to read. The first page names them: bit n of
    `without_rows`, the lowest of a byte first, is of task n.
    """

    job: JobId
    stage: StageNumber
    gen: Gen
    version: Number
    page: Page
    pages: Pages
    holders: _Names
    held: Annotated[tuple[HeldMap, ...], Meta(max_length=16384)]
    without_rows: TaskBits


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
