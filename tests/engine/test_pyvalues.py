"""Values that Python has no form for come out as text wherever rows are shown, handed on or set aside."""

from __future__ import annotations

import json
from datetime import datetime, time, timedelta

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.pyvalues import python_value, python_values

FINE = pa.array([1, None, 1000], pa.timestamp("ns"))
FINE_TEXT = "1970-01-01 00:00:00.000000001"
MICROSECOND = datetime(1970, 1, 1, microsecond=1)
FINE_VALUES = [FINE_TEXT, None, MICROSECOND]
AWKWARD = [
    (FINE, FINE_VALUES),
    (pa.array([1], pa.timestamp("ns", "Europe/Paris")), ["1970-01-01 01:00:00.000000001+0100"]),
    (pa.array([1], pa.timestamp("us", "Nowhere/Nothing")), ["1970-01-01 00:00:00.000001Z"]),
    (pa.array([1 << 62], pa.timestamp("s")), ["4611686018427387904 s"]),
    (pa.array([253402300800], pa.timestamp("s")), ["10000-01-01 00:00:00"]),
    (pa.array([2**31 - 1], pa.int32()).cast(pa.date32()), ["2147483647 day"]),
    (pa.array([86_400_000 << 32]).view(pa.date64()), [f"{86_400_000 << 32} ms"]),
    (pa.array([1, 1000], pa.duration("ns")), ["1 ns", timedelta(microseconds=1)]),
    (pa.array([1 << 62], pa.duration("s")), ["4611686018427387904 s"]),
    (pa.array([1, 1000]).cast(pa.time64("ns")), ["00:00:00.000000001", time(microsecond=1)]),
    (pa.ListArray.from_arrays([0, 2, 3], FINE), [[FINE_TEXT, None], [MICROSECOND]]),
    (pa.FixedSizeListArray.from_arrays(FINE, 3), [FINE_VALUES]),
    (pa.array([[1 << 62], None, []], pa.large_list(pa.timestamp("s"))), [["4611686018427387904 s"], None, []]),
    (pa.StructArray.from_arrays([FINE], ["a"]), [{"a": value} for value in FINE_VALUES]),
    (
        pa.MapArray.from_arrays([0, 1, 3], pa.array(["a", "b", "c"]), FINE),
        [[("a", FINE_TEXT)], [("b", None), ("c", MICROSECOND)]],
    ),
    (FINE.dictionary_encode(), FINE_VALUES),
    (pa.StructArray.from_arrays([pa.array([1]), pa.array(["x"])], ["a", "a"]), [[("a", 1), ("a", "x")]]),
]
awkward = pytest.mark.parametrize(("column", "values"), AWKWARD, ids=lambda given: str(getattr(given, "type", "")))


@awkward
def test_every_value_has_a_python_form(column, values):
    assert python_values(column) == python_values(pa.chunked_array([column])) == values
    assert [python_value(value) for value in column] == values


@awkward
def test_a_result_shows_and_hands_on_every_value(column, values):
    result = km.from_arrow(pa.table({"x": column})).collect()
    assert result.rows() == [(value,) for value in values]
    assert (result.row(0), result.to_dict()) == ((values[0],), {"x": values})
    assert repr(result).count("\n") == 2 + len(values)
    assert "<td>" in result._repr_html_()


@awkward
def test_a_row_is_set_aside_whatever_is_in_it(column, values):
    frame = km.from_arrow(pa.table({"x": column, "text": ["a"] * len(column)}))
    rejects = frame.with_columns(n=km.col("text").cast("int64")).collect(on_bad="reject").rejects
    records = [json.loads(row) for row in rejects.to_dict()["record"]]
    assert [row["x"] for row in records] == json.loads(json.dumps(values, default=str))


def test_values_in_python_types_are_what_arrow_gives():
    for column in (pa.array([1, None]), pa.array(["a"]), pa.array([b"\xff"]), pa.array([[1.5], None]), pa.nulls(2)):
        assert python_values(column) == column.to_pylist()


def test_an_error_can_name_a_moment_that_python_has_not():
    frame = km.from_arrow(pa.table({"x": pa.array([1 << 62], pa.timestamp("s"))}))
    with pytest.raises(km.errors.CastError, match="4611686018427387904 s"):
        frame.select(km.col("x").cast("timestamp[ns]")).collect()


def test_a_filter_may_name_a_moment_that_python_has_not():
    for column in (FINE, FINE.dictionary_encode()):
        frame = km.from_arrow(pa.table({"x": column})).filter(km.col("x") == FINE[0])
        assert FINE_TEXT in frame.explain()
        assert frame.collect().rows() == [(FINE_TEXT,)]
