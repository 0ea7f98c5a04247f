"""The notes of a worker: whatever cuts or damages their file, what is read was written; what lies before stays."""

from __future__ import annotations

import errno
import os

import pytest
from bench_rig import JOB, blocks_record, name_of
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.cluster.messages import Done
from kernelmill.cluster.worker import notes as notes_module
from kernelmill.cluster.worker.notes import Notes
from kernelmill.engine.errors import Code, KernelmillError

OTHER = b"k" * 16


def done(number, job=JOB):
    return Done(name_of(number, job=job), 0, bytes([number]) * 16, blocks_record(), (), number, 2, 3)


def read_all(path):
    notes = Notes(path)
    found = [notes.read(name) for name in notes.attempts()]
    notes.close()
    return found


@pytest.fixture
def path(tmp_path):
    return tmp_path / "notes"


def write(path, *numbers):
    notes = Notes(path)
    for number in numbers:
        notes.add(done(number))
    notes.close()
    return path.read_bytes()


def test_a_file_cut_anywhere_gives_the_notes_before_the_cut(path):
    data = write(path, 1, 2, 3)
    expected = [done(number) for number in (1, 2, 3)]
    counts = set()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        found = read_all(path)
        assert found == expected[: len(found)]
        counts.add(len(found))
        assert read_all(path) == found, "the file is mended"
    assert counts == {0, 1, 2}


def test_a_damaged_byte_ends_the_reading_and_never_gives_other_notes(path):
    data = write(path, 1, 2, 3)
    expected = [done(number) for number in (1, 2, 3)]
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :])
        found = read_all(path)
        assert found == expected[: len(found)] and len(found) < 3


def test_notes_go_on_behind_those_of_an_earlier_life(path):
    data = write(path, 1, 2)
    path.write_bytes(data[:-3])
    write(path, 3)
    assert read_all(path) == [done(1), done(3)]


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["add", "forget", "forget_job", "open"]), st.integers(1, 6), st.booleans()),
        max_size=30,
    )
)
def test_what_is_read_is_what_was_noted_and_not_voided(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("notes") / "notes"
    notes, model = Notes(path), {}
    for what, number, is_other in steps:
        job = OTHER if is_other else JOB
        match what:
            case "add":
                notes.add(done(number, job))
                model[name_of(number, job=job)] = done(number, job)
            case "forget":
                notes.forget(name_of(number, job=job))
                model.pop(name_of(number, job=job), None)
            case "forget_job":
                notes.forget_job(job)
                model = {name: note for name, note in model.items() if name.job != job}
            case _:
                notes.close()
                notes = Notes(path)
        assert {name: notes.read(name) for name in notes.attempts()} == model
    notes.close()
    assert read_all(path) == [model[name] for name in sorted(model)]


def test_the_file_is_emptied_when_nothing_is_noted_any_more(path):
    notes = Notes(path)
    for number in range(1, 100):
        notes.add(done(number))
    notes.forget_job(JOB)
    assert path.stat().st_size == 4
    notes.add(done(1))
    assert notes.read(name_of(1)) == done(1)
    notes.close()
    assert read_all(path) == [done(1)]


def test_void_notes_do_not_fill_the_disk(path, monkeypatch):
    monkeypatch.setattr(notes_module, "REWRITE_BYTES_MIN", 2000)
    notes = Notes(path)
    notes.add(done(1, OTHER))
    for number in range(1, 200):
        notes.add(done(number))
        notes.forget(name_of(number))
        assert path.stat().st_size < 4000
    assert [notes.read(name) for name in notes.attempts()] == [done(1, OTHER)]
    notes.close()
    assert read_all(path) == [done(1, OTHER)]


def test_a_note_that_the_disk_does_not_take_is_an_error_and_leaves_the_others(path, monkeypatch):
    notes = Notes(path)
    notes.add(done(1))
    real = os.pwrite

    def full(file, data, offset):
        real(file, data[: len(data) // 2], offset)
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(KernelmillError) as caught:
        notes.add(done(2))
    assert caught.value.code is Code.DISK_FULL
    monkeypatch.undo()
    notes.add(done(3))
    notes.close()
    assert read_all(path) == [done(1), done(3)]
