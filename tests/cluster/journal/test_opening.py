"""A state folder over the lives of masters: epochs, locks, compaction, and folders that a journal must not lie in."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from samples import COMMITTED, JOB, LIFE, OTHER, SHEET, VERSIONS, Bell, commit, tokens_in

from kernelmill.cluster.fields import JobPart
from kernelmill.cluster.journal import records as r
from kernelmill.cluster.journal.opening import open_journal
from kernelmill.cluster.journal.place import file_system_of, prepare_folder, read_epoch, write_epoch
from kernelmill.cluster.journal.store import NAME, JournalFile
from kernelmill.cluster.master import ledger
from kernelmill.engine.errors import Code, KernelmillError


@pytest.fixture
def state(tmp_path):
    return tmp_path / "state"


def opened(state):
    bell = Bell()
    return open_journal(state, VERSIONS, bell), bell


def write(state, *of_jobs):
    """Run one master that records (job, record) pairs; its journal as it was opened."""
    journal, bell = opened(state)
    for token, (job, record) in enumerate(of_jobs):
        journal.writer.append(token, job, record)
    done = []
    while len(done) < len(of_jobs):
        done += tokens_in(bell.next_reports(journal.writer))
    journal.close()
    return journal


def committed(journal):
    job = journal.ledger.jobs[JOB.hex()]
    return {(n, task) for n, stage in enumerate(job.stages) for task, winner in enumerate(stage.winners) if winner >= 0}


def refused(state):
    with pytest.raises(KernelmillError) as caught:
        opened(state)
    return caught.value


def accepted(number):
    return r.JobAccepted("ann", SHEET, (JobPart("plan", b"p" * 32, number),), b"S" * 32, number)


# Epochs --------------------------------------------------------------------------------------------------------------


def test_every_start_is_a_new_epoch_and_life_of_the_same_cluster(state):
    journals = [write(state) for _ in range(4)]
    assert [one.epoch for one in journals] == [1, 2, 3, 4]
    assert len({one.life for one in journals}) == 4 and not any(one.is_behind for one in journals)
    assert len({(one.cluster, one.secret) for one in journals}) == 1
    assert (len(journals[0].cluster), len(journals[0].secret)) == (16, 32)
    assert read_epoch(state) == 4


def test_the_next_master_knows_what_was_recorded(state):
    write(state, *[(JOB, record) for record in LIFE[:5]])
    journal = write(state, (JOB, commit(1, 2, 9, epoch=2)))
    assert committed(journal) == {(0, 0), (0, 1), (1, 0)}
    assert (journal.ledger.epoch, journal.epoch) == (1, 2)
    assert committed(write(state)) == {(0, 0), (0, 1), (1, 0), (1, 2)}


def test_a_journal_that_lost_its_tail_goes_on_without_its_mark_in_a_later_epoch_and_says_so(state):
    write(state)
    shutil.copytree(state, state.with_name("old"))
    write(state), write(state)
    shutil.copyfile(state.with_name("old") / NAME, state / NAME)
    assert refused(state).code is Code.JOURNAL_CORRUPT
    (state / "head").unlink()
    journal = write(state)
    assert (journal.epoch, journal.is_behind) == (4, True)
    assert (write(state).is_behind, write(state).epoch) == (False, 6)


def test_a_lost_epoch_file_is_made_again_and_a_damaged_one_refused(state):
    write(state), write(state)
    (state / "epoch").unlink()
    assert write(state).epoch == 3
    data = bytearray((state / "epoch").read_bytes())
    for at in range(len(data)):
        (state / "epoch").write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert refused(state).code is Code.JOURNAL_CORRUPT
    (state / "epoch").write_bytes(data)
    assert write(state).epoch == 4


def test_a_missing_journal_beside_an_epoch_is_no_new_cluster(state):
    write(state)
    (state / NAME).unlink()
    problem = refused(state)
    assert problem.code is Code.JOURNAL_CORRUPT and "epoch 1" in problem.what


def test_a_journal_whose_records_cannot_follow_is_refused_by_number(state):
    write(state, (JOB, LIFE[0]), (JOB, LIFE[1]), (JOB, LIFE[1]))
    problem = refused(state)
    assert problem.code is Code.JOURNAL_CORRUPT and "record 4 " in problem.what
    assert problem.where == str(state / NAME)


# One master ----------------------------------------------------------------------------------------------------------


def test_a_second_master_is_refused_by_name_until_the_first_has_ended(state):
    script = (
        "import sys; from pathlib import Path; from samples import VERSIONS\n"
        "from kernelmill.cluster.journal.opening import open_journal\n"
        "journal = open_journal(Path(sys.argv[1]), VERSIONS, lambda: None)\n"
        "print(journal.epoch, flush=True); sys.stdin.read()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])}
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(state)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    )
    try:
        assert child.stdout.readline() == b"1\n"
        problem = refused(state)
        assert problem.code is Code.JOURNAL_BUSY and str(child.pid) in problem.what
    finally:
        child.kill()
        child.communicate()
    assert write(state).epoch == 2


def test_a_failed_start_lets_go_of_the_folder(state):
    write(state)
    shutil.copyfile(state / NAME, state / "kept")
    (state / NAME).write_bytes(b"x" * 5000)
    assert refused(state).code is Code.JOURNAL_CORRUPT
    shutil.copyfile(state / "kept", state / NAME)
    assert write(state).epoch == 2


def test_the_folder_and_the_journal_are_for_their_owner_alone(state):
    write(state)
    assert state.stat().st_mode & 0o777 == 0o700
    assert (state / NAME).stat().st_mode & 0o777 == 0o600


# Compaction ----------------------------------------------------------------------------------------------------------


def rows_in(state):
    file = JournalFile.open(state / NAME)
    found = [(event.row.epoch, event.row.job, type(event.record)) for event in file.events()]
    file.close()
    return found


def test_ended_jobs_shrink_to_their_results_and_live_ones_stay_as_they_are(state):
    write(state, (OTHER, accepted(1)), (OTHER, commit(0, 0, 1)), (OTHER, r.JobFailed("HUNG", "why", None)))
    write(state, *[(JOB, record) for record in LIFE])
    before = write(state)
    rows = rows_in(state)
    assert rows[:2] == [(1, b"", r.EpochStarted), (1, OTHER, r.JobEnded)]
    assert [kind for _, job, kind in rows if job == JOB] == [type(record) for record in LIFE]
    after = write(state)
    assert committed(after) == committed(before) and after.ledger.ended == before.ledger.ended
    other = after.ledger.ended[OTHER.hex()]
    assert (other.state, other.code, other.text) == ("FAILED", "HUNG", "why")
    write(state, (JOB, COMMITTED))
    ended = write(state).ledger.ended
    assert list(ended) == [OTHER.hex(), JOB.hex()] and ended[JOB.hex()].manifest_xxh3 == b"M" * 16
    assert len(rows_in(state)) == 4  # two ended jobs, the last epoch before the compaction, and the one after


def test_a_forgotten_job_leaves_nothing(state):
    write(state, (OTHER, accepted(1)), (OTHER, r.JobCancelled("")))
    assert list(write(state, (OTHER, r.JobForgotten())).ledger.ended) == [OTHER.hex()]
    assert write(state).ledger.ended == {} and OTHER not in {job for _, job, _ in rows_in(state)}


def test_of_many_ended_jobs_the_latest_are_kept(state, monkeypatch):
    monkeypatch.setattr(ledger, "ENDED_JOBS_MAX", 3)
    ids = [bytes([number]) * 16 for number in range(5)]
    write(state, *[(job, record) for job in ids for record in (accepted(1), r.JobFailed("HUNG", "", None))])
    write(state)
    assert list(write(state).ledger.ended) == [job.hex() for job in ids[2:]]


@pytest.mark.parametrize("step", ["write_new", "_remove_log", "os.rename", "fsync_folder"])
def test_a_crash_in_a_compaction_leaves_the_old_journal_or_the_new_one(state, step, monkeypatch):
    class Crash(BaseException):
        pass

    def crash(*_):
        raise Crash

    write(state, (OTHER, accepted(1)), (OTHER, r.JobFailed("HUNG", "", None)), (JOB, accepted(2)))
    with monkeypatch.context() as patch:
        patch.setattr(f"kernelmill.cluster.journal.opening.{step}", crash)
        patch.setattr("kernelmill.cluster.journal.opening.os.unlink", lambda _: None)  # nobody cleans up either
        with pytest.raises(Crash):
            opened(state)
    found = write(state).ledger
    assert list(found.jobs) == [JOB.hex()] and list(found.ended) == [OTHER.hex()]
    assert sorted(path.name for path in state.iterdir()) == ["epoch", "head", NAME, "journal.lock", "leftovers"]


def test_what_ended_jobs_left_is_known_until_it_is_removed_however_often_masters_die(state):
    write(state, (OTHER, accepted(1)), (OTHER, r.JobFailed("HUNG", "", None)), (JOB, accepted(2)))
    for _ in range(3):  # masters that are killed before they have removed anything
        assert write(state).leftovers.jobs == {OTHER: SHEET.output}
    journal = write(state, (JOB, r.JobCancelled("")))
    journal.leftovers.removed(JOB)  # which ended in this master's life, and is not noted
    assert (state / "leftovers").exists()
    journal = write(state)
    assert set(journal.leftovers.jobs) == {OTHER, JOB}
    journal.leftovers.removed(OTHER)
    assert set(write(state).leftovers.jobs) == {OTHER, JOB}, "it is removed again, which changes nothing"
    journal = write(state)
    for job in (OTHER, JOB):
        journal.leftovers.removed(job)
    assert not (state / "leftovers").exists() and write(state).leftovers.jobs == {}


def test_a_job_that_lives_has_left_nothing_whatever_was_noted(state):
    write(state, (OTHER, accepted(1)), (OTHER, r.JobFailed("HUNG", "", None)))
    journal = write(state, (OTHER, r.JobForgotten()))
    assert set(journal.leftovers.jobs) == {OTHER}
    write(state, (OTHER, accepted(1)))  # the same id again: its staging is in use
    assert write(state).leftovers.jobs == {}


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:9] + b"?" + data[10:], lambda data: b""])
def test_a_damaged_note_of_leftovers_keeps_no_master_from_starting(state, damage, caplog):
    write(state, (OTHER, accepted(1)), (OTHER, r.JobFailed("HUNG", "", None)))
    write(state)
    note = state / "leftovers"
    note.write_bytes(damage(note.read_bytes()))
    assert write(state).leftovers.jobs == {}
    assert "kernelmill clean" in caplog.text


# The folder ----------------------------------------------------------------------------------------------------------

MOUNTS = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:44 / /mnt rw - nfs4 server:/export rw
31 30 0:45 / /mnt/local\\040disk rw - xfs /dev/sdb1 rw
32 22 0:46 / /home rw - ext4 /dev/sdc1 rw
33 32 0:47 / /home rw - fuse.sshfs there: rw
34 22 0:48 / /data rw - cifs //there/data rw
broken line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/var/lib", "ext4"),
        ("/mnt", "nfs4"),
        ("/mnt/a/b", "nfs4"),
        ("/mnt/local disk/a", "xfs"),
        ("/mntx", "ext4"),
        ("/home/ann", "fuse.sshfs"),
        ("/data", "cifs"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_the_nearest_mount(tmp_path, path, kind):
    (tmp_path / "mounts").write_text(MOUNTS)
    assert file_system_of(Path(path), tmp_path / "mounts") == kind
    assert file_system_of(Path(path), tmp_path / "none") == ""


@pytest.mark.parametrize("kind", ["nfs", "nfs4", "cifs", "smb3", "fuse", "fuse.sshfs", "9p", "ceph", "lustre"])
def test_a_network_file_system_is_refused(tmp_path, kind):
    (tmp_path / "mounts").write_text(f"22 1 8:1 / / rw - {kind} there rw\n")
    with pytest.raises(KernelmillError) as caught:
        prepare_folder(tmp_path / "state", mounts=tmp_path / "mounts")
    assert caught.value.code is Code.BAD_SETTING and kind in caught.value.what
    for local in ("ext4", "xfs", "btrfs", "tmpfs", "overlay", "fuseblk"):
        (tmp_path / "mounts").write_text(f"22 1 8:1 / / rw - {local} there rw\n")
        prepare_folder(tmp_path / "state", mounts=tmp_path / "mounts")


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o755, 0o750, 0o701])
def test_a_state_folder_that_is_open_to_others_is_refused_and_left_alone(tmp_path, mode):
    (tmp_path / "state").mkdir()
    (tmp_path / "state").chmod(mode)
    problem = refused(tmp_path / "state")
    assert problem.code is Code.BAD_SETTING and problem.where == str(tmp_path / "state")
    assert list((tmp_path / "state").iterdir()) == []
    (tmp_path / "state").chmod(0o700)
    opened(tmp_path / "state")[0].close()


def test_a_state_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    (tmp_path / "state").mkdir(mode=0o700)
    monkeypatch.setattr("kernelmill.cluster.journal.place.os.geteuid", lambda: os.getuid() + 1)
    assert refused(tmp_path / "state").code is Code.BAD_SETTING


def test_a_state_folder_that_is_a_file_is_an_error_that_names_it(tmp_path):
    (tmp_path / "state").write_text("x")
    problem = refused(tmp_path / "state")
    assert problem.code is Code.JOURNAL_FAILED and problem.where == str(tmp_path / "state")


def test_the_epoch_file_is_replaced_whole(tmp_path):
    for epoch in (1, 9, 10, 2**32 - 1):
        write_epoch(tmp_path, epoch)
        assert read_epoch(tmp_path) == epoch
    assert [path.name for path in tmp_path.iterdir()] == ["epoch"]


def test_the_epoch_file_is_its_users_alone_whatever_the_umask(tmp_path):
    before = os.umask(0)
    try:
        write_epoch(tmp_path, 1)
    finally:
        os.umask(before)
    assert (tmp_path / "epoch").stat().st_mode & 0o777 == 0o600


FULL = """
import os, sys
from pathlib import Path
from samples import VERSIONS, ACCEPTED, JOB, Bell, commit, tokens_in
from kernelmill.cluster.journal.opening import open_journal
from kernelmill.cluster.journal.writer import JournalFilled, Recorded
disk = Path(sys.argv[1])
bell = Bell()
journal = open_journal(disk / "state", VERSIONS, bell, retry_s=0.05)
(disk / "ballast").write_bytes(bytes(400_000))
journal.writer.append(0, JOB, ACCEPTED)
sheet, done, token = ACCEPTED, [], 0
while not any(isinstance(one, JournalFilled) for one in done):
    for _ in range(20):
        token += 1
        journal.writer.append(token, bytes(12) + token.to_bytes(4, "big"), ACCEPTED)
    done += bell.next_reports(journal.writer)
before = tokens_in(done)
os.unlink(disk / "ballast")
while len(tokens_in(done)) < token + 1:
    done += bell.next_reports(journal.writer)
journal.close()
assert tokens_in(done) == list(range(token + 1))
again = open_journal(disk / "state", VERSIONS, bell)
assert len(again.ledger.jobs) == token + 1
again.close()
print(len(before), token + 1)
"""


def test_a_disk_that_is_really_full_is_waited_for(tmp_path):
    """On a small disk in memory, in namespaces of its own."""
    prefix = ["unshare", "--user", "--map-root-user", "--mount"]
    mount = f"mount -t tmpfs -o size=1m tmpfs {tmp_path}"
    if not shutil.which("unshare") or subprocess.run([*prefix, "sh", "-c", mount], capture_output=True).returncode:
        pytest.skip("this system gives no namespaces to mount in")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])}
    command = [*prefix, "sh", "-c", f'{mount} && exec "$0" "$@"', sys.executable, "-c", FULL, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr
    before, after = map(int, done.stdout.split())
    assert after > before
