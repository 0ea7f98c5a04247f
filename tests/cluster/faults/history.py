"""What a master's journal says happened, read by SQL from a copy: neither master nor its own reader is needed."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from kernelmill.cluster.journal.records import KIND_OF

_NAME_OF_KIND = {number: kind.__name__ for kind, number in KIND_OF.items()}


class Commit(NamedTuple):
    """A task's commit."""

    job: bytes
    stage: int
    gen: int
    task: int
    attempt: tuple[int, int]
    worker: str


@dataclass
class History:
    """The records of a journal, in order."""

    commits: list[Commit] = field(default_factory=list)
    lost: list[tuple[Any, ...]] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @property
    def commits_again(self) -> int:
        """Commits of tasks that had been committed before, in whatever generation."""
        return len(self.commits) - len({(one.job, one.stage, one.task) for one in self.commits})

    def workers(self, stage: int) -> set[str]:
        """Who committed tasks of a stage."""
        return {one.worker for one in self.commits if one.stage == stage}

    def commits_by(self, worker: str, stage: int | None = None) -> list[Commit]:
        """A worker's commits."""
        return [one for one in self.commits if one.worker == worker and stage in (None, one.stage)]


def read(state: Path) -> History:
    """Read the journal in a state folder whose master has ended or is at rest; checks S1, S3 and S10 on the way."""
    with tempfile.TemporaryDirectory() as folder:
        for name in ("journal.db", "journal.db-wal"):  # a master that starts may be writing a new one beside them
            if (state / name).exists():
                shutil.copy(state / name, folder)
        connection = sqlite3.connect(Path(folder) / "journal.db")
        try:
            rows = connection.execute("select seq, kind, job, body from events order by seq").fetchall()
        finally:
            connection.close()
    found = History()
    live: dict[tuple[Any, ...], tuple[int, int]] = {}
    attempts = set()
    for number, (seq, kind, job, body) in enumerate(rows):
        name, content = _NAME_OF_KIND[kind], msgspec.msgpack.decode(body)
        found.kinds[name] += 1
        if number and seq != rows[number - 1][0] + 1:
            found.problems.append(f"a gap before {seq}")
        if name == "EpochStarted":
            if found.epochs and content[0] <= found.epochs[-1]:
                found.problems.append(f"epoch {content[0]} after {found.epochs[-1]}")
            found.epochs.append(content[0])
        elif name == "TaskCommitted":
            stage, gen, task, attempt, worker = content[0], content[1], content[2], tuple(content[3]), content[4]
            if (job, stage, gen, task) in live:
                found.problems.append(f"task {stage}-{task} is committed twice, gen {gen}")
            if (job, attempt) in attempts:
                found.problems.append(f"attempt {attempt} is used twice")
            attempts.add((job, attempt))
            live[job, stage, gen, task] = attempt
            found.commits.append(Commit(job, stage, gen, task, attempt, worker))
        elif name == "OutputLost":
            live.pop((job, content[0], content[1], content[2]), None)
            found.lost.append((job, *content[:3]))
    return found
