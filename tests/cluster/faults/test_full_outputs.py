"""Matrix row 13: the disk of the output is full, or every disk is. The job waits, says for what, and loses nothing."""

import shutil

import known
import pytest
import rig as rigs
import room as rooms
import smalldisk

BIG = 60_000
WORKERS = ("w1", "w2")
SCRATCH, SCRATCH_FILL_BYTES = "300m", 64 << 20
"""Of a worker's disk 256 MiB must be free."""


@pytest.fixture
def cramped(rig):
    """A cluster all of whose disks are small, and a job waiting at its gate whose input and truth lie outside."""
    smalldisk.require(rig.folder)
    rig.gate = str(rig.folder / "gate")
    rig.truth_of_job = rig.truth(known.identity(rows=BIG, gate=rig.gate, gate_at=5))
    made = rooms.Room({rig.files: "24m", **{rig.scratch(name): SCRATCH for name in WORKERS}})
    rig.room, rig._launch = made, made.run
    shutil.copy(rig.truth_of_job.source, made.path(rig.truth_of_job.source))
    yield rig
    for process in rig.members.values():
        process.kill()
        process.wait(10)
    made.close()


def begin(rig):
    rig.start_master()
    rig.start_workers(*WORKERS)
    rig.wait_workers(*WORKERS)
    client = rig.start_client("identity", rig.truth_of_job, "out", rows=BIG, gate_at=5)
    rig.gated(rig.gate)
    return client


def paused(rig):
    return rigs.until(lambda: next((row for row in rig.jobs() if row["state"] == "PAUSED"), None), "it is paused", 40)


def check(rig, client):
    assert client.wait(60) == 0, rig.log("client")
    out = rig.files / "out"
    shutil.copytree(rig.room.path(out), out)
    rig.truth_of_job.check(out)
    assert rig.history().problems == []
    rigs.until(lambda: known.leftovers_beside(rig.room.path(out)) == [], "staging is removed", 10)


@pytest.mark.parametrize("full", ["output", pytest.param("all", marks=pytest.mark.faults)])
def test_a_job_waits_while_disks_are_full_shows_nothing_and_goes_on(cramped, strikes, full):
    client = begin(cramped)
    fills = [cramped.room.path(cramped.files) / "fill"]
    smalldisk.fill(fills[0])
    strikes.add("output's disk full")
    for folder in [cramped.scratch(name) for name in WORKERS if full == "all"]:
        fills.append(cramped.room.path(folder) / "fill")
        fills[-1].write_bytes(bytes(SCRATCH_FILL_BYTES))
        strikes.add("worker's disk full")
    open(cramped.gate, "w").close()
    row = paused(cramped)
    assert row["code"] in (("OUTPUT_FULL",) if full == "output" else ("OUTPUT_FULL", "DISK_FULL")), row
    assert not cramped.room.path(cramped.files / "out").exists()
    assert [name for name, process in cramped.members.items() if process.poll() is not None] == []
    for fill in fills:
        fill.unlink()
    check(cramped, client)
