"""reversed of a text, methods of literals, math.isqrt and math.fmod in compiled functions: what CPython gives."""

import math

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.errors import KernelmillError
from kernelmill.kernels import _jit

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")

TEXTS = pa.table({"s": ["abc", "", "Łódź 😀", "bc", None], "n": [0, 1, 2, 3, 4]})
WHOLES = [0, 1, 2, 3, 4, 24, 25, 26, -1, 3037000499**2 - 1, 3037000499**2, 2**63 - 1, 2**53 + 1, 94906266**2 - 1, None]
FLOATS = [0.0, -0.0, 7.5, -7.5, 3.0, 1e308, 5e-324, math.inf, -math.inf, math.nan, None]


def both(function, table):
    """Rows and number of rejects of a compiled run, which are those of plain Python."""
    found, schema = [], None
    for how in ("require", "never"):
        job = km.MapReduce(function, order=None, compile=how, schema=schema)
        frame = km.from_arrow(table).pipe(job)
        schema = dict(frame.schema)
        result = frame.collect(on_bad="reject", max_rejects=1000)
        found.append((repr(result.rows()), 0 if result.rejects is None else result.rejects.height))
    assert found[0] == found[1]
    return found[0]


def backwards(row, emit):
    emit("".join(reversed(row.s)), row.n)
    for place, letter in enumerate(reversed(row.s)):
        emit(letter, place)
    emit(list(reversed(row.s))[-1], 1)


def methods_of_literals(row, emit):
    emit("abc".startswith(row.s), "abcdef".endswith(("f", row.s)))
    emit("abc".startswith(("x", "b"), 1), "abc".endswith("b", 0, 2))


def cut_literals(row, emit):
    emit("abcabc".removeprefix(row.s), "abcabc".removesuffix(row.s))


@pytest.mark.parametrize("function", [backwards, methods_of_literals, cut_literals])
def test_texts_are_reversed_and_literals_cut_as_in_python(function):
    _, rejects = both(function, TEXTS)
    assert rejects == (2 if function is backwards else 1)


def test_a_reversed_text_is_no_text():
    job = km.MapReduce(lambda row, emit: emit(reversed(row.s), 1), compile="require")
    with pytest.raises(KernelmillError, match="emit is called with a list"):
        km.from_arrow(TEXTS).pipe(job)


def test_isqrt_is_pythons_at_squares_and_beside_them():
    _, rejects = both(lambda row, emit: emit(row.n, math.isqrt(row.n)), pa.table({"n": WHOLES, "m": WHOLES}))
    assert rejects == 2


def test_fmod_is_pythons_for_all_pairs():
    pairs = pa.table({"x": [x for x in FLOATS for _ in FLOATS], "y": FLOATS * len(FLOATS)})
    rows, rejects = both(lambda row, emit: emit(row.x, math.fmod(row.x, row.y)), pairs)
    assert rejects > 20
    assert "-1.5" in rows
