"""The journal's thread: what it reports as durable is durable, in order; a full disk is waited for, others end it."""

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from samples import ACCEPTED, JOB, Bell, copied, make_file, read, started, tokens_in

from kernelmill.cluster.journal import writer as writing
from kernelmill.cluster.journal.head import Head
from kernelmill.cluster.journal.writer import JournalBroke, JournalFilled, JournalWriter, Recorded
from kernelmill.engine.errors import Code, KernelmillError


class Faulty:
    """A connection whose commits fail as `faults` says, first to last; None lets a commit pass. Counts transactions."""

    def __init__(self, real, faults=()):
        self.real, self.faults, self.sizes = real, list(faults), []

    def __getattr__(self, name):
        return getattr(self.real, name)

    def executemany(self, text, rows):
        self.sizes.append(len(rows))
        return self.real.executemany(text, rows)

    def execute(self, text):
        fault = self.faults.pop(0) if text == "commit" and self.faults else None
        if isinstance(fault, int):
            problem = sqlite3.OperationalError("injected")
            problem.sqlite_errorcode = fault
            raise problem
        if fault is not None:
            fault()
        return self.real.execute(text)


@pytest.fixture
def bell():
    return Bell()


def epochs(path):
    return [record.epoch for record in read(path)]


def test_groups_that_are_given_together_are_written_together_and_reported_each(tmp_path, bell):
    file = make_file(tmp_path, [])
    file.connection = counted = Faulty(file.connection)
    writer = JournalWriter(file, Head.open(file.path.parent), 1, bell)
    writer.append_groups([(token, [(b"", started(2 * token)), (b"", started(2 * token + 1))]) for token in range(40)])
    seen = []
    while len(seen) < 40:
        seen += tokens_in(bell.next_reports(writer))
    writer.close()
    assert seen == list(range(40)) and counted.sizes == [80]
    assert epochs(file.path) == list(range(80))


def test_records_are_durable_once_reported_and_in_order(tmp_path, bell):
    file = make_file(tmp_path, [])
    writer = JournalWriter(file, Head.open(file.path.parent), 1, bell)
    seen = []
    for token in range(1, 101):
        writer.append(token, b"", started(token))
        if token % 10 == 0:
            while len(seen) < token:
                seen += tokens_in(bell.next_reports(writer))
            assert epochs(copied(file, tmp_path / "copy")) == list(range(1, token + 1))
    writer.close()
    assert seen == list(range(1, 101)) and epochs(file.path) == seen


def test_what_comes_during_a_commit_is_one_group(tmp_path, bell):
    may_go_on, is_committing = threading.Event(), threading.Event()

    def slow():
        is_committing.set()
        assert may_go_on.wait(20)

    file = make_file(tmp_path, [])
    file.connection = Faulty(file.connection, [slow])
    writer = JournalWriter(file, Head.open(file.path.parent), 1, bell)
    writer.append(1, b"", started(1))
    assert is_committing.wait(20)
    for token in range(2, 602):
        writer.append(token, b"", started(token))
    assert writer.take_reports() == []
    may_go_on.set()
    found = []
    while len(tokens_in(found)) < 601:
        found += bell.next_reports(writer)
    assert file.connection.sizes == [1, 256, 256, 88]
    assert tokens_in(found) == list(range(1, 602))
    writer.close()


def test_a_full_disk_is_told_once_waited_for_and_overtaken_by_nothing(tmp_path, bell):
    file = make_file(tmp_path, [])
    file.connection = Faulty(file.connection, [None, *[sqlite3.SQLITE_FULL] * 3])
    writer = JournalWriter(file, Head.open(file.path.parent), 1, bell, retry_s=0.01)
    writer.append(1, b"", started(1))
    found = bell.wait_for(writer, Recorded)
    for token in (2, 3, 4):
        writer.append(token, b"", started(token))
    while len(tokens_in(found)) < 4:
        found += bell.next_reports(writer)
    filled = [one for one in found if isinstance(one, JournalFilled)]
    assert len(filled) == 1 and filled[0].problem.code is Code.JOURNAL_FULL
    assert found.index(filled[0]) == 1 and tokens_in(found) == [1, 2, 3, 4]
    writer.close()
    assert epochs(file.path) == [1, 2, 3, 4]


def test_closing_on_a_full_disk_ends_and_reports_nothing_durable(tmp_path, bell):
    file = make_file(tmp_path, [])
    file.connection = Faulty(file.connection, [sqlite3.SQLITE_FULL] * 1000)
    writer = JournalWriter(file, Head.open(file.path.parent), 1, bell, retry_s=60)
    writer.append(1, b"", started(1))
    bell.wait_for(writer, JournalFilled)
    writer.close()
    assert tokens_in(writer.take_reports()) == [] and read(file.path) == []


@pytest.mark.parametrize("number", [sqlite3.SQLITE_IOERR_FSYNC, sqlite3.SQLITE_IOERR_WRITE, sqlite3.SQLITE_CORRUPT])
def test_any_other_error_ends_the_journal_at_once(tmp_path, bell, number):
    file = make_file(tmp_path, [])
    file.connection = Faulty(file.connection, [None, number])
    writer = JournalWriter(file, Head.open(file.path.parent), 1, bell)
    writer.append(1, b"", started(1))
    bell.wait_for(writer, Recorded)
    writer.append(2, b"", started(2))
    (broke,) = bell.wait_for(writer, JournalBroke)
    assert broke.problem.code in (Code.JOURNAL_FAILED, Code.JOURNAL_CORRUPT)
    with pytest.raises(KernelmillError) as caught:
        writer.append(3, b"", started(3))
    assert caught.value is broke.problem
    writer.close()
    assert epochs(file.path) == [1]


def test_a_bug_in_the_thread_is_reported_too(tmp_path, bell):
    def bug():
        raise ZeroDivisionError("a bug")

    file = make_file(tmp_path, [])
    file.connection = Faulty(file.connection, [bug])
    writer = JournalWriter(file, Head.open(file.path.parent), 1, bell)
    writer.append(1, b"", started(1))
    (broke,) = bell.wait_for(writer, JournalBroke)
    assert broke.problem.code is Code.INTERNAL and "a bug" in broke.problem.what
    file.connection.rollback()
    writer.close()


def test_the_queue_is_bounded_in_records_and_bytes(tmp_path, bell, monkeypatch):
    file = make_file(tmp_path, [])
    file.connection = Faulty(file.connection, [sqlite3.SQLITE_FULL] * 1000)
    writer = JournalWriter(file, Head.open(file.path.parent), 1, bell, retry_s=60)
    monkeypatch.setattr(writing, "QUEUE_RECORDS_MAX", 3)
    for token in range(3):
        writer.append(token, b"", started(token + 1))
    with pytest.raises(KernelmillError) as caught:
        writer.append(3, b"", started(4))
    assert caught.value.code is Code.JOURNAL_FULL
    monkeypatch.setattr(writing, "QUEUE_RECORDS_MAX", 100)
    monkeypatch.setattr(writing, "QUEUE_BYTES_MAX", 300)
    with pytest.raises(KernelmillError) as caught:
        writer.append(3, JOB, ACCEPTED)
    assert caught.value.code is Code.JOURNAL_FULL
    writer.close()
    with pytest.raises(KernelmillError) as caught:
        writer.append(4, b"", started(9))
    assert caught.value.code is Code.JOURNAL_FAILED


CHILD = """
import sys
sys.path.insert(0, sys.argv[2])
from samples import Bell, started, tokens_in
from kernelmill.cluster.journal.store import JournalFile
from kernelmill.cluster.journal.head import Head
from kernelmill.cluster.journal.writer import JournalWriter
from pathlib import Path
file = JournalFile.open(Path(sys.argv[1]))
last = sum(1 for _ in file.events())
bell = Bell()
writer = JournalWriter(file, Head.open(file.path.parent), 1, bell)
token = durable = last
while True:
    while token < durable + 40:
        token += 1
        writer.append(token, b"", started(token))
    durable = max(tokens_in(bell.next_reports(writer)), default=durable)
    print(durable, flush=True)
"""


def test_kill_9_in_the_middle_loses_nothing_that_was_reported(tmp_path):
    file = make_file(tmp_path, [])
    file.close()
    reported = 0
    for lines in (3, 20, 60):
        arguments = [sys.executable, "-c", CHILD, str(file.path), str(Path(__file__).parent)]
        child = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        try:
            said = [int(child.stdout.readline()) for _ in range(lines)]
        finally:
            child.kill()
            said += [int(line) for line in child.communicate()[0].splitlines(keepends=True) if line.endswith("\n")]
        assert said[-1] > reported
        reported = said[-1]
        found = epochs(file.path)
        assert found == list(range(1, len(found) + 1)) and len(found) >= reported
