"""Matrix rows 10 and 23: workers with good keys that say things twice, late or in disorder, and whose files lie."""

import contextlib

import known
import pytest
import rig as rigs

from kernelmill.engine.errors import Code, KernelmillError

SPOILED = ("Welcome", "Peers", "Spec", "Assign", "Inputs", "CommitAck", "Heard", "Chunk")
ROW_CHANGES = ("slot-pickled-rows", "slot-extension-rows", "slot-offset-rows")
BLOCK_CHANGES = ("slot-offset-blocks", pytest.param("slot-extension-blocks", marks=pytest.mark.faults))


def test_facts_that_come_twice_late_in_disorder_and_from_an_old_epoch_count_once(rig, small_truth, strikes):
    rig.start_master(failpoints="master.commit.durable=kill@4")
    for name in ("w1", "w2"):
        rig.start_worker(name, changes="talkative")
    future = rig.begin(small_truth)
    rig.wait_killed("master")
    rig.start_master()  # to which they offer what they said to the first, twice and late
    rig.done(future, 60)
    small_truth.check(rig.files / "out")
    found = rig.history()
    assert found.problems == [] and found.commits_again == 0
    assert len(found.commits) == known.maps_of(known.ROWS) + known.PARTITIONS
    rig.run(small_truth, "again")
    small_truth.check(rig.files / "again")
    strikes.from_tokens(rig.tokens)
    assert (rig.tokens / "changed").exists()


def test_rows_that_are_no_rows_are_an_error_of_the_client_and_run_no_code(rig, small_truth, strikes):
    """collect() reads what workers left: a pickle, types with code in their names, texts that begin nowhere."""
    rig.start_master()
    marker = rig.folder / "marker"
    frame = small_truth.job.frame(small_truth.source)
    for change in ROW_CHANGES:
        rig.start_worker("w1", changes=change, changed_file=marker)
        with rig.connect(), pytest.raises(KernelmillError) as caught:
            frame.collect(progress=False)
        assert caught.value.code is Code.CORRUPT_BLOCK, change
        assert (rig.tokens / "changed").exists()
        (rig.tokens / "changed").unlink()
        strikes.add(change)
        assert list(rig.rows.iterdir()) == []
        rig.kill("w1")
    assert not marker.exists()


@pytest.mark.parametrize("change", BLOCK_CHANGES)
def test_blocks_that_lie_under_good_checksums_are_refused_by_their_readers(rig, small_truth, strikes, change):
    """w1 makes all maps; w2 reads their blocks, finds them bad, and makes the maps again once w1 is gone."""
    marker = rig.folder / "marker"
    read_from_a_liar(rig, small_truth, strikes, change, changed_file=marker)
    assert not marker.exists()


def test_a_holder_that_sends_without_end_fills_no_disk_and_its_maps_are_made_elsewhere(rig, small_truth, strikes):
    sizes = []
    spool = rig.scratch("w2") / "w2" / "spool"
    read_from_a_liar(rig, small_truth, strikes, "endless", look=lambda: sizes.append(bytes_in(spool)))
    assert max(sizes) < 32 << 20
    assert (rig.tokens / "changed").exists()


def test_pickles_in_every_field_of_what_a_master_and_holders_say_are_loaded_by_nobody(rig, small_truth, strikes):
    marker = rig.folder / "marker"
    given = {"changes": "pickling", "changed_file": marker}
    rig.start_master(**given)
    for name in ("w1", "w2"):
        rig.start_worker(name, **given)
    rig.wait_workers("w1", "w2")
    rig.run(small_truth)
    small_truth.check(rig.files / "out")
    assert rig.history().problems == []
    for name in SPOILED:
        assert (rig.tokens / f"pickled {name}").exists(), name
        strikes.add(f"pickles in {name}")
    assert not marker.exists()


def bytes_in(folder):
    size = 0
    for path in folder.glob("*"):
        with contextlib.suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


def read_from_a_liar(rig, small_truth, strikes, change, look=lambda: None, **given):
    """w1 makes all maps and is changed; w2 reads their blocks, and makes the maps again once w1 is gone."""
    rig.start_master()
    maps = known.maps_of(known.ROWS)
    # it stops in its first reduce: it could run them all by itself before anybody sees that the maps are done
    rig.start_worker("w1", changes=change, failpoints=f"slot.task.begun=stop@{maps + 1}", **given)
    rig.wait_workers("w1")
    future = rig.begin(small_truth)
    rigs.until(lambda: (rig.tokens / "slot.task.begun").exists(), "all maps are done")
    rig.start_worker("w2")

    def is_lost():
        look()
        return rig.history().lost

    rigs.until(is_lost, "a block is refused")
    strikes.add(change, len(rig.history().lost))
    rig.kill("w1")
    rig.done(future, 60)
    small_truth.check(rig.files / "out")
    assert rig.history().problems == []
