"""What a journal's records add up to, and which of them cannot follow which."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from samples import (
    ACCEPTED,
    COMMITTED,
    JOB,
    LIFE,
    OTHER,
    POISON,
    attempt,
    commit,
    row,
    started,
)
from shapes import values_of

from kernelmill.cluster.fields import AttemptKey
from kernelmill.cluster.journal import records as r
from kernelmill.cluster.journal.chain import Event, Row, checked, digest_of, first_digest
from kernelmill.cluster.journal.opening import replay
from kernelmill.cluster.journal.translate import attempt_key, fact_of, record_of
from kernelmill.cluster.master.ledger import Ledger
from kernelmill.engine.errors import Code, KernelmillError

NAME = JOB.hex()


def told(ledger, seq, record, epoch, job=JOB):
    replay(ledger, Event(Row(seq, *row(record, job, epoch), b""), record), "here")


def replayed(*records, job=JOB):
    ledger, epoch = Ledger(), 0
    for seq, record in enumerate(records, 1):
        epoch = record.epoch if isinstance(record, r.EpochStarted) else epoch
        told(ledger, seq, record, epoch, job)
    return ledger


def refused(*records, job=JOB):
    with pytest.raises(KernelmillError) as caught:
        replayed(*records, job=job)
    assert caught.value.code is Code.JOURNAL_CORRUPT
    return caught.value.what


def commits_of(job):
    """(stage, task) -> the attempt that is committed."""
    return {
        (number, task): attempt_key(winner)
        for number, stage in enumerate(job.stages)
        for task, winner in enumerate(stage.winners)
        if winner >= 0
    }


def all_of(ledger):
    jobs = {
        name: (job.state, commits_of(job), [s.gen for s in job.stages], job.poison) for name, job in ledger.jobs.items()
    }
    return ledger.epoch, jobs, ledger.ended


# The fold ------------------------------------------------------------------------------------------------------------


def test_a_jobs_facts_are_its_live_commits_losses_and_poison():
    ledger = replayed(started(1), *LIFE[:6])
    job = ledger.jobs[NAME]
    assert ledger.epoch == 1
    assert commits_of(job) == {(0, 1): attempt(2), (1, 0): attempt(3)}
    assert {attempt_key(number) for number in job.stages[0].dead} == {attempt(1)}
    assert job.poison == {(1, 1): (POISON.origin,)} and [stage.gen for stage in job.stages] == [0, 0, 0, 0]


def test_a_rollback_voids_all_that_is_downstream_and_nothing_else():
    lost = [started(1), *LIFE[:6], commit(3, 0, 9)]
    job = replayed(*lost, r.RolledBack(0, 0, attempt(1), attempt(4)), commit(0, 0, 4)).jobs[NAME]
    assert [stage.gen for stage in job.stages] == [0, 1, 1, 0]
    assert set(commits_of(job)) == {(0, 0), (0, 1), (3, 0)}
    assert job.stages[1].dead and job.stages[0].rollbacks == 1


def test_a_committed_job_keeps_its_result():
    ended = replayed(started(1), *LIFE, COMMITTED).ended[NAME]
    assert (ended.state, ended.client, ended.signature, ended.manifest_xxh3) == (
        "COMMITTED",
        "ann",
        b"S" * 32,
        b"M" * 16,
    )
    assert (ended.rows, ended.size_bytes, ended.tasks) == (10, 1000, 8)
    assert {count.name: count.count for count in ended.counters} == {"lines": 9}  # of the three maps that count
    assert replayed(started(1), *LIFE, COMMITTED, r.JobForgotten()).ended == {}


def test_a_file_found_bad_before_publishing_makes_the_job_run_again():
    lost = r.OutputLost(2, 1, 0, attempt(6), "its tail differs")
    job = replayed(started(1), *LIFE, lost, commit(2, 0, 8, gen=1)).jobs[NAME]
    assert job.state == "LIVE"
    assert [(s, task, attempt_key(number)) for s, task, number in job.winners()] == [
        (2, 0, attempt(8)),
        (2, 1, attempt(7)),
    ]


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ([ACCEPTED], "epoch 0"),
        ([started(2), started(2)], "epoch 2 has been"),
        ([started(2), started(1)], "epoch 2 has been"),
        ([started(1), commit(0, 0, 1)], "never was"),
        ([started(1), ACCEPTED, ACCEPTED], "the job exists"),
        ([started(1), *LIFE[:2], commit(0, 0, 9)], "another attempt is committed"),
        ([started(1), *LIFE[:6], commit(0, 0, 1)], "is dead"),
        ([started(1), ACCEPTED, commit(0, 0, 1, gen=1)], "another gen"),
        ([started(1), ACCEPTED, commit(0, 2, 1)], "no such task"),
        ([started(1), ACCEPTED, commit(9, 0, 1)], "no such task"),
        ([started(1), ACCEPTED, commit(0, 0, 1, epoch=2)], "epoch to come"),
        ([started(1), ACCEPTED, commit(0, 0, 1 << 40)], "no master counts"),
        ([started(1), *LIFE[:2], r.OutputLost(0, 0, 0, attempt(9), "X")], "not committed"),
        ([started(1), *LIFE[:2], r.OutputLost(0, 1, 0, attempt(1), "X")], "not committed"),
        ([started(1), *LIFE[:2], r.RolledBack(0, 0, attempt(1), attempt(2))], "not lost"),
        ([started(1), *LIFE[:10], r.JobCommitting(((2, 0, attempt(6)),))], "not complete"),
        ([started(1), *LIFE[:11], r.JobCommitting(((2, 0, attempt(7)), (2, 1, attempt(6))))], "other attempts"),
        ([started(1), *LIFE, r.JobCancelled("")], "COMMITTING"),
        ([started(1), *LIFE[:3], COMMITTED], "LIVE"),
        ([started(1), *LIFE, COMMITTED, commit(1, 1, 8, gen=1)], "over"),
        ([started(1), ACCEPTED, r.JobForgotten()], "not ended"),
        ([started(1), ACCEPTED, r.JobFailed("HUNG", "", None), ACCEPTED], "the job exists"),
    ],
)
def test_a_record_that_cannot_follow_is_named_and_changes_nothing(records, said):
    what = refused(*records)
    assert f"record {len(records)} " in what and said in what
    before, after = replayed(*records[:-1]), Ledger()
    for seq, record in enumerate(records, 1):
        epoch = record.epoch if isinstance(record, r.EpochStarted) else after.epoch
        try:
            told(after, seq, record, epoch)
        except KernelmillError:
            assert seq == len(records)
    assert all_of(after) == all_of(before)


def test_a_record_of_another_epoch_or_without_job_is_refused():
    refused(started(1), ACCEPTED, job=b"")
    ledger = replayed(started(1), started(3))
    for epoch in (1, 2, 4):
        with pytest.raises(KernelmillError):
            told(ledger, 3, ACCEPTED, epoch, OTHER)


# Records and the chain -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [kind for kind in r.KIND_OF if kind is not r.EpochStarted], ids=lambda kind: kind.__name__
)
@settings(max_examples=15)
@given(data=st.data())
def test_a_record_is_the_machines_fact_and_back(kind, data):
    record = data.draw(values_of(kind))
    try:
        fact = fact_of(JOB, record)
    except ValueError:
        return  # an attempt that no master gave out
    job, again = record_of(fact)
    assert job == JOB
    if again != record:  # the two forms of nothing: no bytes of blocks, and no files
        assert isinstance(record, r.TaskCommitted) and not getattr(record.record.output, "vectors", b"")


@pytest.mark.parametrize("kind", list(r.KIND_OF), ids=lambda kind: kind.__name__)
@settings(max_examples=15)
@given(data=st.data())
def test_a_record_comes_out_as_it_went_in(kind, data):
    record = data.draw(values_of(kind))
    body = r.encode_record(record)
    assert r.decode_record(r.KIND_OF[kind], body) == record
    for length in range(min(len(body), 200)):
        with pytest.raises(ValueError):
            r.decode_record(r.KIND_OF[kind], body[:length])


def test_kinds_are_frozen():
    assert {kind.__name__: number for kind, number in r.KIND_OF.items()} == {
        "EpochStarted": 1, "JobAccepted": 2, "TaskCommitted": 3, "OutputLost": 4, "RolledBack": 5, "Poisoned": 6,
        "JobCommitting": 7, "JobCommitted": 8, "JobFailed": 9, "JobCancelled": 10, "JobEnded": 11, "JobForgotten": 12,
    }  # fmt: skip
    with pytest.raises(ValueError, match="kind 99"):
        r.decode_record(99, b"\x90")


def test_the_bytes_of_format_2_are_frozen():
    assert r.FORMAT == 2
    assert r.encode_record(r.OutputLost(1, 2, 3, AttemptKey(4, 5), "HUNG")).hex() == "95010203920405a448554e47"
    assert r.encode_record(commit(0, 1, 2)).hex().startswith("96000001920102a27731")
    assert first_digest(b"c" * 16, b"s" * 32).hex() == FIRST
    assert digest_of(b"d" * 16, 1, 2, 3, 4, b"j" * 16, b"body").hex() == SECOND


FIRST = "e182f21915592d10b5a6a9254ce15659"
SECOND = "e5aa539f1a318f7da656ff19db14ceb9"


def chain_of(records):
    digest, rows = first_digest(b"c" * 16, b"s" * 32), []
    for seq, record in enumerate(records, 1):
        new = row(record)
        digest = digest_of(digest, seq, *new)
        rows.append(Row(seq, *new, digest))
    return rows


def test_every_change_of_a_row_breaks_the_chain_there():
    rows = chain_of([started(1), *LIFE[:4]])
    start = first_digest(b"c" * 16, b"s" * 32)
    assert [event.record for event in checked(rows, start, "here")] == [started(1), *LIFE[:4]]
    third = rows[2]
    changes = [
        third._replace(epoch=2), third._replace(at_ms=0), third._replace(kind=9), third._replace(job=OTHER),
        third._replace(body=third.body + b"\0"), third._replace(digest=b"d" * 16), third._replace(seq=9),
        third._replace(body=r.encode_record(commit(0, 0, 2))), (3, "1", *third[2:]), (*third[:5], None, third[6]),
    ]  # fmt: skip
    damaged = [[*rows[:2], one, *rows[3:]] for one in changes]
    damaged += [[*rows[:2], *rows[3:]], [*rows[:2], rows[3], rows[2], rows[4]], [*rows[:3], *rows[2:]]]
    for some in damaged:
        with pytest.raises(KernelmillError) as caught:
            list(checked(some, start, "here"))
        assert caught.value.code is Code.JOURNAL_CORRUPT and caught.value.where == "here"
        assert "record 3 " in caught.value.what or "record 4 " in caught.value.what
    with pytest.raises(KernelmillError):
        list(checked(rows, first_digest(b"C" * 16, b"s" * 32), "here"))


def test_a_row_of_an_unknown_kind_is_named():
    start, new = first_digest(b"c" * 16, b"s" * 32), row(started(1))._replace(kind=77)
    with pytest.raises(KernelmillError) as caught:
        list(checked([Row(1, *new, digest_of(start, 1, *new))], start, "here"))
    assert caught.value.code is Code.JOURNAL_CORRUPT and "kind 77" in caught.value.what
