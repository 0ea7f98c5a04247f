"""`:=` in compiled functions."""

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.kernels import _jit

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")

LINES = ["b ab aab", "x", "", "aaa b cc b", "-5", "12 bb"]
TYPES = {"key": "string", "value": "int64"}


def answers(function, how):
    job = km.MapReduce(function, schema=TYPES, order=None, compile=how)
    result = km.from_arrow(pa.table({"line": LINES})).pipe(job).collect(on_bad="reject", max_rejects=9)
    return result.rows(), [] if result.rejects is None else result.rejects.rows()


def in_a_condition(line, emit):
    if (count := len(line.split())) > 1:
        emit(line, count)
    elif (first := line[:1]) and first != "x":
        emit(first, count)


def in_a_loop(line, emit):
    place = -1
    while (place := line.find("b", place + 1)) >= 0:
        emit(line, place)


def of_a_list(line, emit):
    if (words := line.split()) and len(words) > 1:
        words.append("z")
        emit(words[-1] + words[0], len(words))


def evaluated_in_order(line, emit):
    n = 5
    a, b, c = n, (n := len(line)), n
    emit(line, a * 10000 + b * 100 + c)


def of_a_captured_variable(line, emit):
    n = 0
    longer = lambda number: number + n  # noqa: E731
    if (n := len(line)) > 2:
        emit(line, longer(n))


def what_raises_is_rejected(line, emit):
    if (number := int(line)) < 0:
        emit(line, number)


def several_names_of_one_value(line, emit):
    a = b = (c := len(line))
    a += 1
    emit(line, a * 100 + b * 10 + c)


@pytest.mark.parametrize(
    "function",
    [
        in_a_condition,
        in_a_loop,
        of_a_list,
        evaluated_in_order,
        of_a_captured_variable,
        what_raises_is_rejected,
        several_names_of_one_value,
    ],
)
def test_assignments_in_expressions_are_compiled_and_give_what_python_gives(function):
    assert answers(function, "require") == answers(function, "never")
