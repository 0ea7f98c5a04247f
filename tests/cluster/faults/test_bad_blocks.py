"""Matrix rows 14 and 16: shuffle blocks that are not what was written, and maps that give other rows when run again."""

import os
import signal

import known
import pytest
import rig as rigs

from kernelmill.engine.errors import Code, KernelmillError

MAPS = known.maps_of(known.ROWS)


def flip(files):
    data = bytearray(files[0].read_bytes())
    data[len(data) // 2] ^= 0x10
    files[0].write_bytes(data)
    return 1


def truncate(files):
    files[0].write_bytes(files[0].read_bytes()[:-7])
    return 1


def swap(files):
    first, second = files[0].read_bytes(), files[1].read_bytes()
    files[0].write_bytes(second)
    files[1].write_bytes(first)
    return 2


def swap_whole(files):
    """Data and index of two attempts: each file fits its index, and its name is a lie."""
    for one, two in ((files[0], files[1]), *[(file.with_suffix(".index") for file in files[:2])]):
        swap([one, two])
    return 2


def remove(files):
    files[0].unlink()
    return 1


DAMAGES = {one.__name__: one for one in (flip, truncate, swap, swap_whole, remove)}


def all_maps_done(rig, truth):
    """w1 has run all maps, and the process of its slot stands still at the first reduce; the maps' data files."""
    rig.start_master()
    rig.start_worker("w1", failpoints=f"slot.task.begun=stop@{MAPS + 1}")
    future = rig.begin(truth)
    rig.wait_token("slot.task.begun")
    files = sorted(rig.scratch("w1").rglob("*.data"))
    assert len(files) >= MAPS
    return future, files


@pytest.fixture
def rig(rig):
    rig.identity = rig.truth(known.identity())
    return rig


@pytest.mark.parametrize("where", ["in place", "from another host"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_block_costs_its_map_again_and_no_row(rig, strikes, damage, where):
    future, files = all_maps_done(rig, rig.identity)
    damaged = DAMAGES[damage](files)
    strikes.add(damage, damaged)
    if where == "from another host":
        rig.start_worker("w2")  # its slot gets the reduces that stand in line, and asks w1 for their blocks
        rigs.until(lambda: rig.history().lost, "a block is found damaged", 10)
    for pid in rig.slots_of("w1"):
        rigs.signal_if_there(pid, signal.SIGCONT)
    rig.done(future)
    rig.identity.check(rig.files / "out")
    found = rig.history()
    assert found.problems == []
    assert 1 <= found.commits_again <= damaged
    assert len(found.lost) == found.commits_again


def test_a_map_that_differs_when_it_runs_again_is_never_mixed_with_its_first_run(rig, strikes):
    """Each id is there once, though its key is another each time: the reduces are of one run of each map."""
    truth = rig.truth(known.restless())
    future, files = all_maps_done(rig, truth)
    strikes.add("remove", remove(files))
    for pid in rig.slots_of("w1"):
        rigs.signal_if_there(pid, signal.SIGCONT)
    rig.done(future)
    truth.check(rig.files / "out")
    found = rig.history()
    assert found.problems == []
    assert found.kinds["RolledBack"] == 1


@pytest.mark.faults
def test_maps_that_differ_again_and_again_end_the_job_and_leave_nothing(rig, strikes):
    truth = rig.truth(known.restless())
    rig.start_master()
    rig.start_worker("w1", failpoints=f"worker.assign.taken=kill@{MAPS + 2}")
    future = rig.begin(truth)
    rig.wait_killed("w1")
    rig.start_worker("w2")
    with pytest.raises(KernelmillError) as caught:
        rig.done(future)
    strikes.from_tokens(rig.tokens)
    assert caught.value.code is Code.NONDETERMINISTIC
    assert not (rig.files / "out").exists()
    rig.no_staging()


def test_the_files_of_blocks_are_gone_when_the_job_has_ended(rig, strikes):
    rig.start_master()
    rig.start_workers("w1", "w2")
    rig.run(rig.identity)
    strikes.add("job ended")

    def blocks():
        """os.walk, for rglob does not bear folders that go meanwhile."""
        return [name for _, _, names in os.walk(rig.folder) for name in names if name.endswith(".data")]

    rigs.until(lambda: not blocks(), "blocks are removed", 10)
