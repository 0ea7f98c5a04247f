"""Every message between client, master, worker and reader of blocks, and who may send which to whom.

A message is one frame: an envelope, as a MessagePack array, whose last element is a struct, an array that begins with
its tag. The structs are in a file for each pair of peers (clientmessages.py, workermessages.py, blockmessages.py), and
are imported from here. The unions are what a receiver decodes: a message in the wrong direction is a decoding error as
any other is. Tags are never used again; a change of any shape counts PROTOCOL up, and the bytes of this version are in
`tests/cluster/golden_messages.txt`. Pure; `wire.py` makes and reads the bytes.
"""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

import msgspec
from msgspec import Meta

from kernelmill.cluster.blockmessages import (
    FETCH_BYTES_MAX,
    BlockRange,
    Chunk,
    Fetch,
    PartRange,
)
from kernelmill.cluster.clientmessages import (
    BUSY,
    OUTPUT_CHARACTERS_MAX,
    PIECE_BYTES_MAX,
    TOO_MANY_JOBS,
    Accepted,
    CancelJob,
    DrainWorker,
    Forget,
    Granted,
    JobRow,
    Jobs,
    ListJobs,
    ListWorkers,
    LogPage,
    LogRow,
    Need,
    PutPart,
    ReadLog,
    Refused,
    Result,
    StageCounts,
    Status,
    Submit,
    Watch,
    WorkerRow,
    Workers,
)
from kernelmill.cluster.fields import (
    ClusterId,
    Epoch,
    Life,
    Number,
    Session,
)
from kernelmill.cluster.workermessages import (
    HELD_PAGE,
    Accept,
    Assign,
    Beat,
    Bye,
    CancelAttempt,
    CommitAck,
    Discard,
    Done,
    Drain,
    Drop,
    Failed,
    FetchFailed,
    Heard,
    HeldAttempt,
    HeldMap,
    Hello,
    Inputs,
    InputVersion,
    Lines,
    Pair,
    Peer,
    Peers,
    Progress,
    Spec,
    Ticket,
    TicketList,
    Tickets,
    WantDrain,
    Welcome,
)

__all__ = [
    "BUSY",
    "FETCH_BYTES_MAX",
    "HELD_PAGE",
    "OUTPUT_CHARACTERS_MAX",
    "PIECE_BYTES_MAX",
    "PROTOCOL",
    "TOO_MANY_JOBS",
    "Accept",
    "Accepted",
    "Assign",
    "Beat",
    "BlockRange",
    "Body",
    "Bye",
    "CancelAttempt",
    "CancelJob",
    "Chunk",
    "ClientToMaster",
    "CommitAck",
    "Discard",
    "Done",
    "Drain",
    "DrainWorker",
    "Drop",
    "Envelope",
    "Failed",
    "Fetch",
    "FetchFailed",
    "Forget",
    "Granted",
    "Heard",
    "HeldAttempt",
    "HeldMap",
    "Hello",
    "HolderToReader",
    "InputVersion",
    "Inputs",
    "JobRow",
    "Jobs",
    "Lines",
    "ListJobs",
    "ListWorkers",
    "LogPage",
    "LogRow",
    "MasterToClient",
    "MasterToWorker",
    "Message",
    "Need",
    "Pair",
    "PartRange",
    "Peer",
    "Peers",
    "Progress",
    "PutPart",
    "ReadLog",
    "ReaderToHolder",
    "Refused",
    "Result",
    "Spec",
    "StageCounts",
    "Status",
    "Submit",
    "Ticket",
    "TicketList",
    "Tickets",
    "WantDrain",
    "Watch",
    "Welcome",
    "WorkerRow",
    "WorkerToMaster",
    "Workers",
]

PROTOCOL = 4
"""Version of all shapes here."""

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
