"""A worker's folder: notes that survive the supervisor, and nothing that nobody needs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from bench_rig import JOB, blocks_record, name_of

from kernelmill.cluster.messages import Done
from kernelmill.cluster.worker.scratch import PARTS, ScratchFolder
from kernelmill.engine.errors import Code, KernelmillError


def done(number, job=JOB):
    return Done(name_of(number, job=job), 0, b"s" * 16, blocks_record(), (), 1, 2, 3)


def folder_of(tmp_path, number, job=JOB) -> Path:
    return tmp_path / "w1" / job.hex() / f"1-{number}"


def leave_blocks(tmp_path, number, job=JOB):
    folder_of(tmp_path, number, job).mkdir(parents=True)
    (folder_of(tmp_path, number, job) / "0.data").write_bytes(b"blocks")


def test_notes_come_back_and_what_has_none_is_deleted(tmp_path):
    scratch = ScratchFolder(tmp_path, "w1")
    for number in (1, 2, 3):
        leave_blocks(tmp_path, number)
    leave_blocks(tmp_path, 9, b"k" * 16)
    scratch.keep_note(done(2))
    scratch.keep_note(done(1))
    (folder_of(tmp_path, 1) / "0.index").touch()
    scratch.close()
    again = ScratchFolder(tmp_path, "w1")
    assert again.read_notes() == [done(1), done(2)]
    again.close()
    assert sorted(each.name for each in (tmp_path / "w1").iterdir()) == [JOB.hex(), "lock", "notes"]
    assert sorted(each.name for each in (tmp_path / "w1" / JOB.hex()).iterdir()) == ["1-1", "1-2"]


def test_folders_that_are_made_for_it_are_its_users_alone_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        scratch = ScratchFolder(tmp_path / "deep" / "scratch", "w1")
        assert os.umask(0) == 0, "it is what it was"
    finally:
        os.umask(before)
    for folder in (tmp_path / "deep", scratch.scratch, scratch.path, scratch.path / PARTS):
        assert folder.stat().st_mode & 0o777 == 0o700, folder
    scratch.close()


def test_a_folder_belongs_to_one_supervisor(tmp_path):
    scratch = ScratchFolder(tmp_path, "w1")
    with pytest.raises(KernelmillError) as caught:
        ScratchFolder(tmp_path, "w1")
    assert caught.value.code is Code.BAD_SETTING
    ScratchFolder(tmp_path, "w2").close()
    scratch.close()
    ScratchFolder(tmp_path, "w1").close()


def test_what_is_deleted_is_gone_at_once_and_others_stay(tmp_path):
    scratch = ScratchFolder(tmp_path, "w1")
    for number in (1, 2):
        leave_blocks(tmp_path, number)
    leave_blocks(tmp_path, 3, b"k" * 16)
    (tmp_path / "w1" / PARTS / ("61" * 32)).touch()
    scratch.delete_attempt(name_of(1))
    assert not folder_of(tmp_path, 1).exists() and folder_of(tmp_path, 2).exists()
    scratch.delete_job(JOB)
    scratch.delete_job(JOB)
    scratch.delete_parts({b"a" * 32, b"b" * 32})
    assert not folder_of(tmp_path, 2).exists() and folder_of(tmp_path, 3, b"k" * 16).exists()
    assert list((tmp_path / "w1" / PARTS).iterdir()) == []
    scratch.delete_job(b"k" * 16)
    scratch.close()
    assert list(tmp_path.iterdir()) == []


def test_the_key_of_tickets_is_as_old_as_the_blocks(tmp_path):
    scratch = ScratchFolder(tmp_path, "w1")
    key = scratch.ticket_key()
    assert len(key) == 32 and scratch.ticket_key() == key
    assert (tmp_path / "w1" / "ticket.key").stat().st_mode & 0o777 == 0o600
    scratch.keep_note(done(1))
    scratch.close()
    again = ScratchFolder(tmp_path, "w1")
    assert again.ticket_key() == key
    again.delete_job(JOB)
    again.close()
    last = ScratchFolder(tmp_path, "w1")
    assert last.ticket_key() != key
    last.close()


def test_a_folder_that_others_may_write_to_is_refused(tmp_path):
    (tmp_path / "w1").mkdir(mode=0o700)
    (tmp_path / "w1").chmod(0o770)
    with pytest.raises(KernelmillError) as caught:
        ScratchFolder(tmp_path, "w1")
    assert caught.value.code is Code.BAD_SETTING
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "w2").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(KernelmillError) as caught:
        ScratchFolder(tmp_path, "w2")
    assert caught.value.code is Code.BAD_SETTING


def test_a_scratch_folder_that_is_a_link_to_nothing_is_named(tmp_path):
    (tmp_path / "scratch").symlink_to(tmp_path / "unmounted")
    with pytest.raises(KernelmillError) as caught:
        ScratchFolder(tmp_path / "scratch", "w1")
    assert caught.value.code is Code.BAD_SETTING
    assert str(tmp_path / "unmounted") in caught.value.what
    (tmp_path / "unmounted").mkdir()
    ScratchFolder(tmp_path / "scratch", "w1").close()
