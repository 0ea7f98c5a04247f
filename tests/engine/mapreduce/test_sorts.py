"""sorted, list.sort and joins of iterators in compiled functions: Python's order, Python's texts."""

import random

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.kernels import _jit

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")


def lines():
    chance = random.Random(5)
    some = [" ".join(f"{chance.randrange(6)}{chance.randrange(99)}" for _ in range(n)) for n in (0, 1, 2, 17, 40, 200)]
    return [*some, "a,,b", "x -1 nan", " lead", "b a b"]


def both_ways(function):
    frame = km.from_arrow(pa.table({"line": lines()}))

    def run(how):
        types = {"which": "int64", "text": "string"}
        job = km.MapReduce(function, key="which", value="text", schema=types, order=None, compile=how)
        result = frame.pipe(job).collect(on_bad="reject", max_rejects=100)
        return result.rows(), [] if result.rejects is None else result.rejects.rows()

    return run("require"), run("never")


def ordered(line, emit):
    words = line.split()
    emit(0, " ".join(sorted(words, key=lambda word: word[0])))
    emit(1, " ".join(sorted(words, reverse=True, key=len)))
    words = list(words)
    words.sort(key=lambda word: (len(word), word[0]))
    emit(2, " ".join(words))


def ordered_in_place(line, emit):
    words = list(line.split())
    words.sort(key=lambda word: word[-1], reverse=len(words) % 2 == 0)
    emit(3, " ".join(words))
    emit(4, " ".join(sorted(words, reverse=True)))
    numbers = [float(word) for word in words]
    numbers.sort()
    emit(5, str(int(numbers[0])))


def joined(line, emit):
    emit(0, "-".join(filter(None, line.split(","))))
    emit(1, ",".join(map(lambda word: word.upper() + "!", line.split())))  # noqa: C417 - an iterator
    parts = iter(line.split())
    emit(2, "+".join(parts) + "|" + "+".join(parts))


@pytest.mark.parametrize("function", [ordered, ordered_in_place, joined])
def test_compiled_code_gives_pythons_rows(function):
    compiled, plain = both_ways(function)
    assert compiled == plain
