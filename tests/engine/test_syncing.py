"""Files that are synced beside the work: all are durable before an output is published, or nothing is."""

import errno
import os
import threading

import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.staging import Staging
from kernelmill.engine.syncing import SYNCS_AT_ONCE, WAITING_MAX, Syncs

FSYNC = os.fsync


class Synced:
    """The system's fsync, noting the files; refuses those whose path has one of `refused` in it."""

    def __init__(self, number=errno.ENOSPC, refused=()):
        self.number, self.refused, self.inodes = number, refused, set()

    def __call__(self, handle):
        path = os.readlink(f"/proc/self/fd/{handle}")
        if any(one in path for one in self.refused):
            raise OSError(self.number, os.strerror(self.number))
        FSYNC(handle)
        self.inodes.add(os.fstat(handle).st_ino)


@pytest.fixture
def synced(monkeypatch):
    synced = Synced()
    monkeypatch.setattr(os, "fsync", synced)
    return synced


@pytest.fixture
def syncs():
    syncs = Syncs()
    yield syncs
    syncs.close()


def opened(path):
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)


def is_open(handle):
    try:
        os.fstat(handle)
    except OSError:
        return False
    return True


def test_files_that_were_added_are_durable_and_closed_after_a_wait(tmp_path, synced, syncs):
    paths = [str(tmp_path / str(number)) for number in range(2 * WAITING_MAX + 3)]
    handles = []
    for path in paths:
        handles.append(opened(path))
        syncs.add(handles[-1], path)
    syncs.wait()
    assert synced.inodes == {os.stat(path).st_ino for path in paths}
    assert not any(map(is_open, handles))


def test_threads_come_with_files_and_go_at_the_close(tmp_path, synced, syncs):
    before = threading.active_count()
    syncs.wait()
    assert threading.active_count() == before
    for number in range(2 * SYNCS_AT_ONCE):
        syncs.add(opened(tmp_path / str(number)), str(number))
    assert threading.active_count() == before + SYNCS_AT_ONCE
    syncs.close()
    syncs.close()
    assert threading.active_count() == before


def test_a_wait_raises_for_the_first_file_by_name_that_cannot_be_synced(tmp_path, synced, syncs):
    synced.refused = ("/b", "/c")
    handles = {name: opened(tmp_path / name) for name in "cba"}
    for name, handle in handles.items():
        syncs.add(handle, str(tmp_path / name))
    with pytest.raises(KernelmillError) as caught:
        syncs.wait()
    assert (caught.value.code, caught.value.where) == (Code.DISK_FULL, str(tmp_path / "b"))
    assert not any(map(is_open, handles.values()))
    assert synced.inodes == {os.stat(tmp_path / "a").st_ino}


def words(tmp_path):
    (tmp_path / "text").write_text("".join(f"w{number} " for number in range(1000)))
    tokens = km.scan_text(tmp_path / "text").select(w=km.col("line").str.tokenize("whitespace")).explode("w")
    return tokens.group_by("w").agg(km.len())


@pytest.mark.parametrize("target", ["out", "out.parquet"])
def test_all_parts_of_a_job_are_durable_when_it_publishes_them(tmp_path, synced, monkeypatch, target):
    publish, inodes = Staging.publish, []

    def published(self, parts, *rest, **options):
        inodes.extend(os.stat(os.path.join(self._parts, part.name)).st_ino for part in parts)
        assert set(inodes) <= synced.inodes
        return publish(self, parts, *rest, **options)

    monkeypatch.setattr(Staging, "publish", published)
    partitions = 1 if target.endswith(".parquet") else 40
    rows = words(tmp_path).sink_parquet(tmp_path / target, partitions=partitions, threads=2, progress=False).rows
    assert (rows, len(inodes)) == (1000, partitions)


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, Code.DISK_FULL), (errno.EIO, Code.COMMIT)])
def test_a_part_that_cannot_be_synced_ends_the_job_without_an_output(tmp_path, synced, number, code):
    synced.number, synced.refused = number, ("/00007-",)
    folder = tmp_path / "here"
    folder.mkdir()
    with pytest.raises(KernelmillError) as caught:
        words(tmp_path).sink_parquet(folder / "out", partitions=12, threads=2, progress=False)
    assert caught.value.code == code and "00007" in caught.value.where
    assert os.listdir(folder) == []
    synced.refused = ()
    assert words(tmp_path).sink_parquet(folder / "out", partitions=12, threads=2, progress=False).rows == 1000
