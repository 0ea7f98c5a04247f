"""What a journal says, record by record: jobs with their live commits, losses, poison and ends. Pure.

The fold checks what the master promised when it wrote: of a task's attempts one is live in a generation (S1), a lost
attempt never returns, epochs rise (S10), nothing follows a job's end. A journal that breaks this is not believed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kernelmill.cluster.fields import AttemptKey, Poison
from kernelmill.cluster.journal.chain import Event, corrupt
from kernelmill.cluster.journal.records import (
    EpochStarted,
    JobAccepted,
    JobCancelled,
    JobCommitted,
    JobCommitting,
    JobEnded,
    JobFailed,
    JobForgotten,
    OutputLost,
    Poisoned,
    Record,
    RolledBack,
    TaskCommitted,
)

Task = tuple[int, int]
"""Stage and index."""


class IllegalRecord(ValueError):
    """A record that cannot follow the ones before it."""


@dataclass
class JobFacts:
    """One live job. `commits` holds the live commit of each task, `lost` the attempts that are dead for ever."""

    accepted: JobAccepted
    gens: list[int]
    commits: dict[Task, TaskCommitted] = field(default_factory=dict)
    lost: set[AttemptKey] = field(default_factory=set)
    poison: dict[Task, list[Poison]] = field(default_factory=dict)
    rollbacks: dict[int, int] = field(default_factory=dict)
    committing: JobCommitting | None = None

    def downstream_of(self, stage: int) -> list[int]:
        """The stages that read this one, directly or not."""
        found = {stage}
        for number, sheet in enumerate(self.accepted.sheet.stages):  # sources come before their readers
            if any(edge.source in found for edge in sheet.inputs):
                found.add(number)
        return sorted(found - {stage})

    def winners(self) -> tuple[AttemptKey, ...] | None:
        """The attempts whose files are the output, by stage and task; None while one of them is missing."""
        found: list[AttemptKey] = []
        for stage, sheet in enumerate(self.accepted.sheet.stages):
            for index in range(0 if sheet.partitions else sheet.tasks):
                commit = self.commits.get((stage, index))
                if commit is None:
                    return None
                found.append(commit.attempt)
        return tuple(found)


@dataclass
class Facts:
    """All that a journal says. Give it every event in order."""

    epoch: int = 0
    life: bytes = b""
    jobs: dict[bytes, JobFacts] = field(default_factory=dict)
    ended: dict[bytes, JobEnded] = field(default_factory=dict)

    def replay(self, event: Event, where: str) -> None:
        """Take the next event. Raises KM0611 with its number if it cannot follow; then nothing was changed."""
        row = event.row
        try:
            self._take(row.epoch, row.job, event.record)
        except IllegalRecord as problem:
            raise corrupt(where, row.seq, str(problem)) from problem

    def _take(self, epoch: int, job: bytes, record: Record) -> None:
        if isinstance(record, EpochStarted):
            _require(not job and record.epoch == epoch > self.epoch, f"epoch {epoch} after epoch {self.epoch}")
            self.epoch, self.life = epoch, record.life
            return
        _require(self.epoch > 0, "there is no epoch before it")
        _require(epoch == self.epoch, f"written in epoch {epoch}, among those of epoch {self.epoch}")
        _require(len(job) == 16, "it belongs to no job")
        match record:
            case JobAccepted():
                _require(job not in self.jobs and job not in self.ended, "its job was accepted before")
                _check_sheet(record)
                self.jobs[job] = JobFacts(record, [0] * len(record.sheet.stages))
            case JobEnded():
                _require(job not in self.jobs and job not in self.ended, "its job was there before")
                self.ended[job] = record
            case JobForgotten():
                _require(job in self.ended, "its job has not ended")
                del self.ended[job]
            case _:
                _require(job in self.jobs, "its job is not live")
                self._take_of_live(job, self.jobs[job], record)

    def _take_of_live(self, job: bytes, facts: JobFacts, record: Record) -> None:
        match record:
            case TaskCommitted():
                _commit(facts, record, self.epoch)
            case OutputLost():
                _lose(facts, record)
            case RolledBack():
                _roll_back(facts, record)
            case Poisoned():
                _check_task(facts, record.stage, record.task)
                _require(facts.committing is None, "the job is being published")
                facts.poison.setdefault((record.stage, record.task), []).append(record.poison)
            case JobCommitting():
                _require(facts.committing is None, "the job is being published already")
                _require(record.winners == facts.winners(), "its attempts are not the committed ones")
                facts.committing = record
            case JobCommitted() | JobFailed() | JobCancelled():
                self._end(job, facts, record)

    def _end(self, job: bytes, facts: JobFacts, record: JobCommitted | JobFailed | JobCancelled) -> None:
        accepted = facts.accepted
        client, signature, output = accepted.client, accepted.signature, accepted.sheet.output
        match record:
            case JobCommitted():
                _require(facts.committing is not None, "the job was not being published")
                digest = facts.committing.manifest_xxh3 if facts.committing else b""
                ended = JobEnded(client, signature, output, "COMMITTED", "", "", digest)
            case JobFailed():
                ended = JobEnded(client, signature, output, "FAILED", record.code, record.text, b"")
            case JobCancelled():
                _require(facts.committing is None, "too late: the job is being published")
                ended = JobEnded(client, signature, output, "CANCELLED", "", "", b"")
        del self.jobs[job]
        self.ended[job] = ended


def _check_sheet(accepted: JobAccepted) -> None:
    for number, stage in enumerate(accepted.sheet.stages):
        _require(all(edge.source < number for edge in stage.inputs), f"its stage {number} reads a later one")


def _check_task(facts: JobFacts, stage: int, index: int) -> None:
    stages = facts.accepted.sheet.stages
    _require(stage < len(stages) and index < stages[stage].tasks, f"its job has no task {stage}.{index}")


def _commit(facts: JobFacts, record: TaskCommitted, epoch: int) -> None:
    task = record.stage, record.task
    _check_task(facts, *task)
    _require(facts.committing is None, "the job is being published")
    _require(record.gen == facts.gens[record.stage], f"generation {record.gen}, not {facts.gens[record.stage]}")
    _require(task not in facts.commits, f"task {record.stage}.{record.task} is committed already")
    _require(record.attempt not in facts.lost, f"attempt {record.attempt} was lost before")
    _require(record.attempt.epoch <= epoch, f"attempt {record.attempt} is of a later epoch")
    facts.commits[task] = record


def _lose(facts: JobFacts, record: OutputLost) -> None:
    commit = facts.commits.get((record.stage, record.task))
    _require(
        commit is not None and (commit.attempt, commit.gen) == (record.attempt, record.gen),
        f"attempt {record.attempt} is not the committed one",
    )
    del facts.commits[record.stage, record.task]
    facts.lost.add(record.attempt)
    facts.committing = None  # a file was found bad before it was published: the job runs again


def _roll_back(facts: JobFacts, record: RolledBack) -> None:
    _check_task(facts, record.stage, record.task)
    _require(record.old in facts.lost, f"attempt {record.old} is not lost")
    _require(record.new not in facts.lost, f"attempt {record.new} is lost")
    _require(facts.committing is None, "the job is being published")
    void = set(facts.downstream_of(record.stage))
    for task in [task for task in facts.commits if task[0] in void]:
        facts.lost.add(facts.commits.pop(task).attempt)
    for stage in void:
        facts.gens[stage] += 1
    facts.rollbacks[record.stage] = facts.rollbacks.get(record.stage, 0) + 1


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise IllegalRecord(otherwise)
