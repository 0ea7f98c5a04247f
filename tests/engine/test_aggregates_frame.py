"""Aggregates by their verbs: against plain Python, however rows lie in tasks, and what is refused."""

import math
import statistics
from decimal import Decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.exec import aggregate, groupstates, steps

SCHEMA = pa.schema(
    [
        ("k", pa.string()), ("i", pa.int64()), ("f", pa.float64()), ("b", pa.bool_()), ("s", pa.string()),
        ("d", pa.decimal128(25, 2)), ("w", pa.int32()), ("z", pa.binary(3)), ("u", pa.uint64()),
        ("l", pa.list_(pa.int8())),
    ]
)  # fmt: skip
ROWS = st.fixed_dictionaries(
    {
        "k": st.sampled_from(["a", "b", None]),
        "i": st.none() | st.integers(-20, 20),
        "f": st.none() | st.floats(-100, 100) | st.sampled_from([math.nan, 0.5, -0.0]),
        "b": st.none() | st.booleans(),
        "s": st.none() | st.text("ab\0é", max_size=3),
        "d": st.none() | st.integers(-(10**22), 10**22).map(lambda n: Decimal(n).scaleb(-2)),
        "w": st.integers(-5, 5),
        "z": st.none() | st.binary(min_size=3, max_size=3),
        "u": st.none() | st.integers(0, 2**64 - 1),
        "l": st.none() | st.lists(st.integers(0, 3), max_size=2),
    }
)
c = km.col


def known(rows, name):
    return [row[name] for row in rows if row[name] is not None]


def ordered(values):
    """Ascending, NaN last."""
    return sorted(values, key=lambda v: (v != v, 0 if v != v else v))


def extreme(rows, name, largest):
    values = [v for v in known(rows, name) if v == v]
    return (max if largest else min)(values, default=None)


def by(rows, name, other, largest):
    with_by = [row for row in rows if row[other] is not None]
    numbers = [row for row in with_by if row[other] == row[other]]
    if numbers:
        best = (max if largest else min)(row[other] for row in numbers)
        return next(row[name] for row in numbers if row[other] == best)
    return with_by[0][name] if with_by else None


def variance(values, ddof):
    if len(values) <= ddof:
        return None
    if any(v != v for v in values):
        return math.nan
    mean = statistics.fmean(values)
    return sum((v - mean) ** 2 for v in values) / (len(values) - ddof)


def quantile(values, q, how):
    if not values:
        return None
    values = ordered(values)
    place = (len(values) - 1) * q
    low, high = math.floor(place), math.ceil(place)
    if how == "nearest":
        return values[math.floor(place + 0.5)]
    if how == "equiprobable":
        return values[max(0, math.ceil(len(values) * q) - 1)]
    if how in ("lower", "higher") or low == high or values[low] == values[high]:
        return values[high if how == "higher" else low]
    share = 0.5 if how == "midpoint" else place - low
    return values[low] + (values[high] - values[low]) * share


def correlation(rows, x, y):
    pairs = [(row[x], row[y]) for row in rows if row[x] is not None and row[y] is not None]
    if len(pairs) < 2 or len({a for a, _ in pairs}) == 1 or len({b for _, b in pairs}) == 1:
        return math.nan
    return statistics.correlation([a for a, _ in pairs], [b for _, b in pairs])


def distinct(rows, name):
    return len({"nan" if v != v else tuple(v) if isinstance(v, list) else v for v in (row[name] for row in rows)})


def spread(values):
    return max(values) - min(values) if values else None


def value(rows, name, at):
    return rows[at][name] if rows else None


EXPRESSIONS = {
    "first": (c("l").first(), lambda rows: value(rows, "l", 0)),
    "last": (c("s").last(), lambda rows: value(rows, "s", -1)),
    "last_i": (c("i").last(), lambda rows: value(rows, "i", -1)),
    "any": (c("b").any(), lambda rows: any(known(rows, "b"))),
    "all": (c("b").all(), lambda rows: all(known(rows, "b"))),
    "var": (c("i").var(), lambda rows: variance(known(rows, "i"), 1)),
    "std": (c("f").std(0), lambda rows: None if (v := variance(known(rows, "f"), 0)) is None else math.sqrt(v)),
    "median": (c("f").median(), lambda rows: quantile(known(rows, "f"), 0.5, "linear")),
    "corr": (c("i").corr("w"), lambda rows: correlation(rows, "i", "w")),
    "n_f": (c("f").n_unique(), lambda rows: distinct(rows, "f")),
    "n_s": (c("s").n_unique(), lambda rows: distinct(rows, "s")),
    "n_d": (c("d").n_unique(), lambda rows: distinct(rows, "d")),
    "n_z": (c("z").n_unique(), lambda rows: distinct(rows, "z")),
    "list": (c("i").implode(), lambda rows: [row["i"] for row in rows]),
    "max_s": (c("s").max(), lambda rows: max(known(rows, "s"), key=str.encode, default=None)),
    "min_z": (c("z").min(), lambda rows: extreme(rows, "z", False)),
    "min_d": (c("d").min(), lambda rows: extreme(rows, "d", False)),
    "max_d": (c("d").max(), lambda rows: extreme(rows, "d", True)),
    "sum_d": (c("d").sum(), lambda rows: sum(known(rows, "d"), Decimal("0.00"))),
    "max_by": (c("s").max_by("i"), lambda rows: by(rows, "s", "i", True)),
    "min_by": (c("l").min_by("f"), lambda rows: by(rows, "l", "f", False)),
    "top": (c("f").top_k(2), lambda rows: ordered(known(rows, "f"))[::-1][:2]),
    "top_u": (c("u").top_k(3), lambda rows: sorted(known(rows, "u"), reverse=True)[:3]),
    "top_many": (c("f").top_k(17), lambda rows: ordered(known(rows, "f"))[::-1][:17]),
    "bottom_many": (c("i").bottom_k(20), lambda rows: sorted(known(rows, "i"))[:20]),
    "bottom": (c("w").bottom_k(3), lambda rows: sorted(known(rows, "w"))[:3]),
    "range": (c("i").max() - c("i").min(), lambda rows: spread(known(rows, "i"))),
    **{
        how: (c("i").quantile(0.3, how), lambda rows, how=how: quantile(known(rows, "i"), 0.3, how))
        for how in ("nearest", "lower", "higher", "midpoint", "linear", "equiprobable")
    },
}  # fmt: skip


def alike(found, wanted):
    if isinstance(found, float) and isinstance(wanted, float | int):
        return (found != found and wanted != wanted) or math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-6)
    if isinstance(found, list) and isinstance(wanted, list) and len(found) == len(wanted):
        return all(map(alike, found, wanted))
    return found == wanted


def table_of(rows):
    return pa.Table.from_pylist(rows, SCHEMA)


def check(found, rows, keys):
    groups = {}
    for row in rows:
        groups.setdefault(row["k"] if keys else None, []).append(row)
    if not keys:
        groups.setdefault(None, [])
    assert len(found) == len(groups)
    for one in found:
        own = groups[one["k"] if keys else None]
        for name, (_, python) in EXPRESSIONS.items():
            assert alike(one[name], python(own)), (name, one[name], python(own), own)
            kept = [row for row in own if row["w"] > 0]
            assert alike(one[f"{name} of some"], python(kept)), (name, one[f"{name} of some"], python(kept), kept)


def aggregates(frame, keys):
    named = {name: expression for name, (expression, _) in EXPRESSIONS.items()}
    named |= {f"{name} of some": expression.filter(c("w") > 0) for name, expression in named.items()}
    return frame.group_by("k").agg(**named) if keys else frame.select(**named)


@settings(max_examples=15, deadline=None)
@given(st.lists(ROWS, max_size=30), st.booleans(), st.integers(1, 4))
def test_aggregates_are_those_of_python_however_rows_lie_in_tasks(rows, keys, pieces):
    size = max(1, -(-len(rows) // pieces))
    batches = table_of(rows).to_batches(max_chunksize=size)
    frame = km.from_arrow(pa.Table.from_batches(batches, SCHEMA))  # a task each
    check(aggregates(frame, keys).collect(split_size=1, progress=False).to_arrow().to_pylist(), rows, keys)


def some_rows(count):
    return [
        {
            "k": None if n % 17 == 3 else "ab"[n * 7 % 2], "i": None if n % 5 == 1 else n * 31 % 37 - 18,
            "f": [None, math.nan, -0.0, n / 8, -n / 4][n % 5], "b": [None, True, False][n % 3],
            "s": None if n % 7 == 2 else "xyé"[n % 3] * (n % 4), "d": Decimal(n * n - 99).scaleb(-2), "w": n % 11 - 5,
            "z": None if n % 6 == 5 else bytes([n % 3, 255 - n % 5, 0]), "u": 2**64 - 1 - n % 9, "l": [n % 4] * (n % 2),
        }
        for n in range(count)
    ]  # fmt: skip


def collected(rows, split_size=1, **options):
    frame = km.from_arrow(pa.Table.from_batches(table_of(rows).to_batches(max_chunksize=40), SCHEMA))
    return aggregates(frame, keys=True).collect(split_size=split_size, progress=False, **options).to_arrow()


@pytest.mark.parametrize(
    ("limit", "value"),
    [("FLUSH_GROUPS", 2), ("FLUSH_ROWS", 50), ("FLUSH_LIST_BYTES", 1), ("FLUSH_LIST_BYTES", 2_000)],
)
def test_flushes_and_threads_change_no_row(monkeypatch, limit, value):
    rows = some_rows(200)
    monkeypatch.setattr(aggregate, limit, value)
    for split_size in (1, 1 << 20):
        one = collected(rows, split_size, threads=1)
        check(one.to_pylist(), rows, keys=True)
        assert repr(collected(rows, split_size, threads=2).to_pylist()) == repr(one.to_pylist())  # NaN is not itself


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_rows_that_are_not_combined_give_the_same_groups(monkeypatch, share):
    monkeypatch.setattr(aggregate, "SINGLES_ROWS", 50)
    monkeypatch.setattr(aggregate, "SINGLES_SHARE", share)
    passed, singles = [], groupstates.Grouping.singles
    monkeypatch.setattr(groupstates.Grouping, "singles", lambda *args: passed.append(args[-1]) or singles(*args))
    rows = some_rows(200)
    one = collected(rows, 1 << 20, threads=1)
    check(one.to_pylist(), rows, keys=True)
    assert sum(passed) == (150 if share == 0 else 0)  # told after 50 rows, in the middle of a batch of 40
    assert repr(collected(rows, 1 << 20, threads=2).to_pylist()) == repr(one.to_pylist())


def test_a_partition_merged_in_pieces_gives_the_same_rows(monkeypatch):
    monkeypatch.setattr(steps, "MERGE_ROWS_MAX", 2)
    rows = some_rows(200)
    check(collected(rows).to_pylist(), rows, keys=True)


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_each_aggregate_alone_has_the_memory_that_it_needs(name):
    rows = some_rows(120)
    expression, python = EXPRESSIONS[name]
    frame = km.from_arrow(pa.Table.from_batches(table_of(rows).to_batches(max_chunksize=40), SCHEMA))
    ((found,),) = frame.select(expression.alias("x")).collect(split_size=1, progress=False).rows()
    assert alike(found, python(rows))


def test_equal_aggregates_are_made_once_and_names_do_not_meet():
    frame = km.from_arrow(table_of(some_rows(10)))
    made = frame.group_by("k").agg(a=c("i").std(), b=c("i").var(), d=c("f").median(), e=c("f").quantile(0.5, "linear"))
    text = made.explain()
    assert text.count("var(i") == 3 and text.count("quantile(f") == 3  # once in the plan, once on each side
    assert made.columns == ["k", "a", "b", "d", "e"]


def test_filters_of_an_expression_are_those_of_all_its_aggregates_and_add_up():
    rows = some_rows(50)
    spread = (c("i").max() - c("i").min()).filter(c("w") > 0).filter(c("b"))
    (found,) = (
        km.from_arrow(table_of(rows)).select(spread.alias("spread"), n=km.len().filter(c("w") > 0)).collect().rows()
    )
    kept = [row["i"] for row in rows if row["w"] > 0 and row["b"] and row["i"] is not None]
    assert found == (max(kept) - min(kept), sum(row["w"] > 0 for row in rows))


@pytest.mark.parametrize(
    "expression",
    [
        c("s").any(), c("i").all(), c("s").std(), c("l").median(), c("s").corr("i"), c("i").corr("s"), c("l").max(),
        c("l").n_unique(), c("s").top_k(2), c("i").max_by("s"), c("i").sum().filter(c("i")), c("i").sum().max(),
        km.len().filter(c("i").max() > 1),
    ],
    ids=repr,
)  # fmt: skip
def test_types_that_do_not_go_are_refused_when_the_plan_is_built(expression):
    with pytest.raises(KernelmillError) as raised:
        km.from_arrow(table_of([])).group_by("k").agg(x=expression)
    assert raised.value.code is Code.TYPE_MISMATCH and raised.value.hint


@pytest.mark.parametrize(
    "build",
    [
        lambda: c("i").quantile(1.5), lambda: c("i").quantile(True), lambda: c("i").quantile(0.5, "middle"),
        lambda: c("i").top_k(0), lambda: c("i").var(-1), lambda: c("i").sum().filter(),
    ],
)  # fmt: skip
def test_wrong_arguments_are_refused(build):
    with pytest.raises(KernelmillError) as raised:
        build()
    assert raised.value.code is Code.BAD_SETTING


def test_a_filter_of_what_is_no_aggregate_is_refused():
    with pytest.raises(KernelmillError) as raised:
        c("i").filter(c("b"))
    assert raised.value.code is Code.TYPE_MISMATCH


def test_a_sum_of_decimals_that_leaves_38_digits_is_an_overflow():
    most = Decimal("9" * 38)
    column = pa.array([most, Decimal(-1), Decimal(1)], pa.decimal128(38, 0))
    total = c("d").sum()
    assert km.from_arrow(pa.table({"d": column})).select(total).collect().rows() == [(most,)]
    with pytest.raises(KernelmillError) as raised:
        km.from_arrow(pa.table({"d": pa.concat_arrays([column, column[2:]])})).select(total).collect()
    assert raised.value.code is Code.OVERFLOW


KEYS = {
    "decimal": pa.array([Decimal("1.50"), None, Decimal("-7.25"), Decimal("1.50")], pa.decimal128(30, 2)),
    "fixed": pa.array([b"ab", None, b"\0\xff", b"ab"], pa.binary(2)),
    "large": pa.array(["é", None, "", "é"], pa.large_string()),
    "bytes": pa.array([b"\xff", None, b"", b"\xff"], pa.large_binary()),
    "half": pa.array([1.5, None, -2.0, 1.5], pa.float16()),
    "bool": pa.array([True, None, False, True]),
    "time": pa.array([5, None, 7, 5], pa.time64("us")),
    "zoned": pa.array([5, None, -7, 5], pa.timestamp("ms", "Asia/Tokyo")),
    "span": pa.array([5, None, -7, 5], pa.duration("s")),
    "float": pa.array([math.nan, None, -0.0, math.nan]),
}


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("with_another", [False, True])
def test_keys_of_any_type_group_their_rows(name, with_another):
    column = KEYS[name]
    table = pa.table({"k": pa.concat_arrays([column, column.slice(1)]), "other": [1] * 7, "v": range(7)})
    by = ["k", "other"] if with_another else ["k"]
    made = km.from_arrow(table).group_by(*by).agg(c("v").sum(), n=c("k").n_unique()).collect(partitions=3).to_arrow()
    made.validate(full=True)
    narrow = {"large": pa.string(), "bytes": pa.binary()}  # as which such columns are scanned
    assert made.schema.field("k").type == narrow.get(name, column.type)
    totals = dict(zip(map(repr, made["k"].to_pylist()), made["v"].to_pylist(), strict=True))
    one, other = repr(column[0].as_py()), repr(column[2].as_py()).replace("-0.0", "0.0")
    assert totals == {one: 0 + 3 + 6, "None": 1 + 4, other: 2 + 5}
    assert made["n"].to_pylist() == [1, 1, 1]


def test_rows_without_a_type_are_one_group():
    made = km.from_arrow(pa.table({"k": pa.nulls(3), "v": [1, 2, 3]})).group_by("k").agg(c("v").sum()).collect()
    assert made.rows() == [(None, 6)]


@pytest.mark.parametrize(("name", "ours"), [("nunique", "n_unique"), ("stddev", "std"), ("arg_max", "max_by")])
def test_names_of_other_libraries_are_told_as_they_are_here(name, ours):
    with pytest.raises(KernelmillError) as raised:
        getattr(c("i"), name)
    assert raised.value.code is Code.UNKNOWN_NAME and ours in raised.value.hint
    with pytest.raises(KernelmillError) as raised:
        km.from_arrow(table_of([])).group_by("k").median  # noqa: B018
    assert 'km.col("x").median()' in raised.value.hint


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_durations_add_up_to_a_duration(unit):
    spans = pa.array([5, None, -7, 1 << 40, 3], pa.duration(unit))
    table = pa.table({"k": ["a", "a", "b", "b", "c"], "v": spans, "w": pa.nulls(5, pa.duration(unit))})
    frame = km.from_arrow(pa.Table.from_batches(table.to_batches(max_chunksize=2), table.schema))
    made = frame.group_by("k").agg(c("v").sum(), c("w").sum(), d=c("v").sum() - c("v").min()).collect(split_size="1B")
    expected = [("a", 5, 0, 0), ("b", (1 << 40) - 7, 0, 1 << 40), ("c", 3, 0, 0)]
    columns = [pa.array(column, pa.duration(unit)) for column in list(zip(*expected, strict=True))[1:]]
    assert (
        made.lazy()
        .sort("k")
        .collect()
        .to_arrow()
        .equals(pa.table([pa.array(["a", "b", "c"]), *columns], made.to_arrow().schema))
    )
    most = pa.table({"v": pa.array([1 << 62, 1 << 62], pa.duration(unit))})
    with pytest.raises(KernelmillError) as raised:
        km.from_arrow(most).select(c("v").sum()).collect()
    assert raised.value.code is Code.OVERFLOW and "coarser" in raised.value.hint
