"""Generators of users, gone through by builtins that numba compiles by itself: as in Python, with no name missing."""

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.kernels import _jit

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")

LINES = pa.table({"line": ["a b", "12 x y", "Łódź"]})


def words(line):
    for word in line.split():
        yield str(word)


def twice(line):
    for word in words(line):
        yield word
        yield word.upper()


def lengths(line):
    for word in line.split():
        yield len(word)


def in_order(line, emit):
    for word in sorted(words(line)):
        emit(word, 1)


def listed(line, emit):
    emit(line, len(list(twice(line))))


def greatest(line, emit):
    emit(max(words(line)), 1)


def added(line, emit):
    emit(line, sum(lengths(line)))


def joined(line, emit):
    emit(",".join(words(line)), 1)


def by_a_helper(line, emit):
    emit(line, len(list_of(line)))


def list_of(line):
    return list(words(line))


@pytest.mark.parametrize("function", [in_order, listed, greatest, added, joined, by_a_helper])
def test_builtins_go_through_generators_as_in_python(function):
    rows = []
    for how in ("require", "never"):
        job = km.MapReduce(function, "list", compile=how, schema={"key": "string", "value": "int64"})
        rows.append(km.from_arrow(LINES).pipe(job).collect(progress=False).rows())
    assert rows[0] == rows[1]
