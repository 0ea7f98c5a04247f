"""What the worker's machine is told (events, in the past tense) and what it orders (actions). Pure values.

Messages of the master and frames of slots come decoded and checked, and are given as they are sent. `slot` is the
number of a process: it counts up, so what a process that ended has said is told from what the next one says.
"""

from __future__ import annotations

import msgspec

from kernelmill.cluster.fields import AttemptKey, AttemptName, Epoch, JobId, Life, Session
from kernelmill.cluster.messages import Done, MasterToWorker, Peers, Spec, WorkerToMaster
from kernelmill.cluster.worker.slotframes import ToSlot, ToSupervisor


class Want(msgspec.Struct, frozen=True, order=True):
    """A partition's stream of one map attempt, which a slot cannot go on without."""

    job: JobId
    stage: int
    gen: int
    map_task: int
    attempt: AttemptKey
    holder: str
    output: int
    partition: int


class SlotSample(msgspec.Struct, frozen=True):
    """What a slot's page says, and the memory that its process holds; `steps` rises with every sign of life."""

    slot: int
    attempt: AttemptKey | None
    phase: str
    batch: int
    first_row: int
    rows: int
    size_bytes: int
    steps: int
    rss_bytes: int


class Sample(msgspec.Struct, frozen=True):
    """The state of things outside at one moment."""

    rss_bytes: int
    disk_free_bytes: int
    slots: tuple[SlotSample, ...]


# Events --------------------------------------------------------------------------------------------------------------


class Connected(msgspec.Struct, frozen=True):
    """The socket has a master at its other end, which showed the right key."""


class Disconnected(msgspec.Struct, frozen=True):
    """The connection ended; what was sent last may be lost."""


class MasterSaid(msgspec.Struct, frozen=True):
    """A message of the master, with what its envelope says of who sent it."""

    epoch: Epoch
    life: Life
    session: Session
    body: MasterToWorker


class SlotSaid(msgspec.Struct, frozen=True):
    """A frame of a slot."""

    slot: int
    frame: ToSupervisor


class SlotWrote(msgspec.Struct, frozen=True):
    """Lines that a slot's process wrote to its standard output or error; for people."""

    slot: int
    lines: tuple[str, ...]


class SlotDied(msgspec.Struct, frozen=True):
    """A slot's process has ended, by itself or not; `sample` is where it was, if that could be read."""

    slot: int
    failure: str  # SIGNALLED, OOM_KILLED or DISK_FULL
    text: str
    sample: SlotSample | None


class PartsCame(msgspec.Struct, frozen=True):
    """All parts of the job are in the folder of parts, checked."""

    job: JobId


class PartsMissed(msgspec.Struct, frozen=True):
    """The parts of a job cannot be had; `failure` is what its attempts fail with."""

    job: JobId
    failure: str
    text: str


class BlockBegan(msgspec.Struct, frozen=True):
    """The index of what was wanted is in the file `path`, checked; what it tells of comes behind it."""

    want: Want
    path: str


class BlockCame(msgspec.Struct, frozen=True):
    """What was wanted is in the file `path`, checked."""

    want: Want
    path: str


class BlockMissed(msgspec.Struct, frozen=True):
    """What was wanted cannot be had: FETCH_UNREACHABLE, CORRUPT_BLOCK, or DISK_FULL of the spool."""

    want: Want
    code: str


class NoteRead(msgspec.Struct, frozen=True):
    """The note of an attempt, or None if there is none any more."""

    attempt: AttemptName
    done: Done | None


class DrainAsked(msgspec.Struct, frozen=True):
    """Whoever runs this worker wants it to finish and go."""


class StopAsked(msgspec.Struct, frozen=True):
    """Whoever runs this worker wants it to go now."""


class TimePassed(msgspec.Struct, frozen=True):
    """next_deadline() is reached. `chance` is a random number in [0, 1), for the pauses between connections."""

    sample: Sample
    chance: float


Event = (
    Connected
    | Disconnected
    | MasterSaid
    | SlotSaid
    | SlotWrote
    | SlotDied
    | PartsCame
    | PartsMissed
    | BlockBegan
    | BlockCame
    | BlockMissed
    | NoteRead
    | DrainAsked
    | StopAsked
    | TimePassed
)


# Actions -------------------------------------------------------------------------------------------------------------


class Send(msgspec.Struct, frozen=True):
    """Send this to the master, in the envelope of this session; what cannot be sent is lost, and said again later."""

    session: Session
    body: WorkerToMaster


class Reconnect(msgspec.Struct, frozen=True):
    """Close the socket and open another to the same address; then say Connected when a master answers."""


class StartSlot(msgspec.Struct, frozen=True):
    """Start a process with this number."""

    slot: int


class KillSlot(msgspec.Struct, frozen=True):
    """Kill the process and its group; SlotDied follows."""

    slot: int


class TellSlot(msgspec.Struct, frozen=True):
    """Send a frame to a slot."""

    slot: int
    frame: ToSlot


class OpenInSlot(msgspec.Struct, frozen=True):
    """Send a slot the frame OpenJob of this job, with the code key and this host's folders in it."""

    slot: int
    spec: Spec


class BringParts(msgspec.Struct, frozen=True):
    """Fetch the parts of a job that are not here; then say PartsCame or PartsMissed."""

    spec: Spec


class WantBlock(msgspec.Struct, frozen=True):
    """Fetch this into the spool; then say BlockCame or BlockMissed.

    block_bytes: how long the block is at most, by its map task's record.
    """

    want: Want
    ticket: bytes
    block_bytes: int


class ForgetBlock(msgspec.Struct, frozen=True):
    """Nobody wants this any more: stop fetching it, delete what is there."""

    want: Want


class KeepNote(msgspec.Struct, frozen=True):
    """Note on the disk that this attempt is done, before the next action."""

    done: Done


class ReadNote(msgspec.Struct, frozen=True):
    """Read the note of an attempt whose record is not kept in memory; then say NoteRead."""

    attempt: AttemptName


class DeleteAttempt(msgspec.Struct, frozen=True):
    """Delete what an attempt left in the scratch folder, its note among it."""

    attempt: AttemptName


class DeleteJob(msgspec.Struct, frozen=True):
    """Delete all files of a job in the scratch folder, and of its parts those that no other job here has."""

    job: JobId


class LearnPeers(msgspec.Struct, frozen=True):
    """Tell the data plane who may ask it, and where the others are."""

    peers: Peers


class Say(msgspec.Struct, frozen=True):
    """Tell whoever runs this worker."""

    text: str


class Exit(msgspec.Struct, frozen=True):
    """End the process, after what was sent has gone out; 0 if it was asked for."""

    status: int
    text: str


Action = (
    Send
    | Reconnect
    | StartSlot
    | KillSlot
    | TellSlot
    | OpenInSlot
    | BringParts
    | WantBlock
    | ForgetBlock
    | KeepNote
    | ReadNote
    | DeleteAttempt
    | DeleteJob
    | LearnPeers
    | Say
    | Exit
)
