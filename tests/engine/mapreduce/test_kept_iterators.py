"""Iterators in users' functions: one that could be kept while another is made in its place is left to plain Python."""

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError

LINES = ["a b c d", "x y z w"]


def kept_in_a_loop(line, emit):
    old = iter(line.split())
    for i in range(2):
        new = iter(line.split())
        emit(next(old), i)
        next(new)
        old = new


def kept_of_a_list(line, emit):
    old = iter([1, 2, 3])
    for _ in range(2):
        new = iter([1, 2, 3])
        emit(line, next(old))
        next(new)
        old = new


def kept_of_pairs(line, emit):
    old = enumerate(line.split())
    for i in range(2):
        new = enumerate(line.split())
        emit(str(i), next(old)[0])
        next(new)
        old = new


def kept_within_another(line, emit):
    old = enumerate(line.split())
    for _ in range(2):
        new = iter(line.split())
        at, word = next(old)
        emit(word, at)
        next(new)
        old = enumerate(new)


def exchanged(line, emit):
    one, other = iter(line.split()), iter(line.split())
    next(one)
    one, other = other, one
    emit(next(one) + next(other), 1)


def in_a_tuple(line, emit):
    pair = (iter(line.split()), 1)
    emit(next(pair[0]), pair[1])


def kept_in_an_inner_function(line, emit):
    def firsts(text):
        old, got = iter(text.split()), ""
        for _ in range(2):
            new = iter(text.split())
            got += next(old)
            next(new)
            old = new
        return got

    emit(firsts(line), 1)


def made_anew(line, emit):
    for k in range(2):
        words = iter(line.split())
        if k:
            next(words)
        for word in words:
            for other in line.split():
                if other > word:
                    break
            else:
                emit(word, k)


def of_two_branches(line, emit):
    words = iter(line.split()) if len(line) > 3 else iter(line.upper().split())
    emit(next(words), 1)


def second(words):
    next(words)
    return next(words)


def given_to_a_helper(line, emit):
    emit(second(iter(line.split())), 1)
    for i, (word, place) in enumerate(zip(line.split(), range(5))):  # noqa: B905
        emit(word, i + place)


def of_comprehensions(line, emit):
    emit("|".join(word for word in line.split()), sum(len(word) for word in line.split()))
    emit(max((word for word in line.split()), key=len), len([c for c in line]))  # noqa: C416


def rows_of(function, **options):
    job = km.MapReduce(function, key="k", value="v", schema={"k": "string", "v": "int64"}, **options)
    rows = km.from_arrow(pa.table({"line": LINES})).pipe(job).collect(progress=False).to_arrow()
    return sorted(zip(rows["k"].to_pylist(), rows["v"].to_pylist(), strict=True))


def expected(function):
    rows = []
    for line in LINES:
        function(line, lambda *row: rows.append(row))
    return sorted(rows)


KEPT = [kept_in_a_loop, kept_of_a_list, kept_of_pairs, kept_within_another, exchanged, in_a_tuple]
COMPILED = [made_anew, of_two_branches, given_to_a_helper, of_comprehensions]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("function", [*KEPT, kept_in_an_inner_function], ids=lambda one: one.__name__)
def test_an_iterator_that_is_kept_is_left_to_python(function):
    with pytest.raises(KernelmillError, match="an iterator that gets a second name, or is put into a tuple") as caught:
        rows_of(function, compile="require")
    assert caught.value.code is Code.INTERPRETED
    assert rows_of(function) == expected(function)


@pytest.mark.parametrize("function", COMPILED, ids=lambda one: one.__name__)
def test_one_that_is_not_is_compiled(function):
    assert rows_of(function, compile="require") == expected(function)
