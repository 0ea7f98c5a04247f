"""The ledger: what the journal says, as the fold of its facts. Recovery replays into it, live work appends to it.

A fact is applied when it is ordered, so what is decided next is decided against the journal's tail; nobody outside
hears of it before it is durable. A fact that the rules do not allow is a bug, raised before anything changed:

    S1   a task has at most one live commit; a second needs OutputLost or a roll-back of the first
    S10  epochs rise, and no attempt is of an epoch to come
    S11  no more poison than the job allows

A task costs 12 bytes, and where it leaves blocks 8 more and its vector: 32 bytes a partition and Python's 33 for a byte
string. Of a job that ended only what a client may ask for stays, for the latest ENDED_JOBS_MAX of them.
"""

from __future__ import annotations

import struct
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator
from operator import add, sub, xor
from typing import Final, NamedTuple, Self

from kernelmill.cluster.fields import Count, Origin, OutputFile, Place
from kernelmill.cluster.journal.records import JobEnded as Ended
from kernelmill.cluster.master.facts import (
    VECTOR_BYTES,
    Committing,
    EpochBegun,
    Fact,
    JobEnded,
    JobForgotten,
    JobRemembered,
    JobSheet,
    JobSubmitted,
    OutputLost,
    Poisoned,
    RolledBack,
    TaskCommitted,
    attempt_epoch,
)
from kernelmill.cluster.tallies import folded
from kernelmill.engine.errors import Code, error
from kernelmill.engine.plan.stages import EdgeKind

LIVE: Final = "LIVE"
COMMITTING: Final = "COMMITTING"
ENDS: Final = ("COMMITTED", "FAILED", "CANCELLED")
ENDED_JOBS_MAX = 4096
"""Ended jobs whose result is kept, so that a client who comes back is answered: the latest ones."""
_MASK = (1 << 64) - 1


class Aside(NamedTuple):
    """What few commits have: counters, rejects by reason, and the file of the rejects."""

    counters: tuple[Count, ...]
    rejects: tuple[Count, ...]
    files: tuple[OutputFile, ...]


Columns = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


def rows_of(vector: bytes) -> Columns:
    """Take the rows, sums and xors of all partitions from a vector; how many bytes a block took does not count."""
    numbers = struct.unpack(f"<{len(vector) // 8}Q", vector)
    return numbers[1::4], numbers[2::4], numbers[3::4]


def bytes_of(vector: bytes) -> int:
    """Add up the bytes of all partitions."""
    return sum(struct.unpack(f"<{len(vector) // 8}Q", vector)[::4])


def largest_of(vector: bytes) -> int:
    """The bytes of the partition that has most."""
    return max(struct.unpack(f"<{len(vector) // 8}Q", vector)[::4], default=0)


class StageLedger:
    """The commits of one stage."""

    __slots__ = (
        "asides",
        "block_bytes",
        "committed",
        "dead",
        "files",
        "gen",
        "holders",
        "lost",
        "rollbacks",
        "rows",
        "sheet",
        "sums",
        "vectors",
        "winners",
        "xors",
    )

    def __init__(self, sheet: JobSheet, number: int) -> None:
        self.sheet = stage = sheet.stages[number]
        self.gen = 0
        self.committed = 0
        self.rollbacks = 0
        self.winners = array("q", (-1,)) * stage.tasks  # attempt numbers
        self.holders = array("i", (-1,)) * stage.tasks  # worker numbers of the ledger
        self.vectors: list[bytes] = [b""] * stage.tasks if stage.cells else []  # kept when an output is lost
        self.block_bytes = array("Q", (0,)) * len(self.vectors)  # of each task's largest block
        self.clear_totals()
        self.files: dict[int, tuple[OutputFile, ...]] = {}
        self.asides: dict[int, Aside] = {}
        self.lost: dict[int, int] = {}  # task -> the attempt that made its vector, while no other is committed
        self.dead: set[int] = set()  # attempts whose output was lost, or is void

    def clear_totals(self) -> None:
        """Begin the totals anew: rows, sum and xor of each partition, over the vectors that there are."""
        self.rows = [0] * self.sheet.cells
        self.sums = [0] * self.sheet.cells  # not reduced modulo 2^64
        self.xors = [0] * self.sheet.cells

    def put_vector(self, task: int, vector: bytes) -> None:
        """Replace a task's vector and keep the totals."""
        old = self.vectors[task]
        if old:
            rows, sums, xors = rows_of(old)
            self.rows, self.sums = list(map(sub, self.rows, rows)), list(map(sub, self.sums, sums))
            self.xors = list(map(xor, self.xors, xors))
        rows, sums, xors = rows_of(vector)
        self.rows, self.sums = list(map(add, self.rows, rows)), list(map(add, self.sums, sums))
        self.xors = list(map(xor, self.xors, xors))
        self.vectors[task], self.block_bytes[task] = vector, largest_of(vector)

    def total_of(self, cell: int) -> tuple[int, int, int]:
        """The rows, sum and xor of a partition over all map tasks."""
        return self.rows[cell], self.sums[cell] & _MASK, self.xors[cell]


class JobLedger:
    """The facts of one job."""

    def __init__(self, sheet: JobSheet) -> None:
        self.sheet = sheet
        self.state = LIVE
        self.code = self.text = ""
        self.stages = [StageLedger(sheet, number) for number in range(len(sheet.stages))]
        self.poison: dict[tuple[int, int], tuple[Origin, ...]] = {}
        self.poisoned = 0
        self.readers: list[list[int]] = [[] for _ in self.stages]  # stages that read a stage's outputs
        self.paired_readers: list[list[int]] = [[] for _ in self.stages]  # those that do so over a one-to-one edge
        for number, stage in enumerate(sheet.stages):
            for edge in stage.inputs:
                if edge.kind is EdgeKind.ONE_TO_ONE:
                    self.paired_readers[edge.source].append(number)
            for source in {edge.source for edge in stage.inputs}:
                self.readers[source].append(number)
        self.wide_sources = [  # stages all of whose tasks a task reads from
            sorted({edge.source for edge in stage.inputs if edge.kind is not EdgeKind.ONE_TO_ONE})
            for stage in sheet.stages
        ]
        self.sinks = [number for number, stage in enumerate(sheet.stages) if not stage.partitions]

    def downstream_of(self, stage: int) -> list[int]:
        """All stages whose rows depend on a stage's, in the order of stages."""
        reached = {stage}
        for number, sheet in enumerate(self.sheet.stages):
            if any(edge.source in reached for edge in sheet.inputs):
                reached.add(number)
        return sorted(reached - {stage})

    def winners(self) -> tuple[tuple[int, int, int], ...]:
        """The attempts that make up the result, (stage, task, attempt) in order."""
        return tuple((s, task, number) for s in self.sinks for task, number in enumerate(self.stages[s].winners))

    def files_left(self) -> Iterator[tuple[int, int, int, tuple[OutputFile, ...]]]:
        """All winners that left files in the staging, rejects of maps too: stage, task, attempt, files, in order."""
        for number, stage in enumerate(self.stages):
            for task, attempt in enumerate(stage.winners):
                aside = stage.asides.get(task)
                files = stage.files.get(task, ()) + (aside.files if aside is not None else ())
                if attempt >= 0 and files:
                    yield number, task, attempt, files

    def sums(self) -> tuple[tuple[Count, ...], tuple[Count, ...]]:
        """The counters and the rejects by reason, over all live commits, by name."""
        counters, rejects = Counter[str](), Counter[str]()
        for stage in self.stages:
            for aside in stage.asides.values():
                counters.update({each.name: each.count for each in aside.counters})
                rejects.update({each.name: each.count for each in aside.rejects})
        return folded(counters), folded(rejects)

    @property
    def tasks(self) -> int:
        """The tasks of all stages."""
        return sum(stage.tasks for stage in self.sheet.stages)

    @property
    def is_complete(self) -> bool:
        """Whether every task of every sink is committed."""
        return all(self.stages[s].committed == self.stages[s].sheet.tasks for s in self.sinks)

    def commits_downstream_of(self, stage: int) -> Iterator[tuple[int, int, int]]:
        """The live commits that a roll-back of the stage makes void."""
        for number in self.downstream_of(stage):
            for task, attempt in enumerate(self.stages[number].winners):
                if attempt >= 0:
                    yield number, task, attempt

    def expected(self, stage: int, task: int) -> list[tuple[int, int, int, int]]:
        """What each edge of a task must have consumed: map tasks, rows, sum, xor."""
        found = []
        for edge in self.sheet.stages[stage].inputs:
            source = self.stages[edge.source]
            first = sum(source.sheet.partitions[: edge.output])
            if edge.kind is EdgeKind.ONE_TO_ONE:
                rows, sums, xors = rows_of(source.vectors[task])
                found.append((1, rows[first], sums[first], xors[first]))
            else:
                shift = task if edge.kind in (EdgeKind.HASH, EdgeKind.RANGE) else 0
                found.append((source.sheet.tasks, *source.total_of(first + shift)))
        return found


class Ledger:
    """All jobs. `apply` is the only thing that changes it, but for `let_go`, which changes nothing that is asked for.

    `ended` has the results of ended jobs, also while `jobs` still has their details; the oldest first.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.jobs: dict[str, JobLedger] = {}
        self.ended: dict[str, Ended] = {}
        self.worker_names: list[str] = []
        self._worker_numbers: dict[str, int] = {}
        self._on = {
            TaskCommitted: self._commit,
            OutputLost: self._lose,
            RolledBack: self._roll_back,
            Poisoned: self._poison,
            Committing: self._begin_commit,
            JobEnded: self._end,
        }

    @classmethod
    def of(cls, facts: Iterable[Fact]) -> Self:
        """The ledger of these facts."""
        ledger = cls()
        for fact in facts:
            ledger.apply(fact)
        return ledger

    def apply(self, fact: Fact) -> None:
        """Take one fact. InternalError, and no change, if the rules do not allow it."""
        match fact:
            case EpochBegun(epoch=epoch):
                self._require(epoch > self.epoch, fact, f"epoch {self.epoch} has been")
                self.epoch = epoch
            case JobSubmitted(sheet=sheet):
                self._require(sheet.job not in self.jobs and sheet.job not in self.ended, fact, "the job exists")
                is_forward = all(edge.source < n for n, stage in enumerate(sheet.stages) for edge in stage.inputs)
                self._require(is_forward, fact, "a stage reads a later one")
                self.jobs[sheet.job] = JobLedger(sheet)
            case JobRemembered(job=name, ended=ended):
                self._require(name not in self.jobs and name not in self.ended, fact, "the job exists")
                self._keep(name, ended)
            case JobForgotten(job=name):
                self._require(name in self.ended, fact, "the job has not ended")
                del self.ended[name]
                self.jobs.pop(name, None)
            case _:
                job = self.jobs.get(fact.job)
                self._require(job is not None and job.state not in ENDS, fact, "the job is over or never was")
                assert job is not None
                if isinstance(fact, TaskCommitted | OutputLost | RolledBack | Poisoned):
                    is_task = 0 <= fact.stage < len(job.stages) and 0 <= fact.task < job.stages[fact.stage].sheet.tasks
                    self._require(is_task, fact, "the job has no such task")
                self._on[type(fact)](job, fact)  # type: ignore[operator]

    def let_go(self, job: str) -> None:
        """Forget the details of a job that ended; its result stays."""
        assert job in self.ended
        self.jobs.pop(job, None)

    def _keep(self, job: str, ended: Ended) -> None:
        while len(self.ended) >= ENDED_JOBS_MAX:
            oldest = next(iter(self.ended))
            del self.ended[oldest]
            self.jobs.pop(oldest, None)
        self.ended[job] = ended

    def holder_of(self, job: JobLedger, stage: int, task: int) -> str:
        """The worker whose attempt was committed; only for tasks that are."""
        return self.worker_names[job.stages[stage].holders[task]]

    def _commit(self, job: JobLedger, fact: TaskCommitted) -> None:
        stage = job.stages[fact.stage]
        self._require(job.state == LIVE, fact, "the job is being committed")
        self._require(stage.winners[fact.task] < 0, fact, "another attempt is committed (S1)")
        self._require(fact.gen == stage.gen, fact, "the stage is in another gen")
        self._require(fact.attempt not in stage.dead, fact, "the attempt's output is dead")
        self._require(attempt_epoch(fact.attempt) <= self.epoch, fact, "the attempt is of an epoch to come (S10)")
        self._require(len(fact.vector) == VECTOR_BYTES * stage.sheet.cells, fact, "a vector of another length")
        stage.winners[fact.task] = fact.attempt
        stage.holders[fact.task] = self._number_of(fact.worker)
        stage.committed += 1
        stage.lost.pop(fact.task, None)
        if stage.sheet.cells:
            stage.put_vector(fact.task, fact.vector)
        else:
            stage.files[fact.task] = fact.files
        if fact.counters or fact.rejects or fact.reject_files:
            stage.asides[fact.task] = Aside(fact.counters, fact.rejects, fact.reject_files)

    def _lose(self, job: JobLedger, fact: OutputLost) -> None:
        stage = job.stages[fact.stage]
        is_winner = stage.winners[fact.task] == fact.attempt and stage.gen == fact.gen
        self._require(is_winner, fact, "it is not committed")
        stage.winners[fact.task] = stage.holders[fact.task] = -1
        stage.committed -= 1
        stage.files.pop(fact.task, None)
        stage.asides.pop(fact.task, None)
        stage.lost[fact.task] = fact.attempt
        stage.dead.add(fact.attempt)
        job.state = LIVE  # a file found bad before publishing

    def _roll_back(self, job: JobLedger, fact: RolledBack) -> None:
        self._require(job.state == LIVE, fact, "the job is being committed")
        self._require(job.stages[fact.stage].lost.get(fact.task) == fact.old, fact, "the old output is not lost")
        self._require(fact.new not in job.stages[fact.stage].dead, fact, "the new output is dead")
        job.stages[fact.stage].rollbacks += 1
        for number in job.downstream_of(fact.stage):
            stage = job.stages[number]
            stage.gen += 1
            stage.dead.update(attempt for attempt in stage.winners if attempt >= 0)
            stage.winners = array("q", (-1,)) * stage.sheet.tasks
            stage.holders = array("i", (-1,)) * stage.sheet.tasks
            stage.committed = 0
            stage.files.clear()
            stage.asides.clear()
            stage.lost.clear()
            stage.vectors = [b""] * len(stage.vectors)
            stage.clear_totals()

    def _poison(self, job: JobLedger, fact: Poisoned) -> None:
        self._require(job.state == LIVE, fact, "the job is being committed")
        self._require(job.poisoned < job.sheet.rejects_max, fact, "more poison than the job allows (S11)")
        task = fact.stage, fact.task
        job.poison[task] = tuple(sorted({*job.poison.get(task, ()), fact.origin}))
        job.poisoned = sum(map(len, job.poison.values()))

    def _begin_commit(self, job: JobLedger, fact: Committing) -> None:
        self._require(job.state == LIVE and job.is_complete, fact, "the job is not complete")
        self._require(fact.winners == job.winners(), fact, "other attempts are committed")
        job.state = COMMITTING

    def _end(self, job: JobLedger, fact: JobEnded) -> None:
        legal = ENDS if job.state == COMMITTING else ENDS[1:]
        self._require(fact.state in legal and (job.state, fact.state) != (COMMITTING, "CANCELLED"), fact, job.state)
        job.state, job.code, job.text = fact.state, fact.code, fact.text
        accepted = job.sheet.accepted
        output = accepted.sheet.output if accepted is not None else Place("", ())
        counters, rejects = job.sums() if fact.state == "COMMITTED" else ((), ())
        ended = Ended(
            job.sheet.client,
            job.sheet.digest,
            output,
            fact.state,  # type: ignore[arg-type]
            fact.code,
            fact.text,
            fact.problem,
            job.tasks,
            fact.rows,
            fact.size_bytes,
            fact.manifest_xxh3,
            counters,
            rejects,
        )
        self._keep(fact.job, ended)

    def _number_of(self, worker: str) -> int:
        number = self._worker_numbers.setdefault(worker, len(self.worker_names))
        if number == len(self.worker_names):
            self.worker_names.append(worker)
        return number

    def _require(self, is_legal: bool, fact: Fact, why: str) -> None:
        if not is_legal:
            what = f"{str(fact)[:300]} cannot follow in the journal: {why}"
            raise error(Code.INTERNAL, what, hint="keep the state directory")
