"""Matrix row 7: the journal of a master that was killed is cut, its bits are flipped; its disk is full, or fails.

What is cut and flipped are copies of one real journal, opened as a master opens it; some of them by a real master.
"""

import os
import random
import resource
import shutil
import signal
import sqlite3
from pathlib import Path

import history
import known
import msgspec
import pytest
import rig as rigs
import smalldisk

from kernelmill.cluster.journal.opening import open_journal
from kernelmill.cluster.versions import versions_here
from kernelmill.engine.errors import Code, KernelmillError

COMMITS = 6
"""Commits after which the master is killed."""
FLIPS = 200


@pytest.fixture
def killed(rig):
    """A cluster whose master has died in the middle of a job, and the log's page size."""
    rig.truth_of_job = rig.truth(known.identity())
    rig.start_master(failpoints=f"master.commit.durable=kill@{COMMITS}")
    rig.start_worker("w1")
    rig.job = rig.begin(rig.truth_of_job)
    rig.wait_killed("master")
    return rig


@pytest.fixture
def copies(killed):
    """Gives a new copy of the state folder each time it is called, on a disk that is memory.

    Without the journal's mark, which refuses what the rest has no eyes for: an end that is missing.
    """
    place = Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else killed.folder
    folder = place / f"{killed.folder.name}-copy"

    def copy(change, *, is_marked=False):
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(killed.folder / "state", folder)
        if not is_marked:
            (folder / "head").unlink()
        change(folder / "journal.db-wal")
        return folder

    yield copy
    shutil.rmtree(folder, ignore_errors=True)


def events_of(state):
    """The records of a journal as bytes, opened as the next master does; the epoch that begins by that is not among
    them.
    """
    open_journal(state, versions_here(), lambda: None).close()
    connection = sqlite3.connect(state / "journal.db")
    try:
        return connection.execute("select kind, job, body from events order by seq").fetchall()[:-1]
    finally:
        connection.close()


def finish(rig):
    rig.start_master()
    rig.done(rig.job, 60)
    rig.truth_of_job.check(rig.files / "out")


def test_a_journal_cut_at_any_byte_gives_a_prefix_of_whole_transactions(killed, copies, strikes):
    whole = events_of(copies(lambda log: None))
    assert len(whole) > COMMITS
    size = (killed.folder / "state" / "journal.db-wal").stat().st_size
    frame = 24 + 4096
    cuts = [*range(0, size - frame, 499), *range(size - frame, size, 13)]
    seen = set()
    for cut in cuts:
        found = events_of(copies(lambda log, cut=cut: os.truncate(log, cut)))
        assert found == whole[: len(found)], f"cut at {cut}"
        seen.add(len(found))
        if len(found) < len(whole) and cut % 5 == 0:
            with pytest.raises(KernelmillError) as caught:
                events_of(copies(lambda log, cut=cut: os.truncate(log, cut), is_marked=True))
            assert caught.value.code is Code.JOURNAL_CORRUPT
        strikes.add("log cut")
    assert len(seen) > 3, "cuts lose one transaction after the other"
    finish(killed)


@pytest.mark.faults
def test_a_flipped_bit_gives_a_prefix_or_an_error_and_never_other_records(killed, copies, strikes):
    whole, chance = events_of(copies(lambda log: None)), random.Random(7)
    ends = {"prefix": 0, "refused": 0}
    for number in range(FLIPS):
        in_log = number % 2 == 0

        def flip(log, in_log=in_log):
            path = log if in_log else log.with_name("journal.db")
            data = bytearray(path.read_bytes())
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            path.write_bytes(data)

        try:
            found = events_of(copies(flip))
        except KernelmillError as problem:
            assert problem.code in (Code.JOURNAL_CORRUPT, Code.JOURNAL_FAILED), problem
            ends["refused"] += 1
        else:
            assert found == whole[: len(found)]
            ends["prefix"] += 1
        strikes.add("bit flipped")
    assert ends["prefix"]


@pytest.mark.faults
def test_a_master_says_that_its_log_lost_its_tail_and_goes_on_where_it_is_told_to(killed, strikes):
    """Commits that were acknowledged are gone with it: workers offer them again."""
    log = killed.folder / "state" / "journal.db-wal"
    before = len(history.read(killed.folder / "state").commits)
    os.truncate(log, log.stat().st_size - 4 * 4120 - 1)
    assert len(history.read(killed.folder / "state").commits) < before
    strikes.add("log cut")
    assert killed.start_master().wait(20) != 0
    assert "KM0611" in killed.log("master") and "`head`" in killed.log("master")
    (killed.folder / "state" / "head").unlink()
    finish(killed)
    assert killed.history().problems == []


def test_a_master_does_not_start_on_a_journal_that_was_changed(killed, strikes):
    state = killed.folder / "state"
    connection = sqlite3.connect(state / "journal.db")
    seq, body = connection.execute("select seq, body from events where kind = 3 order by seq limit 1").fetchone()
    content = msgspec.msgpack.decode(body)
    content[4] = "w9"  # a commit of another worker's
    connection.execute("update events set body = ? where seq = ?", (msgspec.msgpack.encode(content), seq))
    connection.commit()
    connection.close()
    strikes.add("record changed")
    assert killed.start_master().wait(20) != 0
    assert "KM0611" in killed.log("master") and str(seq) in killed.log("master")


def test_a_write_that_fails_ends_the_master_at_once_and_the_next_one_goes_on(rig, strikes):
    """Any error but a full disk: a limit on the size of its files makes every further write one."""
    gate = str(rig.folder / "gate")
    truth = rig.truth(known.identity(gate=gate, gate_at=known.ROWS // 2))
    rig.start_master()
    rig.start_worker("w1")
    future = rig.begin(truth)
    rig.gated(gate)
    log = rig.folder / "state" / "journal.db-wal"
    resource.prlimit(rig.members["master"].pid, resource.RLIMIT_FSIZE, (log.stat().st_size, log.stat().st_size))
    strikes.add("writes fail")
    open(gate, "w").close()
    status = rig.members["master"].wait(20)
    assert status not in (0, -signal.SIGKILL)
    assert "KM0614" in rig.log("master")
    rig.start_master()
    rig.done(future, 60)
    truth.check(rig.files / "out")
    found = rig.history()
    assert found.problems == [] and found.commits_again == 0


def test_a_full_journal_pauses_jobs_acknowledges_nothing_and_goes_on(rig, strikes):
    smalldisk.require(rig.folder)
    gate = str(rig.folder / "gate")
    truth = rig.truth(known.identity(gate=gate, gate_at=5))
    state = rig.folder / "state"
    state.mkdir(mode=0o700)
    rig.start_master(wrap=lambda argv: smalldisk.command(argv, {state: "1m"}))
    rig.start_worker("w1")
    future = rig.begin(truth)
    rig.gated(gate)
    inside = Path(f"/proc/{rig.members['master'].pid}/root{state}")
    smalldisk.fill(inside / "fill")
    strikes.add("journal's disk full")
    open(gate, "w").close()
    row = rigs.until(lambda: next((row for row in rig.jobs() if row["state"] == "PAUSED"), None), "it is paused")
    assert row["code"] == "JOURNAL_FULL"
    assert not (rig.files / "out").exists()
    os.unlink(inside / "fill")
    rig.done(future, 60)
    truth.check(rig.files / "out")
    kinds = history.read(inside).kinds
    assert kinds["TaskCommitted"] == known.maps_of(known.ROWS) + known.PARTITIONS
