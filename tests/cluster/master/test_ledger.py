"""The ledger takes what the rules allow, refuses the rest unchanged, and is the same however it was read."""

from __future__ import annotations

import msgspec
import pytest

from kernelmill.cluster.fields import Origin
from kernelmill.cluster.master.facts import (
    Committing,
    EpochBegun,
    JobEnded,
    JobSubmitted,
    OutputLost,
    Poisoned,
    RolledBack,
    TaskCommitted,
)
from kernelmill.cluster.master.ledger import Ledger
from kernelmill.engine.errors import InternalError


@pytest.fixture
def committed(sheet, tools):
    """Epoch 1, both maps and the reduce committed by attempts 1, 2 and 3."""
    facts = [EpochBegun(1, b""), JobSubmitted(msgspec.structs.replace(sheet, rejects_max=1))]
    facts += [TaskCommitted("j", 0, 0, task, 1 + task, "a", 10, tools.vector(4 + task)) for task in range(2)]
    facts.append(TaskCommitted("j", 1, 0, 0, 3, "b"))
    ledger = Ledger()
    for fact in facts:
        ledger.apply(fact)
    return ledger


def test_totals_are_the_sum_over_the_maps_and_follow_a_map_that_is_run_again(committed, tools):
    job = committed.jobs["j"]
    assert job.expected(1, 0) == [(2, 9, 10, 0)]
    committed.apply(OutputLost("j", 0, 0, 1, 2, "CORRUPT_BLOCK"))
    assert job.expected(1, 0) == [(2, 9, 10, 0)]  # what it had made still counts for those that read it
    committed.apply(RolledBack("j", 0, 1, 2, 9))
    committed.apply(TaskCommitted("j", 0, 0, 1, 9, "b", 10, tools.vector(1, 2, 3)))
    assert job.expected(1, 0) == [(2, 5, 7, 0)]
    assert job.stages[1].gen == 1 and job.stages[1].committed == 0 and 3 in job.stages[1].dead


@pytest.mark.parametrize(
    "fact",
    [
        EpochBegun(1, b""),
        TaskCommitted("j", 1, 0, 0, 8, "a"),  # a second one
        TaskCommitted("k", 1, 0, 0, 8, "a"),
        OutputLost("j", 1, 0, 0, 8, ""),  # of an attempt that is not committed
        RolledBack("j", 0, 1, 2, 9),  # of an output that is not lost
        Committing("j", ((1, 0, 8),)),
        JobEnded("j", "COMMITTED"),  # before its JOB_COMMITTING
    ],
)
def test_a_fact_that_cannot_follow_is_refused_and_changes_nothing(committed, fact):
    before = repr_of(committed)
    with pytest.raises(InternalError):
        committed.apply(fact)
    assert repr_of(committed) == before


def repr_of(ledger):
    jobs = {
        name: (job.state, [(s.gen, list(s.winners), s.committed, sorted(s.dead)) for s in job.stages], job.poison)
        for name, job in ledger.jobs.items()
    }
    return ledger.epoch, jobs


def test_a_dead_attempt_never_counts_again(committed, tools):
    committed.apply(OutputLost("j", 0, 0, 1, 2, "lost"))
    with pytest.raises(InternalError, match="dead"):
        committed.apply(TaskCommitted("j", 0, 0, 1, 2, "a", 10, tools.vector(5)))


def test_a_commit_of_an_old_gen_is_refused(committed, tools):
    committed.apply(OutputLost("j", 0, 0, 1, 2, "lost"))
    committed.apply(RolledBack("j", 0, 1, 2, 9))
    with pytest.raises(InternalError, match="gen"):
        committed.apply(TaskCommitted("j", 1, 0, 0, 10, "a"))
    committed.apply(TaskCommitted("j", 1, 1, 0, 10, "a"))


def test_a_job_takes_as_much_poison_as_it_allows_and_no_more(committed):
    committed.apply(Poisoned("j", 0, 0, Origin(0, 1, 2, b""), "USER_ERROR", ""))
    with pytest.raises(InternalError, match="S11"):
        committed.apply(Poisoned("j", 0, 1, Origin(0, 5, 6, b""), "USER_ERROR", ""))


def test_a_job_ends_once_and_only_a_bad_file_takes_it_back_from_committing(committed):
    committed.apply(Committing("j", ((1, 0, 3),)))
    with pytest.raises(InternalError):
        committed.apply(JobEnded("j", "CANCELLED"))
    committed.apply(OutputLost("j", 1, 0, 0, 3, "short"))
    assert committed.jobs["j"].state == "LIVE"
    committed.apply(TaskCommitted("j", 1, 0, 0, 4, "a"))
    committed.apply(Committing("j", ((1, 0, 4),)))
    committed.apply(JobEnded("j", "COMMITTED"))
    with pytest.raises(InternalError):
        committed.apply(JobEnded("j", "FAILED"))
