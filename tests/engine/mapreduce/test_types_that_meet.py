"""Bools, ints and floats that meet in one value of a compiled function, and large counts: as in Python, or refused."""

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, UserCodeError
from kernelmill.kernels import _jit

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")

LINES = ["x", "abc", "b b", "", "9007199254740993", "-9007199254740993 b"]


def run(function, how):
    frame = km.from_arrow(pa.table({"line": LINES}))
    job = km.MapReduce(function, schema={"key": "string", "value": "int64"}, order=None, compile=how)
    return frame.pipe(job).collect().rows()


def alternating(line, emit):
    n = len(line) * 3002399751580331
    if len(line) == 1:
        n = 0.5
    emit("variable", int(n))
    n = 9007199254740993
    if line == "abc":
        n = n + 0.5
    emit("constant", int(n) % 1000)
    numbers = [1, 2.5, 9007199254740993 + len(line)]
    emit("list", int(numbers[2]) % 1000)


def totalled(line, emit):
    total, flagged, words = 0, 0, 0
    for word in line.split():
        total += len(word) * 0.5
        flagged += word == "b"
        words += 1
    emit(line, int(total * 2) + flagged * 10 + words * 100)


@pytest.mark.parametrize("function", [alternating, totalled])
def test_ints_that_become_floats_are_what_they_were(function):
    assert run(function, "require") == run(function, "never")


@pytest.mark.parametrize(
    "lines",
    [
        "emit(str(len(line) > 2 and 7), 1)",
        "x = len(line) > 2\n    if len(line) == 1:\n        x = 5\n    emit(str(x), 1)",
        "emit(str(max(len(line) > 2, 0)), 1)",
        "emit(str([True, 2][len(line) % 2]), 1)",
    ],
)
def test_a_bool_where_a_number_may_stand_is_not_compiled(lines):
    namespace = {}
    exec(f"def mixed(line, emit):\n    {lines}\n", namespace)
    with pytest.raises(UserCodeError) as raised:
        run(namespace["mixed"], "require")
    assert raised.value.code == Code.INTERPRETED


def counted(line, emit):
    emit.count("large", 2**62)
    emit.count("less", -(2**40))
    emit.count("small", len(line))
    emit(line, 1)


def test_counters_grow_beyond_64_bits():
    frame = km.from_arrow(pa.table({"line": ["a", "bb", "a", "c"]}))
    job = km.MapReduce(counted, order=None, compile="require")
    counters = frame.pipe(job).collect().counters
    assert dict(counters) == {"large": 2**64, "less": -(2**42), "small": 5}
