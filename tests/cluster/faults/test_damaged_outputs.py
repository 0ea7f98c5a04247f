"""Matrix row 15: what maps and reduces left is damaged before it is used or published: index, part file, manifest."""

import os
import shutil
import signal

import known
import pytest
import rig as rigs

BIG = 150_000
"""Rows whose parts are longer than the tail that is read of each before it is published."""
TAIL_BYTES = 64 << 10


def cut(path):
    os.truncate(path, path.stat().st_size - 100)


def flip_at(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


DAMAGES = {
    "removed": lambda path: path.unlink(),
    "its folder removed": lambda path: shutil.rmtree(path.parent),
    "cut": cut,
    "its tail flipped": lambda path: flip_at(path, -20),
    "another's in its place": lambda path: path.write_bytes(_other(path).read_bytes()),
}


REST = ("removed", "its tail flipped")


def _other(path):
    return next(one for one in sorted(path.parents[1].glob("*/part.parquet")) if one != path)


def stopped_before_publishing(rig, truth, **options):
    """All parts are committed, and the master stands still before it has them published; they."""
    rig.start_master(failpoints="master.committing.durable=stop@1")
    rig.start_workers("w1", "w2")
    rig.wait_workers("w1", "w2")

    def run():
        with rig.connect(**options):
            return truth.job.run(truth.source, rig.files / "out")

    future = rig.submit(run)
    rig.wait_token("master.committing.durable")
    parts = sorted(rig.files.glob(".out.km-*/attempts/*/part.parquet"))
    assert len(parts) >= known.PARTITIONS
    return future, parts


def finish(rig, truth, future):
    rig.kill("master", signal.SIGCONT)
    rig.done(future, 60)
    truth.check(rig.files / "out")
    found = rig.history()
    assert found.problems == []
    rig.no_staging()
    return found


@pytest.mark.parametrize(
    "damage", ["removed", *(pytest.param(one, marks=pytest.mark.faults) for one in DAMAGES if one != "removed")]
)
def test_a_part_that_is_damaged_before_it_is_published_is_made_again(rig, small_truth, strikes, damage):
    future, parts = stopped_before_publishing(rig, small_truth)
    DAMAGES[damage](parts[0])
    strikes.add(damage)
    found = finish(rig, small_truth, future)
    assert found.commits_again == 1 and len(found.lost) == 1


@pytest.mark.faults
def test_a_bit_in_the_middle_of_a_part_is_found_where_all_of_it_is_read(rig, strikes):
    truth = rig.truth(known.identity(rows=BIG))
    future, parts = stopped_before_publishing(rig, truth, verify_output="full")
    assert parts[0].stat().st_size > 2 * TAIL_BYTES
    flip_at(parts[0], TAIL_BYTES // 2)
    strikes.add("bit flipped")
    assert finish(rig, truth, future).commits_again == 1


@pytest.mark.parametrize("damage", ["cut", *(pytest.param(one, marks=pytest.mark.faults) for one in REST)])
def test_a_manifest_that_is_damaged_before_it_is_public_is_made_again(rig, small_truth, strikes, damage):
    """The storage process stands still between writing it and publishing, and is killed."""
    rig.start_master(failpoints="storage.manifest.written=stop@1")
    rig.start_workers("w1", "w2")
    future = rig.begin(small_truth)
    rig.wait_token("storage.manifest.written")
    (staging,) = rig.files.glob(".out.km-*")
    for path in (staging / "manifest.json", staging / "final" / "_manifest.json"):
        DAMAGES[damage](path)
        strikes.add(f"{path.name} {damage}")
    os.kill(rig.storage(), signal.SIGKILL)
    rig.done(future, 60)
    small_truth.check(rig.files / "out")
    found = rig.history()
    assert found.problems == [] and found.commits_again == 0


@pytest.mark.parametrize("damage", ["cut", *(pytest.param(one, marks=pytest.mark.faults) for one in REST)])
def test_an_index_that_is_damaged_costs_its_map_again_and_no_row(rig, small_truth, strikes, damage):
    maps = known.maps_of(known.ROWS)
    rig.start_master()
    rig.start_worker("w1", failpoints=f"slot.task.begun=stop@{maps + 1}")
    future = rig.begin(small_truth)
    rig.wait_token("slot.task.begun")
    DAMAGES[damage](sorted(rig.scratch("w1").rglob("*.index"))[0])
    strikes.add(damage)
    for pid in rig.slots_of("w1"):
        rigs.signal_if_there(pid, signal.SIGCONT)
    rig.done(future, 60)
    small_truth.check(rig.files / "out")
    found = rig.history()
    assert found.problems == [] and found.commits_again == len(found.lost) == 1
