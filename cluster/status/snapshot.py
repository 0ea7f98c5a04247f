"""What the status page shows of a master at one moment, bounded, as values for JSON. Pure; changes nothing."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from itertools import islice
from typing import Final

import msgspec

from kernelmill.cluster import messages as m
from kernelmill.cluster.master import answers
from kernelmill.cluster.master.desk import Desk
from kernelmill.cluster.master.translate import Member

LIVE_MAX: Final = 64
ENDED_MAX: Final = 32
STAGES_MAX: Final = 64
WORKERS_MAX: Final = 256
FAULTS_MAX: Final = 50


class StageView(msgspec.Struct, frozen=True):
    """How far a stage is."""

    label: str
    tasks: int
    committed: int
    running: int
    failed: int
    rows: int
    size_bytes: int


class JobView(msgspec.Struct, frozen=True):
    """A job that runs, or that has ended: `code` and `text` say why it is paused, or what it ended by."""

    id: str
    client: str
    state: str
    output: str
    code: str
    text: str
    tasks: int
    committed: int
    stages: tuple[StageView, ...]


class WorkerView(msgspec.Struct, frozen=True):
    """A worker that is here. `silent_s`: since it was last heard."""

    name: str
    state: str
    host: str
    slots: int
    running: int
    memory_bytes: int
    rss_bytes: int
    disk_free_bytes: int
    silent_s: float


class FaultView(msgspec.Struct, frozen=True):
    """Something out of the ordinary, so often within two seconds; `at_s` counts from 1970."""

    at_s: float
    what: str
    times: int


class Snapshot(msgspec.Struct, frozen=True):
    """All of it. `jobs_more`, `workers_more`: those that are not listed."""

    cluster: str
    epoch: int
    address: str
    at_s: float
    slots: int
    slots_running: int
    jobs: tuple[JobView, ...]
    jobs_more: int
    workers: tuple[WorkerView, ...]
    workers_more: int
    faults: tuple[FaultView, ...]


class FaultBook:
    """The latest faults, from the machine's counters: `note` now and then what they are."""

    def __init__(self) -> None:
        self._before = Counter[str]()
        self._faults: deque[FaultView] = deque(maxlen=FAULTS_MAX)

    def note(self, seen: Mapping[str, int], at_s: float) -> None:
        """Take what was counted since the last time."""
        for what, count in seen.items():
            if count > self._before[what]:
                self._faults.appendleft(FaultView(at_s, what, count - self._before[what]))
                self._before[what] = count

    @property
    def latest(self) -> tuple[FaultView, ...]:
        """The newest first."""
        return tuple(self._faults)


def snapshot_of(
    desk: Desk,
    members: Mapping[str, Member],
    progress: Mapping[str, m.Beat],
    *,
    faults: FaultBook,
    cluster: bytes,
    epoch: int,
    address: str,
    now: float,
    at_s: float,
) -> Snapshot:
    """What there is to see; `now` is the machine's clock, `at_s` the one on the wall."""
    rows = answers.jobs_page(desk, None, 0).jobs
    live = [row for row in rows if row.job.hex() not in desk.ledger.ended]
    ended = [row for row in rows if row.job.hex() in desk.ledger.ended]
    shown = [*(_running(desk, row, progress) for row in live[:LIVE_MAX]), *map(_over, ended[:ENDED_MAX])]
    workers = answers.workers_list(desk, members, progress).workers
    return Snapshot(
        cluster.hex(),
        epoch,
        address,
        at_s,
        sum(session.slots for session in desk.sessions),
        sum(worker.running for worker in workers),
        tuple(shown),
        len(live) + len(desk.ledger.ended) - len(shown),
        tuple(_worker(desk, row, now) for row in workers[:WORKERS_MAX]),
        len(desk.sessions) - len(workers[:WORKERS_MAX]),
        faults.latest,
    )


def _running(desk: Desk, row: m.JobRow, progress: Mapping[str, m.Beat]) -> JobView:
    status = answers.status_of(desk, row.job.hex(), progress)
    stages = tuple(
        StageView(one.label, one.tasks, one.committed, one.running, one.failed, one.rows, one.size_bytes)
        for one in islice(status.stages, STAGES_MAX)
    )
    told = row.job.hex(), row.client, status.state, row.output, status.code, status.text
    return JobView(*told, row.tasks, row.committed, stages)


def _over(row: m.JobRow) -> JobView:
    told = row.job.hex(), row.client, row.state, row.output, row.code, ""
    return JobView(*told, row.tasks, row.committed, ())


def _worker(desk: Desk, row: m.WorkerRow, now: float) -> WorkerView:
    session = desk.sessions.get(row.name)
    silent_s = round(max(0.0, now - session.heard_s), 1) if session is not None else 0.0
    told = row.name, row.state, row.host, row.slots, row.running, row.memory_bytes, row.rss_bytes, row.disk_free_bytes
    return WorkerView(*told, silent_s)
