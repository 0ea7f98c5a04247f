"""Matrix rows 11, 13 and 18: a task that stands still, disks that are full, inputs that change in mid-job."""

import os
import shutil
import signal

import known
import pytest
import raw
import rig as rigs
import smalldisk

from kernelmill.engine.errors import Code, KernelmillError

BIG = 100_000
"""Rows whose blocks are more than the small disks below hold."""


def test_a_task_that_stands_still_is_run_by_another_worker_too(rig, small_truth, strikes):
    rig.start_master()
    rig.start_worker("w1", failpoints="slot.task.begun=stop@3")
    rig.start_worker("w2")
    rig.wait_workers("w1", "w2")
    future = rig.begin(small_truth)
    rig.wait_token("slot.task.begun")
    strikes.from_tokens(rig.tokens)
    rig.done(future, 25)
    small_truth.check(rig.files / "out")
    found = rig.history()
    assert found.problems == [] and found.commits_again == 0


def test_a_worker_that_stands_still_is_lost_after_as_long_as_the_master_was_told(rig, strikes):
    rig.start_master(lost_s=2.0)
    rig.start_workers("w1", "w2")
    rig.wait_workers("w1", "w2")
    with raw.client_session(rig.address, rig.read_bundle("client", "root")) as session:
        rig.kill("w1", signal.SIGSTOP)
        strikes.add("worker stopped")
        rigs.until(lambda: session.workers() == ["w2"], "it is lost", 3.8)  # with the default it takes 4 s at least


@pytest.mark.faults
def test_a_worker_that_was_stopped_comes_back_as_a_zombie_and_changes_nothing(rig, strikes):
    gate = str(rig.folder / "gate")
    truth = rig.truth(known.identity(gate=gate, gate_at=known.ROWS // 2))
    rig.start_master()
    rig.start_workers("w1", "w2", "w3")
    rig.wait_workers("w1", "w2", "w3")
    future = rig.begin(truth)
    name = rig.worker_of(rig.gated(gate))
    for pid in [*rig.slots_of(name), rig.members[name].pid]:
        rigs.signal_if_there(pid, signal.SIGSTOP)
    strikes.add("worker stopped")
    rigs.until(lambda: name not in rig.workers(), "it is lost", 8)
    open(gate, "w").close()
    rig.done(future)
    truth.check(rig.files / "out")
    for pid in [rig.members[name].pid, *rig.slots_of(name)]:
        rigs.signal_if_there(pid, signal.SIGCONT)
    rigs.until(lambda: name in rig.workers(), "it is back", 10)
    truth.check(rig.files / "out")
    assert rig.history().problems == []


def on_small_disk(rig, name, size="1m"):
    return lambda argv: smalldisk.command(argv, {rig.scratch(name): size})


def test_a_worker_whose_disk_is_full_leaves_the_work_to_others(rig, strikes):
    smalldisk.require(rig.folder)
    truth = rig.truth(known.identity(rows=BIG))
    rig.start_master()
    rig.start_worker("w1", wrap=on_small_disk(rig, "w1"))
    future = rig.begin(truth)
    # Of all workers it is the one whose disk is full: the job waits, and says for what.
    row = rigs.until(lambda: next((row for row in rig.jobs() if row["state"] == "PAUSED"), None), "it is paused")
    assert row["code"] == "DISK_FULL"
    strikes.add("disk full")
    rig.start_worker("w2")
    rig.done(future)
    truth.check(rig.files / "out")
    assert rig.history().problems == []
    assert rig.members["w1"].poll() is None


@pytest.mark.parametrize("change", ["replaced", "truncated", "longer", "removed"])
def test_an_input_that_changes_in_mid_job_ends_it_and_leaves_no_output(rig, strikes, change):
    gate = str(rig.folder / "gate")
    truth = rig.truth(known.identity(gate=gate, gate_at=5))  # in the first split: the others are not read yet
    rig.start_master()
    rig.start_worker("w1")
    future = rig.begin(truth)
    rig.gated(gate)
    source = truth.source
    match change:
        case "replaced":
            other = source.with_name("other")
            shutil.copy(source, other)
            other.write_bytes(other.read_bytes().replace(b"9", b"8"))
            os.replace(other, source)
        case "truncated":
            os.truncate(source, source.stat().st_size // 2)
        case "longer":
            with open(source, "ab") as file:
                file.write(b"1 2 3\\n")
        case _:
            source.unlink()
    strikes.add(change)
    open(gate, "w").close()
    with pytest.raises(KernelmillError) as caught:
        rig.done(future)
    assert caught.value.code in (Code.INPUT_CHANGED, Code.INPUT_NOT_FOUND)
    assert str(source) in str(caught.value)
    assert not (rig.files / "out").exists()
    rig.no_staging()
