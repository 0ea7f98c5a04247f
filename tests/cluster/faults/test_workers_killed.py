"""Matrix rows 1 to 4: supervisors and slots that die. The output is the local run's, each row once."""

import os
import signal
from pathlib import Path

import known
import pytest

MAPS = known.maps_of(known.ROWS)


def finish(rig, truth, future):
    """The job ends well, its output is right, and the journal holds no task twice."""
    rig.done(future)
    truth.check(rig.files / "out")
    found = rig.history()
    assert found.problems == []
    rig.no_staging()
    return found


@pytest.mark.parametrize(
    ("place", "turn"),
    [
        ("worker.assign.taken", 1),
        pytest.param("worker.assign.taken", 3, marks=pytest.mark.faults),
        pytest.param("worker.done.noted", 1, marks=pytest.mark.faults),
        ("worker.done.sent", 2),
        pytest.param("worker.ack.taken", 2, marks=pytest.mark.faults),
    ],
)
def test_a_worker_that_dies_in_the_maps_loses_nothing(rig, small_truth, strikes, place, turn):
    rig.start_master()
    rig.start_worker("w1", failpoints=f"{place}=kill@{turn}")
    future = rig.begin(small_truth)
    rig.wait_killed("w1")
    rig.start_worker("w2")
    found = finish(rig, small_truth, future)
    strikes.from_tokens(rig.tokens)
    assert found.workers(1) == {"w2"}


@pytest.mark.parametrize("turn", [1, pytest.param(2, marks=pytest.mark.faults)])
def test_a_worker_that_dies_in_the_reduces_loses_only_its_maps(rig, small_truth, strikes, turn):
    """With the blocks of all maps: they run again, for somebody needs them; its committed reduces do not."""
    rig.start_master()
    rig.start_worker("w1", failpoints=f"worker.assign.taken=kill@{MAPS + turn}")
    future = rig.begin(small_truth)
    rig.wait_killed("w1")
    rig.start_worker("w2")
    found = finish(rig, small_truth, future)
    strikes.from_tokens(rig.tokens)
    assert len(found.commits_by("w1", 0)) == len(found.commits_by("w2", 0)) == MAPS
    assert len(found.commits_by("w1", 1)) == turn - 1
    assert len(found.commits_by("w2", 1)) == known.PARTITIONS - (turn - 1)


@pytest.mark.faults
@pytest.mark.parametrize("name", ["group_sums", "skewed_sums"])
def test_every_known_job_survives_a_worker_that_dies_with_its_blocks(rig, strikes, name):
    truth = rig.truth(known.ALL[name]())
    rig.start_master()
    rig.start_worker("w1", failpoints="worker.done.sent=kill@4")
    future = rig.begin(truth)
    rig.wait_killed("w1")
    rig.start_worker("w2")
    finish(rig, truth, future)
    strikes.from_tokens(rig.tokens)


def test_an_idle_worker_that_dies_is_not_waited_for(rig, small_truth, strikes):
    rig.start_master()
    rig.start_workers("w1", "w2")
    rig.wait_workers("w1", "w2")
    rig.kill("w1")
    strikes.add("worker killed")
    found = finish(rig, small_truth, rig.begin(small_truth))
    assert found.workers(0) == {"w2"}


def test_a_worker_that_came_back_with_its_disk_runs_no_map_again(rig, small_truth, strikes):
    rig.start_master()
    rig.start_worker("w1", failpoints=f"worker.assign.taken=kill@{MAPS + 1}")
    future = rig.begin(small_truth)
    rig.wait_killed("w1")
    rig.start_worker("w1")
    found = finish(rig, small_truth, future)
    strikes.from_tokens(rig.tokens)
    assert found.commits_again == 0 and found.lost == []


@pytest.mark.faults
def test_all_workers_die_and_one_returns(rig, small_truth, strikes):
    rig.start_master()
    for name in ("w1", "w2"):
        rig.start_worker(name, failpoints="worker.done.sent=kill@2", tokens=name)
    future = rig.begin(small_truth)
    for name in ("w1", "w2"):
        rig.wait_killed(name)
        strikes.add("worker killed")
    rig.start_worker("w2")
    finish(rig, small_truth, future)


@pytest.mark.parametrize(
    ("place", "action", "turn"),
    [
        ("slot.task.begun", "kill", 1),
        pytest.param("slot.task.begun", "exit", 2, marks=pytest.mark.faults),
        pytest.param("slot.task.ended", "kill", 1, marks=pytest.mark.faults),
        ("slot.task.ended", "kill", 3),
    ],
)
def test_a_slot_that_dies_costs_one_attempt_and_no_output(rig, small_truth, strikes, place, action, turn):
    rig.start_master()
    rig.start_worker("w1", failpoints=f"{place}={action}@{turn}")
    found = finish(rig, small_truth, rig.begin(small_truth))
    strikes.from_tokens(rig.tokens)
    assert found.commits_again == 0 and found.lost == []
    assert rig.members["w1"].poll() is None


@pytest.mark.parametrize("number", [signal.SIGSEGV, pytest.param(signal.SIGBUS, marks=pytest.mark.faults)])
def test_a_slot_that_crashes_costs_one_attempt_and_no_output(rig, strikes, number):
    gate = str(rig.folder / "gate")
    truth = rig.truth(known.identity(gate=gate, gate_at=known.ROWS // 2))
    rig.start_master()
    rig.start_worker("w1")
    future = rig.begin(truth)
    os.kill(rig.gated(gate), number)
    strikes.add("slot crashed")
    Path(gate).touch()
    found = finish(rig, truth, future)
    assert found.commits_again == 0 and found.lost == []
