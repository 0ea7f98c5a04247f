"""What split gives, changed, compared, added and joined to lists in compiled functions: a list, as in Python."""

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.exec import compiled
from kernelmill.kernels import _jit

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")

LINES = ["b a c b", "x y", "to be or not to be", "b c", "b,a b", "ä ö ü, b", "  b  a ", "a " * 300 + "b", "b b"]


def appended(line, emit):
    words = line.split()
    other = words
    words.append("x")
    words += ["y", str(len(line))]
    words.extend(line.split(","))
    words.insert(1, line)
    emit(" ".join(other), len(other))
    last, first = words.pop(), words.pop(0)
    words.remove(words[0])
    del words[0]
    emit(last + first + "|".join(words), len(words))
    words[0], words[-1] = words[-1], words[0]
    words[1:2] = ["p", "q"]
    words.reverse()
    emit(" ".join(words), len(other))


def shortened(line, emit):
    fields = line.split(",")
    fields[0] = fields[0].strip()
    words = fields[0].split()
    tail = words[1:]
    tail.append("z")
    emit(" ".join(tail) + "/" + " ".join(words), len(tail))
    for i in range(len(words)):
        words[i] = words[i].upper()
    words.sort(key=lambda word: word[-1])
    emit(" ".join(words), 1)
    while words and words[-1] != "B":
        words.pop()
    words *= 2
    del words[1:]
    emit(" ".join(words), len(words))
    words.clear()
    emit(line, len(words))
    if len(tail) < 3:
        tail = tail + ["end"]
    emit(" ".join(tail), line.split().count("b"))


def compared(line, emit):
    words, others = line.split(), line.split(",")
    given = ["b", "a", "c", "b"]
    found = [words == given, words != given, given == words, words == others, words != others, words == words.copy()]
    emit(line, sum([1 << i for i, one in enumerate(found) if one]))
    found = [words < given, words <= given, given > words, words >= others, others > words, others <= given]
    emit(line, sum([1 << i for i, one in enumerate(found) if one]))
    lists = [word[:1] + word[1:] for word in words]
    found = [
        lists == words,
        lists == given,
        lists < given,
        [len(word) for word in words] == [1, 1],
        lists * 2 == words * 2,
    ]
    emit(line, sum([1 << i for i, one in enumerate(found) if one]))


def added(line, emit):
    words = ["<s>"] + line.split() + ["</s>"]
    for one, other in zip(words, words[1:]):  # noqa: B905 - compiled functions know no strict=
        emit(f"{one} {other}", 1)
    emit(" ".join(line.split() + line.split(",")), 1)
    emit(" ".join(2 * line.split(",")), line.split().index("b") if "b" in line.split() else -1)
    words = line.split() if "," in line else ["none"]
    words.append("end")
    emit(" ".join(words), 1)


@pytest.mark.parametrize("function", [appended, shortened, compared, added])
def test_lists_of_words_are_pythons(function, monkeypatch):
    again = []
    shifted = compiled._shifted
    monkeypatch.setattr(compiled, "_shifted", lambda *given: again.append(given) or shifted(*given))

    def run(how, lines):
        schema = pa.schema([pa.field("line", pa.string(), nullable=False)])
        types = {"key": "string", "value": "int64"}
        job = km.MapReduce(function, schema=types, order=None, compile=how)
        return km.from_arrow(pa.table([pa.array(lines)], schema=schema)).pipe(job).collect(on_bad="reject").rows()

    assert run("require", LINES) == run("never", LINES)
    assert not again
    bad = ["b a", "", " ", "c"]  # in some of these functions they raise
    assert run("require", bad) == run("never", bad)


def test_a_list_that_a_helper_changes_is_changed_for_all_its_names():
    def lengthened(words):
        words.append(words[0] + "more")

    def shared(line, emit):
        words = line.split()
        either = words if len(line) > 3 else ["few"]
        lengthened(either)
        emit(" ".join(words), len(either))

    frame = km.from_arrow(pa.table({"line": LINES}))
    found = [
        frame.pipe(km.MapReduce(shared, schema={"key": "string", "value": "int64"}, compile=how)).collect().rows()
        for how in ("never", "require")
    ]
    assert found[0] == found[1]
