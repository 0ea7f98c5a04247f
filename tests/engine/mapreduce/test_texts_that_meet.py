"""Views of a record, made texts and literals in one variable, list, tuple or condition: one type, as in Python."""

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.exec import compiled
from kernelmill.kernels import _jit

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")

LINES = ["", "x", "abc", "ä ö", "to be or not to be", "a,b,,c", "7 -12", "long " * 300, "  lead and trail  ", "ﬃ ß"]


def both_ways(function, monkeypatch, *, nullable=False, **options):
    """The rows as plain Python and as compiled, which must not leave a record to Python."""
    again = []
    shifted = compiled._shifted
    monkeypatch.setattr(compiled, "_shifted", lambda *given: again.append(given) or shifted(*given))
    schema = pa.schema([pa.field("line", pa.string(), nullable=nullable)])
    frame = km.from_arrow(pa.table([pa.array(LINES)], schema=schema))

    def run(how):
        types = {"key": "string", "value": "int64"}
        job = km.MapReduce(function, schema=types, order=None, compile=how, **options)
        return frame.pipe(job).collect().rows()

    plain = run("never")
    assert plain and run("require") == plain
    assert not again


def chosen(line, emit):
    n = len(line)
    emit(str(n) if n > 3 else line, 1)
    emit(line if n > 3 else f"{n}!", 2)
    emit(line or str(-n - 1), 3)
    emit(line and line.upper(), 4)
    emit("small" if n < 3 else "middle" if n < 10 else str(n * 10**15), 5)
    emit(str(n > 3) + str(line), 6)
    emit(chr(65 + n % 26) if n > 3 else line.lower(), 7)
    key = (line, 1) if n > 2 else ("none" + str(n), 2)
    emit(key[0], key[1])


def kept(line, emit):
    text = line
    for i in range(3):
        if i != 1:
            text = f"{text}-{i}"
    emit(text, len(text))
    text = str(len(line))
    if len(line) > 3:
        text = line
    emit(text.zfill(4)[::-1], len(text))
    best = None
    for word in line.split():
        if best is None or len(word) > len(best):
            best = word + "!"
    emit(best or "none", 1)
    parts = ["a"]
    for word in line.split():
        parts.append(word)
    parts.append(str(len(parts)))
    emit("-".join(parts), 1)
    for word in ["x", line, str(7)]:
        emit(word, 1)
    for word in ("y", line):
        emit(word, int(word in ["y", "abc"]))


def cut(line, emit):
    pieces = line.split(",") if "," in line else line.split()
    for word in pieces:
        emit(word, len(pieces))
    words = line.split()
    if len(words) > 2:
        words = words[1:]
    emit(words[0] if words else "none", len(words))
    for word in line.split() or ["none"]:
        emit(word, 1)
    words = line.split() if len(line) > 3 else []
    emit(line, len(words))


@pytest.mark.parametrize("function", [chosen, kept, cut])
def test_texts_of_all_kinds_are_one_type(function, monkeypatch):
    both_ways(function, monkeypatch)


def test_a_text_that_may_be_none_is_one_too(monkeypatch):
    both_ways(kept, monkeypatch, nullable=True)


def letters_or_number(n):
    return "few" if n < 3 else str(n)  # it has no text of the record: the caller copies


def by_helper(line, emit):
    emit(letters_or_number(len(line)) if len(line) != 2 else line, 1)


def labelled(key, values, emit):
    total = sum(values)
    emit(key if total > 2 else "few", total)
    emit(f"{key}:{total}" if key else "none", total)


def test_functions_without_a_text_and_reduces_have_them_too(monkeypatch):
    both_ways(by_helper, monkeypatch, reduce=labelled)


def test_a_reduce_of_numbers_makes_texts(monkeypatch):
    def sizes(line, emit):
        emit(len(line) % 3, len(line))

    def told(key, values, emit):
        total = sum(values)
        emit("none" if total == 0 else str(total), key)

    frame = km.from_arrow(pa.table({"line": LINES}))
    types = {"key": "int64", "value": "int64"}, {"key": "string", "value": "int64"}
    found = [
        frame.pipe(km.MapReduce(sizes, told, schema=types, compile=how)).collect().rows()
        for how in ("never", "require")
    ]
    assert found[0] == found[1] and len(found[0]) == 3


def test_numbers_beside_texts_stay_numbers(monkeypatch):
    def beside(line, emit):
        pairs = [(len(line), str(len(line))), (9, "q"), (len(line) + 1, line)]
        for number, text in pairs:
            emit(text, number)
        either = (9, "q") if line else (len(line), line)
        emit(either[1], either[0])

    both_ways(beside, monkeypatch)
