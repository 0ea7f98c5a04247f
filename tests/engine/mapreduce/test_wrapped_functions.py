"""Functions that decorators made: compiled calls take the arguments of the wrapper, as Python's do."""

import functools
import inspect

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.compiling import InterpretedFunctionWarning

LINES = km.from_arrow(pa.table({"line": ["abc", "", "to be"]}))
TYPES = {"key": "string", "value": "int64"}


def with_five(function):
    @functools.wraps(function)
    def called(text, k=5):
        return function(text, k)

    return called


def turned(function):
    @functools.wraps(function)
    def called(second, first):
        return function(first, second) if second else 0

    return called


def signed(function):
    def called(second, first):
        return function(first, second)

    called.__signature__ = inspect.signature(function)  # as some libraries of decorators do
    return called


@with_five
def longer(text, k=1):
    return len(text) + k


@turned
def score(first, second):
    return len(first) * 10 + len(second)


@signed
def score_of_signed(first, second):
    return len(first) * 10 + len(second)


@turned
def difference(a, b):
    return a - b


def by_default(line, emit):
    emit(line, longer(line))


def by_order(line, emit):
    emit(line, score(line, "zz"))


def by_signature(line, emit):
    emit(line, score_of_signed(line, "zz"))


def each(line, emit):
    emit("all", len(line))


@functools.wraps(by_default)
def by_any_arguments(*args):
    by_default(*args)


@pytest.mark.parametrize(
    ("function", "combine"), [(by_default, None), (by_order, None), (by_signature, None), (each, difference)]
)
def test_compiled_functions_are_called_as_python_calls_them(function, combine):
    found = [
        LINES.pipe(km.MapReduce(function, combine=combine, schema=TYPES, compile=how)).collect(threads=1).rows()
        for how in ("require", "never")
    ]
    assert found[0] == found[1]


def test_a_map_that_passes_on_all_its_arguments_gives_the_rows_of_the_map():
    with pytest.warns(InterpretedFunctionWarning, match="takes \\*args"):
        rows = LINES.pipe(km.MapReduce(by_any_arguments, schema=TYPES)).collect().rows()
    assert sorted(rows) == sorted(LINES.pipe(km.MapReduce(by_default, schema=TYPES)).collect().rows())
