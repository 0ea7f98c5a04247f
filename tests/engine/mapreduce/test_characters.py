"""Texts of numbers in compiled functions, `chr(n)` and `str(n)`, alone and in what is made of them, as in Python."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernelmill as km
from kernelmill.kernels import _jit

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")

POINTS = st.one_of(st.integers(120, 260), st.sampled_from([0, 65, 0x7FF, 0x800, 0xFFFF, 0x10000, 0x10FFFF, -1, 0xD800]))
TYPES = {"at": "int64", "made": "string", "n": "int64"}


def emit_all(row, emit):
    one = chr(row.point)
    text = row.text
    at = row.at
    emit((at, one), len(one))
    emit((at, "x" + one), len("x" + one))
    emit((at, one + text), len(one + text))
    emit((at, text.replace("a", one)), text.count(one))
    emit((at, one.upper()), 1 if one.isalpha() else 0)
    emit((at, (one + "x").upper()), 1 if one.isupper() else 0)
    emit((at, f"{one}{text}"), 1 if one in text else 0)
    following = ""
    for c in text:
        following += chr(ord(c) + 1)
    emit((at, following), 1 if one == "é" else 2 if one == text else 0)
    emit((at, one[0]), 1 if one < "é" else 0)


JOBS = {
    how: km.MapReduce(emit_all, key=("at", "made"), value="n", schema=TYPES, order=None, compile=how)
    for how in ("require", "never")
}


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(POINTS, st.sampled_from(["", "a", "é", "ÿ", "café", "日a"])), min_size=1, max_size=8))
def test_a_character_is_what_python_has(rows):
    table = pa.table(
        {
            "at": pa.array(range(len(rows)), pa.int64()),
            "point": pa.array([point for point, _ in rows], pa.int64()),
            "text": pa.array([text for _, text in rows], pa.string()),
        }
    )

    def run(how):
        result = km.from_arrow(table).pipe(JOBS[how]).collect(on_bad="reject", max_rejects=len(rows))
        return result.rows(), 0 if result.rejects is None else result.rejects.height

    assert run("require") == run("never")


def digits(row, emit):
    emit(row.at, str(row.n) + f"|{row.n}|" + str(row.n % 1000))


@settings(deadline=None, max_examples=10)
@given(st.lists(st.integers(-(1 << 63), (1 << 63) - 1), max_size=20))
def test_the_digits_of_an_int_are_those_of_python(drawn):
    edges = [sign * (10**power + by) for power in range(19) for by in (-1, 0, 1) for sign in (1, -1)]
    ints = [*drawn, *edges, (1 << 63) - 1, -(1 << 63)]
    table = pa.table({"at": range(len(ints)), "n": ints})
    job = km.MapReduce(digits, key="at", value="s", schema={"at": "int64", "s": "string"}, compile="require")
    found = dict(km.from_arrow(table).pipe(job).collect(progress=False).rows())
    assert [found[at] for at in range(len(ints))] == [f"{n}|{n}|{n % 1000}" for n in ints]
