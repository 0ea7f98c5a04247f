"""A job's life as journal records, and journals on disk made of it."""

import itertools
import shutil
import threading
from pathlib import Path

from kernelmill.cluster.fields import (
    AttemptKey,
    BlocksOutput,
    Count,
    FilesOutput,
    JobPart,
    Origin,
    OutputFile,
    Place,
    Poison,
    Policy,
    Sheet,
    SheetEdge,
    SheetStage,
    TaskRecord,
    Versions,
)
from kernelmill.cluster.journal import records as r
from kernelmill.cluster.journal.store import NAME, JournalFile, NewRow, write_new

VERSIONS = Versions("0.1.0", "3.11.7", "26.0.1", "0.68.1", "2.4.6")
JOB, OTHER = b"job-1" + b"." * 11, b"job-2" + b"." * 11
SHEET = Sheet(
    (
        SheetStage("map", 2, (3,), ()),
        SheetStage("middle", 3, (3,), (SheetEdge(0, "hash", 0),)),
        SheetStage("write", 2, (), (SheetEdge(1, "hash", 0),)),
        SheetStage("aside", 1, (3,), ()),
    ),
    Place("data", ("out",)),
    Policy("error", 10, "error", "signed", "tail", 4, False),
    VERSIONS,
)
ACCEPTED = r.JobAccepted("ann", SHEET, (JobPart("plan", b"p" * 32, 100),), b"S" * 32, 1_800_000_000)
BLOCKS = TaskRecord((Count("lines", 3),), (), BlocksOutput(96, b"v" * 96), ())
FILES = TaskRecord((), (), FilesOutput((OutputFile("part-00000.parquet", 5, 500, b"x" * 16, b"y" * 16),)), ())
POISON = Poison(Origin(0, 0, 7, b""), "POISON", "bad")


def attempt(number, epoch=1):
    return AttemptKey(epoch, number)


def started(epoch):
    return r.EpochStarted(epoch, b"%08d" % epoch, VERSIONS)


def commit(stage, task, number, gen=0, epoch=1):
    return r.TaskCommitted(stage, gen, task, attempt(number, epoch), "w1", FILES if stage == 2 else BLOCKS)


LIFE = [
    ACCEPTED,
    commit(0, 0, 1),
    commit(0, 1, 2),
    r.Poisoned(1, 1, POISON),
    commit(1, 0, 3),
    r.OutputLost(0, 0, 0, attempt(1), "its holder did not come back"),
    r.RolledBack(0, 0, attempt(1), attempt(4)),
    commit(0, 0, 4),
    commit(1, 0, 5, gen=1),
    commit(2, 0, 6, gen=1),
    commit(2, 1, 7, gen=1),
    r.JobCommitting(((2, 0, attempt(6)), (2, 1, attempt(7)))),
]
"""A dozen records, all of epoch 1, up to the publishing of the output."""


COMMITTED = r.JobCommitted(10, 1000, b"M" * 16)


def row(record, job=JOB, epoch=1, at_ms=1000):
    if isinstance(record, r.EpochStarted):
        job, epoch = b"", record.epoch
    return NewRow(epoch, at_ms, r.KIND_OF[type(record)], job, r.encode_record(record))


def make_file(folder, groups, name=NAME):
    """Write a new journal with one transaction a group and leave it open, its log unmerged."""
    path = Path(folder) / name
    write_new(path, b"c" * 16, b"s" * 32, [])
    file = JournalFile.open(path)
    for group in groups:
        file.append([row(one) for one in group])
    return file


def copied(file, folder):
    """Copy a journal with its log as a crash would leave them; the path of the copy."""
    folder = Path(folder)
    folder.mkdir(exist_ok=True)
    for suffix in ("", "-wal"):
        shutil.copyfile(f"{file.path}{suffix}", folder / f"{NAME}{suffix}")
    return folder / NAME


def read(path):
    """All records of a journal; the file is closed again."""
    file = JournalFile.open(path)
    try:
        return [event.record for event in file.events()]
    finally:
        file.close()


class Bell:
    """The wake-up call of a writer, and a patient reader of its reports."""

    def __init__(self):
        self._rung = threading.Semaphore(0)

    def __call__(self):
        self._rung.release()

    def next_reports(self, writer):
        assert self._rung.acquire(timeout=20), "the writer said nothing"
        return writer.take_reports()

    def wait_for(self, writer, kind):
        """Take reports until one of this kind; return all of them."""
        found = []
        while not any(isinstance(one, kind) for one in found):
            found += self.next_reports(writer)
        return found


def tokens_in(reports):
    return list(itertools.chain.from_iterable(one.tokens for one in reports if hasattr(one, "tokens")))
