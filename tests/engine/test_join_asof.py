"""join_asof: the nearest row before or after, against two loops and Polars; the same however both sides meet."""

from __future__ import annotations

import datetime as dt
import warnings

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.exec import joining
from kernelmill.engine.plan import estimates, joinsides

STRATEGIES = ("backward", "forward", "nearest")
KEYS = st.none() | st.sampled_from(["a", "b", "c" * 20])
VALUES = {
    pa.int32(): st.none() | st.integers(-5, 5),
    pa.int64(): st.none() | st.integers(-5, 5) | st.sampled_from([-(2**63), 2**63 - 1]),
    pa.uint64(): st.none() | st.integers(0, 9) | st.just(2**64 - 1),
    pa.float64(): st.none() | st.sampled_from([-1.5, -0.0, 0.0, 0.25, 3.0, float("inf")]),
    pa.date32(): st.none() | st.dates(dt.date(2026, 1, 1), dt.date(2026, 1, 9)),
    pa.timestamp("ms"): st.none() | st.datetimes(dt.datetime(2026, 1, 1), dt.datetime(2026, 1, 1, 0, 0, 9)).map(
        lambda moment: moment.replace(microsecond=0)
    ),
}  # fmt: skip


@pytest.fixture(params=["broadcast", "partitioned", "in pieces", "shared out"])
def way(request, monkeypatch):
    """How both sides come together: the settings of a run."""
    if request.param != "broadcast":
        monkeypatch.setattr(estimates, "BROADCAST_ROWS_MAX", -1)
    if request.param == "in pieces":
        monkeypatch.setattr(joining, "BUILD_ROWS_MAX", 30)
    if request.param == "shared out":
        monkeypatch.setattr(joinsides, "SHARE_RATIO", 1)
    return {"split_size": "64B", "progress": False}


@st.composite
def tables(draw, kind):
    sides = []
    for name in ("a", "b"):
        rows = draw(st.integers(0, 12))
        columns = {
            "k": pa.array(draw(st.lists(KEYS, min_size=rows, max_size=rows)), pa.string()),
            "t": pa.array(draw(st.lists(VALUES[kind], min_size=rows, max_size=rows)), kind),
            name: pa.array(range(rows), pa.int64()),
        }
        sides.append(pa.table(columns))
    return sides


def frame_of(table):
    return km.from_arrow(pa.Table.from_batches(table.to_batches(max_chunksize=3), table.schema))


def naive(left, right, strategy, is_by, tolerance=None):
    """The number of the right row beside each left one, by a look at all of them."""
    found = {}
    there = [row for row in zip(*right.to_pydict().values(), strict=True) if row[1] is not None]
    for key, moment, number in zip(*left.to_pydict().values(), strict=True):
        near = [row for row in there if moment is not None and (not is_by or (key is not None and row[0] == key))]
        if strategy == "backward":
            near = [row for row in near if row[1] <= moment]
            near = [row for row in near if row[1] == max(other[1] for other in near)][-1:]
        elif strategy == "forward":
            near = [row for row in near if row[1] >= moment]
            near = [row for row in near if row[1] == min(other[1] for other in near)][:1]
        elif near:
            least = min(apart(row[1], moment) for row in near)
            near = [row for row in near if apart(row[1], moment) == least]
            near = [row for row in near if row[1] == max(other[1] for other in near)][-1:]
        if tolerance is not None:
            near = [row for row in near if apart(row[1], moment) <= tolerance]
        found[number] = near[0][2] if near else None
    return found


def apart(one, other):
    """How far values are from one another; of equal ones, infinities too, nothing."""
    if one == other:
        return one.__class__(0) if isinstance(one, int | float) else dt.timedelta(0)
    return max(one, other) - min(one, other)


def found_by(frame, **how):
    return dict(frame.select("a", "b").collect(**{"progress": False, **how}).rows())


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("kind", list(VALUES), ids=str)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_each_row_stands_beside_the_one_that_two_loops_find(strategy, kind, data):
    left, right = data.draw(tables(kind))
    by = data.draw(st.sampled_from([None, "k"]))
    joined = frame_of(left).join_asof(frame_of(right), on="t", by=by, strategy=strategy)
    assert found_by(joined) == naive(left, right, strategy, by is not None)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("by", [None, "k"])
def test_the_rows_are_the_same_however_both_sides_come_together(strategy, by, way):
    left = pa.table(
        {"k": [None if n % 7 == 0 else str(n % 5) for n in range(90)], "t": [n * 37 % 101 for n in range(90)]}
    )
    right = pa.table({"k": [str(n % 6) for n in range(40)], "t": [n * 53 % 97 if n % 9 else None for n in range(40)]})
    left, right = left.append_column("a", [range(90)]), right.append_column("b", [range(40)])
    joined = frame_of(left).join_asof(frame_of(right), on="t", by=by, strategy=strategy)
    rows = joined.collect(threads=1, memory="32MiB", **way).rows()
    assert joined.collect(threads=3, **way).rows() == rows
    assert {row[2]: row[-1] for row in rows} == naive(left, right, strategy, by is not None)


@pytest.mark.parametrize("strategy", STRATEGIES)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_rows_are_those_of_polars(strategy, data):
    pl = pytest.importorskip("polars")
    left, right = data.draw(tables(pa.int32()))
    by, tolerance = data.draw(st.sampled_from([None, "k"])), data.draw(st.none() | st.integers(0, 3))
    how = {"on": "t", "by": by, "strategy": strategy, "tolerance": tolerance}
    ours = frame_of(left).join_asof(frame_of(right), **how).collect(progress=False)
    p, q = (pl.DataFrame(table).sort("t", maintain_order=True) for table in (left, right))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = p.join_asof(q.drop_nulls("t"), **how)
    assert ours.columns == theirs.columns
    assert sorted(map(repr, ours.rows())) == sorted(map(repr, theirs.rows()))


@pytest.mark.parametrize(
    ("kind", "values", "tolerance", "expected"),
    [
        (pa.int64(), [10, 14], 3, [(13, 0), (18, None)]),
        (pa.int64(), [-(2**63), 2**63 - 1], 0, [(2**63 - 1, 1), (0, None)]),
        (pa.float64(), [1.0, 2.0], 0.5, [(2.5, 1), (2.75, None)]),
        (pa.date32(), [dt.date(2026, 1, 1)], dt.timedelta(days=2), [
            (dt.date(2026, 1, 3), 0), (dt.date(2026, 1, 4), None),
        ]),
        (pa.timestamp("s"), [dt.datetime(2026, 1, 1)], dt.timedelta(seconds=1, microseconds=1), [
            (dt.datetime(2026, 1, 1, 0, 0, 1), 0), (dt.datetime(2026, 1, 1, 0, 0, 2), None),
        ]),
        (pa.duration("us"), [dt.timedelta(0)], dt.timedelta(microseconds=1), [(dt.timedelta(microseconds=1), 0)]),
    ],
)  # fmt: skip
def test_what_is_farther_off_than_the_tolerance_is_no_match(kind, values, tolerance, expected):
    right = km.from_arrow(pa.table({"t": pa.array(values, kind), "b": pa.array(range(len(values)), pa.int64())}))
    left = km.from_arrow(pa.table({"t": pa.array([moment for moment, _ in expected], kind)}))
    assert left.join_asof(right, on="t", tolerance=tolerance).collect(progress=False).rows() == expected


def test_nan_and_null_have_no_nearest_row():
    right = km.from_arrow(pa.table({"t": [1.0, float("nan"), None], "b": [1, 2, 3]}))
    left = km.from_arrow(pa.table({"t": [float("nan"), None, 2.0], "a": [1, 2, 3]}))
    found = left.join_asof(right, on="t").select("a", "b").collect(progress=False).rows()
    assert found == [(1, None), (2, None), (3, 1)]


def test_columns_are_the_left_ones_and_the_right_ones_without_keys():
    left = km.from_arrow(pa.table({"k": ["x"], "t": [5], "v": [1]}))
    right = km.from_arrow(pa.table({"k": ["x"], "u": [4], "v": [2]}))
    assert left.join_asof(right, left_on="t", right_on="u", by="k").columns == ["k", "t", "v", "u", "v_right"]
    assert left.join_asof(right.rename({"u": "t"}), on="t", by="k", suffix="2").columns == ["k", "t", "v", "v2"]
    later = left.join_asof(right, left_on=km.col("t") - 1, right_on="u", by="k")
    assert later.collect(progress=False).rows() == [("x", 5, 1, 4, 2)]
    assert later.select("v_right").filter(km.col("v_right") > 1).collect(progress=False).rows() == [(2,)]
    assert "asof on k=k" not in later.explain() and ", backward by " in later.explain()


def test_a_test_of_right_columns_stays_above_and_one_of_left_columns_sinks():
    left = km.from_arrow(pa.table({"t": [5, 6], "v": [1, 2]}))
    right = km.from_arrow(pa.table({"t": [4, 5], "w": [9, 7]}))
    joined = left.join_asof(right, on="t")
    assert joined.filter(km.col("w") > 8).collect(progress=False).rows() == []
    assert joined.filter(km.col("v") > 1).collect(progress=False).rows() == [(6, 2, 7)]


@pytest.mark.parametrize(
    ("how", "code"),
    [
        ({"on": "s"}, Code.TYPE_MISMATCH),
        ({"left_on": "t", "right_on": "f"}, Code.TYPE_MISMATCH),
        ({"on": ["t", "f"]}, Code.BAD_SETTING),
        ({}, Code.BAD_SETTING),
        ({"on": "t", "strategy": "closest"}, Code.BAD_SETTING),
        ({"on": "t", "tolerance": -1}, Code.BAD_SETTING),
        ({"on": "t", "tolerance": dt.timedelta(1)}, Code.BAD_SETTING),
        ({"on": "t", "by": "missing"}, Code.COLUMN_NOT_FOUND),
    ],
)
def test_what_does_not_go_is_told_while_the_plan_is_built(how, code):
    frame = km.from_arrow(pa.table({"t": [1], "s": ["a"], "f": [1.0]}))
    with pytest.raises(KernelmillError) as raised:
        frame.join_asof(frame, **how)
    assert raised.value.code is code


def test_right_rows_that_belong_together_and_do_not_fit_are_told(monkeypatch):
    monkeypatch.setattr(joining, "BUILD_ROWS_MAX", 10)
    monkeypatch.setattr(joining, "SHARED_ROWS_MAX", 10)
    frame = frame_of(pa.table({"t": range(50)}))
    with pytest.raises(KernelmillError) as raised:
        frame.join_asof(frame, on="t").collect(progress=False)
    assert raised.value.code is Code.MEMORY_LIMIT and "by=" in raised.value.hint
