"""A compiled function is what it is now: edits count at the next run, here and in other processes. So do exceptions."""

import os
import subprocess
import sys
import types
import warnings

import pyarrow as pa
import pytest

import kernelmill as km

LINES = km.from_arrow(pa.table({"line": ["a b", "c", "x 7"]}))
LIMIT, DEFAULT = 1, 2


def plus(n):
    return n + 1


def counted(line, emit):
    emit(line, LIMIT + plus(len(line)))


def rows(job):
    return sorted(LINES.pipe(job).collect().rows())


def naive(function):
    found = []
    for line in ("a b", "c", "x 7"):
        function(line, lambda *row: found.append(row))
    return sorted(found)


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what is not compiled is said
        yield


def test_an_edited_global_and_helper_count_at_the_next_run_of_a_job(monkeypatch):
    job = km.MapReduce(counted, order=None)
    assert rows(job) == naive(counted)
    monkeypatch.setattr(sys.modules[__name__], "LIMIT", 10)
    assert rows(job) == naive(counted)
    monkeypatch.setattr(sys.modules[__name__], "plus", lambda n: n * 100)
    assert rows(job) == naive(counted) == [("a b", 310), ("c", 110), ("x 7", 310)]


def test_an_edited_closure_and_default_count_too():
    step = 1

    def stepped(line, emit, extra=5):
        emit(line, len(line) * step + extra)

    job = km.MapReduce(stepped, order=None)
    assert rows(job) == naive(stepped)
    step = 7
    assert rows(job) == naive(stepped)
    stepped.__defaults__ = (50,)
    assert rows(job) == naive(stepped) == [("a b", 71), ("c", 57), ("x 7", 71)]


def test_a_frame_that_was_made_before_an_edit_runs_the_function_as_it_is_now(monkeypatch):
    frame = LINES.pipe(km.MapReduce(counted, order=None))
    monkeypatch.setattr(sys.modules[__name__], "LIMIT", 1000)
    assert sorted(frame.collect().rows()) == naive(counted)


def test_an_edit_that_changes_what_is_emitted_is_run_as_python_or_planned_anew():
    names = types.ModuleType("edited").__dict__
    exec("SCALE = 2\ndef scaled(line, emit):\n    emit(line, len(line) * SCALE)\n", names)
    job = km.MapReduce(names["scaled"], order=None)
    assert rows(job) == [("a b", 6), ("c", 2), ("x 7", 6)]
    names["SCALE"] = 0.5
    assert rows(job) == [("a b", 1.5), ("c", 0.5), ("x 7", 1.5)]


PROGRAM = """
import pyarrow as pa
import kernelmill as km

def plus(n):
    return n + {helper}

def counted(line, emit, extra={default}):
    emit(line, plus(len(line)) * {constant} + extra)

lines = km.from_arrow(pa.table({{"line": ["a b", "c"]}}))
print(sorted(lines.pipe(km.MapReduce(counted, order=None)).collect().rows()))
"""


def test_an_edited_file_counts_in_the_next_process(tmp_path, cache_without_functions):
    file = tmp_path / "job.py"
    for helper, default, constant in ((1, 2, 3), (4, 2, 3), (4, 5, 3), (4, 5, 6)):
        file.write_text(PROGRAM.format(helper=helper, default=default, constant=constant))
        environment = os.environ | {"KERNELMILL_CACHE_DIR": str(cache_without_functions)}
        words = [sys.executable, "-W", "error", str(file)]
        done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == 0, done.stderr
        wanted = [(line, (len(line) + helper) * constant + default) for line in ("a b", "c")]
        assert done.stdout.strip() == repr(wanted)


def tried(line, emit):
    for word in line.split():
        try:
            emit(word, int(word))
        except ValueError:
            emit(word, -1)
        except OverflowError as problem:
            emit(str(problem), -2)
        finally:
            emit("tried", 1)


def tried_by_a_helper(line, emit):
    for word in line.split():
        emit(word, number_of(word))


def number_of(word):
    try:
        return float(word)
    except ValueError:
        return -1.0


@pytest.mark.parametrize("function", [tried, tried_by_a_helper])
@pytest.mark.parametrize("threads", [1, 2])
def test_exceptions_are_caught_as_python_catches_them(function, threads):
    frame = LINES.pipe(km.MapReduce(function, order=None))
    assert sorted(frame.collect(threads=threads).rows()) == naive(function)


def test_an_exception_that_nobody_catches_names_its_record():
    def wrong(line, emit):
        try:
            emit(line, int(line))
        except KeyError:
            emit(line, 0)

    with pytest.raises(km.errors.KernelmillError) as caught:
        rows(km.MapReduce(wrong, order=None))
    assert caught.value.code.id == "KM0301"
    assert "ValueError" in str(caught.value)
