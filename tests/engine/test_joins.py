"""Joins run: against Polars, DuckDB and plain loops; the same rows however they come together."""

from __future__ import annotations

import datetime as dt
import math
import warnings

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.events import TaskFinished
from kernelmill.engine.exec import apart, joining, steps
from kernelmill.engine.plan import estimates, joinsides

HOWS = ("inner", "left", "right", "full", "semi", "anti")
INTEGERS = st.none() | st.integers(-3, 3) | st.sampled_from([2**62, -(2**63)])
FLOATS = st.none() | st.sampled_from([0.0, -0.0, 1.5, math.nan, math.inf])
TEXTS = st.none() | st.sampled_from(["", "a", "a\0", "x" * 16, "x" * 17, "ü" * 20])
KINDS = {
    pa.int64(): INTEGERS,
    pa.int32(): st.none() | st.integers(-3, 3),
    pa.uint8(): st.none() | st.integers(0, 4),
    pa.float64(): FLOATS,
    pa.bool_(): st.none() | st.booleans(),
    pa.string(): TEXTS,
    pa.large_string(): TEXTS,
    pa.date32(): st.none() | st.dates(dt.date(2026, 1, 1), dt.date(2026, 1, 4)),
}

KEYS = [
    (pa.int64(),),
    (pa.string(),),
    (pa.float64(),),
    (pa.int32(), pa.large_string()),
    (pa.int32(), pa.date32(), pa.bool_()),
    (pa.int64(), pa.int64()),
]


@pytest.fixture(
    params=[
        "broadcast",
        "broadcast in pieces",
        "broadcast in blocks",
        "partitioned",
        "in pieces",
        "apart",
        "in blocks",
        "shared out",
    ]
)
def way(request, monkeypatch):
    """How both sides come together: the settings of a run."""
    is_broadcast = request.param.startswith("broadcast")
    if not is_broadcast:
        monkeypatch.setattr(estimates, "BROADCAST_ROWS_MAX", -1)
    elif request.param != "broadcast":
        monkeypatch.setattr(joining, "SHARED_ROWS_MAX", -1)
    if request.param.endswith(("in pieces", "apart")):
        monkeypatch.setattr(joining, "BUILD_ROWS_MAX", 3)
    if request.param == "apart":
        monkeypatch.setattr(steps, "REREADS_MAX", 1)
        monkeypatch.setattr(apart, "HELD_BYTES_MAX", 50)
    if request.param == "shared out":
        monkeypatch.setattr(joinsides, "SHARE_RATIO", 1)
        monkeypatch.setattr(joinsides, "SHARES_MAX", 3)
    if request.param.endswith("in blocks"):
        monkeypatch.setattr(joining, "BUILD_BYTES_MAX", 20)
        monkeypatch.setattr(steps, "join_pieces", lambda *_: 1)
    return {"partitions": 1 if is_broadcast else 3, "split_size": "64B", "progress": False}


@st.composite
def tables(draw, kinds):
    """A left and a right table with key columns of these types, and a number in each row."""
    sides = []
    for name in ("a", "b"):
        rows = draw(st.integers(0, 12))
        columns = {
            f"k{n}": pa.array(draw(st.lists(KINDS[kind], min_size=rows, max_size=rows)), kind)
            for n, kind in enumerate(kinds)
        }
        sides.append(pa.table({**columns, name: pa.array(range(rows), pa.int64())}))
    return sides


def frame_of(table):
    """A frame whose rows come in several splits."""
    return frame_of_size(table, 3)


def frame_of_size(table, rows):
    """A frame of batches of so many rows."""
    return km.from_arrow(pa.Table.from_batches(table.to_batches(max_chunksize=rows), table.schema))


def key_of(row, count, nulls_equal):
    if None in row[:count] and not nulls_equal:
        return object()
    return tuple(
        "nan" if isinstance(value, float) and math.isnan(value) else (value is None, value) for value in row[:count]
    )


def naive(left, right, how, keys, nulls_equal=False):
    """The rows of a join by two loops; of rows with equal keys all pairs."""
    sides = [list(zip(*table.to_pydict().values(), strict=True)) for table in (left, right)]
    own, other = ([key_of(row, keys, nulls_equal) for row in side] for side in sides)
    pairs = [(i, j) for i, key in enumerate(own) for j, there in enumerate(other) if key == there]
    if how in ("semi", "anti"):
        found = {i for i, _ in pairs}
        return [row for i, row in enumerate(sides[0]) if (i in found) == (how == "semi")]
    if how in ("left", "full"):
        pairs += [(i, None) for i in range(len(own)) if i not in {i for i, _ in pairs}]
    if how in ("right", "full"):
        pairs += [(None, j) for j in range(len(other)) if j not in {j for _, j in pairs}]
    rows = []
    for i, j in pairs:
        one = sides[0][i] if i is not None else (None,) * (keys + 1)
        two = sides[1][j] if j is not None else (None,) * (keys + 1)
        whole = {"full": one + two, "right": one[keys:] + two}.get(how, one + two[keys:])
        rows.append(whole)
    return rows


def in_any_order(rows):
    return sorted(map(repr, rows))


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("kinds", KEYS, ids=str)
@settings(max_examples=8, deadline=None)
@given(data=st.data())
def test_rows_are_those_of_two_loops(how, kinds, data):
    left, right = data.draw(tables(kinds))
    nulls_equal = data.draw(st.booleans())
    keys = [f"k{n}" for n in range(len(kinds))]
    joined = frame_of(left).join(frame_of(right), keys, how, nulls_equal=nulls_equal)
    expected = in_any_order(naive(left, right, how, len(keys), nulls_equal))
    assert in_any_order(joined.collect(progress=False, partitions=2).rows()) == expected


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("kind", list(KINDS), ids=str)
@settings(max_examples=4, deadline=None)
@given(data=st.data())
def test_rows_are_those_of_polars(how, kind, data):
    pl = pytest.importorskip("polars")
    left, right = data.draw(tables((kind,)))
    nulls_equal = data.draw(st.booleans())
    ours = frame_of(left).join(frame_of(right), "k0", how, nulls_equal=nulls_equal).collect(progress=False)
    theirs = pl.DataFrame(left).join(pl.DataFrame(right), on="k0", how=how, nulls_equal=nulls_equal)
    assert ours.columns == theirs.columns
    assert in_any_order(ours.rows()) == in_any_order(theirs.rows())


@pytest.mark.parametrize("how", HOWS)
@settings(max_examples=5, deadline=None)
@given(data=st.data())
def test_rows_are_those_of_duckdb(how, data):
    duckdb = pytest.importorskip("duckdb")
    left, right = data.draw(tables((pa.int64(), pa.string())))
    ours = (
        frame_of(left).join(frame_of(right), ["k0", "k1"], how).select("a", *([] if how in ("semi", "anti") else ["b"]))
    )
    columns = "l.a" if how in ("semi", "anti") else "l.a, r.b"
    with duckdb.connect() as connection:
        connection.register("lefts", left), connection.register("rights", right)
        join = f"{how.upper()} JOIN rights r ON l.k0 = r.k0 AND l.k1 = r.k1"
        theirs = connection.execute(f"SELECT {columns} FROM lefts l {join}").fetchall()
    assert in_any_order(ours.collect(progress=False).rows()) == in_any_order(theirs)


@pytest.mark.parametrize("how", HOWS)
def test_the_rows_are_the_same_however_both_sides_come_together(how, way):
    left = pa.table({"k0": [i * i % 11 if i % 5 else None for i in range(60)], "a": range(60)})
    right = pa.table({"k0": [i % 13 if i % 7 else None for i in range(40)], "b": range(40)})
    joined = frame_of(left).join(frame_of(right), "k0", how)
    expected = in_any_order(naive(left, right, how, 1))
    first = joined.collect(threads=1, memory="32MiB", **way).rows()
    assert in_any_order(first) == expected
    assert joined.collect(threads=2, memory="32MiB", **way).rows() == first
    assert joined.collect(threads=3, **way).rows() == first


def test_a_cross_join_gives_all_pairs_by_left_row_then_right_row(monkeypatch):
    monkeypatch.setattr(joining, "PAIRS_MAX", 7)
    left, right = frame_of(pa.table({"a": range(5)})), frame_of(pa.table({"a": range(4)}))
    joined = left.join(right, how="cross")
    assert joined.columns == ["a", "a_right"]
    assert joined.collect(progress=False).rows() == [(a, b) for a in range(5) for b in range(4)]
    assert left.join(right.head(0), how="cross").collect(progress=False).rows() == []


def test_a_cross_join_of_a_large_side_gives_all_pairs(monkeypatch):
    monkeypatch.setattr(joining, "SHARED_BYTES_MAX", 30)
    monkeypatch.setattr(joining, "BUILD_BYTES_MAX", 30)
    left, right = frame_of(pa.table({"a": range(20)})), frame_of(pa.table({"b": range(11)}))
    pairs = left.join(right, how="cross").collect(progress=False).rows()
    assert sorted(pairs) == [(a, b) for a in range(20) for b in range(11)]


def test_a_build_side_that_was_expected_to_be_small_is_joined_in_pieces_whatever_memory_there_is(monkeypatch):
    """Each row of the right side becomes 200 of them, of which the plan knows nothing."""
    monkeypatch.setattr(joining, "SHARED_BYTES_MAX", 1 << 18)
    monkeypatch.setattr(joining, "BUILD_BYTES_MAX", 1 << 18)
    monkeypatch.setattr(apart, "HELD_BYTES_MAX", 1 << 14)
    left = pa.table({"k": [i % 700 for i in range(5000)], "a": range(5000)})
    left = frame_of_size(left, 1000)
    right = km.from_arrow(pa.table({"k": range(500), "n": [[i] * 200 for i in range(500)]}))
    joined = left.join(right.explode("n"), "k", "left").filter(km.col("a") % 50 == 0)
    ways = [{"threads": 1, "memory": "32MiB"}, {"threads": 2, "memory": "32MiB"}, {"threads": 2, "memory": "1GiB"}]
    found = [joined.collect(progress=False, split_size="16KB", **way).rows() for way in ways]
    assert found[1] == found[0] and found[2] == found[0]
    kept = [(i % 700, i) for i in range(0, 5000, 50)]
    expected = [(k, a, n) for k, a in kept for n in ([k] * 200 if k < 500 else [None])]
    assert in_any_order(found[0]) == in_any_order(expected)


@pytest.mark.parametrize("how", ["inner", "left", "semi", "anti"])
def test_the_probe_rows_of_one_key_are_shared_by_several_tasks(monkeypatch, how):
    """Nine of ten probe rows have the key 7, and most of the work would be one task's."""
    monkeypatch.setattr(estimates, "BROADCAST_ROWS_MAX", -1)
    left = pa.table({"k": [7 if i % 10 else i % 13 for i in range(2_000)], "a": range(2_000)})
    right = pa.table({"k": [*range(12), 7], "b": [str(i) for i in range(13)]})
    joined = frame_of_size(left, 50).join(frame_of_size(right, 5), "k", how)
    tasks = []

    def hear(event):
        if isinstance(event, TaskFinished) and event.rows:
            tasks.append((event.attempt.task.stage, event.rows))

    found = joined.collect(progress=hear, threads=2, partitions=4, split_size="1KB").rows()
    last = max(stage for stage, _ in tasks)
    most = max(rows for stage, rows in tasks if stage == last)
    assert most < len(found) / 3 or how == "anti"  # whose rows are of another key
    assert joined.collect(progress=False, threads=1, partitions=4, split_size="1KB", memory="32MiB").rows() == found
    assert in_any_order(found) == in_any_order(naive(left, right, how, 1))


def test_dictionaries_and_integers_of_other_widths_are_read_as_their_values(way):
    left = pa.table({"k": pa.array(["x", None, "y", "x"]).dictionary_encode(), "n": pa.array([1, 2, 3, 4], pa.int8())})
    right = pa.table({"k": ["y", "x"], "n": pa.array([3, 1], pa.int64()), "c": [10, 20]})
    one, two = km.from_arrow(left), km.from_arrow(right)
    assert sorted(one.join(two, "k").select("n", "c").collect(**way).rows()) == [(1, 20), (3, 10), (4, 20)]
    assert sorted(two.join(one, ["k", "n"]).collect(**way).rows()) == [("x", 1, 20), ("y", 3, 10)]


@pytest.mark.parametrize("how", HOWS)
def test_a_side_without_rows_joins(how, way):
    some, none = frame_of(pa.table({"k0": ["a", "b"], "a": [1, 2]})), pa.table({"k0": ["a"], "b": [1]}).slice(0, 0)
    expected = {"left": [("a", 1, None), ("b", 2, None)], "full": [("a", 1, None, None), ("b", 2, None, None)]}
    expected["anti"] = [("a", 1), ("b", 2)]
    found = some.join(km.from_arrow(none), "k0", how).collect(**way).rows()
    assert sorted(found) == expected.get(how, [])


def test_many_rows_of_one_key_come_a_batch_at_a_time(monkeypatch, way):
    monkeypatch.setattr(joining, "PAIRS_MAX", 50)
    left = frame_of(pa.table({"k": [1] * 30 + [2], "s": [f"left {i}" for i in range(31)]}))
    right = frame_of(pa.table({"k": [2] + [1] * 20, "t": [f"right {i}" for i in range(21)]}))
    batches = list(left.join(right, "k").collect_batches(**way))
    rows = sorted(
        (s, t) for batch in batches for s, t in zip(*batch.select(["s", "t"]).to_pydict().values(), strict=True)
    )
    expected = [(f"left {i}", f"right {j}") for i in range(30) for j in range(1, 21)] + [("left 30", "right 0")]
    assert rows == sorted(expected)


@pytest.mark.parametrize(
    ("validate", "repeats"),
    [("m:1", "right"), ("1:1", "right"), ("1:m", "left"), ("1:1", "left")],
)
@pytest.mark.parametrize("keys", [["k"], ["k", "s"]])
def test_a_key_twice_is_named_where_validate_forbids_it(validate, repeats, keys, way):
    once = pa.table({"k": [1, 2, 3, None, None], "s": ["a", "b", "c", "d", "d"]})
    twice = pa.table({"k": [5, 7, 9, 7, None], "s": ["e", "g", "i", "g", "d"]})
    left, right = (twice, once) if repeats == "left" else (once, twice)
    joined = frame_of(left).join(frame_of(right), keys, validate=validate)
    with pytest.raises(KernelmillError) as caught:
        joined.collect(**way)
    assert caught.value.code is Code.KEY_REPEATED
    assert repeats in caught.value.what and "'k': 7" in caught.value.what
    assert frame_of(once).join(frame_of(once), keys, validate=validate).collect(**way).height == 3


def test_a_join_of_joins_and_groups_gives_what_polars_gives(way):
    pl = pytest.importorskip("polars")
    orders = pa.table({"o": range(40), "c": [i % 7 for i in range(40)], "price": [float(i) for i in range(40)]})
    people = pa.table({"c": range(9), "n": [i % 3 for i in range(9)]})
    nations = pa.table({"n": range(2), "name": ["DE", "FR"]})
    a, b, c = (frame_of(table) for table in (orders, people, nations))
    ours = a.join(b, "c").join(c, "n", "left").group_by("name").agg(km.col("price").sum()).sort("name")
    p, q, r = (pl.from_arrow(table) for table in (orders, people, nations))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = p.join(q, on="c").join(r, on="n", how="left").group_by("name").agg(pl.col("price").sum()).sort("name")
    assert ours.collect(**way).rows() == theirs.rows()
