"""The known-answer jobs themselves: what the oracle must see, and that local runs pass it."""

import json
import os

import known
import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.mark.parametrize("name", known.ALL)
def test_a_local_run_gives_the_known_answer(name, tmp_path):
    job = known.ALL[name](rows=3000)
    truth = known.Truth(job, tmp_path / "truth")
    job.run(truth.source, tmp_path / "again", threads=2)
    truth.check(tmp_path / "again")
    assert known.leftovers_beside(tmp_path / "again") == []


def test_lost_doubled_and_unexpected_rows_are_told_apart():
    wanted = [(1, "a"), (2, "b"), (3, "c")]
    found = known.differences(wanted, [(1, "a"), (1, "a"), (3, "c"), (4, "d")])
    assert (found.lost, found.doubled, found.unexpected) == (1, 1, 1)
    assert set(found.examples) == {(2, "b"), (1, "a"), (4, "d")}
    assert known.differences(wanted, reversed(wanted)) == known.NO_DIFFERENCES


@pytest.fixture
def output(tmp_path):
    job = known.identity(rows=2000)
    truth = known.Truth(job, tmp_path / "truth")
    job.run(truth.source, tmp_path / "out")
    return truth, tmp_path / "out"


def _rewritten(path, change):
    pq.write_table(change(pq.read_table(path)), path)


DAMAGES = {
    "a row lost": lambda path: _rewritten(path, lambda table: table.slice(1)),
    "a row doubled": lambda path: _rewritten(path, lambda table: pa.concat_tables([table, table.slice(0, 1)])),
    "a file lost": os.unlink,
    "a file too many": lambda path: path.with_name("part-00009.parquet").write_bytes(path.read_bytes()),
    "a hidden file": lambda path: path.with_name(".left").write_bytes(b""),
    "the same rows in other bytes": lambda path: _rewritten(path, lambda table: table),
    "a bit of a file": lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\0"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_output_does_not_pass(output, damage):
    truth, target = output
    truth.check(target)
    DAMAGES[damage](target / "part-00001.parquet")
    with pytest.raises((AssertionError, pa.ArrowInvalid)):
        truth.check(target)


def test_a_manifest_that_says_otherwise_is_seen(output):
    _, target = output
    manifest = json.loads((target / "_manifest.json").read_text())
    manifest["files"][0]["rows"] += 1
    (target / "_manifest.json").write_text(json.dumps(manifest))
    assert len(known.problems_of_manifest(target)) == 2


def test_a_map_that_differs_on_each_run_does(tmp_path):
    job = known.restless(rows=500)
    truth = known.Truth(job, tmp_path / "truth")
    for name in "ab":
        job.run(truth.source, tmp_path / name)
    assert known.bytes_of(tmp_path / "a") != known.bytes_of(tmp_path / "b")
