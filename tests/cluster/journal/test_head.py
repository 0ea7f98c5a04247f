"""The mark beside the journal: an end that is missing is noticed, and no crash makes an honest journal refused."""

import errno
import os
import shutil

import pytest
from samples import JOB, LIFE, OTHER, VERSIONS, Bell, commit, tokens_in

from kernelmill.cluster.journal import head as heads
from kernelmill.cluster.journal.head import SLOT_BYTES, Head, Mark
from kernelmill.cluster.journal.opening import open_journal
from kernelmill.cluster.journal.records import JobFailed
from kernelmill.cluster.journal.store import NAME
from kernelmill.cluster.journal.writer import JournalFilled
from kernelmill.engine.errors import Code, KernelmillError

LOG = f"{NAME}-wal"


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


def opened(state):
    bell = Bell()
    return open_journal(state, VERSIONS, bell), bell


def record_all(journal, bell, *of_jobs):
    """Record (job, record) pairs one after the other, each in a group of its own; all that was reported."""
    found = []
    for token, (job, record) in enumerate(of_jobs):
        journal.writer.append(token, job, record)
        while token not in tokens_in(found):
            found += bell.next_reports(journal.writer)
    return found


def killed(state, *of_jobs):
    """A state folder as kill -9 leaves it when these records were reported as durable."""
    living = state.with_name("living")
    journal, bell = opened(living)
    record_all(journal, bell, *of_jobs)
    shutil.copytree(living, state)
    journal.close()


def refused(state):
    with pytest.raises(KernelmillError) as caught:
        opened(state)
    assert caught.value.code is Code.JOURNAL_CORRUPT
    return caught.value


def jobs_in(state):
    journal, _ = opened(state)
    journal.close()
    return set(journal.ledger.jobs)


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


FACTS = [(JOB, LIFE[0]), (JOB, LIFE[1]), (OTHER, LIFE[0]), (OTHER, JobFailed("HUNG", "why", None))]


def test_a_log_that_is_cut_or_damaged_anywhere_is_refused_and_its_jobs_are_not_forgotten(state):
    killed(state, *FACTS)
    good = state.with_name("good")
    state.rename(good)
    size = (good / LOG).stat().st_size
    assert size > 3 * SLOT_BYTES
    for at in [0, 8, 31, *range(40, size, 997)]:
        for damage in (lambda path, at=at: os.truncate(path, at), lambda path, at=at: flip(path, at)):
            shutil.rmtree(state, ignore_errors=True)
            shutil.copytree(good, state)
            damage(state / LOG)
            try:
                assert jobs_in(state) == {JOB.hex(), OTHER.hex()}, f"at {at}"  # what SQLite makes no use of
            except KernelmillError as problem:
                assert problem.code is Code.JOURNAL_CORRUPT
    shutil.rmtree(state)
    shutil.copytree(good, state)
    (state / LOG).unlink()
    problem = refused(state)
    assert "ends with record 0, and record 5 was written" in problem.what and "`head`" in problem.hint


def test_a_journal_without_its_mark_opens_and_tells_that_it_is_behind(state):
    killed(state, *FACTS)
    (state / LOG).unlink()
    (state / heads.NAME).unlink()
    journal, _ = opened(state)
    journal.close()
    assert journal.is_behind and not journal.ledger.jobs
    assert (state / heads.NAME).exists()


def test_a_journal_of_another_time_is_refused(state):
    killed(state, *FACTS)
    other = state.with_name("other")
    state.with_name("living").rename(state.with_name("first"))
    killed(other, *FACTS)
    for name in (NAME, LOG):
        shutil.copyfile(other / name, state / name)
    assert "record 5 of the journal is not the one" in refused(state).what


def test_a_crash_between_a_record_and_its_mark_refuses_nothing(state, monkeypatch):
    class Crash(BaseException):
        pass

    def crash(*_, **__):
        raise Crash

    for count in range(3):  # the first time there is no mark at all
        with monkeypatch.context() as patch:
            patch.setattr(Head, "move", crash)
            with pytest.raises(Crash):
                opened(state)
        journal, bell = opened(state)
        record_all(journal, bell, (bytes([count]) * 16, LIFE[0]))
        journal.close()
    assert len(jobs_in(state)) == 3


@pytest.mark.parametrize("first", ["os.rename", "_remove_log", "write_epoch"])
@pytest.mark.parametrize("second", ["os.rename", "fsync_folder", "write_epoch"])
def test_two_crashes_around_a_compaction_refuse_nothing(state, first, second, monkeypatch):
    class Crash(BaseException):
        pass

    def crash(*_):
        raise Crash

    journal, bell = opened(state)
    record_all(journal, bell, *FACTS)
    journal.close()
    for step in (first, second):
        with monkeypatch.context() as patch:
            patch.setattr(f"kernelmill.cluster.journal.opening.{step}", crash)
            try:
                journal, bell = opened(state)
            except Crash:
                continue
            record_all(journal, bell, (bytes(16), LIFE[0]), (bytes(16), JobFailed("HUNG", "", None)))
            journal.close()
    assert JOB.hex() in jobs_in(state)


def test_a_torn_mark_leaves_the_one_before_and_a_damaged_one_is_refused(tmp_path):
    head = Head.open(tmp_path)
    for seq in (1, 2, 3):
        head.move(seq, bytes([seq]) * 16, is_synced=True)
    head.close()
    path = tmp_path / heads.NAME
    whole = path.read_bytes()
    assert len(whole) == 2 * SLOT_BYTES and path.stat().st_mode & 0o777 == 0o600
    assert Head.open(tmp_path).marks[0] == Mark(3, b"\3" * 16)
    for at in range(0, 170, 7):
        flip(path, at)
        assert Head.open(tmp_path).marks[0] == Mark(2, b"\2" * 16)
        path.write_bytes(whole)
    flip(path, 3), flip(path, SLOT_BYTES + 3)
    with pytest.raises(KernelmillError) as caught:
        Head.open(tmp_path)
    assert caught.value.code is Code.JOURNAL_CORRUPT


def test_the_mark_of_a_job_is_synced_and_that_of_a_commit_is_only_written(state, monkeypatch):
    journal, bell = opened(state)
    synced, real = [], os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda handle: synced.append(handle) or real(handle))
    record_all(journal, bell, (JOB, LIFE[0]))
    assert len(synced) == 1
    record_all(journal, bell, (JOB, LIFE[1]), (JOB, commit(0, 1, 8)))
    assert len(synced) == 1 and Head.open(state).marks[0].seq == 4
    record_all(journal, bell, (JOB, JobFailed("HUNG", "", None)))
    assert len(synced) == 2
    journal.close()


def test_a_mark_that_finds_no_space_is_waited_for_and_its_records_are_written_once(state, monkeypatch):
    bell = Bell()
    journal = open_journal(state, VERSIONS, bell, retry_s=0.01)
    faults, real = [1, 1], os.pwrite

    def full(*given):
        if faults:
            faults.pop()
            raise OSError(errno.ENOSPC, "no space")
        return real(*given)

    monkeypatch.setattr(heads.os, "pwrite", full)
    found = record_all(journal, bell, (JOB, LIFE[0]))
    journal.close()
    assert sum(isinstance(one, JournalFilled) for one in found) == 1
    assert jobs_in(state) == {JOB.hex()}
