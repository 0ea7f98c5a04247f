"""Outputs that are there, may not be written or fill up: a typed error, and the place is as it was before."""

import contextlib
import os
import subprocess
from pathlib import Path

import outside
import pytest

import kernelmill as km
from kernelmill.engine.commit import check, clean
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.events import JobFinished

BOOK = outside.KJV / "65-jude.txt"
SHAPE = {"split_size": "2MiB", "partitions": 4}


def fails(call):
    with pytest.raises(KernelmillError) as caught:
        call()
    assert caught.value.hint
    return caught.value.code


@contextlib.contextmanager
def small_disk(place, size, *options):
    """A file system of `size` bytes at `place`; skips the test where this may not be done."""
    os.makedirs(place, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", ",".join([f"size={size}", *options]), "tmpfs", str(place)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield Path(place)
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("output", ["out", "out.parquet"])
def test_an_output_that_is_there_is_refused_or_replaced(output):
    outside.word_count(BOOK).sink_parquet(output, progress=False)
    before = outside.digests(output)
    other = outside.word_count(BOOK, tokens="word", lowercase=True)
    assert fails(lambda: other.sink_parquet(output, progress=False)) is Code.OUTPUT_EXISTS
    assert outside.digests(output) == before
    other.sink_parquet(output, mode="overwrite", progress=False)
    assert outside.digests(output) != before
    assert check(output).ok


def test_overwrite_of_a_failing_job_keeps_the_old_output():
    outside.word_count(BOOK).sink_parquet("out", progress=False)
    before = outside.digests("out")
    Path("bad.txt").write_bytes(b"\xff\n")
    bad = outside.word_count([BOOK, "bad.txt"])
    assert fails(lambda: bad.sink_parquet("out", mode="overwrite", progress=False)) is Code.ENCODING
    assert outside.digests("out") == before


def test_an_output_may_be_made_from_itself():
    outside.word_count(BOOK).sink_parquet("out", progress=False)
    rows = km.scan_parquet("out").filter(km.col("len") > 1).sink_parquet("out", mode="overwrite", progress=False).rows
    assert 0 < rows == len(outside.counts_in("out"))
    assert check("out").ok


@pytest.mark.parametrize("output", ["nowhere/out", "file/out", "/", "/proc/out"])
def test_a_place_where_nothing_can_be_is_refused(output):
    Path("file").touch()
    assert fails(lambda: outside.word_count(BOOK).sink_parquet(output, progress=False)) is Code.COMMIT


def test_a_progress_function_that_raises_at_the_end_does_not_undo_the_output(caplog):
    def fail(event):
        if isinstance(event, JobFinished):
            raise ValueError("surprise")

    frame = outside.word_count(BOOK)
    assert frame.sink_parquet("out", progress=fail).rows == len(outside.counts_in("out"))
    assert frame.collect(progress=fail).height == len(outside.counts_in("out"))
    assert "your progress function raised" in caplog.text


def test_a_current_folder_that_is_gone_is_a_typed_error(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    frame = outside.word_count(BOOK)
    assert fails(lambda: frame.sink_parquet("out", progress=False)) is Code.COMMIT
    assert fails(lambda: clean(".")) is Code.INPUT_NOT_FOUND
    assert fails(lambda: frame.sink_parquet(tmp_path / "out", spill_dir="x")) is Code.BAD_SETTING
    frame.sink_parquet(tmp_path / "out", progress=False)
    assert check(tmp_path / "out").ok


@pytest.mark.parametrize("output", ["mine", "file"])
def test_what_is_not_ours_is_never_replaced(output):
    os.mkdir("mine")
    Path("mine/thesis.txt").write_bytes(b"years of work")
    Path("file").write_bytes(b"work")
    before = outside.digests(".")
    frame = outside.word_count(BOOK)
    assert fails(lambda: frame.sink_parquet(output, mode="overwrite", progress=False)) is Code.COMMIT
    assert outside.digests(".") == before


def test_a_read_only_disk_is_refused(tmp_path):
    with small_disk(tmp_path / "disk", 1 << 20, "ro") as disk:
        frame = outside.word_count(BOOK)
        assert fails(lambda: frame.sink_parquet(disk / "out", progress=False)) is Code.COMMIT


@pytest.mark.parametrize("output", ["out", "out.parquet"])
def test_a_disk_that_fills_up_is_a_typed_error_and_leaves_nothing(tmp_path, many_words, output):
    with small_disk(tmp_path / "disk", 2 << 20) as disk:
        frame = outside.word_count(many_words)
        assert fails(lambda: frame.sink_parquet(disk / output, progress=False, **SHAPE)) is Code.DISK_FULL
        assert list(disk.iterdir()) == []
        done = outside.command("wordcount", many_words, "-o", disk / output)
        assert done.returncode == 1
        assert "KM0402" in done.stderr
        assert "Traceback" not in done.stderr
        assert list(disk.iterdir()) == []
        outside.word_count(BOOK).sink_parquet(disk / output, progress=False)  # what fits still can be written
        assert check(disk / output).ok


def test_a_disk_that_fills_up_keeps_the_output_that_is_there(tmp_path, many_words):
    with small_disk(tmp_path / "disk", 2 << 20) as disk:
        outside.word_count(BOOK).sink_parquet(disk / "out", progress=False)
        before = outside.digests(disk / "out")
        frame = outside.word_count(many_words)
        assert fails(lambda: frame.sink_parquet(disk / "out", mode="overwrite", progress=False)) is Code.DISK_FULL
        assert outside.digests(disk / "out") == before
        assert [path.name for path in disk.iterdir()] == ["out"]


def test_a_spill_disk_that_fills_up_is_a_typed_error_and_leaves_nothing(tmp_path, many_words):
    frame = outside.word_count(many_words)
    memory = outside.tight_memory(frame, "out", 2, **SHAPE)
    with small_disk(tmp_path / "disk", 2 << 20) as disk:
        settings = {"spill_dir": disk, "spill_limit": "1GiB", "memory": memory, "threads": 2, **SHAPE}
        assert fails(lambda: frame.sink_parquet("out", progress=False, **settings)) is Code.DISK_FULL
        assert list(disk.iterdir()) == []
    assert list(Path().iterdir()) == []


def test_the_spill_limit_is_held_and_leaves_nothing(spills, many_words):
    frame = outside.word_count(many_words)
    memory = outside.tight_memory(frame, "out", 2, **SHAPE)
    settings = {"spill_limit": "1MiB", "memory": memory, "threads": 2, **SHAPE}
    assert fails(lambda: frame.sink_parquet("out", progress=False, **settings)) is Code.DISK_FULL
    assert list(spills.iterdir()) == []
    assert list(Path().iterdir()) == []


def test_a_spill_folder_that_cannot_be_made_is_a_typed_error(many_words):
    Path("file").touch()
    frame = outside.word_count(many_words)
    memory = outside.tight_memory(frame, "out", 2, **SHAPE)
    settings = {"spill_dir": "file/spills", "memory": memory, "threads": 2, **SHAPE}
    assert fails(lambda: frame.sink_parquet("out", progress=False, **settings)) is Code.COMMIT
    assert [path.name for path in Path().iterdir()] == ["file"]
