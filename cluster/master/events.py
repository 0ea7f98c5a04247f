"""What the master's machine is told (events, in the past tense) and what it orders (actions). Pure values.

Events come from a shell that has checked the peer's key, decoded the message and taken worker and client names from
the key, never from the message. Ids that must be random (sessions) come with the event. What a peer says may be late,
doubled, forged or nonsense: it is answered Discard or Refuse, counted, and changes nothing.
"""

from __future__ import annotations

import msgspec

from kernelmill.cluster.fields import Count, Origin, OutputFile, Problem
from kernelmill.cluster.master.facts import Fact, JobSheet
from kernelmill.engine.ids import AttemptId


class Held(msgspec.Struct, frozen=True):
    """An attempt that a worker runs, or whose output it holds, with the proof that it was assigned to it."""

    job: str
    attempt: AttemptId
    gen: int
    seal: bytes


class HelloReceived(msgspec.Struct, frozen=True):
    """A worker wants a session. `nonce` is its process, `count` rises with every HELLO of that process.

    running: attempts in hand; done: attempts whose DONE is not answered or whose blocks it holds. host: where it was
    seen; "" if that says nothing, as where all are on one machine.
    """

    worker: str
    session: int
    nonce: int
    count: int
    slots: int
    disk_free_bytes: int
    running: tuple[Held, ...] = ()
    done: tuple[Held, ...] = ()
    epoch_seen: int = 0
    host: str = ""


class BeatReceived(msgspec.Struct, frozen=True):
    """The worker lives. attempts: (job, number) of all it runs or has not had answered; jobs: those it has files of."""

    worker: str
    session: int
    attempts: tuple[tuple[str, int], ...]
    jobs: tuple[str, ...]
    disk_free_bytes: int


class AcceptReceived(msgspec.Struct, frozen=True):
    """The attempt was started in a slot."""

    worker: str
    session: int
    job: str
    attempt: AttemptId


class Consumed(msgspec.Struct, frozen=True):
    """What an attempt read over one edge: from how many map tasks, each counted once, and their rows, sum and xor."""

    maps: int
    rows: int
    sum: int
    xor: int


class DoneReceived(msgspec.Struct, frozen=True):
    """The attempt's output is complete and lies on a disk. Said again every second until it is answered.

    rows, size_bytes: what it read, for people; millis: how long it ran.
    """

    worker: str
    session: int
    job: str
    attempt: AttemptId
    gen: int
    seal: bytes
    data_bytes: int = 0
    vector: bytes = b""
    files: tuple[OutputFile, ...] = ()
    rejects: tuple[Count, ...] = ()
    consumed: tuple[Consumed, ...] = ()
    counters: tuple[Count, ...] = ()
    reject_files: tuple[OutputFile, ...] = ()
    rows: int = 0
    size_bytes: int = 0
    millis: int = 0


class FailedReceived(msgspec.Struct, frozen=True):
    """The attempt ended without output; the answer is Discard, and until then it is said again.

    code: a name of failures.Failure; problem: the error that the user sees if the job ends by it. batch: the number of
    the batch it was in, or -1. origins: the rows to blame, named by an isolating attempt. A worker also answers so to
    the Cancel of an attempt that it does not know.
    """

    worker: str
    session: int
    job: str
    attempt: AttemptId
    code: str
    text: str = ""
    batch: int = -1
    origins: tuple[Origin, ...] = ()
    problem: Problem | None = None


class FetchFailedReceived(msgspec.Struct, frozen=True):
    """A running attempt cannot read the output of `source`; it waits for newer INPUTS, or for a cancel."""

    worker: str
    session: int
    job: str
    attempt: AttemptId
    source: AttemptId
    code: str


class ByeReceived(msgspec.Struct, frozen=True):
    """The worker leaves, now."""

    worker: str
    session: int


class PeerGone(msgspec.Struct, frozen=True):
    """The worker cannot be reached any more (EHOSTUNREACH), or its key was revoked."""

    worker: str
    session: int
    why: str


class PeerDisconnected(msgspec.Struct, frozen=True):
    """The socket monitor saw the connection end; it may come back within a second."""

    worker: str
    session: int


class DrainRequested(msgspec.Struct, frozen=True):
    """An administrator wants the worker to finish, serve what is needed, and go."""

    worker: str


class SubmitReceived(msgspec.Struct, frozen=True):
    """A client's job, all parts of which are durable. `client` is the key's name."""

    client: str
    sheet: JobSheet


class CancelReceived(msgspec.Struct, frozen=True):
    """A client wants a job to stop; its own, or any with `is_admin`."""

    client: str
    job: str
    is_admin: bool = False


class ForgetReceived(msgspec.Struct, frozen=True):
    """A client wants to hear no more of its ended job; an administrator of any."""

    client: str
    job: str
    is_admin: bool = False


class Recorded(msgspec.Struct, frozen=True):
    """All Record actions up to this number are durable."""

    number: int


class JournalFilled(msgspec.Struct, frozen=True):
    """The journal's disk is full: nothing is durable until JournalFreed; what was ordered stays ordered."""


class JournalFreed(msgspec.Struct, frozen=True):
    """The journal writes again."""


class Published(msgspec.Struct, frozen=True):
    """The output is under its public name, whole."""

    job: str
    rows: int = 0
    size_bytes: int = 0
    manifest_xxh3: bytes = b""


class PublishFailed(msgspec.Struct, frozen=True):
    """Publishing stopped. bad: the (stage, task, attempt) whose file is missing or differs; None: see `code`.

    code: OUTPUT_FULL is tried again; any other ends the job.
    """

    job: str
    code: str
    text: str = ""
    bad: tuple[int, int, int] | None = None
    problem: Problem | None = None


class TimePassed(msgspec.Struct, frozen=True):
    """Nothing happened but time: sent when next_deadline() is reached."""


Event = (
    HelloReceived
    | BeatReceived
    | AcceptReceived
    | DoneReceived
    | FailedReceived
    | FetchFailedReceived
    | ByeReceived
    | PeerGone
    | PeerDisconnected
    | DrainRequested
    | SubmitReceived
    | CancelReceived
    | ForgetReceived
    | Recorded
    | JournalFilled
    | JournalFreed
    | Published
    | PublishFailed
    | TimePassed
)


class Record(msgspec.Struct, frozen=True):
    """Append these facts to the journal in one transaction, in order of `number`; then say Recorded."""

    number: int
    facts: tuple[Fact, ...]


class Welcome(msgspec.Struct, frozen=True):
    """The session stands. keep: attempts to go on with; hold: outputs that count; resend: DONEs to say again.

    All else that the worker runs or holds it kills and deletes.
    """

    worker: str
    session: int
    count: int
    keep: tuple[tuple[str, int], ...]
    hold: tuple[tuple[str, int], ...]
    resend: tuple[tuple[str, int], ...]


class Refuse(msgspec.Struct, frozen=True):
    """Tell a peer that what it said does not stand; NO_SESSION makes a worker say HELLO."""

    peer: str
    code: str
    text: str
    job: str = ""
    hint: str = ""


class Assign(msgspec.Struct, frozen=True):
    """Run this attempt. poison: records to leave out; inputs: (stage, version) it must have been told of before."""

    worker: str
    session: int
    job: str
    attempt: AttemptId
    gen: int
    seal: bytes
    inputs: tuple[tuple[int, int], ...] = ()
    poison: tuple[Origin, ...] = ()
    is_isolating: bool = False


class TellInputs(msgspec.Struct, frozen=True):
    """Tell the worker where a stage's outputs are: machine.inputs_of(job, stage), by the page."""

    worker: str
    session: int
    job: str
    stage: int
    version: int


class TellPair(msgspec.Struct, frozen=True):
    """Tell the worker of the one output that task `task` of a reader gets over a one-to-one edge."""

    worker: str
    session: int
    job: str
    stage: int
    task: int
    attempt: int
    holder: str


class Cancel(msgspec.Struct, frozen=True):
    """Stop this attempt, and answer FAILED(CANCELLED), also if it is not known. Repeated at each BEAT till then."""

    worker: str
    session: int
    job: str
    attempt: AttemptId


class CommitAck(msgspec.Struct, frozen=True):
    """The attempt's output counts, durably."""

    worker: str
    session: int
    job: str
    attempt: AttemptId


class Discard(msgspec.Struct, frozen=True):
    """Nothing of this attempt counts: forget it and delete its files. The answer to FAILED, too."""

    worker: str
    session: int
    job: str
    attempt: AttemptId


class Drop(msgspec.Struct, frozen=True):
    """The job is over: delete all files of it."""

    worker: str
    session: int
    job: str


class Drain(msgspec.Struct, frozen=True):
    """Take no new work; with `is_free` nothing here is needed any more: say BYE."""

    worker: str
    session: int
    is_free: bool


class TellPeers(msgspec.Struct, frozen=True):
    """Send all sessions the list of all sessions."""

    version: int


class Accept(msgspec.Struct, frozen=True):
    """Tell the client that its job exists, durably; said again for a job submitted twice."""

    client: str
    job: str


class TellResult(msgspec.Struct, frozen=True):
    """Tell the client how its job ended; machine.ended_of(job) has all of it."""

    client: str
    job: str
    state: str
    code: str
    text: str


class Grant(msgspec.Struct, frozen=True):
    """Tell a client that what it asked for is done, or is being done."""

    client: str
    job: str


class Publish(msgspec.Struct, frozen=True):
    """Storage: steps 6 to 9 of the commit for these attempts' files. May be ordered again at will."""

    job: str
    winners: tuple[tuple[int, int, int], ...]


class CleanStaging(msgspec.Struct, frozen=True):
    """Storage: rename the job's staging away and delete it."""

    job: str


Action = (
    Record
    | Welcome
    | Refuse
    | Assign
    | TellInputs
    | TellPair
    | Cancel
    | CommitAck
    | Discard
    | Drop
    | Drain
    | TellPeers
    | Accept
    | Grant
    | TellResult
    | Publish
    | CleanStaging
)
