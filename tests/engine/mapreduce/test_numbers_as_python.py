"""Numbers in compiled functions are Python's, and what raises in Python raises there: the two ways to run compared."""

import linecache
import math

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, UserCodeError
from kernelmill.kernels import _jit

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")

NAN, INF = math.nan, math.inf
FLOATS = [NAN, INF, -INF, -0.0, 0.0, 1e30, -1e30, 2.0**63, -(2.0**63), 2.5, -0.5, -7.0, 1.0, 1e-300, 710.0, 1e9 + 0.1]
INTS = [0, 1, -1, -7, 63, 64, 3, 2**40, 2**53 + 1, -(2**53) - 1, 2**62, -(2**63), 5, 7, 70, -2]
COUNTS = [0, 1, 2, 63, 64, 65, -1, -7, 10, 31, 32, 33, 5, 1000, 2, 3]
BOOLS = [True, None, False, True] * 4

OF_FLOATS = ["int", "round", "math.floor", "math.ceil", "math.trunc"]
UNARY = (
    "exp expm1 exp2 sqrt log log1p log10 log2 sin cos tan sinh cosh tanh asin acos atan asinh acosh atanh "
    "degrees radians erf erfc fabs"
).split()
TO_INT = [
    *(f"{name}(row.f)" for name in OF_FLOATS),
    *("row.n >> row.m", "0 << row.m", "(1 << row.m) % 2", "(-1) ** row.m", "pow(1, row.m)", "(row.n % 7) ** 3"),
    *("truncated(row.f)", "int(row.f) if row.f < 100 else 1", "sum([int(row.f)])", "int(row.n)", "round(row.n)"),
    *("shifted(row.n, row.m)", "row.n // row.m", "row.n % row.m", "1 if row.b is True else 0"),
]
TO_FLOAT = [
    *(f"math.{name}(row.f)" for name in UNARY if hasattr(math, name)),
    *("math.log(row.n)", "math.sqrt(row.n)", "log_of(row.f)", "math.log1p(row.n)"),
    *("math.pow(row.f, row.m)", "math.pow(row.f, 0.5)", "row.f ** row.m", "row.f ** 0.5", "row.f ** 3", "row.f ** -1"),
    *(
        "2.0 ** row.n",
        "row.n ** 0.5",
        "row.n ** -2 * 1.0",
        "pow(row.f, 2)",
        "pow(2.0, row.f)",
        "math.ldexp(1.5, row.n)",
    ),
    *("row.n / 3", "row.n / row.m", "round(row.f, 1)", "round(row.n * 1.005, 2)", "round(row.m * 0.125, 2)"),
    *("math.atan2(row.f, row.n)", "powered(row.f)", "round(row.m + 1.115, 2)"),
]
TO_BOOL = [
    *("row.b is True", "row.b is False", "row.b is not True", "row.b is not False", "row.b is None", "True is row.b"),
    *("row.b is row.b", "row.b is (row.n > 0)", "(row.n > 0) is True", "row.b == True"),
]

PARTS = """
import math
from math import log as log_of

def truncated(value):
    return int(value)

def shifted(value, count):
    value <<= 0
    value >>= count
    return value

def powered(value):
    value **= 5
    return value

def f(row, emit):
    what = row.what
"""


def made(expressions):
    """A map that emits the value of the expression that a row asks for."""
    lines = [f"    if what == {at}:\n        emit(row.i, {one})\n" for at, one in enumerate(expressions)]
    source, name = PARTS + "".join(lines), f"<expressions {hash(tuple(expressions))}>"
    linecache.cache[name] = (len(source), None, source.splitlines(True), name)
    namespace = {}
    exec(compile(source, name, "exec"), namespace)
    return namespace["f"]


@pytest.mark.parametrize(
    ("kind", "expressions"), [("int64", TO_INT), ("float64", TO_FLOAT), ("bool", TO_BOOL)], ids=["int", "float", "bool"]
)
def test_every_expression_gives_what_python_gives_or_is_rejected_as_there(kind, expressions):
    rows = [
        {"i": at * len(FLOATS) + place, "what": at, "f": f, "n": n, "m": m, "b": b}
        for at in range(len(expressions))
        for place, (f, n, m, b) in enumerate(zip(FLOATS, INTS, COUNTS, BOOLS, strict=True))
    ]
    frame, function = km.from_arrow(pa.Table.from_pylist(rows)), made(expressions)

    def run(how):
        job = km.MapReduce(function, key="i", value="v", schema={"i": "int64", "v": kind}, compile=how)
        result = frame.pipe(job).collect(on_bad="reject", max_rejects=len(rows))
        return dict(result.rows()), (result.rejects.rows() if result.rejects else [])

    (compiled, compiled_rejects), (plain, plain_rejects) = run("require"), run("never")
    differing = [
        (expressions[row["what"]], row, compiled.get(row["i"], "raises"), plain.get(row["i"], "raises"))
        for row in rows
        if repr(compiled.get(row["i"])) != repr(plain.get(row["i"]))
    ]
    assert differing == []
    assert compiled_rejects == plain_rejects
    assert len(plain) + len(plain_rejects) == len(rows)


def flag(row, emit):
    emit(row.i % 2, row.b)


def known(key, values, emit):
    found = 0
    for value in values:
        if value is True:
            found += 1
        if value is False:
            found += 10
        if value is not False:
            found += 100
    emit(found)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_reduce_tells_true_from_none_and_false(threads):
    frame = km.from_arrow(pa.table({"i": range(16), "b": BOOLS}))
    types = {"i": "int64", "b": "bool"}, {"n": "int64"}

    def run(how):
        job = km.MapReduce(flag, known, key="i", value="b", schema=types, compile=how)
        return sorted(frame.pipe(job).collect(threads=threads).rows())

    assert run("auto") == run("never") == [(0, 4 * (101 + 10)), (1, 4 * (100 + 101))]


def roots(row, emit):
    emit(row.i, max(map(math.sqrt, [row.f])))


def test_a_function_of_math_given_to_another_is_not_compiled():
    frame = km.from_arrow(pa.table({"i": [1], "f": [-1.0]}))
    job = km.MapReduce(roots, key="i", value="v", schema={"i": "int64", "v": "float64"}, compile="require")
    with pytest.raises(UserCodeError, match="sqrt is not supported as an argument") as raised:
        frame.pipe(job).collect()
    assert raised.value.code == Code.INTERPRETED
