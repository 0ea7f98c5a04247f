"""What clients and the master say to each other: one struct a message, see messages.py. Pure."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from kernelmill.cluster.fields import (
    AttemptKey,
    Bounded,
    CodeName,
    Counts,
    JobId,
    JobParts,
    JobState,
    Number,
    Page,
    Pages,
    PeerName,
    Place,
    Problem,
    Sha256,
    Sheet,
    Signature,
    StageNumber,
    TaskCount,
    TaskIndex,
    Text,
    Word,
)

PIECE_BYTES_MAX = 256 << 10
"""Bytes of a job part in one PutPart."""


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


BUSY = "BUSY"
"""Refused of a Submit: no place at the moment; submit again later."""
TOO_MANY_JOBS = "TOO_MANY_JOBS"
"""Refused of a Submit: the client has as many live jobs as it may; submit again when one has ended."""


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
    page: Page


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

    page: Page
    pages: Pages
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
