"""Columns of every type that has an order are keys of groups, joins, sorts and unique: as plain Python says."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pytest

import kernelmill as km

ORDER = [3, None, 1, 0, 3, 2, None, 1, 3, 0, 2, 2]
"""Which of a type's four values, in ascending order, each row has."""
DAY = dt.datetime(2026, 3, 1)
VALUES = {
    "bool": (pa.bool_(), [False, True]),
    "int8": (pa.int8(), [-128, -1, 0, 127]),
    "uint64": (pa.uint64(), [0, 1, 1 << 63, (1 << 64) - 1]),
    "float16": (pa.float16(), [-1.5, 0.0, 0.25, 2.0]),
    "float32": (pa.float32(), [-1.5, 0.0, 0.25, float("inf")]),
    "date32": (pa.date32(), [dt.date(1960, 1, 1), dt.date(1970, 1, 1), dt.date(2026, 1, 1), dt.date(2026, 1, 2)]),
    "time64": (pa.time64("us"), [dt.time(0), dt.time(0, 0, 0, 1), dt.time(12), dt.time(23)]),
    "timestamp": (pa.timestamp("us", "Europe/Oslo"), [DAY - dt.timedelta(days=n) for n in (20_000, 2, 1, 0)]),
    "duration": (pa.duration("ms"), [dt.timedelta(days=n) for n in (-3, -1, 0, 9)]),
    "decimal": (pa.decimal128(38, 2), [Decimal("-1e30"), Decimal("-0.01"), Decimal("0.00"), Decimal("1e30")]),
    "fixed": (pa.binary(3), [b"\0\0\0", b"a\0\0", b"a\0b", b"\xff\xff\xff"]),
    "string": (pa.string(), ["", "a", "a" * 40, "é"]),
    "large_string": (pa.large_string(), ["", "a", "a" * 40, "é"]),
    "binary": (pa.binary(), [b"", b"\0", b"a", b"\xff"]),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), ["", "a", "b", "c"]),
    "null": (pa.null(), [None]),
}


@pytest.fixture(params=VALUES)
def rows(request):
    """A frame of several splits with a key `k` and the number `i` of each row, and the rank of each row's key."""
    dtype, values = VALUES[request.param]
    ranks = [None if n is None or values == [None] else n % len(values) for n in ORDER]
    key = pa.array([None if n is None else values[n] for n in ranks], dtype)
    table = pa.table({"k": key, "i": pa.array(range(len(ORDER)), pa.int64())})
    return km.from_arrow(pa.Table.from_batches(table.to_batches(max_chunksize=3))), ranks


def run(frame: km.LazyFrame) -> list[tuple]:
    """The rows, the same by one thread and by two."""
    options = {"split_size": 1, "partitions": 3}
    found = [frame.collect(threads=threads, **options).rows() for threads in (1, 2)]
    assert found[0] == found[1]
    return found[0]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("nulls_last", [False, True])
def test_sorts(rows, descending, nulls_last):
    frame, ranks = rows
    order = [i for i, rank in enumerate(ranks) if rank is not None]
    order.sort(key=lambda i: -ranks[i] if descending else ranks[i])  # Python's sort is stable
    nulls = [i for i, rank in enumerate(ranks) if rank is None]
    expected = order + nulls if nulls_last else nulls + order
    made = frame.sort("k", descending=descending, nulls_last=nulls_last).select("i")
    assert [i for (i,) in run(made)] == expected
    assert [i for (i,) in run(made.head(5))] == expected[:5]


def test_groups_and_unique(rows):
    frame, ranks = rows
    first = {rank: i for i, rank in reversed(list(enumerate(ranks)))}
    made = run(frame.group_by("k").agg(km.col("i").min(), km.len()).select("i", "len"))
    assert sorted(made) == sorted((i, ranks.count(rank)) for rank, i in first.items())
    assert sorted(run(frame.unique("k").select("i"))) == sorted((i,) for i in first.values())


@pytest.mark.parametrize("nulls_equal", [False, True])
@pytest.mark.parametrize("by", [["k"], ["k", "j"]])
def test_joins(rows, nulls_equal, by):
    frame, ranks = rows
    frame = frame.with_columns(j=km.col("i") % 2)
    other = frame.filter(km.col("i") < 7).rename({"i": "o"})
    pairs = [
        (i, o)
        for i, rank in enumerate(ranks)
        for o, their in enumerate(ranks[:7])
        if rank == their and (rank is not None or nulls_equal) and (len(by) == 1 or i % 2 == o % 2)
    ]
    found = {i for i, _ in pairs}
    joined = {how: frame.join(other, by, how, nulls_equal=nulls_equal) for how in ("inner", "left", "full", "anti")}
    alone = [(i, None) for i in range(len(ranks)) if i not in found]
    lone = [(None, o) for o in range(7) if o not in {o for _, o in pairs}]
    assert sorted(run(joined["inner"].select("i", "o"))) == sorted(pairs)
    assert sorted(run(joined["left"].select("i", "o")), key=repr) == sorted(pairs + alone, key=repr)
    assert sorted(run(joined["full"].select("i", "o")), key=repr) == sorted(pairs + alone + lone, key=repr)
    assert sorted(run(joined["anti"].select("i"))) == [(i,) for i, _ in alone]


def test_a_key_that_comes_twice_is_told(rows):
    frame, _ = rows
    with pytest.raises(km.errors.KernelmillError) as caught:
        frame.join(frame, "k", validate="1:1", nulls_equal=True).collect(partitions=3)
    assert caught.value.code.id == "KM0210"
