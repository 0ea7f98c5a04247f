"""Text read as moments by a format: what the format's words allow, and what no calendar has."""

from __future__ import annotations

from datetime import datetime, timedelta

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.exec.evaluate import evaluate
from kernelmill.engine.expr import Expr, col


def run(expr: Expr, values, dtype) -> list:
    return evaluate(expr.node, pa.record_batch({"a": pa.array(values, dtype)})).to_pylist()


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        (None, "2020-02-29 23:59:59", "2020-02-30 00:00:00"),
        ("%d/%m/%Y", "29/02/2020", "31/02/2020"),
        ("%d/%m/%Y", "1/4/2021", "31/4/2021"),
        ("%Y%m%d", "20240229", "20230229"),
        ("%Y %j", "2020 366", "2021 366"),
        ("%Y-%m-%d %H:%M:%S", "2020-01-01 23:59:59", "2020-01-01 23:59:60"),
        ("%I:%M:%S %p %d.%m.%y", "01:02:59 PM 30.04.21", "01:02:61 PM 30.04.21"),
        ("%Y-%m-%dT%H:%M%z", "2020-03-01T01:00+0530", "2020-02-30T01:00+0530"),
    ],
)
def test_a_moment_that_does_not_exist_is_not_read_as_another(form, good, bad):
    parse, values = col("a").str.to_datetime, [good, None, bad]
    with pytest.raises(KernelmillError) as caught:
        run(parse(form), values, pa.string())
    assert (caught.value.code, repr(bad) in caught.value.what) == (Code.CAST, True)
    read = run(parse(form, strict=False), values, pa.large_string())
    assert [moment is None for moment in read] == [False, True, True]
    assert run(parse(form), values[:2], pa.string()) == read[:2]


def test_moments_are_read_as_python_reads_them():
    form = "%d/%m/%Y %H:%M:%S"
    days = [datetime(2019, 1, 1, 23, 59, 59) + timedelta(days=n) for n in range(800)]
    assert run(col("a").str.to_datetime(form), [f"{day:{form}}" for day in days], pa.string()) == days


@pytest.mark.parametrize(
    ("form", "good", "bad"),
    [
        ("%Y-%m-%d", "2020-1-1", " 2020-01-01"),
        ("%Y-%m-%d", "2020-01-01", "2020- 1- 1"),
        ("%Y-%m-%d %H:%M", "2020-01-01   10:00", "2020-01-01 10: 0"),
        ("%e.%m.(%Y)", " 3.12.(2020)", "3. 12.(2020)"),
        ("%d %B%%é%n%Y", "3 March%é  2020", "3 March%é 2 020"),
    ],
)
def test_spaces_are_read_only_where_the_format_has_them(form, good, bad):
    read = run(col("a").str.to_datetime(form, strict=False), [good, bad], pa.string())
    assert [moment is None for moment in read] == [False, True]
    with pytest.raises(KernelmillError) as caught:
        run(col("a").str.to_datetime(form), [good, bad], pa.string())
    assert caught.value.code is Code.CAST


def test_formats_of_several_parts_are_read():
    for form, text in (
        ("%c", "Tue Dec 22 00:00:00 2009"),
        ("%D %r", "12/22/09 12:00:00 AM"),
    ):
        assert run(col("a").str.to_datetime(form), [text], pa.string()) == [datetime(2009, 12, 22)]


@pytest.mark.parametrize("dtype", [pa.date32(), pa.timestamp("us")], ids=str)
@pytest.mark.parametrize("form", ["%Z", "%H:%M %z"])
def test_a_zone_is_written_only_of_moments_that_have_one(dtype, form):
    frame = km.from_arrow(pa.table({"a": pa.array([0], dtype)}))
    with pytest.raises(KernelmillError) as caught:
        frame.select(col("a").dt.strftime(form))
    assert (caught.value.code, "test_moments.py:" in caught.value.where) == (Code.BAD_SETTING, True)


def test_a_zone_is_written():
    frame = km.from_arrow(pa.table({"a": pa.array([0], pa.timestamp("us", "UTC"))}))
    assert frame.select(col("a").dt.strftime("%H %Z %z")).collect().rows() == [("00 UTC +0000",)]
