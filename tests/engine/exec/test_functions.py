"""The table of functions against Polars, row by row, and by hand where the two differ on purpose."""

from __future__ import annotations

from datetime import date, datetime, timedelta

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.exec.evaluate import evaluate
from kernelmill.engine.expr import Expr, col
from kernelmill.engine.functions import FUNCTIONS
from kernelmill.engine.nodes import Call, Column
from kernelmill.engine.patterns import name_groups
from kernelmill.engine.promotion import arg_of
from kernelmill.engine.typing import type_of

TEXTS = ["", "a", "abc", "  pad ", "aXbXc", "äöü", "naïve café", "x=1; y=22", "\u2003em\n", None, "aaa", "A-B-C"]
TEXTS += ["日本語"]
texts = st.lists(st.none() | st.text(alphabet="ab Xä日-=1", max_size=8), min_size=1, max_size=12)


def run(expr: Expr, values, dtype) -> list:
    batch = pa.record_batch({"a": pa.array(values, dtype)})
    array = evaluate(expr.node, batch)
    field = type_of(expr.node, batch.schema)
    assert array.type == field.type and len(array) == len(values)
    assert field.nullable or array.null_count == 0
    array.validate(full=True)
    return array.to_pylist()


def polars(expr: pl.Expr, values, dtype) -> list:
    return pl.DataFrame({"a": pl.Series(values, dtype=dtype)}).select(expr).to_series().to_list()


# name, arguments, keywords that only we take for the same thing
ON_TEXT = [
    ("len_bytes", (), {}),
    ("len_chars", (), {}),
    ("to_lowercase", (), {}),
    ("to_uppercase", (), {}),
    ("strip_chars", (), {}),
    ("strip_chars", ("a ",), {}),
    ("strip_chars_start", (), {}),
    ("strip_chars_start", ("aX",), {}),
    ("strip_chars_end", (), {}),
    ("strip_chars_end", ("c1",), {}),
    ("strip_prefix", ("a",), {}),
    ("strip_prefix", ("",), {}),
    ("strip_suffix", ("c",), {}),
    ("strip_suffix", ("日本語",), {}),
    ("strip_suffix", ("",), {}),
    ("starts_with", ("a",), {}),
    ("ends_with", ("",), {}),
    ("contains", ("[Xä]",), {}),
    ("contains", ("-",), {"literal": True}),
    ("find", ("[Xä]",), {}),
    ("find", ("b",), {"literal": True}),
    ("count_matches", ("a",), {}),
    ("count_matches", ("[a-z]+",), {}),
    ("count_matches", ("a",), {"literal": True}),
    ("count_matches", ("",), {}),
    ("count_matches", ("^a",), {}),
    ("count_matches", ("x*",), {}),
    ("count_matches", ("$|[^a]",), {}),
    ("replace", ("[aX]", "<>"), {}),
    ("replace", ("a", "."), {"literal": True}),
    ("replace", ("a", "."), {"literal": True, "n": 2}),
    ("replace_all", ("[aX]", "<>"), {}),
    ("replace_all", ("a", ""), {"literal": True}),
    ("extract", (r"([a-z])=?(\d+)",), {}),
    ("extract", (r"([a-z])=?(\d+)", 2), {}),
    ("extract", (r"[^-]+", 0), {}),
    ("split", ("X",), {}),
    ("split", (" ",), {}),
    ("head", (2,), {}),
    ("head", (0,), {}),
    ("tail", (2,), {}),
    ("tail", (0,), {}),
]


@pytest.mark.parametrize(("name", "args", "options"), ON_TEXT)
def test_text_functions_agree_with_polars(name, args, options):
    ours = run(getattr(col("a").str, name)(*args, **options), TEXTS, pa.string())
    assert ours == polars(getattr(pl.col("a").str, name)(*args, **options), TEXTS, pl.String)


@given(values=texts, offset=st.integers(-6, 6), length=st.none() | st.integers(0, 6))
@example(values=["abc"], offset=-5, length=3)
def test_slices_agree_with_polars(values, offset, length):
    ours = run(col("a").str.slice(offset, length), values, pa.string())
    assert ours == polars(pl.col("a").str.slice(offset, length), values, pl.String)


@given(values=texts, part=st.text(alphabet="ab Xä日-", max_size=3))
def test_affixes_agree_with_python(values, part):
    def each(change):
        return [None if value is None else change(value) for value in values]

    assert run(col("a").str.strip_prefix(part), values, pa.string()) == each(lambda v: v.removeprefix(part))
    assert run(col("a").str.strip_suffix(part), values, pa.string()) == each(lambda v: v.removesuffix(part))
    assert run(col("a") + part, values, pa.string()) == each(lambda v: v + part)
    if part:
        assert run(col("a").str.split(part), values, pa.string()) == each(lambda v: v.split(part))
        replaced = run(col("a").str.replace_all(part, "<>", literal=True), values, pa.string())
        assert replaced == each(lambda v: v.replace(part, "<>"))


def test_bytes_are_taken_where_characters_do_not_matter():
    values = [b"a\xffb", None, b""]
    for dtype in (pa.binary(), pa.large_binary()):
        assert run(col("a").str.len_bytes(), values, dtype) == [3, None, 0]
        assert run(col("a").str.slice(1, 1), values, dtype) == [b"\xff", None, b""]
        assert run(col("a").str.strip_suffix("b"), values, dtype) == [b"a\xff", None, b""]
        assert run(col("a").str.contains("b", literal=True), values, dtype) == [True, None, False]
        assert run(col("a").str.split("a"), values, dtype) == [[b"", b"\xffb"], None, [b""]]
        assert run(col("a") == "", values, dtype) == [False, None, True]
        assert run(col("a") + b"!", values, dtype) == [b"a\xffb!", None, b"!"]


@pytest.mark.parametrize(
    ("pattern", "named", "groups"),
    [
        ("a(b)c", "(?P<g0>a(?P<g1>b)c)", 1),
        (r"\((a)", r"(?P<g0>\((?P<g1>a))", 1),
        ("[(](a)", "(?P<g0>[(](?P<g1>a))", 1),
        ("[]()](a)", "(?P<g0>[]()](?P<g1>a))", 1),
        ("[^]()](a)", "(?P<g0>[^]()](?P<g1>a))", 1),
        ("(?:a)(?i:b)((c))", "(?P<g0>(?:a)(?i:b)(?P<g1>(?P<g2>c)))", 2),
        ("(?P<year>a)(?<b>c)", "(?P<g0>(?P<g1>a)(?P<g2>c))", 2),
        (r"\Q(a)\E(b)", r"(?P<g0>\Q(a)\E(?P<g1>b))", 1),
    ],
)
def test_groups_are_named_where_they_are_groups(pattern, named, groups):
    assert name_groups(pattern) == (named, [f"g{group}" for group in range(groups + 1)])


def test_extract_finds_the_group_that_was_meant():
    assert run(col("a").str.extract(r"[(](\w+)[)]"), ["f(x)", "(long)", "none"], pa.string()) == ["x", "long", None]
    assert run(col("a").str.extract(r"(?P<k>\w+)=(?P<v>\w+)", 2), ["a=1", None], pa.string()) == ["1", None]


def test_a_group_that_took_no_part_is_null_and_an_empty_one_is_not():
    for dtype, kind in ((pa.string(), str), (pa.large_binary(), str.encode)):
        given = [None if text is None else kind(text) for text in ("b", "ab", "éb", None, "-")]
        assert run(col("a").str.extract("(a)?b"), given, dtype) == [None, kind("a"), None, None, None]
        assert run(col("a").str.extract("(a*)b"), given, dtype) == [kind(""), kind("a"), kind(""), None, None]


def test_matches_are_counted_where_they_are_in_the_whole_text():
    texts = ["aaa", "aa a", "", None, "日a"]
    assert run(col("a").str.count_matches(r"\ba"), texts, pa.string()) == [1, 2, 0, None, 1]
    assert run(col("a").str.count_matches(r"\Aa"), texts, pa.large_string()) == [1, 1, 0, None, 0]
    assert run(col("a").str.count_matches("", literal=True), texts, pa.string()) == [4, 5, 1, None, 3]


def test_replacements_name_groups_as_re2_does():
    assert run(col("a").str.replace_all(r"(\w)=(\w)", r"\2=\1"), ["a=1 b=2"], pa.string()) == ["1=a 2=b"]


def test_texts_are_read_as_numbers_and_dates():
    assert run(col("a").str.to_integer(), ["1", "-7", None], pa.string()) == [1, -7, None]
    assert run(col("a").str.to_integer(strict=False), ["1", "x", "0x10", ""], pa.string()) == [1, None, None, None]
    assert run(col("a").str.to_date(), ["2024-02-29", None], pa.string()) == [date(2024, 2, 29), None]
    assert run(col("a").str.to_date("%d.%m.%Y"), ["29.02.2024"], pa.string()) == [date(2024, 2, 29)]
    lenient = col("a").str.to_date("%d.%m.%Y", strict=False)
    assert run(lenient, ["29.02.2024", "x"], pa.string()) == [date(2024, 2, 29), None]
    moments = run(col("a").str.to_datetime(), ["2024-02-29 12:30:00.25", "2024-02-29"], pa.string())
    assert moments == [datetime(2024, 2, 29, 12, 30, 0, 250000), datetime(2024, 2, 29)]
    assert run(col("a").str.to_datetime("%Y%m%dT%H"), ["20240229T07"], pa.string()) == [datetime(2024, 2, 29, 7)]


@pytest.mark.parametrize("name", ["to_integer", "to_date", "to_datetime"])
def test_texts_that_cannot_be_read_name_value_and_row(name):
    with pytest.raises(KernelmillError) as caught:
        run(getattr(col("a").str, name)(), [None, "n/a"], pa.string())
    assert caught.value.code is Code.CAST
    assert "'n/a'" in caught.value.what
    assert caught.value.where == "row 1 of its batch"


MOMENTS = [datetime(1969, 12, 31, 23, 59, 59, 999999), datetime(2024, 2, 29, 12, 34, 56, 789012), None]
MOMENTS += [datetime(2021, 1, 3), datetime(2020, 12, 31, 1), datetime(2026, 11, 22, 23, 7, 8)]
ON_MOMENTS = [(name, ()) for name in ("year", "month", "day", "hour", "minute", "second", "weekday", "ordinal_day")]
ON_MOMENTS += [(name, ()) for name in ("week", "iso_year", "date")]
ON_MOMENTS += [("truncate", (every,)) for every in ("1s", "15m", "1h", "6h", "1d", "1w", "1mo", "1q", "1y", "10ms")]
ON_MOMENTS += [("strftime", ("%Y-%m-%d %H:%M:%S",)), ("strftime", ("%a %j",))]


@pytest.mark.parametrize(("name", "args"), ON_MOMENTS)
def test_functions_of_moments_agree_with_polars(name, args):
    for unit in ("ms", "us", "ns"):
        values = [None if v is None else v.replace(microsecond=v.microsecond // 1000 * 1000) for v in MOMENTS]
        ours = run(getattr(col("a").dt, name)(*args), values, pa.timestamp(unit))
        assert ours == polars(getattr(pl.col("a").dt, name)(*args), values, pl.Datetime(unit))


@pytest.mark.parametrize(
    ("name", "args"),
    [(name, args) for name, args in ON_MOMENTS if name not in ("hour", "minute", "second") and args != ("10ms",)],
)
def test_functions_of_dates_agree_with_polars(name, args):
    if args and args[0].endswith(("s", "m", "h")):
        return  # Polars refuses some of these; a day has no parts, so it stays what it is (next test)
    if args == ("%Y-%m-%d %H:%M:%S",):
        args = ("%Y-%m-%d",)
    values = [None if value is None else value.date() for value in MOMENTS]
    ours = run(getattr(col("a").dt, name)(*args), values, pa.date32())
    assert ours == polars(getattr(pl.col("a").dt, name)(*args), values, pl.Date)


def test_a_date_is_its_own_start_of_the_hour():
    assert run(col("a").dt.truncate("1h"), [date(2024, 2, 29)], pa.date32()) == [date(2024, 2, 29)]


def test_moments_with_a_zone_are_read_in_it():
    values = pa.array([datetime(2024, 7, 1, 22, 30)], pa.timestamp("us", "UTC"))
    batch = pa.record_batch({"a": values.cast(pa.timestamp("us", "Europe/Berlin"))})
    assert evaluate(col("a").dt.hour().node, batch).to_pylist() == [0]
    assert evaluate(col("a").dt.date().node, batch).to_pylist() == [date(2024, 7, 2)]
    assert evaluate(col("a").dt.strftime("%H:%M").node, batch).to_pylist() == ["00:30"]


def test_moments_and_durations_add_up():
    day = timedelta(days=1)
    assert run(col("a") + day, [datetime(2024, 2, 29)], pa.timestamp("s")) == [datetime(2024, 3, 1)]
    assert run(col("a") - datetime(2024, 2, 28), [datetime(2024, 2, 29)], pa.timestamp("us")) == [day]
    assert run(col("a") - date(2024, 2, 28), [date(2024, 2, 29)], pa.date32()) == [day]
    assert run(-col("a"), [day], pa.duration("us")) == [-day]


LISTS = [[1, 2, 3], [], None, [None, 4], [5]]


@pytest.mark.parametrize(
    ("name", "args"), [("len", ()), ("first", ()), ("last", ()), ("get", (1,)), ("get", (-2,)), ("contains", (4,))]
)
def test_functions_of_lists_agree_with_polars(name, args):
    options = {"null_on_oob": True} if name == "get" else {}
    theirs = polars(getattr(pl.col("a").list, name)(*args, **options), LISTS, pl.List(pl.Int64))
    assert run(getattr(col("a").list, name)(*args), LISTS, pa.list_(pa.int64())) == theirs


def test_lists_of_every_kind_are_read():
    for dtype in (pa.large_list(pa.int64()), pa.list_(pa.int64(), 2)):
        values = [[1, 2], None, [3, 4]]
        assert run(col("a").list.get(1), values, dtype) == [2, None, 4]
        assert run(col("a").list.contains(3), values, dtype) == [False, None, True]


def test_lists_of_text_are_joined_without_their_nulls():
    values = [["a", "b"], [], None, ["c", None, "d"], [None]]
    assert run(col("a").list.join("-"), values, pa.list_(pa.string())) == polars(
        pl.col("a").list.join("-"), values, pl.List(pl.String)
    )


FAR = (1 << 63) - 1


@pytest.mark.parametrize("dtype", [pa.string(), pa.large_string(), pa.binary(), pa.large_binary()], ids=str)
def test_places_far_outside_a_text_are_outside_it(dtype):
    def sliced(offset, length=None):
        values = run(col("a").str.slice(offset, length), ["hello", None, ""], dtype)
        return values[0].decode() if isinstance(values[0], bytes) else values[0]

    for offset in (1, -4, -FAR - 1):
        for length in (None, 0, 2, FAR):
            stop = len("hello") if length is None else offset + length
            stop = len("hello") if offset < 0 <= stop else stop
            assert sliced(offset, length) == "hello"[offset:stop], (offset, length)
    assert sliced(FAR, FAR) == ""


@pytest.mark.parametrize("index", [1 << 31, 1 << 40, FAR, -(1 << 31), -FAR - 1])
def test_an_element_far_outside_a_list_is_null(index):
    assert run(col("a").list.get(index), LISTS, pa.list_(pa.int64())) == [None] * len(LISTS)


@pytest.mark.parametrize(
    ("dtype", "values", "decimals", "expected"),
    [
        (pa.float64(), [1.5, -1.5, None, float("inf")], -400, [0.0, -0.0, None, float("inf")]),
        (pa.float64(), [1.5, 1.7e308], -309, [0.0, 0.0]),
        (pa.float32(), [1.5, 1e38], -39, [0.0, 0.0]),
        (pa.float64(), [1e307, 2.346, None, -1e300], 2, [1e307, 2.35, None, -1e300]),
        (pa.float64(), [20.5], 308, [20.5]),
        (pa.float64(), [20.5], 400, [20.5]),
        (pa.int64(), [FAR, -1, None], -20, [0, 0, None]),
        (pa.int8(), [127, -128], -(1 << 63), [0, 0]),
    ],
)
def test_rounding_to_places_that_no_number_has(dtype, values, decimals, expected):
    assert run(col("a").round(decimals), values, dtype) == expected


PLAIN = [name for name, function in FUNCTIONS.items() if "." not in name and name != "is_in"]


@pytest.mark.parametrize("name", PLAIN)
def test_a_column_with_only_nulls_is_planned_or_refused(name):
    """A column of type null comes from `lit(None)` and from empty JSON."""
    columns = {"a": pa.nulls(2), "b": pa.nulls(2), "c": pa.nulls(2)}
    batch = pa.record_batch(columns)
    options = {"round": (("decimals", 0),), "log": (("base", 2.0),), "hash": (("seed", 0),)}.get(name, ())
    node = Call(name, tuple(Column(column) for column in "abc"[: FUNCTIONS[name].arity]), options)
    planned = type_of(node, batch.schema)
    values = evaluate(node, batch)
    assert values.type == planned.type and len(values) == 2
    assert planned.nullable or values.null_count == 0


SAMPLES = {
    "null": pa.nulls(3),
    **{str(dtype): pa.array([1, None, 3], dtype) for dtype in (pa.int8(), pa.int64(), pa.uint16(), pa.uint64())},
    **{str(dtype): pa.array([1.5, None, -2.0]).cast(dtype) for dtype in (pa.float16(), pa.float32(), pa.float64())},
    **{str(dtype): pa.array(["x", None, "yz"]).cast(dtype) for dtype in (pa.string(), pa.large_string())},
    **{str(dtype): pa.array([b"x", None, b""]).cast(dtype) for dtype in (pa.binary(), pa.large_binary())},
    "fixed": pa.array([b"xy", None, b"ab"], pa.binary(2)),
    "view": pa.array(["x", None, "yz"]).cast(pa.string_view()),
    "dictionary": pa.array(["x", None, "yz"]).dictionary_encode(),
    "bool": pa.array([True, None, False]),
    "decimal": pa.array([1, None, 3], pa.decimal128(20, 2)),
    "decimal256": pa.array([1, None, 3], pa.decimal256(40, 4)),
    "date32": pa.array([0, None, 1], pa.date32()),
    "date64": pa.array([0, None, 86_400_000], pa.date64()),
    "timestamp": pa.array([0, None, 1], pa.timestamp("us")),
    "zoned": pa.array([0, None, 1], pa.timestamp("ns", "Europe/Berlin")),
    "time": pa.array([0, None, 1], pa.time64("us")),
    "duration": pa.array([0, None, 1], pa.duration("ms")),
    "list": pa.array([[1], None, []], pa.list_(pa.int64())),
    "texts": pa.array([["a"], None, []], pa.list_(pa.string())),
    "struct": pa.array([{"a": 1}, None, {"a": 2}]),
    "interval": pa.array([(1, 2, 3), None, (0, 0, 1)], pa.month_day_nano_interval()),
    "zone that nobody knows": pa.array([0, None, 1], pa.timestamp("us", "Mars/Olympus")),
    "extension": pa.nulls(3, pa.uuid()),
    "runs": pa.RunEndEncodedArray.from_arrays([2, 3], [1, None]),
}
OPTIONS = {
    **{"round": {"decimals": 1}, "log": {"base": 3.0}, "str.slice": {"offset": 0, "length": 1}},
    **{f"str.strip_chars{side}": {"characters": None} for side in ("", "_start", "_end")},
    **{"str.strip_prefix": {"prefix": "x"}, "str.strip_suffix": {"suffix": "x"}, "str.starts_with": {"prefix": "x"}},
    **{f"str.{name}": {"pattern": "x", "literal": True} for name in ("contains", "count_matches", "find")},
    **{f"str.{name}": {"pattern": "(x)", "value": "", "literal": False, "n": 1} for name in ("replace", "replace_all")},
    **{"str.ends_with": {"suffix": "x"}, "str.extract": {"pattern": "(x)", "group_index": 1}, "str.split": {"by": "x"}},
    **{f"str.{name}": {"format": None, "strict": False} for name in ("to_date", "to_datetime")},
    **{"str.to_integer": {"strict": False}, "dt.truncate": {"every": "1h"}, "dt.strftime": {"format": "%Y"}},
    **{"hash": {"seed": 0}, "list.get": {"index": 0}, "list.join": {"separator": "-"}, "struct.field": {"name": "a"}},
    **{"list.sort": {"descending": True, "nulls_last": False}, "str.extract_all": {"pattern": "x"}},
    **{"dt.epoch": {"unit": "s"}, "dt.convert_time_zone": {"time_zone": "Asia/Tokyo"}},
    "dt.replace_time_zone": {"time_zone": "Europe/Paris", "ambiguous": "raise", "non_existent": "raise"},
}


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in ("is_in", "if_else")])
def test_what_planning_accepts_runs_with_the_type_that_was_planned(name):
    """Every function over every type of column, and over every pair: refused with KM0102, or computed."""
    options = tuple(OPTIONS.get(name, {}).items())
    others = SAMPLES if FUNCTIONS[name].arity == 2 else {"null": pa.nulls(3)}
    for left in SAMPLES.values():
        for right in others.values():
            batch = pa.record_batch({"a": left, "b": right})
            node = Call(name, (Column("a"), Column("b"))[: FUNCTIONS[name].arity], options)
            try:
                planned = type_of(node, batch.schema)
            except KernelmillError as exc:
                assert exc.code is Code.TYPE_MISMATCH and exc.hint
                continue
            try:
                values = evaluate(node, batch)
            except KernelmillError as exc:
                assert exc.code in (Code.OVERFLOW, Code.CAST), (left.type, right.type)
                continue
            assert values.type == planned.type and len(values) == 3, (left.type, right.type)
            assert planned.nullable or values.null_count == 0


TARGETS = ["int64", "float64", "string", "date32", "timestamp[us]", "bool", "decimal128(38, 2)"]


@pytest.mark.parametrize("target", TARGETS)
def test_casts_that_planning_accepts_run(target):
    for column in SAMPLES.values():
        batch = pa.record_batch({"a": column})
        for strict in (True, False):
            node = col("a").cast(target, strict=strict).node
            try:
                planned = type_of(node, batch.schema)
            except KernelmillError as exc:
                assert exc.code is Code.TYPE_MISMATCH
                continue
            try:
                assert evaluate(node, batch).type == planned.type
            except KernelmillError as exc:
                assert exc.code is Code.CAST and strict, (column.type, target)


def test_arguments_hide_how_a_column_is_encoded():
    encoded = pa.dictionary(pa.int8(), pa.string_view())
    assert arg_of(Column("a"), encoded, True).type == pa.string()
