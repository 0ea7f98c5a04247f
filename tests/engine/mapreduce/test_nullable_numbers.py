"""Numbers that may be None, in ranges and as conditions of compiled maps: as in plain Python, record by record."""

from __future__ import annotations

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.kernels import _jit

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")

LOW, HIGH = -(2**63), 2**63 - 1
NUMBERS = {
    "n": [0, 1, 5, -3, None, HIGH, LOW, 9],
    "x": [0.0, 1.5, float("nan"), -3.0, None, float("inf"), -1e300, 1e18],
    "b": [True, False, None, True, None, False, True, False],
    "low": [0, 1, 5, 6, 0, HIGH - 1, LOW, 9],
    "high": [1, 4, 1, -9, 7, HIGH, LOW + 1, 9],
}


def table(is_nullable):
    columns = NUMBERS if is_nullable else {k: [0 if v is None else v for v in vs] for k, vs in NUMBERS.items()}
    columns = columns | {"b": [bool(flag) for flag in columns["b"]]} if not is_nullable else columns
    kinds = {"n": pa.int64(), "x": pa.float64(), "b": pa.bool_(), "low": pa.int64(), "high": pa.int64()}
    return pa.table(columns, schema=pa.schema([pa.field(name, kind, is_nullable) for name, kind in kinds.items()]))


RANGES = ["range(6)", "range(1, 6, 2)", "range(5, -4, -1)", "range(9, -9, -4)"]
PARTS = ["row.n in", "row.x not in", "row.b in"]
IN_RANGES = [f"{part} {numbers}" for numbers in RANGES for part in PARTS]
IN_RANGES += ["row.low in range(-9223372036854775808, 9223372036854775807, 3)"]  # None is looked for one by one
OF_COLUMNS = ["row.n in range(row.low, row.high)", "row.low in range(row.high, row.n or 1, -1)", "None in range(3)"]
CONDITIONS = ["not row.n", "not row.x", "bool(row.n)", "bool(row.x)", "(row.n and row.x)", "(row.x or row.low > 5)"]


def function_of(tests):
    """A map that emits one text of ones and zeros a record."""
    lines = [f"    s += '1' if {test} else '0'" for test in tests]
    namespace = {}
    exec("\n".join(["def mapped(row, emit):", "    s = ''", *lines, "    emit(s)\n"]), namespace)
    return namespace["mapped"]


@pytest.mark.parametrize("is_nullable", [True, False])
@pytest.mark.parametrize("tests", [IN_RANGES, OF_COLUMNS, CONDITIONS], ids=["ranges", "of columns", "conditions"])
def test_ranges_and_conditions_are_as_in_python(tests, is_nullable):
    rows = table(is_nullable)
    if is_nullable and tests is OF_COLUMNS:
        rows = rows.set_column(0, "n", pa.array([n or 0 for n in NUMBERS["n"]]))
    function = function_of(tests)
    found = km.MapReduce(function, schema={"key": "string"}, order=None, compile="require")(km.from_arrow(rows))
    expected = km.MapReduce(function, schema={"key": "string"}, order=None, compile="never")(km.from_arrow(rows))
    assert found.collect(progress=False).rows() == expected.collect(progress=False).rows()


def test_a_number_or_another_in_its_place_is_one_of_both():
    job = km.MapReduce(
        lambda row, emit: emit(row.n or 7, row.x or 0.5), schema={"key": "int64", "value": "float64"}, order=None
    )
    rows = km.from_arrow(pa.table({"n": [0, 2, None], "x": [None, 0.0, 1.5]})).pipe(job).collect(progress=False).rows()
    assert rows == [(7, 0.5), (2, 0.5), (7, 1.5)]
