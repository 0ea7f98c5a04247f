"""Ints beside floats in compiled functions, and quotients of the least int: exact, as in Python."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernelmill as km
from kernelmill.engine.errors import Code, UserCodeError
from kernelmill.kernels import _jit

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")

EDGES = [0, 1, -1, 1 << 53, -(1 << 53), 1 << 62, (1 << 63) - 1, -(1 << 63)]
INTS = st.one_of(
    st.integers(-(1 << 63), (1 << 63) - 1),
    st.builds(
        lambda edge, by: max(-(1 << 63), min((1 << 63) - 1, edge + by)), st.sampled_from(EDGES), st.integers(-3, 3)
    ),
)
FLOATS = st.one_of(
    st.floats(), st.builds(float, INTS), st.sampled_from([0.5, -0.5, 2.0**53 - 0.5, 2.0**63, -(2.0**63), 2.0**64])
)


def compared(row, emit):
    n, f = row.n, row.f
    at = row.at
    emit((at, 0), (n < f) * 1 + (n <= f) * 2 + (n == f) * 4 + (n != f) * 8 + (n > f) * 16 + (n >= f) * 32)
    emit((at, 1), (f < n) * 1 + (f <= n) * 2 + (f == n) * 4 + (f != n) * 8 + (f > n) * 16 + (f >= n) * 32)
    emit((at, 2), (n == 9007199254740992.0) + 2 * (n in (0.5, 9007199254740992.0)) + 4 * (n < 9.223372036854775807e18))


def compared_beside_none(row, emit):
    emit((row.at, 4), (row.n == row.f) * 1 + (row.f == row.n) * 2 + (row.n != row.f) * 4)


def greatest(row, emit):
    emit((row.at, 5), max(row.n, row.f))
    emit((row.at, 6), min(row.f, row.n, 1))


def divided(row, emit):
    a, b = row.n, row.m
    emit((row.at, 0), a // b)
    emit((row.at, 1), a % b)
    emit((row.at, 2), divmod(a, b)[0])
    emit((row.at, 3), abs(a))


def both_ways(function, table, kind):
    """The rows and rejects of a function, compiled and as plain Python."""

    def run(how):
        types = {"at": "int64", "which": "int64", "value": kind}
        job = km.MapReduce(function, key=("at", "which"), value="value", schema=types, order=None, compile=how)
        result = km.from_arrow(table).pipe(job).collect(on_bad="reject", max_rejects=table.num_rows)
        return repr(sorted(result.rows())), 0 if result.rejects is None else result.rejects.height

    return run("require"), run("never")


@settings(deadline=None, max_examples=12)
@given(st.lists(st.tuples(INTS, FLOATS), min_size=1, max_size=40))
def test_comparisons_and_extremes_are_exact(pairs):
    ints, floats = zip(*pairs, strict=True)
    table = pa.table({"at": range(len(pairs)), "n": ints, "f": floats})
    for function, kind in ((compared, "int64"), (greatest, "float64")):
        compiled, plain = both_ways(function, table, kind)
        assert compiled == plain


def test_an_int_that_may_be_none_beside_a_float_that_may_be():
    values = [(None, None), (None, 1.0), (1, None), (2**53 + 1, 2.0**53), (2**53, 2.0**53), (2**53 + 1, None)]
    ints, floats = zip(*values, strict=True)
    compiled, plain = both_ways(compared_beside_none, pa.table({"at": range(6), "n": ints, "f": floats}), "int64")
    assert compiled == plain


@pytest.mark.parametrize(
    ("equal", "why"),
    [("(abs(row.n), 1) == (0.5, 1)", "an int and a float"), ("(row.n, 1) == (row.m, 1)", "may be None")],
)
def test_tuples_that_numba_would_compare_otherwise_are_not_compiled(equal, why):
    namespace = {}
    exec(f"def compared(row, emit):\n    emit(1 if {equal} else 0)\n", namespace)
    frame = km.from_arrow(pa.table({"n": [1], "m": [2]}))
    job = km.MapReduce(namespace["compared"], key="v", schema={"v": "int64"}, compile="require")
    with pytest.raises(UserCodeError, match=why) as raised:
        frame.pipe(job).collect()
    assert raised.value.code == Code.INTERPRETED


def test_quotients_and_the_opposite_of_the_least_int_are_pythons():
    pairs = [(a, b) for a in EDGES for b in (-1, 1, 2, -2, 0, -(1 << 63))]
    firsts, seconds = zip(*pairs, strict=True)
    compiled, plain = both_ways(divided, pa.table({"at": range(len(pairs)), "n": firsts, "m": seconds}), "int64")
    assert compiled == plain
    assert plain[1] == len(EDGES) + 5  # by zero, and what is beyond 64 bits
