# ruff: noqa: UP031, UP032 - the ways to format are what is tested
"""Format specifications, % and str.format in compiled functions: to the last character what CPython gives."""

import random
import struct

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, UserCodeError
from kernelmill.engine.exec import compiled
from kernelmill.kernels import _jit
from kernelmill.kernels.functions import specifications

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")

FORMAT = "{0}|{1:>6}|{0:<4}|{{}}"


def rows(count=400):
    chance = random.Random(7)
    numbers = [0, 1, -1, 7, -10, 999, 1000, -1000, 123456789, 2**53, -(2**53), 9, 10, 255, 4096]
    numbers += [chance.randrange(-(10 ** chance.randrange(1, 16)), 10 ** chance.randrange(1, 16)) for _ in range(count)]
    floats = [0.0, -0.0, 0.5, 1.5, 2.5, 0.125, 0.375, 1.005, 2.675, -0.001, 0.0001, 99.995, 1e12, 123456.789, -5e-324]
    floats += [chance.choice((1, -1)) * chance.randrange(10**6) / 8 for _ in range(count // 4)]  # ties among them
    floats += [round(chance.uniform(-1e6, 1e6), chance.randrange(7)) for _ in range(count // 4)]
    floats += [chance.gauss(0, 1) * 10.0 ** chance.randrange(-8, 9) for _ in range(count // 2)]
    texts = ["", "x", "ab", "äöü", "ﬃ", "to be or not", "日本語テキスト", "a{b}%s"]
    size = min(len(numbers), len(floats))
    return {"n": numbers[:size], "x": floats[:size], "line": [texts[i % len(texts)] for i in range(size)]}


def ints(row, emit):
    n = row.n
    emit(f"{n:05d}|{n:>5}|{n:<8}|{n:^9}|{n:*^15d}|{n:,}|{n:_}|{n:x}|{n:#X}|{n:b}|{n:+d}|{n: }|{n:o}|{n:ß=+12}", 1)
    emit(f"{n:_x}{n:#010x}{n:08}{n:<06}{n:+,d}{n > 5:4}{n > 5}{n!s}{n:20,}", 2)
    emit("%d %5d %-5d| %05d %+d % d %x %#o %X %i%%" % (n, n, n, n, n, n, n, n, n, n), 3)
    emit(f"{n!s:9}" + "%s:%6s:%-6s:" % (n, n, n) + "%08.3f" % n + f"{n:.1f}", 4)
    emit(format(n, "06d") + format(n), 5)


def texts(row, emit):
    line, n = row.line, row.n
    emit(f"{line:>10}|{line:.3}|{line:<8}|{line:^9}|{line:é^12.4}|{line:5.2s}|{line:05}|{line!s}", 1)
    emit("%s|%5s|%-8s|%.2s|%6.3s" % (line, line, line, line, line), 2)
    emit("{}-{}".format(line, n) + "{0}{1:>4}{0:.1}".format(line, n) + "{a}:{b:03d}".format(a=line, b=n), 3)
    emit(FORMAT.format(line, n), 4)
    emit("no fields {{}}".format() + "%s" % line, 5)


def floats(row, emit):
    x = row.x
    emit(f"{x:.2f}|{x:.0f}|{x:8.3f}|{x:<12.1f}|{x:+.1f}|{x:012.2f}|{x:,.2f}|{x:f}|{x:.1%}", 1)
    emit("%.2f|%6.1f|%-9.3f|%f|%+.2f|%08.2f" % (x, x, x, x, x, x), 2)
    emit("{:.3f} {:>9.2f}".format(x, -x), 3)


def run(function, how, given):
    kinds = {"n": pa.int64(), "x": pa.float64(), "line": pa.string()}
    schema = pa.schema([pa.field(name, kind, nullable=False) for name, kind in kinds.items()])
    types = {"key": "string", "value": "int64"}
    job = km.MapReduce(function, schema=types, order=None, compile=how)
    return km.from_arrow(pa.table(given, schema=schema)).pipe(job).collect().rows()


@pytest.mark.parametrize("function", [ints, texts, floats])
def test_formatted_values_are_cpythons(function, monkeypatch):
    again = []
    shifted = compiled._shifted
    monkeypatch.setattr(compiled, "_shifted", lambda *given: again.append(given) or shifted(*given))
    assert run(function, "require", rows()) == run(function, "never", rows())
    assert not again


def test_floats_of_any_bits_are_rounded_as_cpython_does():
    def rounded(row, emit):
        emit(f"{row.x:.3f} {row.x:.0f} {row.x:.12f}", 1)

    chance = random.Random(11)
    given = [struct.unpack("<d", chance.randbytes(8))[0] for _ in range(1500)]  # most are beyond 64 bits: Python's
    given += [chance.randrange(1, 2**20) / 2 ** chance.randrange(1, 40) for _ in range(3000)]
    given += [float("nan"), float("inf"), float("-inf"), 1e19, 1.8446744073709552e16, 9007199254740993.0]
    table = {"n": [0] * len(given), "x": given, "line": [""] * len(given)}
    assert run(rounded, "require", table) == run(rounded, "never", table)


UNKNOWN = (
    *('f"{row.line:5d}"', 'f"{row.n:{row.n}}"', 'f"{row.n!r}"', '"%c" % row.n'),
    *('"{0[0]}".format(row.line)', 'f"{row.x:e}"', 'f"{row.x}"', '"%d" % row.x'),
)


@pytest.mark.parametrize("expression", UNKNOWN)
def test_what_is_not_known_is_left_to_python(expression):
    namespace = {}
    exec(f"def formatted(row, emit):\n    emit({expression}, 1)\n", namespace)
    with pytest.raises(UserCodeError) as raised:
        run(namespace["formatted"], "require", rows(4))
    assert raised.value.code == Code.INTERPRETED


SPECIFICATIONS = (
    "",
    "5",
    "<5",
    "x>5",
    "05",
    "<05",
    "+5d",
    " d",
    "#x",
    ",",
    "_b",
    ".2",
    "^7.2",
    "é^9",
    "-08d",
    "z",
    "5 d",
)


@pytest.mark.parametrize("spec", SPECIFICATIONS)
@pytest.mark.parametrize("value", [0, -7, 12345, "", "abc"])
def test_specifications_are_read_as_cpython_reads_them(spec, value):
    family = "int" if isinstance(value, int) else "text"
    found = specifications.parsed(spec, family)
    try:
        made = format(value, spec)
    except ValueError:
        assert found is None
        return
    assert found is not None and len(made) >= found.width
