"""Reasons say what an operator, builtin or method was given; what Python refuses too is to be mended, not typed."""

import math
import re

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.kernels import _jit

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")

ROWS = pa.table({"s": ["a b", "b"], "n": pa.array([1, None], pa.int64()), "x": [1.5, None]})
INSIDES = re.compile(
    r"<f|<b|0x|Literal|unicode|Optional|numba|\$|Pieces|BoundFunction|undefined|iv=|int64|float64|lowering"
)
"""Words about the compiler, not about the function."""
PATTERN = re.compile("a")


def helper(word, times):
    return len(word) * times


def text_and_int(row, emit):
    emit(row.s + 1, 1)


def text_below_int(row, emit):
    emit(row.s, 1 if 1 < row.s else 2)


def item_by_text(row, emit):
    emit(row.s["a"], 1)


def length_of_int(row, emit):
    emit(row.s, len(5))


def root_of_text(row, emit):
    emit(row.s, math.sqrt(row.s))


def loop_over_int(row, emit):
    for one in row.n:
        emit(row.s, one)


def method_of_too_few(row, emit):
    emit(row.s.replace("a"), 1)


def three_of_two(row, emit):
    first, second, third = row.s, 1
    emit(first, second + third)


def called_number(row, emit):
    number = 3
    emit(row.s, number(2))


def emit_of_three(row, emit):
    emit(row.s, 1, 2)


def no_such_function(row, emit):
    emit(row.s, math.sqroot(2))


def helper_of_too_few(row, emit):
    emit(row.s, helper(row.s))


def misspelled(row, emit):
    for word in row.s.split():
        emit(wrod, len(word))  # noqa: F821 - that is what is tested


MISTAKES = [
    (text_and_int, 1, "the operator + of text that may be None and an int raises, in Python too"),
    (text_below_int, 1, "the operator < of an int and text that may be None raises, in Python too"),
    (item_by_text, 1, "the operator [...] of text that may be None and text raises, in Python too"),
    (length_of_int, 1, "len() of an int raises, in Python too"),
    (root_of_text, 1, "sqrt() of text that may be None raises, in Python too"),
    (loop_over_int, 1, "a loop over an int that may be None raises, in Python too"),
    (method_of_too_few, 1, "replace() of text with text raises, in Python too"),
    (three_of_two, 1, "unpacking 2 values into 3 names raises, in Python too"),
    (called_number, 2, "a value is called that is no function"),
    (emit_of_three, 1, "emit takes a key and a value, or a key alone"),
    (no_such_function, 1, "module 'math' has no attribute 'sqroot': did you mean sqrt?"),
    (helper_of_too_few, 1, "helper() is called wrongly: missing a required argument: 'times'"),
    (misspelled, 2, "wrod is not defined: did you mean word?"),
]


def mixed_tuple(row, emit):
    if row.s in ("a", 1):
        emit(row.s, 1)


def list_without_type(row, emit):
    found = []
    emit(row.s, len(found))


def two_types(row, emit):
    found = 1 if row.n else row.s
    emit(row.s, found)


def power_of_three(row, emit):
    emit(row.s, pow(2, len(row.s), 7))


def odd_specification(row, emit):
    emit(f"{row.x:10.3e}", 1)


def formatted(row, emit):
    emit("%d" % row.s, 1)  # noqa: UP031 - no f-string is like it


def method_handed_on(row, emit):
    emit(row.s.strip, 1)


def attribute_given(row, emit):
    row.s = "a"
    emit(row.s, 1)


def bytes_as_text(row, emit):
    emit(row.s.encode().hex(), 1)


def rare_method(row, emit):
    emit(row.s.expandtabs(), 1)


def within_itself(row, emit):
    def factorial(number):
        return 1 if number < 2 else number * factorial(number - 1)

    emit(row.s, factorial(len(row.s)))


def searched(row, emit):
    if PATTERN.search(row.s):
        emit(row.s, 1)


NOT_COMPILED = [
    (mixed_tuple, 1, "the operator in is not supported for such values: text that may be None and a tuple"),
    (list_without_type, 1, "what the list found holds cannot be told"),
    (two_types, 1, "is now of one type, now of another: an int and text that may be None"),
    (power_of_three, 1, "pow() is not supported for such values: an int, an int and an int"),
    (odd_specification, 1, "the format specification '10.3e' is not supported for such values"),
    (formatted, 1, "the operator % is not supported for such values"),
    (method_handed_on, 1, "emit is called with a method that is not called"),
    (attribute_given, 1, "an attribute cannot be given a value"),
    (bytes_as_text, 1, "the method hex of bytes is not supported in compiled functions"),
    (rare_method, 1, "the method expandtabs of text is not supported in compiled functions"),
    (within_itself, 1, "factorial calls itself"),
    (searched, 1, "PATTERN.search is not supported in compiled functions"),
]


def refused(function, **options):
    with pytest.raises(KernelmillError) as caught:
        km.from_arrow(ROWS).pipe(km.MapReduce(function, "list", **options)).collect(progress=False)
    assert caught.value.code is (Code.INTERPRETED if options else Code.SCHEMA_REQUIRED)
    return caught.value


def assert_named(problem, function, below, said):
    assert f"{function.__code__.co_firstlineno + below}: map function {function.__name__!r}" in problem.what
    reason = problem.what.partition("cannot be compiled: ")[2]
    assert said in reason
    assert not INSIDES.search(reason), reason


@pytest.mark.parametrize(("function", "below", "said"), MISTAKES, ids=[one[0].__name__ for one in MISTAKES])
def test_what_python_refuses_too_is_to_be_mended(function, below, said):
    problem = refused(function)
    assert_named(problem, function, below, said)
    assert problem.hint == "mend that line: as plain Python it would raise, too"
    rows = [tuple(row.values()) for row in ROWS.to_pylist()]
    record = type("Row", (), dict(zip("snx", rows[0], strict=True)))()
    with pytest.raises((TypeError, NameError, AttributeError, ValueError)):
        function(record, lambda key, value=None: None)


@pytest.mark.parametrize(("function", "below", "said"), NOT_COMPILED, ids=[one[0].__name__ for one in NOT_COMPILED])
def test_what_python_may_do_is_named_by_what_it_was_given(function, below, said):
    problem = refused(function, compile="require", schema={"key": "string", "value": "int64"})
    assert_named(problem, function, below, said)
    assert "raises" not in problem.what
    assert "schema=" in refused(function).hint
