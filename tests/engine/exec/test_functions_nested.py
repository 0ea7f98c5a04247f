"""Functions of lists, structs, matches and time zones against Polars and plain Python."""

from __future__ import annotations

import math
import re
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.exec.evaluate import evaluate
from kernelmill.engine.expr import Expr, col
from kernelmill.engine.typing import type_of

few = settings(max_examples=60, deadline=None)
INTS = st.lists(st.none() | st.lists(st.none() | st.integers(-5, 5), max_size=6), min_size=1, max_size=8)
FLOATS = st.none() | st.sampled_from([0.5, -1.5, math.nan, math.inf, 2.0])
LISTS_OF_FLOATS = st.lists(st.none() | st.lists(FLOATS, max_size=6), min_size=1, max_size=8)


def run(expr: Expr, values, dtype, *, skip: int = 0) -> list:
    """The values of `expr`, with `skip` rows before them in the same buffers."""
    array = pa.array([*values[:1] * skip, *values], dtype).slice(skip)
    batch = pa.record_batch({"a": array})
    made = evaluate(expr.node, batch)
    field = type_of(expr.node, batch.schema)
    assert made.type == field.type and len(made) == len(values)
    assert field.nullable or made.null_count == 0
    made.validate(full=True)
    return told(made.to_pylist())


def told(values):
    """NaN as text, so that it equals itself."""
    if isinstance(values, list):
        return [told(one) for one in values]
    return "NaN" if isinstance(values, float) and math.isnan(values) else values


def polars(expr: pl.Expr, values, dtype) -> list:
    return told(pl.DataFrame({"a": pl.Series(values, dtype=dtype)}).select(expr).to_series().to_list())


def refused(call) -> Code:
    with pytest.raises(KernelmillError) as caught:
        call()
    assert caught.value.hint
    return caught.value.code


@few
@given(INTS, st.booleans(), st.booleans(), st.integers(0, 2))
def test_lists_of_integers_agree_with_polars(values, descending, nulls_last, skip):
    ours, theirs = col("a").list, pl.col("a").list
    options = {"descending": descending, "nulls_last": nulls_last}
    for mine, other in (
        (ours.sort(**options), theirs.sort(**options)),
        (ours.unique(), theirs.unique(maintain_order=True)),
        *((getattr(ours, name)(), getattr(theirs, name)()) for name in ("sum", "min", "max", "mean")),
    ):
        assert run(mine, values, pa.list_(pa.int64()), skip=skip) == polars(other, values, pl.List(pl.Int64))


@few
@given(LISTS_OF_FLOATS, st.booleans())
@example([[math.nan, None], [math.nan], []], True)
def test_lists_of_floats_keep_nan_greatest_and_out_of_min_and_max(values, descending):
    kind = pa.list_(pa.float64())
    ours, theirs = col("a").list, pl.col("a").list
    sorts = ours.sort(descending=descending), theirs.sort(descending=descending)
    assert run(sorts[0], values, kind) == polars(sorts[1], values, pl.List(pl.Float64))

    def least(numbers, pick):
        numbers = [n for n in numbers or [] if n is not None]
        return pick([n for n in numbers if not math.isnan(n)] or numbers, default=None)

    assert run(ours.min(), values, kind) == told([least(one, min) for one in values])
    assert run(ours.max(), values, kind) == told([least(one, max) for one in values])
    unique = polars(theirs.unique(maintain_order=True), values, pl.List(pl.Float64))
    assert run(ours.unique(), values, kind) == unique


@pytest.mark.parametrize(
    ("dtype", "values", "ordered"),
    [
        (pa.string(), ["b", None, "a", "b"], [None, "a", "b", "b"]),
        (pa.date32(), [date(2024, 1, 2), date(2023, 1, 1)], [date(2023, 1, 1), date(2024, 1, 2)]),
        (pa.bool_(), [True, False, None], [None, False, True]),
    ],
    ids=str,
)
def test_lists_of_other_types_are_ordered(dtype, values, ordered):
    kind = pa.list_(dtype)
    assert run(col("a").list.sort(), [values], kind) == [ordered]
    assert run(col("a").list.max(), [values], kind) == [ordered[-1]]
    assert run(col("a").list.unique(), [values], kind) == [list(dict.fromkeys(values))]


FAR = (1 << 63) - 1


def test_sums_of_lists_are_exact_and_checked():
    assert run(col("a").list.sum(), [[FAR, -1, 1, -FAR - 1], [FAR], [-FAR, -1]], pa.list_(pa.int64())) == [
        -1,
        FAR,
        -FAR - 1,
    ]
    assert run(col("a").list.sum(), [[255, 255], []], pa.list_(pa.uint8())) == [510, 0]
    assert run(col("a").list.sum(), [[True, None, True]], pa.list_(pa.bool_())) == [2]
    top = (1 << 64) - 1
    assert run(col("a").list.sum(), [[top, 0], None], pa.list_(pa.uint64())) == [top, None]
    for dtype, values in ((pa.int64(), [FAR, 1]), (pa.int64(), [-FAR, -2]), (pa.uint64(), [top, 1])):
        assert refused(lambda d=dtype, v=values: run(col("a").list.sum(), [[0], v], pa.list_(d))) is Code.OVERFLOW


PATTERNS = [r"[a-z]+", r"a", r"\d", r"ab|b", r"^a", r"(a)(b)?", r"x*", r"\b"]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_all_matches_are_those_that_replacing_finds(pattern):
    texts = ["abc ab1", "", None, "aab", "\x010\x02a\x01", "日a本", "xxa"]
    plain = pattern not in (r"x*", r"\b")
    expected = [None if text is None else [found[0] for found in re.finditer(pattern, text)] for text in texts]
    ours = run(col("a").str.extract_all(pattern), texts, pa.string())
    if plain:  # of empty matches RE2 and Python find others
        assert ours == expected == polars(pl.col("a").str.extract_all(pattern), texts, pl.String)
    counts = run(col("a").str.count_matches(pattern), texts, pa.string())
    assert [None if found is None else len(found) for found in ours] == counts


def test_fields_are_taken_and_structs_unnested():
    kind = pa.struct([("x", pa.int64()), ("y", pa.string())])
    values = [{"x": 1, "y": "a"}, None, {"x": None, "y": "b"}]
    assert run(col("a").struct.field("x"), values, kind) == [1, None, None]
    assert run(col("a").struct.field("x") + 1, values, kind, skip=2) == [2, None, None]
    lazy = km.from_arrow(pa.table({"i": [1, 2, 3], "a": pa.array(values, kind), "z": [0, 0, 0]}))
    assert lazy.unnest("a").columns == ["i", "x", "y", "z"]
    assert lazy.unnest("a").collect().rows() == [(1, 1, "a", 0), (2, None, None, 0), (3, None, "b", 0)]
    assert refused(lambda: lazy.select(km.col("a").struct.field("w"))) is Code.COLUMN_NOT_FOUND
    assert refused(lambda: lazy.select(km.col("i").struct.field("w"))) is Code.TYPE_MISMATCH
    assert refused(lambda: lazy.unnest("i")) is Code.TYPE_MISMATCH
    assert refused(lambda: lazy.rename({"i": "x"}).unnest("a")) is Code.DUPLICATE_COLUMN


MOMENTS = [datetime(2024, 7, 1, 12, 30, 15, 250_000), datetime(1969, 12, 31, 23, 59, 59, 500_000), None]


@pytest.mark.parametrize("unit", ["ns", "us", "ms", "s", "d"])
def test_epochs_are_rounded_down_as_in_polars(unit):
    for own in ("ms", "us", "ns"):
        ours = run(col("a").dt.epoch(unit), MOMENTS, pa.timestamp(own))
        theirs = polars(pl.col("a").dt.epoch("us"), MOMENTS, pl.Datetime(own))
        size = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "d": 86_400 * 10**9}[unit]
        assert ours == [None if moment is None else moment * 1000 // size for moment in theirs]
    days = {"ns": 86_400 * 10**9, "us": 86_400 * 10**6, "ms": 86_400_000, "s": 86_400, "d": 1}[unit]
    assert run(col("a").dt.epoch(unit), [date(1970, 1, 3), None], pa.date32()) == [2 * days, None]


def test_an_epoch_too_far_for_its_unit_is_an_overflow():
    assert refused(lambda: run(col("a").dt.epoch("ns"), [date(9999, 1, 1)], pa.date32())) is Code.OVERFLOW


def test_durations_in_seconds_are_cut_towards_zero():
    values = [timedelta(seconds=90, milliseconds=900), timedelta(seconds=-1, milliseconds=-500), None]
    assert run(col("a").dt.total_seconds(), values, pa.duration("us")) == [90, -1, None]
    assert polars(pl.col("a").dt.total_seconds(), values, pl.Duration("us")) == [90, -1, None]
    assert refused(lambda: run(col("a").dt.total_seconds(), [1], pa.int64())) is Code.TYPE_MISMATCH


def test_zones_are_converted_and_replaced():
    berlin, noon = ZoneInfo("Europe/Berlin"), datetime(2024, 7, 1, 12)
    converted = run(col("a").dt.convert_time_zone("Europe/Berlin"), [noon, None], pa.timestamp("us", "UTC"))
    assert converted == [noon.replace(tzinfo=UTC).astimezone(berlin), None]
    assert run(col("a").dt.convert_time_zone("Europe/Berlin").dt.hour(), [noon], pa.timestamp("us")) == [14]
    replaced = run(col("a").dt.replace_time_zone("Europe/Berlin"), [noon, None], pa.timestamp("us"))
    assert replaced == [noon.replace(tzinfo=berlin), None]
    assert run(col("a").dt.replace_time_zone(None), [noon], pa.timestamp("us", "Asia/Tokyo")) == [
        datetime(2024, 7, 1, 21)
    ]


def test_times_that_a_clock_shows_twice_or_never_are_bad_or_chosen():
    twice, never = datetime(2024, 10, 27, 2, 30), datetime(2024, 3, 31, 2, 30)

    def hour(moment, **options):
        placed = col("a").dt.replace_time_zone("Europe/Berlin", **options)
        return run(placed.dt.convert_time_zone("UTC").dt.hour(), [moment], pa.timestamp("us"))

    assert (hour(twice, ambiguous="earliest"), hour(twice, ambiguous="latest")) == ([0], [1])
    assert len(hour(never, non_existent="earliest")) == 1
    for moment in (twice, never):
        assert refused(lambda moment=moment: hour(moment)) is Code.CAST


@pytest.mark.parametrize(
    "call",
    [
        lambda: col("a").dt.convert_time_zone("Mars/Olympus"),
        lambda: col("a").dt.convert_time_zone(None),
        lambda: col("a").dt.replace_time_zone("UTC", ambiguous="guess"),
        lambda: col("a").dt.epoch("h"),
        lambda: col("a").str.extract_all("("),
        lambda: col("a").list.sort(descending=1),
        lambda: col("a").struct.field(""),
    ],
)
def test_wrong_arguments_are_refused_where_they_are_written(call):
    assert refused(call) is Code.BAD_SETTING
