"""Bools that Python takes for whole numbers, rounded whole numbers, powers alone in a function: as in Python."""

import random

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, UserCodeError
from kernelmill.kernels import _jit

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")

FLAGS = pa.table({"b": [True, False, True, None, False], "j": [1, 2, 3, 4, 5]})
NUMBERS = pa.table({"i": [2**53 + 1, 15, -25, 5, 0, -(2**63), 25, -15], "d": [0, -1, -1, -1, -3, -2, -19, 2]})


def values(table, expression, how, value):
    namespace = {}
    exec(f"def mapped(row, emit):\n    emit('', {expression})\n", namespace)
    schema = {"key": "string", "value": value}
    job = km.MapReduce(namespace["mapped"], schema=schema, order=None, compile=how)
    frame = km.from_arrow(table).pipe(job).collect(on_bad="reject", progress=False)
    return [row[1] for row in frame.rows()], dict(frame.counters)


@pytest.mark.parametrize("is_nullable", [True, False])
def test_signs_and_complements_of_bools_are_ints(is_nullable):
    table = (
        FLAGS
        if is_nullable
        else FLAGS.drop_null().cast(
            pa.schema([pa.field("b", pa.bool_(), nullable=False), pa.field("j", pa.int64(), nullable=False)])
        )
    )
    parts = ["-row.b", "~row.b", "+row.b", "abs(row.b)", "-(row.j > 2)", "~(row.j > 2)", "int(-row.b * 0.5)"]
    parts += ["int(-row.b < 0)", "-row.b % 7", "~~row.b", "round(row.b, -1)", "row.j + (-row.b)"]
    expression = " * 300 + ".join(f"({part})" for part in parts[:7])
    assert values(table, expression, "require", "int64") == values(table, expression, "never", "int64")
    expression = " * 300 + ".join(f"({part})" for part in parts[7:])
    assert values(table, expression, "require", "int64") == values(table, expression, "never", "int64")


def test_the_complement_of_a_bool_makes_a_column_of_ints():
    job = km.MapReduce(lambda row, emit: emit(~row.b, ~(row.j > 2)), order=None, compile="require")
    frame = km.from_arrow(FLAGS.slice(0, 3)).pipe(job).collect(progress=False)
    assert [str(field.type) for field in frame.schema.to_arrow()] == ["int64", "int64"]
    assert frame.rows() == [(-2, -1), (-1, -1), (-2, -2)]


@pytest.mark.parametrize(
    "expression", ["row.i > 1 and row.i", "row.i if row.i > 7 else row.i > 1", "row.i or row.i > 1"]
)
def test_a_bool_or_a_number_that_may_be_none_is_not_compiled_where_it_is_emitted(expression):
    with pytest.raises(UserCodeError) as raised:
        values(NUMBERS, expression, "require", "int64")
    assert raised.value.code == Code.INTERPRETED


def test_rounded_ints_are_ints_and_halves_go_to_the_even_neighbour():
    for expression in ("round(row.i, row.d)", "round(row.i, 0)", "round(row.i, -1)", "round(row.i * 10, -2)"):
        table = NUMBERS if "10" not in expression else NUMBERS.slice(1, 4)
        got = values(table, expression, "require", "int64")
        assert got == values(table, expression, "never", "int64")


@pytest.mark.parametrize(
    "expression", ["row.x ** 2", "row.x ** 0.5", "row.x ** -1", "2.0 ** row.y", "10.0 ** row.y", "pow(row.x, 2)"]
)
def test_a_power_that_is_alone_in_a_function_is_the_library_s(expression):
    drawn = random.Random(1)
    table = pa.table({name: [2.7921824479068738, *(drawn.uniform(0.01, 60.0) for _ in range(3000))] for name in "xy"})
    assert values(table, expression, "require", "float64") == values(table, expression, "never", "float64")
