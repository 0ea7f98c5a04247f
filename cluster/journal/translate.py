"""Facts of the master's machine as records of the journal, and back. Pure.

A job's id is hexadecimal text in the machine and 16 bytes here; an attempt's number is its epoch, then its count.
"""

from __future__ import annotations

from typing import Any

from kernelmill.cluster.fields import (
    AttemptKey,
    BlocksOutput,
    FilesOutput,
    Poison,
    TaskRecord,
)
from kernelmill.cluster.journal import records as on_disk
from kernelmill.cluster.master import facts
from kernelmill.engine.plan.stages import Edge, EdgeKind

_COUNT_MASK = (1 << facts.ATTEMPT_BITS) - 1


def attempt_key(number: int) -> AttemptKey:
    """The wire's form of an attempt's number."""
    return AttemptKey(facts.attempt_epoch(number), number & _COUNT_MASK)


def attempt_number(key: AttemptKey) -> int:
    """The machine's form of an attempt's key. Raises ValueError for one that no master gave out."""
    if key.number > _COUNT_MASK:
        raise ValueError(f"no master counts to {key.number}")
    return key.epoch << facts.ATTEMPT_BITS | key.number


def job_sheet(job: bytes, accepted: on_disk.JobAccepted) -> facts.JobSheet:
    """What the machine must know of a job, from what its client sent."""
    sheet, policy = accepted.sheet, accepted.sheet.policy
    stages = tuple(
        facts.StageSheet(
            stage.tasks,
            stage.partitions,
            tuple(Edge(edge.source, EdgeKind(edge.kind), edge.output) for edge in stage.inputs),
        )
        for stage in sheet.stages
    )
    return facts.JobSheet(
        job.hex(),
        accepted.client,
        accepted.signature,
        stages,
        policy.on_bad,
        policy.rejects_max,
        policy.attempts_max,
        policy.fails_without_workers,
        accepted,
    )


def record_of(fact: facts.Fact) -> tuple[bytes, on_disk.Record]:
    """The job, as the journal names it, and the record of a fact; an epoch is written by whoever opens the journal."""
    match fact:
        case facts.JobSubmitted(sheet=sheet):
            assert sheet.accepted is not None, "a job that came from no client"
            return bytes.fromhex(sheet.job), sheet.accepted
        case facts.EpochBegun():
            raise AssertionError("an epoch is durable before its machine starts")
        case _:
            return bytes.fromhex(fact.job), _record_of_job(fact)


def _record_of_job(fact: Any) -> on_disk.Record:
    match fact:
        case facts.TaskCommitted():
            output = BlocksOutput(fact.data_bytes, fact.vector) if fact.vector else FilesOutput(fact.files)
            record = TaskRecord(fact.counters, fact.rejects, output, fact.reject_files)
            key = attempt_key(fact.attempt)
            return on_disk.TaskCommitted(fact.stage, fact.gen, fact.task, key, fact.worker, record)
        case facts.OutputLost():
            key = attempt_key(fact.attempt)
            return on_disk.OutputLost(fact.stage, fact.gen, fact.task, key, fact.reason[:8192])
        case facts.RolledBack():
            return on_disk.RolledBack(fact.stage, fact.task, attempt_key(fact.old), attempt_key(fact.new))
        case facts.Poisoned():
            return on_disk.Poisoned(fact.stage, fact.task, Poison(fact.origin, fact.code, fact.text[:8192]))
        case facts.Committing():
            return on_disk.JobCommitting(tuple((s, task, attempt_key(number)) for s, task, number in fact.winners))
        case facts.JobEnded(state="COMMITTED"):
            return on_disk.JobCommitted(fact.rows, fact.size_bytes, fact.manifest_xxh3)
        case facts.JobEnded(state="CANCELLED"):
            return on_disk.JobCancelled(fact.text[:8192])
        case facts.JobEnded():
            return on_disk.JobFailed(fact.code, fact.text[:8192], fact.problem)
        case facts.JobRemembered():
            return fact.ended
        case facts.JobForgotten():
            return on_disk.JobForgotten()
    raise AssertionError(f"no record of {fact}")


def fact_of(job: bytes, record: on_disk.Record) -> facts.Fact:
    """The fact that a record of this job says. Raises ValueError for an attempt that cannot be."""
    if isinstance(record, on_disk.EpochStarted):
        return facts.EpochBegun(record.epoch, record.life)
    name = job.hex()
    match record:
        case on_disk.JobAccepted():
            return facts.JobSubmitted(job_sheet(job, record))
        case on_disk.TaskCommitted(stage=stage, gen=gen, task=task, attempt=key, worker=worker, record=made):
            blocks = made.output if isinstance(made.output, BlocksOutput) else BlocksOutput(0, b"")
            files = made.output.files if isinstance(made.output, FilesOutput) else ()
            left = blocks.size_bytes, blocks.vectors, files, made.rejects, made.counters, made.reject_files
            return facts.TaskCommitted(name, stage, gen, task, attempt_number(key), worker, *left)
        case on_disk.OutputLost(stage=stage, gen=gen, task=task, attempt=key, reason=reason):
            return facts.OutputLost(name, stage, gen, task, attempt_number(key), reason)
        case on_disk.RolledBack(stage=stage, task=task, old=old, new=new):
            return facts.RolledBack(name, stage, task, attempt_number(old), attempt_number(new))
        case on_disk.Poisoned(stage=stage, task=task, poison=poison):
            return facts.Poisoned(name, stage, task, poison.origin, poison.code, poison.text)
        case on_disk.JobCommitting(winners=winners):
            return facts.Committing(name, tuple((s, task, attempt_number(key)) for s, task, key in winners))
        case on_disk.JobCommitted(rows=rows, size_bytes=size_bytes, manifest_xxh3=digest):
            return facts.JobEnded(name, "COMMITTED", "", "", None, rows, size_bytes, digest)
        case on_disk.JobFailed(code=code, text=text, problem=problem):
            return facts.JobEnded(name, "FAILED", code, text, problem)
        case on_disk.JobCancelled(text=text):
            return facts.JobEnded(name, "CANCELLED", "CANCELLED", text)
        case on_disk.JobEnded():
            return facts.JobRemembered(name, record)
        case on_disk.JobForgotten():
            return facts.JobForgotten(name)
