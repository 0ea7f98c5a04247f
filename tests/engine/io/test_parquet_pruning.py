"""Pruning against brute force: a row group that holds a matching row is never skipped, whatever the filter."""

import datetime as dt
import math
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelmill.engine import expr as ex
from kernelmill.engine.exec.evaluate import evaluate
from kernelmill.engine.io.parquet import parquet_info
from kernelmill.engine.io.pruning import ColumnStats, may_match
from kernelmill.engine.nodes import Call, Column, Literal
from kernelmill.engine.splits import FileStamp

DAY = dt.date(2026, 1, 1)
VALUES = {
    "i": st.integers(-4, 4),
    "u": st.integers(2**63, 2**63 + 3),
    "w": st.integers(2**53 - 2, 2**53 + 2),
    "f": st.sampled_from([-1.5, -0.0, 0.0, 0.1, 1.0, 2.5, math.nan, math.inf]),
    "g": st.sampled_from([0.5, float.fromhex("0x1.99999ap-4"), 2.0, math.nan]),
    "s": st.sampled_from(["", "a", "ab", "b", "é", "z" * 100, "z" * 101]),
    "b": st.booleans(),
    "d": st.integers(0, 3).map(lambda days: DAY + dt.timedelta(days)),
    "t": st.integers(0, 3).map(lambda hours: dt.datetime(2026, 1, 1, hours)),
}
TYPES = {
    "i": pa.int32(), "u": pa.uint64(), "w": pa.int64(), "f": pa.float64(), "g": pa.float32(),
    "s": pa.string(), "b": pa.bool_(), "d": pa.date32(), "t": pa.timestamp("us"),
}  # fmt: skip
SCHEMA = pa.schema(list(TYPES.items()))
COMPARISONS = ["eq", "ne", "lt", "le", "gt", "ge"]


def literals(name):
    others = {"i": st.floats(-3, 3, width=16), "w": st.sampled_from([2.0**53, 2.0**53 - 1]), "g": st.just(0.1)}
    return st.one_of(VALUES[name], others.get(name, VALUES[name]))


@st.composite
def comparisons(draw):
    name = draw(st.sampled_from(sorted(TYPES)))
    kind = draw(st.sampled_from([*COMPARISONS, "null", "not null", "in", "between", "bool"]))
    column = ex.col(name)
    if kind == "null":
        return column.is_null()
    if kind == "not null":
        return column.is_not_null()
    if kind == "bool" and name == "b":
        return column
    if kind == "in" and name != "u":  # a list of values beyond int64 has no type of its own
        return column.is_in(draw(st.lists(VALUES[name], min_size=1, max_size=3)))
    if kind == "between":
        closed = draw(st.sampled_from(["both", "left", "right", "none"]))
        return column.is_between(draw(literals(name)), draw(literals(name)), closed=closed)
    compare = {
        "eq": lambda a, b: a == b, "ne": lambda a, b: a != b, "lt": lambda a, b: a < b,
        "le": lambda a, b: a <= b, "gt": lambda a, b: a > b, "ge": lambda a, b: a >= b,
    }[kind if kind in COMPARISONS else "eq"]  # fmt: skip
    value = draw(literals(name))
    return compare(column, ex.lit(value)) if draw(st.booleans()) else compare(ex.lit(value), column)


PREDICATES = st.recursive(
    comparisons(),
    lambda inner: st.one_of(
        st.builds(lambda a, b: a & b, inner, inner),
        st.builds(lambda a, b: a | b, inner, inner),
        inner.map(lambda a: ~a),
    ),
    max_leaves=4,
)
ROW = st.fixed_dictionaries({name: st.one_of(st.none(), values) for name, values in VALUES.items()})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pruning")


def matches(node, batch):
    return any(value is True for value in evaluate(node, batch).to_pylist())


@given(
    groups=st.lists(st.lists(ROW, min_size=3, max_size=3), min_size=1, max_size=3),
    predicates=st.lists(PREDICATES, min_size=4, max_size=8),
)
def test_a_skipped_row_group_holds_no_matching_row(folder, groups, predicates):
    path = str(folder / "a.parquet")
    table = pa.Table.from_pylist([row for group in groups for row in group], schema=SCHEMA)
    pq.write_table(table, path, row_group_size=3)
    status = os.stat(path)
    info = parquet_info(FileStamp(path, status.st_size, status.st_mtime_ns))
    for number, group in enumerate(info.row_groups):
        (batch,) = table.slice(3 * number, 3).combine_chunks().to_batches()
        for predicate in predicates:
            if not may_match(predicate.node, group.stats):
                assert not matches(predicate.node, batch), str(predicate.node)


def stats(lowest, highest, *, kind=None, nulls=0, rows=10):
    guessed = kind or pa.scalar(lowest).type
    return {"x": ColumnStats(guessed, rows, nulls, lowest, highest)}


X = ex.col("x")


@pytest.mark.parametrize(
    ("predicate", "found"),
    [
        (X > 9, False),
        (X >= 9, True),
        (X == 4, False),
        (ex.lit(4) > X, False),
        (X.is_in([1, 2, 3]), False),
        (X.is_in([1, 7]), True),
        (X.is_between(1, 4), False),
        (X.is_between(9, 12, closed="right"), False),
        (X.is_null(), False),
        (~(X >= 5), False),
        (~(X > 5), True),
        ((X > 6) & (X < 5), False),
        ((X > 9) | (X == 5), True),
        (X > 8.5, True),
        (X < 4.5, False),
        (X == "text", True),
        (ex.col("other") == 4, True),
        ((X + 1) > 100, True),
    ],
)
def test_integers_between_five_and_nine(predicate, found):
    assert may_match(predicate.node, stats(5, 9)) is found


def test_a_group_of_nulls_matches_only_is_null():
    empty = {"x": ColumnStats(pa.int64(), 10, 10)}
    assert may_match(X.is_null().node, empty)
    assert not any(may_match(p.node, empty) for p in (X > 1, ~(X > 1), X != 1, X.is_not_null()))


def test_one_value_is_known_to_be_equal_unless_it_is_text_or_may_hide_a_nan():
    assert not may_match((X != 5).node, stats(5, 5))
    assert may_match((X != 5.0).node, stats(5.0, 5.0))
    assert may_match((~(X < 9.0)).node, stats(5.0, 5.0))
    assert may_match((X != b"ab").node, stats(b"ab", b"ab", kind=pa.binary()))


def test_is_in_finds_a_nan_that_the_bounds_do_not_show():
    assert may_match(X.is_in([math.nan]).node, stats(1.0, 2.0))
    assert not may_match(X.is_in([3.0]).node, stats(1.0, 2.0))
    assert may_match((~X.is_in([3.0])).node, stats(1.0, 2.0))


def test_unknown_counts_and_bounds_leave_everything_possible():
    unknown = {"x": ColumnStats(pa.int64(), 10)}
    assert all(may_match(p.node, unknown) for p in (X > 1, X.is_null(), X.is_not_null(), ~(X == 1)))


def test_a_null_literal_matches_nothing_and_an_unknown_function_anything():
    null = Literal(pa.scalar(None, pa.int64()))
    assert not may_match(Call("eq", (Column("x"), null)), stats(5, 9))
    assert may_match(Call("is_prime", (Column("x"),)), stats(5, 9))
