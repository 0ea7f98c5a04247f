"""The manifest's bytes, re-reading an output against it, and cleaning up after the dead."""

import fcntl
import os

import msgspec
import pyarrow as pa
import pytest

from kernelmill.engine.commit import (
    MANIFEST_NAME,
    PartFile,
    PlacedFile,
    check,
    clean,
    decode_manifest,
    encode_manifest,
    make_manifest,
    part_names,
    read_manifest,
)
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.io.parquet_write import PartWriter
from kernelmill.engine.plan.physical import ToParquet
from kernelmill.engine.staging import Staging

SCHEMA = pa.schema([pa.field("word", pa.string(), nullable=False), pa.field("len", pa.int64())])

GOLDEN = b"""{
  "version": 1,
  "rows": 30,
  "bytes": 300,
  "files": [
    {
      "name": "part-00000.parquet",
      "rows": 10,
      "bytes": 100,
      "checksum": "00112233445566778899aabbccddeeff"
    },
    {
      "name": "part-00001.parquet",
      "rows": 20,
      "bytes": 200,
      "checksum": "ffeeddccbbaa99887766554433221100"
    }
  ],
  "schema": [
    {
      "name": "word",
      "type": "string",
      "nullable": false
    },
    {
      "name": "len",
      "type": "int64",
      "nullable": true
    }
  ],
  "counters": {
    "a": 1,
    "b": 2
  },
  "rejects": {
    "bad year": 3
  },
  "reject_files": [],
  "versions": {
    "kernelmill": "0.1.0",
    "parquet": "2.6",
    "pyarrow": "26.0.1"
  }
}
"""


def golden_manifest():
    files = [
        PartFile("part-00000.parquet", 10, 100, "00112233445566778899aabbccddeeff"),
        PartFile("part-00001.parquet", 20, 200, "ffeeddccbbaa99887766554433221100"),
    ]
    versions = {"pyarrow": "26.0.1", "kernelmill": "0.1.0", "parquet": "2.6"}
    counters, rejects = {"b": 2, "a": 1}, {"bad year": 3}
    return make_manifest(files, SCHEMA, counters=counters, rejects=rejects, reject_files=(), versions=versions)


def write_output(target, parts=2, mode="error", word="w"):
    with Staging.open(target, mode=mode) as staging:
        files = []
        for number in range(parts):
            with PartWriter(staging.part_path(number, 7), ToParquet("zstd", 1000, True, SCHEMA)) as writer:
                writer.write(pa.record_batch([[f"{word}{number}"] * 5, [number] * 5], schema=SCHEMA))
                files.append(writer.close())
        return staging.publish(files, SCHEMA, counters={"seen": 5})


def code_of(call):
    with pytest.raises(KernelmillError) as caught:
        call()
    return caught.value.code


def test_a_manifest_has_these_bytes():
    assert encode_manifest(golden_manifest()) == GOLDEN


def test_a_manifest_comes_back_from_its_bytes():
    assert decode_manifest(GOLDEN) == golden_manifest()


def test_files_are_numbered_in_each_folder_and_empty_ones_left_out_where_tasks_have_several():
    def placed(name, rows, folder):
        return PlacedFile(name, rows, 10, "", folder)

    parts = [
        placed("0", 1, "a=2"),
        placed("1", 1, "a=10"),
        placed("2", 0, ""),
        placed("3", 2, "a=2"),
        placed("4", 0, ""),
    ]
    named = [(name, part.name) for name, part in part_names(parts)]
    assert named == [("a=10/part-00000.parquet", "1"), ("a=2/part-00000.parquet", "0"), ("a=2/part-00001.parquet", "3")]
    assert [(name, part.name) for name, part in part_names(parts[4:] + parts[2:3])] == [("part-00000.parquet", "4")]
    whole = [PartFile("x", 0, 10, ""), PartFile("y", 0, 10, "")]  # of tasks that have one each none is left out
    assert [name for name, _ in part_names(whole)] == ["part-00000.parquet", "part-00001.parquet"]


def test_a_later_version_is_refused_by_type():
    assert code_of(lambda: decode_manifest(GOLDEN.replace(b'"version": 1', b'"version": 2'))) is Code.FORMAT
    assert code_of(lambda: decode_manifest(b'{"version": 9, "other": []}')) is Code.FORMAT


def test_a_manifest_cut_anywhere_is_refused_by_type():
    body = GOLDEN.rstrip()
    for length in range(len(body)):
        assert code_of(lambda: decode_manifest(body[:length])) is Code.FORMAT  # noqa: B023


@pytest.mark.parametrize("name", [b"../part-00000.parquet", b"/part-00000.parquet", b""])
def test_a_manifest_that_names_files_outside_its_folder_is_refused(name):
    data = GOLDEN.replace(b"part-00000.parquet", name)
    assert code_of(lambda: decode_manifest(data)) is Code.FORMAT


def test_a_damaged_manifest_says_what_can_be_done(tmp_path):
    write_output(tmp_path / "out")
    (tmp_path / "out" / MANIFEST_NAME).write_bytes(b'{"version')
    for call in (check, lambda path: Staging.open(path, mode="overwrite")):
        with pytest.raises(KernelmillError, match="remove the folder") as caught:
            call(tmp_path / "out")
        assert caught.value.code is Code.FORMAT


def test_a_whole_output_checks_out(tmp_path):
    manifest = write_output(tmp_path / "out")
    report = check(tmp_path / "out")
    assert report.ok
    assert (report.files, report.rows, report.bytes) == (2, 10, manifest.bytes)
    assert read_manifest(tmp_path / "out") == manifest


def test_two_runs_leave_the_same_bytes(tmp_path):
    write_output(tmp_path / "a")
    write_output(tmp_path / "b")
    for name in sorted(os.listdir(tmp_path / "a")):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def problems_of(path):
    return [(problem.kind, problem.name) for problem in check(path).problems]


def test_check_names_every_difference(tmp_path):
    out = tmp_path / "out"
    write_output(out, parts=3)
    (out / "part-00000.parquet").unlink()
    data = bytearray((out / "part-00001.parquet").read_bytes())
    data[10] ^= 1
    (out / "part-00001.parquet").write_bytes(data)
    with open(out / "part-00002.parquet", "ab") as file:
        file.write(b"more")
    (out / "notes.txt").write_text("mine")
    assert problems_of(out) == [
        ("missing", "part-00000.parquet"),
        ("checksum", "part-00001.parquet"),
        ("size", "part-00002.parquet"),
        ("unreadable", "part-00002.parquet"),
        ("extra", "notes.txt"),
    ]
    assert check(out).files == 2  # those that are there


def test_check_compares_rows_with_the_footers(tmp_path):
    out = tmp_path / "out"
    manifest = write_output(out, parts=1)
    wrong = msgspec.structs.replace(manifest.files[0], rows=6)
    (out / MANIFEST_NAME).write_bytes(encode_manifest(msgspec.structs.replace(manifest, files=(wrong,))))
    assert problems_of(out) == [("rows", "part-00000.parquet")]


def test_a_single_file_is_checked_page_by_page(tmp_path):
    target = tmp_path / "out.parquet"
    write_output(target, parts=1)
    assert check(target).ok
    data = bytearray(target.read_bytes())
    data[data.index(b"w0")] ^= 1  # in a page: still text, so only the checksum can tell
    target.write_bytes(data)
    assert [problem.kind for problem in check(target).problems] == ["unreadable"]


def test_an_output_without_manifest_cannot_be_checked(tmp_path):
    assert code_of(lambda: check(tmp_path)) is Code.INPUT_NOT_FOUND
    assert code_of(lambda: check(tmp_path / "nowhere")) is Code.INPUT_NOT_FOUND


def leave_staging(folder, name):
    place = folder / f".{name}.km-staging"
    (place / "parts-abc").mkdir(parents=True)
    (place / "parts-abc" / "00000-1.parquet").write_bytes(b"half")
    (place / "lock").touch()
    return place


def test_clean_removes_leftovers_whose_lock_is_free_and_nothing_else(tmp_path):
    dead, living = leave_staging(tmp_path, "dead"), leave_staging(tmp_path, "living")
    (tmp_path / "mine").mkdir()
    with open(living / "lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert clean(tmp_path) == [str(dead)]
    assert not dead.exists()
    assert (living / "parts-abc" / "00000-1.parquet").exists()
    assert clean(tmp_path) == [str(living)]
    assert os.listdir(tmp_path) == ["mine"]


def test_clean_of_an_output_removes_the_staging_beside_it(tmp_path):
    write_output(tmp_path / "out")
    dead = leave_staging(tmp_path, "out")
    assert clean(tmp_path / "out") == [str(dead)]
    assert check(tmp_path / "out").ok


def test_clean_of_an_output_that_was_never_published_removes_its_staging(tmp_path):
    dead = leave_staging(tmp_path, "out")
    assert clean(tmp_path / "out") == [str(dead)]


def test_clean_of_nothing_is_an_error(tmp_path):
    assert code_of(lambda: clean(tmp_path / "where")) is Code.INPUT_NOT_FOUND
    assert code_of(lambda: clean(tmp_path / "no" / "where")) is Code.INPUT_NOT_FOUND
