"""Matrix rows 5 and 6: the master is killed at each of its effects, twice, while it publishes; and a second master."""

import signal
import time

import known
import pytest
import rig as rigs

MAPS = known.maps_of(known.ROWS)
ORPHAN_S = 6.0
"""A little more than a worker waits for a word of its master."""

EFFECTS = [
    "master.job.durable",
    "master.assign.sent",
    pytest.param("master.done.taken", marks=pytest.mark.faults),
    "master.commit.durable",
    pytest.param("master.ack.sent", marks=pytest.mark.faults),
    "master.committing.durable",
    pytest.param("master.publish.sent", marks=pytest.mark.faults),
    pytest.param("storage.part.renamed", marks=pytest.mark.faults),
    pytest.param("storage.manifest.written", marks=pytest.mark.faults),
    "storage.published",
    pytest.param("master.committed.durable", marks=pytest.mark.faults),
    pytest.param("master.result.sent", marks=pytest.mark.faults),
]


def finish(rig, truth, future, epochs):
    """The job ends well, its output is right, and no committed task ran again."""
    rig.done(future)
    truth.check(rig.files / "out")
    rigs.until(lambda: len(rig.history().epochs) == epochs, "the last master has begun")
    found = rig.history()
    assert found.problems == []
    assert found.commits_again == 0 and found.lost == []
    rig.no_staging()


@pytest.mark.parametrize("effect", EFFECTS)
def test_a_master_that_dies_after_an_effect_goes_on_from_its_journal(rig, small_truth, strikes, effect):
    rig.start_master(failpoints=f"{effect}=kill@1")
    rig.start_workers("w1", "w2")
    future = rig.begin(small_truth)
    rig.wait_token(effect)
    if effect.startswith("storage."):
        rig.kill("master")  # the storage process died at its failpoint; its master dies with it
    rig.members["master"].wait(10)
    rig.start_master()
    finish(rig, small_truth, future, epochs=2)
    strikes.from_tokens(rig.tokens)


def test_a_storage_process_that_is_stopped_while_it_publishes_holds_up_no_later_master(rig, small_truth, strikes):
    rig.start_master(failpoints="storage.manifest.written=stop")
    rig.start_workers("w1", "w2")
    future = rig.begin(small_truth)
    rig.wait_token("storage.manifest.written")
    rig.kill("master")
    rig.start_master()
    finish(rig, small_truth, future, epochs=2)
    strikes.from_tokens(rig.tokens)


@pytest.mark.faults
@pytest.mark.parametrize("turn", [2, 5, MAPS, MAPS + 2])
@pytest.mark.parametrize("effect", ["master.assign.sent", "master.commit.durable"])
def test_a_master_that_dies_in_the_middle_runs_no_committed_task_again(rig, small_truth, strikes, effect, turn):
    rig.start_master(failpoints=f"{effect}=kill@{turn}")
    rig.start_workers("w1", "w2")
    future = rig.begin(small_truth)
    rig.wait_killed("master")
    rig.start_master()
    finish(rig, small_truth, future, epochs=2)
    strikes.from_tokens(rig.tokens)


def test_a_master_that_dies_twice_in_a_row_still_ends_the_job(rig, small_truth, strikes):
    rig.start_master(failpoints="master.commit.durable=kill@3")
    rig.start_workers("w1", "w2")
    future = rig.begin(small_truth)
    rig.wait_killed("master")
    rig.start_master(failpoints="master.epoch.durable=kill@1")
    rig.wait_killed("master")
    rig.start_master(failpoints="master.assign.sent=kill@1")
    rig.wait_killed("master")
    rig.start_master()
    finish(rig, small_truth, future, epochs=4)
    strikes.from_tokens(rig.tokens)


@pytest.mark.faults
def test_master_and_a_worker_die_together(rig, small_truth, strikes):
    rig.start_master(failpoints="master.commit.durable=kill@3")
    rig.start_workers("w1", "w2")
    future = rig.begin(small_truth)
    rig.wait_killed("master")
    rig.kill("w1")
    strikes.add("worker killed")
    rig.start_master()
    rig.done(future)
    small_truth.check(rig.files / "out")
    assert rig.history().problems == []
    strikes.from_tokens(rig.tokens)


def test_a_second_master_on_the_same_state_is_refused_while_the_first_is_stopped(rig, small_truth, strikes):
    rig.start_master()
    rig.start_workers("w1", "w2")
    rig.wait_workers("w1", "w2")
    future = rig.begin(small_truth)
    rig.kill("master", signal.SIGSTOP)
    strikes.add("master stopped")
    first = rig.members["master"]
    second = rig.start_master(name="second")
    assert second.wait(10) != 0
    assert "KM0613" in rig.log("second")
    first.send_signal(signal.SIGCONT)
    finish(rig, small_truth, future, epochs=1)


@pytest.mark.faults
def test_a_master_that_was_stopped_for_long_finds_its_workers_again(rig, strikes):
    """Longer than a worker takes to believe it dead: they are orphans, and come back with all they have."""
    gate = str(rig.folder / "gate")
    truth = rig.truth(known.identity(gate=gate, gate_at=known.ROWS // 2))
    rig.start_master()
    rig.start_workers("w1", "w2")
    future = rig.begin(truth)
    rig.gated(gate)
    rig.kill("master", signal.SIGSTOP)
    patience_over = time.monotonic() + ORPHAN_S
    rigs.until(lambda: time.monotonic() > patience_over, "the workers' patience is over")
    strikes.add("master stopped")
    rig.kill("master", signal.SIGCONT)
    with open(gate, "w"):
        pass
    finish(rig, truth, future, epochs=1)
