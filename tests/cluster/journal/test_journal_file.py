"""S12: whatever happens to a journal's bytes, what is read is a prefix of what was written, or KM0611."""

import contextlib
import itertools
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from samples import LIFE, copied, make_file, read, row, started

from kernelmill.cluster.journal.records import TaskCommitted
from kernelmill.cluster.journal.store import NAME, JournalFile
from kernelmill.engine.errors import Code, KernelmillError

RECORDS = [started(1), *LIFE]


@pytest.fixture
def shm():
    """A folder in memory, where there is one: thousands of journals are opened and closed in it."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    yield folder
    shutil.rmtree(folder)


@contextlib.contextmanager
def small_pages(monkeypatch):
    """Journals made in this block have pages of 512 bytes, so that their logs are short enough to cut everywhere."""
    connect = sqlite3.connect

    def connected(*arguments, **options):
        connection = connect(*arguments, **options)
        connection.execute("pragma page_size = 512")
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", connected)
        yield


def outcome(path):
    """The records of a journal, or the code of the error."""
    try:
        return read(path)
    except KernelmillError as problem:
        return problem.code


def broken(file, *codes):
    """Make the file's connection fail once with each of these SQLite codes, at the commit; None lets one pass."""

    class Connection:
        def __init__(self, real):
            self.real, self.left = real, list(codes)

        def __getattr__(self, name):
            return getattr(self.real, name)

        def execute(self, text):
            if text == "commit" and self.left and (code := self.left.pop(0)) is not None:
                problem = sqlite3.OperationalError("injected")
                problem.sqlite_errorcode = code
                raise problem
            return self.real.execute(text)

    file.connection = Connection(file.connection)


# Damage --------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_log_cut_at_any_byte_gives_the_longest_run_of_whole_transactions(shm, monkeypatch):
    groups = [RECORDS[:1], RECORDS[1:4], RECORDS[4:9], RECORDS[9:12], RECORDS[12:]]
    assert len(RECORDS) == 13
    with small_pages(monkeypatch):
        file = make_file(shm, [])
        lengths, log = [], Path(f"{file.path}-wal")
        for group in groups:
            file.append([row(one) for one in group])
            lengths.append(log.stat().st_size)
    whole = log.read_bytes()
    assert lengths[-1] == len(whole) < 12_000
    main = file.path.read_bytes()
    ends = list(itertools.accumulate(len(group) for group in groups))
    target = shm / "cut" / NAME
    target.parent.mkdir()
    for length in range(len(whole) + 1):
        target.write_bytes(main)
        Path(f"{target}-wal").write_bytes(whole[:length])
        durable = max((end for end, size in zip(ends, lengths, strict=True) if size <= length), default=0)
        assert outcome(target) == RECORDS[:durable], length
    file.close()


@pytest.mark.parametrize("where", ["log", "main file", "both"])
def test_flipped_bits_give_a_prefix_or_an_error_and_never_other_records(shm, where):
    file = make_file(shm, [[one] for one in RECORDS[:7]])
    if where != "log":
        file.connection.execute("pragma wal_checkpoint(truncate)").fetchone()
    if where != "main file":
        file.append([row(one) for one in RECORDS[7:]])
    written = RECORDS if where != "main file" else RECORDS[:7]
    folder, chance, seen = shm / "flipped", random.Random(7), set()
    for _ in range(250):
        path = copied(file, folder)
        victim = path if where != "log" else Path(f"{path}-wal")
        data = bytearray(victim.read_bytes())
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        victim.write_bytes(data)
        found = outcome(path)
        if isinstance(found, list):
            assert found == written[: len(found)]
            seen.add("whole" if len(found) == len(written) else "shorter")
        else:
            assert found is Code.JOURNAL_CORRUPT
            seen.add("error")
    assert seen >= ({"shorter"} if where == "log" else {"whole", "error"})  # every byte of a log is checksummed
    file.close()


def test_every_changed_byte_of_a_record_is_named_by_its_number(tmp_path):
    file = make_file(tmp_path, [RECORDS])
    file.close()
    body = row(RECORDS[3]).body
    data = file.path.read_bytes()
    at = data.index(body)
    assert data.count(body) == 1
    for offset in range(len(body)):
        file.path.write_bytes(data[: at + offset] + bytes([data[at + offset] ^ 4]) + data[at + offset + 1 :])
        with pytest.raises(KernelmillError) as caught:
            read(file.path)
        assert caught.value.code is Code.JOURNAL_CORRUPT and "record 4 " in caught.value.what
        assert caught.value.where == str(file.path) and caught.value.hint


@pytest.mark.parametrize(
    "damage",
    [
        "delete from events where seq = 5",
        "update events set body = x'90' where seq = 5",
        "update events set kind = 'three' where seq = 5",
        "update events set seq = 99 where seq = 13",
        "update meta set value = x'00' where key = 'secret'",
        "update meta set value = randomblob(16) where key = 'cluster'",
        "update meta set value = x'39' where key = 'format'",
        "drop table events",
        "drop table meta",
    ],
)
def test_a_changed_journal_is_refused(tmp_path, damage):
    file = make_file(tmp_path, [RECORDS])
    file.close()
    other = sqlite3.connect(file.path)
    other.execute(damage)
    other.commit()
    other.close()
    assert outcome(file.path) is Code.JOURNAL_CORRUPT


@pytest.mark.parametrize(
    "content", [b"", b"not a database, but long enough to be looked at" * 200, b"SQLite format 3\0"]
)
def test_a_file_that_is_no_journal_is_refused(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    assert outcome(tmp_path / NAME) is Code.JOURNAL_CORRUPT


# Writing -------------------------------------------------------------------------------------------------------------


def test_what_is_appended_is_read_back_by_the_next_opener_with_and_without_closing(tmp_path):
    file = make_file(tmp_path, [RECORDS[:5]])
    assert read(copied(file, tmp_path / "a")) == RECORDS[:5]
    assert file.append([row(one) for one in RECORDS[5:]]) == 13
    assert read(copied(file, tmp_path / "b")) == RECORDS
    file.close()
    assert read(file.path) == RECORDS
    again = JournalFile.open(file.path)
    assert [event.row.seq for event in again.events()] == list(range(1, 14))
    assert again.append([row(started(2))]) == 14
    again.close()
    assert read(file.path) == [*RECORDS, started(2)]


def test_every_commit_is_fsynced_and_no_checkpoint_happens_by_itself(tmp_path):
    """kill -9 loses no page cache, so a missing fsync shows in no other test here."""
    file = make_file(tmp_path, [])
    pragmas = ("journal_mode", "synchronous", "wal_autocheckpoint", "locking_mode", "cell_size_check")
    found = [file.connection.execute(f"pragma {name}").fetchone()[0] for name in pragmas]
    assert found == [b"wal", 2, 0, b"exclusive", 1]
    assert not Path(f"{file.path}-shm").exists()
    file.close()


def test_a_second_opener_is_refused(tmp_path):
    file = make_file(tmp_path, [RECORDS])
    script = (
        "import sys; from pathlib import Path; from kernelmill.cluster.journal.store import JournalFile\n"
        "from kernelmill.engine.errors import KernelmillError\n"
        "try: JournalFile.open(Path(sys.argv[1]))\n"
        "except KernelmillError as problem: print(problem.code)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(file.path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == Code.JOURNAL_BUSY.id
    file.close()
    assert read(file.path) == RECORDS


def test_a_full_file_is_km0606_writes_nothing_and_goes_on_once_there_is_space(tmp_path):
    file = make_file(tmp_path, [RECORDS[:3]])
    (pages,) = file.connection.execute("pragma page_count").fetchone()
    file.connection.execute(f"pragma max_page_count = {pages}")
    commit = next(one for one in RECORDS if isinstance(one, TaskCommitted))
    big = commit.record.output.__class__(1, b"v" * 32 * 1000)
    many = [row(TaskCommitted(0, 0, 0, commit.attempt, "w", commit.record.__class__((), (), big, ())))] * 3
    for _ in range(2):
        with pytest.raises(KernelmillError) as caught:
            file.append(many)
        assert caught.value.code is Code.JOURNAL_FULL
        assert read(copied(file, tmp_path / "copy")) == RECORDS[:3]
    file.connection.execute(f"pragma max_page_count = {pages + 1000}")
    assert file.append([row(one) for one in RECORDS[3:]]) == 13
    file.close()
    assert read(file.path) == RECORDS


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (sqlite3.SQLITE_IOERR_FSYNC, Code.JOURNAL_FAILED),
        (sqlite3.SQLITE_IOERR_WRITE, Code.JOURNAL_FAILED),
        (sqlite3.SQLITE_READONLY, Code.JOURNAL_FAILED),
        (sqlite3.SQLITE_NOMEM, Code.JOURNAL_FAILED),
        (sqlite3.SQLITE_FULL, Code.JOURNAL_FULL),
        (sqlite3.SQLITE_CORRUPT, Code.JOURNAL_CORRUPT),
        (sqlite3.SQLITE_BUSY, Code.JOURNAL_BUSY),
    ],
)
def test_errors_of_sqlite_have_codes_of_ours_and_leave_no_half_transaction(tmp_path, number, code):
    file = make_file(tmp_path, [RECORDS[:3]])
    broken(file, number)
    with pytest.raises(KernelmillError) as caught:
        file.append([row(one) for one in RECORDS[3:5]])
    assert caught.value.code is code and caught.value.where == str(file.path)
    assert read(copied(file, tmp_path / "copy")) == RECORDS[:3]
    file.close()


def test_a_long_log_is_copied_into_the_main_file_and_a_full_disk_puts_that_off(tmp_path, monkeypatch):
    monkeypatch.setattr("kernelmill.cluster.journal.store.CHECKPOINT_BYTES", 20_000)
    file = make_file(tmp_path, [])
    log = Path(f"{file.path}-wal")
    file.checkpoint_if_long()
    longest = 0
    for seq in range(1, 40):
        assert file.append([row(started(seq))]) == seq
        longest = max(longest, log.stat().st_size)
        file.checkpoint_if_long()
        assert log.stat().st_size < 20_000
    assert longest >= 20_000
    assert read(copied(file, tmp_path / "copy")) == [started(seq) for seq in range(1, 40)]

    def full(_):
        problem = sqlite3.OperationalError("database or disk is full")
        problem.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise problem

    real, file.connection = file.connection, type("Full", (), {"execute": staticmethod(full)})()
    monkeypatch.setattr(file, "_checkpoint_at", 0)
    file.checkpoint_if_long()  # no error, and not again before the log has doubled
    file.connection = real
    file.close()
    assert len(read(file.path)) == 39
