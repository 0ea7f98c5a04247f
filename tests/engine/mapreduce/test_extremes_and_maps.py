"""max, min, sum, any, all, map and filter in compiled functions, with key= and default=: what Python gives."""

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.exec import compiled
from kernelmill.kernels import _jit

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")

LINES = [
    "b a c b",
    "x yy zz",
    "7 -12 300",
    "to be or not to be",
    "b,a b",
    "ä ö ü ﬃ, ß",
    "  bb  a cc ",
    "a " * 300 + "b",
]
EMPTY = ["", " ", "\t"]  # they raise where there is no default=


def texts(line, emit):
    emit(max(line, "b"), 1)
    emit(min("b", line, str(len(line))), 2)
    best = least = line.split()[0]
    for word in line.split():
        best, least = max(best, word), min(least, word)
    emit(best + least, 3)
    emit(max(line.split(), key=len) + min(line.split(), key=lambda word: (-len(word), word)), 4)
    pair = max((len(line), line), (9, "q"))
    emit(min(pair, (10, "r"))[1], pair[0])
    emit(max(line, "abc", key=len) + min(line.split(), key=str.lower), 5)


def defaults(line, emit):
    words = line.split()
    emit(max(words, default="none") + min(words, key=len, default="none"), 1)
    emit(line, max([len(word) for word in words], default=-1) + min((len(word) for word in words), default=-1))
    emit(min(map(lambda word: word + "!", words), key=len, default="?"), 6)  # noqa: C417 - an iterator


def summed(line, emit):
    words = line.split()
    emit(line, sum(map(len, words)) * 1000 + sum(map(ord, line), 5))
    are = any(map(lambda word: len(word) > 2, words)), all(map(lambda word: len(word) > 1, words))  # noqa: C417
    emit(line, are[0] + 2 * are[1] + 4 * sum(filter(lambda n: n > 1, map(len, words))))
    emit(line, sum(map(str.isdigit, words)) * 10 + sum(map(lambda word: word < "c", words)))  # noqa: C417


def mapped(line, emit):
    emit(" ".join(map(str.upper, line.split())) + ",".join(map(str, [len(line), 2])), 1)
    for word in map(str.strip, line.split(",")):
        emit(word, 1)
    for n, word in enumerate(filter(str.isalpha, line.split())):
        emit(word, n)
    if line.count(",") == 1:
        left, right = map(str.strip, line.split(","))
        emit(right, len(left))
    for a, b in zip(map(str.title, line.split()), [w + "!" for w in map(str.lower, line.split())]):  # noqa: B905
        emit(a, len(b))


def run(function, how, lines, **options):
    schema = pa.schema([pa.field("line", pa.string(), nullable=False)])
    types = {"key": "string", "value": "int64"}
    job = km.MapReduce(function, schema=types, order=None, compile=how, **options)
    found = km.from_arrow(pa.table([pa.array(lines)], schema=schema)).pipe(job).collect(on_bad="reject")
    return found.rows(), [] if found.rejects is None else found.rejects.rows()


@pytest.mark.parametrize("function", [texts, defaults, summed, mapped])
def test_compiled_functions_find_what_python_finds(function, monkeypatch):
    again = []
    shifted = compiled._shifted
    monkeypatch.setattr(compiled, "_shifted", lambda *given: again.append(given) or shifted(*given))
    assert run(function, "require", LINES) == run(function, "never", LINES)
    assert not again
    assert run(function, "require", EMPTY) == run(function, "never", EMPTY)


def test_a_reduce_keeps_the_greatest_text():
    def lines_of(line, emit):
        emit(line[:1], line)

    def greatest(key, values, emit):
        best = next(values)
        for value in values:
            best = max(best, value)
        emit(best)

    frame = km.from_arrow(pa.table({"line": LINES}))
    types = {"key": "string", "value": "string"}
    jobs = [km.MapReduce(lines_of, greatest, schema=types, compile=how) for how in ("require", "never")]
    assert frame.pipe(jobs[0]).collect().rows() == frame.pipe(jobs[1]).collect().rows()


def test_a_map_that_is_kept_is_gone_through_once():
    def twice(line, emit):
        words = map(str.upper, line.split())
        emit("".join(words) + "".join(words), 1)

    with pytest.warns(km.InterpretedFunctionWarning):
        assert run(twice, "auto", ["a b"])[0] == [("AB", 1)]


def shadowed(line, emit, map=lambda function, words: [word + "?" for word in words]):
    emit(" ".join(map(str.upper, line.split())), 1)


def test_a_map_that_is_no_builtin_is_left_alone():
    with pytest.warns(km.InterpretedFunctionWarning):
        assert run(shadowed, "auto", ["a b"])[0] == run(shadowed, "never", ["a b"])[0] == [("a? b?", 1)]
