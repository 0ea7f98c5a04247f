"""Matrix row 20: the desk that judges keys fails, falls silent or lets everybody in. No unlisted key is ever heard."""

import known
import pytest
import raw
import rig as rigs

from kernelmill.cluster import addresses
from kernelmill.cluster.keys.curve import make_pair


def knock(rig, pair, wait_s=2.5):
    """How a handshake with these keys at the workers' door ends."""
    server_key = rig.read_bundle("worker", "eve").master_key
    with raw.RawPeer(addresses.for_workers(rig.address), server_key=server_key, pair=pair) as peer:
        peer.send(raw.golden()["Hello"])
        return peer.handshake(wait_s)


@pytest.fixture
def gated(rig):
    """A cluster in the middle of a job, whose master's door fails as soon as `rig.broken` is there."""
    rig.broken, rig.gate = rig.folder / "broken", str(rig.folder / "gate")
    rig.truth_of_job = rig.truth(known.identity(gate=rig.gate, gate_at=known.ROWS // 2))
    rig.bundle("worker", "eve")

    def start(changes):
        rig.start_master(changes=f"impatient,{changes}", changed_file=rig.broken)
        rig.start_worker("w1")
        future = rig.begin(rig.truth_of_job)
        rig.gated(rig.gate)
        rig.broken.touch()
        return future

    rig.start_all = start
    return rig


def finish(rig, future):
    open(rig.gate, "w").close()
    rig.done(future)
    rig.truth_of_job.check(rig.files / "out")
    found = rig.history()
    assert found.problems == [] and found.commits_again == 0


@pytest.mark.parametrize("change", ["door-silent", pytest.param("door-open", marks=pytest.mark.faults)])
def test_a_master_whose_door_does_not_refuse_ends_and_another_goes_on(gated, strikes, change):
    future = gated.start_all(change)
    assert gated.members["master"].wait(15) != 0
    assert "KM0615" in gated.log("master")
    gated.broken.unlink()
    gated.start_master()
    strikes.from_tokens(gated.tokens)
    finish(gated, future)
    assert gated.history().commits_again == 0


def test_a_master_that_cannot_judge_keys_lets_nobody_in_and_goes_on(gated, strikes):
    future = gated.start_all("door-raises")
    assert knock(gated, make_pair()) != "succeeded"
    assert knock(gated, gated.read_bundle("worker", "eve").pair) != "succeeded", "a desk that raises refuses all"
    strikes.from_tokens(gated.tokens)
    assert gated.members["master"].poll() is None, "its canaries were refused"
    gated.broken.unlink()
    rigs.until(lambda: knock(gated, gated.read_bundle("worker", "eve").pair) == "succeeded", "the door is mended")
    finish(gated, future)
