"""Matrix rows 8 and 9: hosts that are cut off, one way and both, and healed. The output is the local run's."""

import known
import pytest
import rig as rigs


def start(spread):
    spread.start_master()
    spread.start_workers("w1", "w2", "w3")
    spread.wait_workers("w1", "w2", "w3")


def gated_truth(spread, rows=known.ROWS):
    gate = str(spread.folder / "gate")
    return spread.truth(known.identity(rows, gate=gate, gate_at=rows // 2)), gate


def check(spread, truth, client):
    assert client.wait(60) == 0, spread.log("client")
    truth.check(spread.files / "out")
    assert spread.history().problems == []
    spread.no_staging()


@pytest.mark.parametrize("direction", ["both", "in", pytest.param("out", marks=pytest.mark.faults)])
def test_a_worker_that_is_cut_off_is_lost_and_its_work_done_again(spread, net, strikes, direction):
    """The one that waits at its gate is cut off: what it says after it is healed changes nothing."""
    truth, gate = gated_truth(spread)
    start(spread)
    client = spread.start_client("identity", truth, "out")
    host = spread.worker_of(spread.gated(gate))
    net.cut(host, direction)
    rigs.until(lambda: host not in spread.workers(), f"{host} is lost", 8.0)
    open(gate, "w").close()
    strikes.add(f"packets dropped {direction}", net.dropped(host))
    check(spread, truth, client)
    net.heal(host)
    rigs.until(lambda: host in spread.workers(), f"{host} is back", 8.0)
    truth.check(spread.files / "out")  # and no zombie has touched it


def test_a_cut_of_two_seconds_loses_nobody(spread, net, strikes):
    truth, gate = gated_truth(spread)
    start(spread)
    client = spread.start_client("identity", truth, "out")
    host = spread.worker_of(spread.gated(gate))
    net.cut(host)
    rigs.until(lambda: net.dropped(host) >= 4, "packets are dropped")
    strikes.add("packets dropped", net.dropped(host))
    net.heal(host)
    open(gate, "w").close()
    check(spread, truth, client)
    assert spread.history().commits_again == 0


@pytest.mark.faults
def test_all_workers_are_cut_off_one_by_one_and_healed_in_another_order(spread, net, strikes):
    truth, gate = gated_truth(spread)
    start(spread)
    client = spread.start_client("identity", truth, "out")
    spread.gated(gate)
    for host in ("w1", "w2", "w3"):
        net.cut(host)
    rigs.until(lambda: spread.workers() == [], "all are lost", 10.0)
    open(gate, "w").close()
    for host in ("w2", "w3", "w1"):
        strikes.add("packets dropped", net.dropped(host))
        net.heal(host)
    rigs.until(lambda: spread.workers() == ["w1", "w2", "w3"], "all are back", 10.0)
    check(spread, truth, client)
