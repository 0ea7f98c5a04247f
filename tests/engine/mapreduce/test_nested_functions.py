"""Lambdas, comprehensions and nested functions in compiled functions: they raise, and take arguments, as in Python."""

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.kernels import _jit

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")

LINES = ["5", "x", "abc def", "", "10 b", "-3"]


def answers(function, how, lines):
    types = {"key": "string", "value": "int64"}
    job = km.MapReduce(function, schema=types, order=None, compile=how)
    result = km.from_arrow(pa.table({"line": lines})).pipe(job).collect(on_bad="reject", max_rejects=len(lines))
    return result.rows(), [] if result.rejects is None else result.rejects.rows()


def same_both_ways(function, lines=LINES):
    """What a function gives as plain Python, once its compiled code has given the same."""
    compiled, plain = answers(function, "require", lines), answers(function, "never", lines)
    assert compiled == plain
    return plain


def unused_int(line, emit):
    n = int(line)  # noqa: F841 - it must raise all the same
    emit(line, sum([1 for _ in line]))


def unused_item(line, emit):
    line.split()[1]
    longer = lambda n: n + 1  # noqa: E731
    emit(line, longer(1))


def unused_place(line, emit):
    places = [0, 0]
    places[len(line)] = 1
    emit(line, sum(1 for _ in line))


def unused_in_helper(line):
    10 // len(line)
    return sum([1 for _ in line])


def unused_quotient(line, emit):
    emit(line, unused_in_helper(line))


def unused_extreme(line, emit):
    n = max([len(w) for w in line.split()])  # noqa: F841 - it must raise all the same
    emit(line, 1)


def unused_in_lambda(line, emit):
    def checked(text):
        int(text[:1])
        return sum([1 for _ in text])

    emit(line, checked(line))


@pytest.mark.parametrize(
    ("function", "rejected"),
    [
        (unused_int, 4),
        (unused_item, 4),
        (unused_place, 3),
        (unused_quotient, 1),
        (unused_extreme, 1),
        (unused_in_lambda, 4),
    ],
)
def test_what_raises_does_so_though_nobody_uses_its_value(function, rejected):
    rows, rejects = same_both_ways(function)
    assert (len(rows), len(rejects)) == (len(LINES) - rejected, rejected)


def with_handler(line, emit):
    letters = [c + c for c in line]
    n = len(letters)
    kind = 1
    try:
        n = n - int(line)
    except ValueError:
        kind = 2
    emit(line, kind)


def test_a_handler_runs_for_a_value_that_nobody_uses():
    rows, _ = same_both_ways(with_handler)
    assert sorted(rows) == [("", 2), ("-3", 1), ("10 b", 2), ("5", 1), ("abc def", 2), ("x", 2)]


def called(line, emit):
    start = 2

    def weighed(text, by=2, plus=start):
        return len(text) * by + plus

    def kept(text, out=[0]):  # noqa: B006 - one list for all calls
        out.append(len(text))
        return len(out)

    start = 5
    emit(line, weighed(line, by=0))
    emit(line, weighed(line, 3))
    emit(line, weighed(plus=start, text=line))
    emit(line, (lambda a, b=2: a * 10 + b)(1, b=5))
    emit(line, kept(line) + 10 * kept(line))
    for i in range(2):
        emit(line, (lambda x, i=i: x * 10 + i)(1) + (lambda x, i=i: x + i)(1, i=7))


def test_arguments_by_name_and_defaults_of_nested_functions_are_pythons():
    rows, _ = same_both_ways(called, ["abc"])
    assert [value for _, value in rows] == [2, 11, 11, 15, 32, 18, 19]
