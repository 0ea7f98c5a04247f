"""Columns of every type through every kind of verb: Polars' rows, and the same bytes however it is run."""

from __future__ import annotations

import datetime as dt
import math
import os
from decimal import Decimal
from pathlib import Path

import outside
import polars as pl
import pyarrow as pa
import pytest

import kernelmill as km

ROWS, BATCH_ROWS = 180, 50
SETTINGS = {"split_size": 1, "partitions": 3}
DAYS = [dt.date(1970, 1, 1), dt.date(1901, 2, 3), dt.date(2026, 3, 1), dt.date(9999, 12, 31)]
TIMES = [dt.time(0), dt.time(23, 59, 59), dt.time(12, 30, 1)]
MOMENTS = [dt.datetime(1970, 1, 1), dt.datetime(1969, 12, 31, 23, 59, 59), dt.datetime(2026, 3, 29, 1, 30)]
SPANS = [dt.timedelta(0), dt.timedelta(days=-2), dt.timedelta(hours=5, seconds=7)]
TEXTS, CUTS = ["", "a", "a\0b", "é" * 30, "zz"], [b"", b"\0", b"a", b"\xff\xfe" * 20]
FLOATS = [0.0, -0.0, 1.5, -math.inf, math.inf, math.nan]
CENTS = [Decimal("0.01"), Decimal("-12345.60"), Decimal("99.99"), Decimal("0.00")]
KEYS: dict[str, tuple[pa.DataType, list[object]]] = {
    **{f"i{n}": (pa.from_numpy_dtype(f"int{n}"), [0, 1, -(2 ** (n - 1)), 2 ** (n - 1) - 1]) for n in (8, 16, 32, 64)},
    **{f"u{n}": (pa.from_numpy_dtype(f"uint{n}"), [0, 1, 2**n - 1, 2 ** (n - 1)]) for n in (8, 16, 32, 64)},
    **{f"f{n}": (pa.from_numpy_dtype(f"float{n}"), FLOATS) for n in (32, 64)},
    "bool": (pa.bool_(), [True, False]),
    **{f"text {kind}": (kind, TEXTS) for kind in (pa.string(), pa.large_string(), pa.string_view())},
    **{f"bytes {kind}": (kind, CUTS) for kind in (pa.binary(), pa.large_binary(), pa.binary_view())},
    **{f"day {kind}": (kind, DAYS) for kind in (pa.date32(), pa.date64())},
    **{f"moment {unit}": (pa.timestamp(unit), MOMENTS) for unit in ("ms", "us", "ns")},
    **{f"zoned {unit}": (pa.timestamp(unit, "Europe/Oslo"), MOMENTS) for unit in ("ms", "us", "ns")},
    **{f"span {unit}": (pa.duration(unit), SPANS) for unit in ("ms", "us", "ns")},
    **{f"time {kind}": (kind, TIMES) for kind in (pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns"))},
    **{f"cents {kind}": (kind, CENTS) for kind in (pa.decimal64(12, 2), pa.decimal128(30, 2))},
    "coded text": (pa.dictionary(pa.int8(), pa.string()), TEXTS),
    "coded text, wide codes": (pa.dictionary(pa.uint32(), pa.large_string()), TEXTS),
}
CARRIED: dict[str, tuple[pa.DataType, list[object]]] = {
    "list": (pa.list_(pa.int64()), [[1, 2], [], [None, 3]]),
    "large list": (pa.large_list(pa.string()), [["a", None], [], ["bb"]]),
    "pair": (pa.list_(pa.int16(), 2), [[1, 2], [3, None]]),
    "struct": (pa.struct([("x", pa.int64()), ("y", pa.string())]), [{"x": 1, "y": "a"}, {"x": None, "y": "b"}]),
    "structs": (pa.list_(pa.struct([("z", pa.date32())])), [[{"z": DAYS[0]}], [], [{"z": None}, {"z": DAYS[2]}]]),
}
STRANGE: dict[str, tuple[pa.DataType, list[object]]] = {  # what Polars takes as something else
    "f16": (pa.float16(), FLOATS),
    "moment s": (pa.timestamp("s"), MOMENTS),
    "zoned s": (pa.timestamp("s", "Europe/Oslo"), MOMENTS),
    "span s": (pa.duration("s"), SPANS),
    "fixed": (pa.binary(3), [b"abc", b"\0\0\0", b"\xff\xff\xff"]),
    "cents decimal32": (pa.decimal32(7, 2), CENTS),
    "null": (pa.null(), [None]),
    "coded number": (pa.dictionary(pa.int32(), pa.int64()), [1, -5, 2**40]),
    "map": (pa.map_(pa.string(), pa.int64()), [[("a", 1)], [], [("b", None)]]),
    "decimal256": (pa.decimal256(60, 2), CENTS),
}
UNORDERED = {*CARRIED, "map", "decimal256"}
c = km.col


def table_of(*kinds: dict[str, tuple[pa.DataType, list[object]]]) -> pa.Table:
    """A column a type, each value at other rows than those of the others, every sixth or so null; `i` numbers rows."""
    columns: dict[str, pa.Array] = {"i": pa.array(range(ROWS), pa.int64()), "g": pa.array([n % 7 for n in range(ROWS)])}
    for place, (name, (kind, values)) in enumerate((item for one in kinds for item in one.items()), 2):
        drawn = [(n * n * place + n // 3) % (len(values) + 1) for n in range(ROWS)]
        columns[name] = pa.array([values[n] if n < len(values) else None for n in drawn], kind)
    return pa.table(columns)


TABLE, ODD = table_of(KEYS, CARRIED), table_of(STRANGE)
DAY64 = TABLE.schema.get_field_index("day date64[ms]")
POLARS = pl.from_arrow(TABLE.set_column(DAY64, "day date64[ms]", TABLE.column(DAY64).cast(pa.date32())))


def frame_of(table: pa.Table) -> km.LazyFrame:
    return km.from_arrow(pa.Table.from_batches(table.to_batches(max_chunksize=BATCH_ROWS)))


def chunks(names: list[str], size: int) -> list[list[str]]:
    return [names[at : at + size] for at in range(0, len(names), size)]


def aggregates(module, names: list[str]) -> list[object]:
    """The same aggregates of Polars and of ours."""
    made = []
    for name in names:
        column, kind = module.col(name), TABLE.schema.field(name).type
        made += [column.count().alias(f"{name} count"), column.n_unique().cast(int_of(module)).alias(f"{name} unique")]
        made += [column.first().alias(f"{name} first"), column.last().alias(f"{name} last")]
        if not (pa.types.is_boolean(kind) or pa.types.is_dictionary(kind)):
            made += [column.min().alias(f"{name} min"), column.max().alias(f"{name} max")]
        if pa.types.is_duration(kind) or pa.types.is_decimal(kind) or name in ("i8", "i16", "u8"):
            made += [column.sum().alias(f"{name} sum")]
    return made


def comparisons(module) -> list[object]:
    """Floats among one another and beside numbers: NaN is the greatest, and equal to itself."""
    one, two, made = module.col("f32"), module.col("f64"), []
    for number, (left, right) in enumerate([(one, two), (two, 1.5), (0.0, one), (two, math.nan), (two, math.inf)]):
        pairs = {"eq": left == right, "ne": left != right, "lt": left < right, "le": left <= right}
        pairs |= {"gt": left > right, "ge": left >= right}
        made += [found.alias(f"{name} {number}") for name, found in pairs.items()]
    return made


def int_of(module) -> object:
    return pl.Int64 if module is pl else "int64"


PLANS = {
    "carried": (
        lambda f: f.filter(c("i") % 3 != 0).sort("i", descending=True),
        lambda f: f.filter(pl.col("i") % 3 != 0).sort("i", descending=True),
    ),
    "aggregates": (
        lambda f: f.group_by("g").agg(*aggregates(km, list(KEYS))).sort("g"),
        lambda f: f.group_by("g", maintain_order=True).agg(aggregates(pl, list(KEYS))).sort("g"),
    ),
    "aggregates of all rows": (
        lambda f: f.select(*aggregates(km, list(KEYS)[::3])),
        lambda f: f.select(aggregates(pl, list(KEYS)[::3])),
    ),
    "values by conditions": (
        lambda f: f.select(
            "i",
            *(km.when(c("g") > 3).then(c(n)).alias(n) for n in KEYS),
            *(c(n).is_null().alias(f"{n} null") for n in (*KEYS, *CARRIED)),
            *(c(n).eq_missing(c(n)).alias(f"{n} same") for n in KEYS),
            *comparisons(km),
        ).sort("i"),
        lambda f: f.select(
            "i",
            *(pl.when(pl.col("g") > 3).then(pl.col(n)).alias(n) for n in KEYS),
            *(pl.col(n).is_null().alias(f"{n} null") for n in (*KEYS, *CARRIED)),
            *(pl.lit(True).alias(f"{n} same") for n in KEYS),
            *comparisons(pl),
        ).sort("i"),
    ),
    "exploded": (
        lambda f: f.select("i", "list", "struct").explode("list").unnest("struct").sort("i"),
        lambda f: f.select("i", "list", "struct").explode("list", empty_as_null=False).unnest("struct").sort("i"),
    ),
}
for some in chunks(list(KEYS), 6):
    PLANS[f"groups by {', '.join(some)}"] = (
        lambda f, some=some: f.group_by(*some).agg(km.len(), first=c("i").min()).sort("first"),
        lambda f, some=some: f.group_by(some).agg(pl.len().cast(pl.Int64), first=pl.col("i").min()).sort("first"),
    )
for some in chunks(list(KEYS), 9):
    PLANS[f"sorted by {', '.join(some)}"] = (
        lambda f, some=some: f.sort(*some, descending=[n % 2 == 1 for n in range(len(some))]).select("i", *some),
        lambda f, some=some: f.sort(
            some, descending=[n % 2 == 1 for n in range(len(some))], maintain_order=True
        ).select("i", *some),
    )
for some in chunks(list(KEYS), 12):
    PLANS[f"joined by {', '.join(some[::4])}"] = (
        lambda f, some=some: (
            f.join(f.filter(c("i") < 60).select(*some[::4], j="i"), some[::4], nulls_equal=True)
            .select("i", "j", *some)
            .sort("i", "j")
        ),
        lambda f, some=some: (
            f.join(f.filter(pl.col("i") < 60).select(*some[::4], j="i"), on=some[::4], nulls_equal=True)
            .select("i", "j", *some)
            .sort("i", "j")
        ),
    )


@pytest.fixture(scope="module", params=list(PLANS))
def plan(request):
    return request.param


def same_bytes(frame: km.LazyFrame) -> dict[str, str]:
    """The digests of the output, the same by 1, 2 and 5 threads and with no memory for blocks."""
    found = []
    tight = outside.tight_memory(frame, "out", 2, **SETTINGS)
    for threads, memory in ((1, "4GiB"), (2, "4GiB"), (5, "4GiB"), (2, tight)):
        os.mkdir(str(len(found)))
        frame.sink_parquet(f"{len(found)}/out", threads=threads, memory=memory, **SETTINGS)
        found.append(outside.digests(f"{len(found)}/out"))
    assert found.count(found[0]) == len(found)
    return found[0]


def rows_of(table: pa.Table) -> list[tuple]:
    """Rows as Python's values; NaN compares by its text, and 0.0 may come out for a group with -0.0."""
    columns = [table.column(number).to_pylist() for number in range(table.num_columns)]
    return [tuple(repr(v + 0.0) if isinstance(v, float) else v for v in row) for row in zip(*columns, strict=True)]


DIGESTS: dict[str, dict[str, str]] = {}


def test_rows_are_those_of_polars_and_bytes_are_the_same_however_it_is_run(plan):
    ours, theirs = PLANS[plan]
    frame = ours(frame_of(TABLE))
    DIGESTS[plan] = same_bytes(frame)
    made = frame.collect(threads=2, **SETTINGS).to_arrow()
    expected = theirs(POLARS).to_arrow()
    assert made.column_names == expected.column_names
    for name in made.column_names:
        assert rows_of(made.select([name])) == rows_of(expected.select([name])), name
    assert made.num_rows == expected.num_rows > 0


def strange(frame: km.LazyFrame) -> dict[str, km.LazyFrame]:
    names = [name for name in STRANGE if name not in UNORDERED]
    return {
        "carried": frame.sort("i", descending=True),
        "groups": frame.group_by(*names).agg(km.len(), c("i").min(), *(c(n).count().alias(f"{n} n") for n in names)),
        "sorted": frame.sort(*names, nulls_last=True),
        "joined": frame.join(frame.filter(c("i") < 40).select(*names[:3], j="i"), names[:3], "left", nulls_equal=True),
    }


@pytest.mark.parametrize("name", list(strange(frame_of(ODD))))
def test_types_that_polars_has_not_are_what_they_were(name):
    frame = strange(frame_of(ODD))[name]
    same_bytes(frame)
    made = frame.collect(threads=2, **SETTINGS).to_arrow().to_pylist()
    rows = [{**row, "f16": repr(row["f16"])} for row in ODD.to_pylist()]
    by_number = {row["i"]: row for row in rows}
    names = [name for name in STRANGE if name not in UNORDERED]
    keys = [tuple(row[key] for key in names) for row in rows]
    if name == "groups":
        same = ["0.0" if key[0] == "-0.0" else key[0] for key in keys]
        keys = [(zero, *key[1:]) for zero, key in zip(same, keys, strict=True)]
        assert {row["i"]: row["len"] for row in made} == {keys.index(key): keys.count(key) for key in keys}
        return
    for row in made:
        assert {key: repr(row[key]) if key == "f16" else row[key] for key in by_number[0]} == by_number[row["i"]]
    if name == "carried":
        assert [row["i"] for row in made] == list(range(ROWS))[::-1]
    assert {row["i"] for row in made} == set(range(ROWS))


def test_a_cluster_gives_the_same_bytes():
    if not DIGESTS:  # when this test is run alone
        DIGESTS["carried"] = same_bytes(PLANS["carried"][0](frame_of(TABLE)))
    frame, outputs = frame_of(TABLE), Path("cluster")
    outputs.mkdir()
    with km.LocalCluster(workers=2, memory="1GiB"):
        for number, (name, expected) in enumerate(DIGESTS.items()):
            (outputs / str(number)).mkdir()
            PLANS[name][0](frame).sink_parquet(outputs / str(number) / "out", **SETTINGS)
            assert outside.digests(outputs / str(number) / "out") == expected, name
