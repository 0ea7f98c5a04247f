"""Matrix row 27: clients that die, come back, ask twice; connections that break under them."""

import json
import signal

import known
import pytest
import rig as rigs


@pytest.fixture
def gated(rig):
    """A cluster, and a job that will wait at its gate."""
    rig.gate = str(rig.folder / "gate")
    rig.gated_truth = rig.truth(known.identity(gate=rig.gate, gate_at=known.ROWS // 2))
    rig.start_master()
    rig.start_worker("w1")
    return rig


def states(rig):
    return [row["state"] for row in rig.command_json("jobs", "--all")]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_job_goes_on_without_its_client(gated, strikes, number):
    client = gated.start_client("identity", gated.gated_truth, "out")
    gated.gated(gated.gate)
    gated.kill("client", number)
    strikes.add(f"client: {number.name}")
    open(gated.gate, "w").close()
    rigs.until(lambda: states(gated) == ["COMMITTED"], "the job is done", 20)
    gated.gated_truth.check(gated.files / "out")
    gated.no_staging()
    if number == signal.SIGSTOP:
        client.send_signal(signal.SIGCONT)
        assert client.wait(15) == 0
        assert json.loads(gated.log("client").splitlines()[-1]) == {"rows": known.ROWS}


def test_a_client_that_is_interrupted_ends_its_job(gated, strikes, signals_reach_children):
    client = gated.start_client("identity", gated.gated_truth, "out")
    gated.gated(gated.gate)
    client.send_signal(signal.SIGINT)
    strikes.add("Ctrl-C")
    assert client.wait(15) != 0
    rigs.until(lambda: states(gated) == ["CANCELLED"], "the job is cancelled", 10)
    assert not (gated.files / "out").exists()
    gated.no_staging()


def test_two_clients_run_jobs_at_once_and_each_gets_its_own(gated, strikes):
    other = gated.truth(known.group_sums())
    first = gated.begin(gated.gated_truth)
    gated.gated(gated.gate)
    gated.start_worker("w2")
    gated.done(gated.begin(other, "sums"))  # the first still waits
    strikes.add("job beside another")
    other.check(gated.files / "sums")
    open(gated.gate, "w").close()
    gated.done(first)
    gated.gated_truth.check(gated.files / "out")
