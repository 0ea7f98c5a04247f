"""Texts and bools that may be None, compared in compiled maps: as in plain Python, record by record."""

from __future__ import annotations

import pyarrow as pa
import pytest

import kernelmill as km

TEXTS = ["y", "x", None, "5", "", "xx", "é"]
OTHER = "x"


def compared(test):
    def map(line, emit):
        emit(1 if test(line) else 0)

    return map


COMPARISONS = {
    "equals a literal": lambda line: line == "x",
    "a literal equals it": lambda line: "x" == line,
    "differs from a literal": lambda line: line != "x",
    "a literal differs from it": lambda line: "é" != line,
    "equals a global": lambda line: line == OTHER,
    "equals itself": lambda line: line == line,
    "equals None": lambda line: line == None,  # noqa: E711
    "differs from None": lambda line: line != None,  # noqa: E711
    "equals a string of numba's": lambda line: line == str(5),
    "a string of numba's differs from it": lambda line: str(5) != line,
    "equals what may be None": lambda line: line == (line if line != "x" else None),
    "a literal or None equals it": lambda line: ("y" if line == "y" else None) == line,
    "a literal or None equals a literal": lambda line: ("y" if line == "y" else None) == "y",
    "a string of numba's or None equals it": lambda line: (str(5) if line else None) == line,
    "is after a test": lambda line: line is not None and line == "x",
    "is in a tuple": lambda line: line in ("x", "y"),
    "is in a set": lambda line: line in {"x", "é"},
    "is not in a set": lambda line: line not in {"x", "é"},
    "is in a list": lambda line: line in ["x", "y"],
    "is counted in a list": lambda line: ["x", "x"].count(line) == 2,
}


@pytest.mark.parametrize("test", COMPARISONS.values(), ids=COMPARISONS)
def test_a_text_that_may_be_none_compares_as_in_python(test):
    frame = km.from_arrow(pa.table({"line": TEXTS}))
    job = km.MapReduce(compared(test), schema={"key": "int64"}, order=None, compile="require")
    assert [key for (key,) in job(frame).collect().rows()] == [int(bool(test(text))) for text in TEXTS]


def test_a_reduce_and_a_key_of_several_columns_compare_them_too():
    def map(row, emit):
        if row.line != "x" or row.n == 1:
            emit(row.n % 2, row.line)

    def reduce(key, values, emit):
        emit(sum([1 for value in values if value == "x"]))

    frame = km.from_arrow(pa.table({"line": TEXTS * 3, "n": list(range(21))}))
    types = {"key": "int64", "value": "string"}, {"value": "int64"}
    found = [
        km.MapReduce(map, reduce, schema=types, compile=how)(frame).collect().rows() for how in ("require", "never")
    ]
    assert found[0] == found[1] == [(0, 0), (1, 1)]


@pytest.mark.parametrize("nullable", [False, True])
def test_a_bool_that_may_be_none_is_true_false_or_neither(nullable):
    def map(flag, emit):
        emit((1 if flag is True else 0, 1 if flag is False else 0, 1 if flag is not True else 0))
        emit((1 if True is flag else 0, 1 if flag is flag else 0, 1 if flag is None else 0))

    flags = [True, False, None] if nullable else [True, False]
    frame = km.from_arrow(pa.table({"flag": flags}, schema=pa.schema([pa.field("flag", pa.bool_(), nullable)])))
    names = ("a", "b", "c")
    job = km.MapReduce(map, key=names, schema=dict.fromkeys(names, "int64"), order=None, compile="require")
    expected = []
    for flag in flags:
        map(flag, expected.append)
    assert job(frame).collect().rows() == expected
