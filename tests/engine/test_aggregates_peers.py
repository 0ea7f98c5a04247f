"""Aggregates against Polars and DuckDB: random rows with nulls, NaN and groups of one; nulls and NaN as documented."""

import math

import duckdb
import polars as pl
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

import kernelmill as km

SCHEMA = pa.schema(
    [
        ("k", pa.int64()), ("i", pa.int32()), ("f", pa.float64()), ("b", pa.bool_()), ("s", pa.string()),
        ("w", pa.int64()),
    ]
)  # fmt: skip
FLOATS = st.floats(-1e3, 1e3).map(lambda x: round(x, 3) + 0.0)
HOW = ("nearest", "lower", "higher", "midpoint", "linear", "equiprobable")


def rows(floats):
    return st.lists(
        st.tuples(
            st.none() | st.integers(0, 3), st.none() | st.integers(-50, 50), st.none() | floats,
            st.none() | st.booleans(), st.none() | st.text("aé\0", max_size=3), st.integers(-9, 9),
        ),
        max_size=40,
    )  # fmt: skip


def expressions(c, corr):
    """The same expressions for kernelmill and Polars, whose names and meanings are the same."""
    return {
        **{f"{how} {q}": c("f").quantile(q, how) for how in HOW for q in (0, 0.3, 0.5, 1)},
        "median": c("i").median(),
        "var": c("f").var(),
        "std": c("i").std(ddof=0),
        "n_f": c("f").n_unique(),
        "n_s": c("s").n_unique(),
        "n_b": c("b").n_unique(),
        "low": c("s").min(),
        "high": c("s").max(),
        "first": c("s").first(),
        "last": c("f").last(),
        "any": c("b").any(),
        "all": c("b").all(),
        "list": c("i").implode(),
        "corr": corr,
        "spread": c("i").max() - c("i").min(),
    }


def alike(found, wanted):
    if found is None or wanted is None:
        return found is wanted
    if isinstance(found, list):
        return len(found) == len(wanted) and all(map(alike, found, wanted))
    if isinstance(found, float) and isinstance(wanted, float):
        return (math.isnan(found) and math.isnan(wanted)) or math.isclose(found, wanted, rel_tol=1e-9, abs_tol=1e-6)
    return found == wanted


def by_key(dicts):
    return {row["k"]: row for row in dicts}


def differences(found, wanted):
    assert found.keys() == wanted.keys()
    return [
        (key, name, found[key][name], wanted[key][name])
        for key in wanted
        for name in wanted[key]
        if not alike(found[key][name], wanted[key][name])
    ]


def table_of(drawn):
    columns = [pa.array([row[at] for row in drawn], field.type) for at, field in enumerate(SCHEMA)]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def ours(table, **aggs):
    batches = pa.Table.from_batches(table.to_batches(max_chunksize=9), table.schema)
    made = km.from_arrow(batches).group_by("k").agg(**aggs).collect(split_size=1, progress=False)
    return by_key(made.to_arrow().to_pylist())


@settings(max_examples=30, deadline=None)
@given(rows(FLOATS | st.just(math.nan)))
def test_groups_are_those_of_polars(drawn):
    table = table_of(drawn)
    found = ours(table, **expressions(km.col, km.col("i").corr("w")))
    wanted = pl.from_arrow(table).group_by("k").agg(**expressions(pl.col, pl.corr("i", "w")))
    assert not differences(found, by_key(wanted.to_dicts()))


@settings(max_examples=30, deadline=None)
@given(rows(FLOATS))
def test_groups_are_those_of_duckdb(drawn):
    table, c = table_of(drawn), km.col
    found = ours(
        table,
        middle=c("f").median(), spread=c("f").std(), pop=c("f").var(ddof=0), different=c("i").n_unique(),
        part=c("f").sum().filter(c("w") > 0), some=km.len().filter(c("b")), share=c("f").quantile(0.9, "linear"),
        best=c("w").max_by("f"), worst=c("f").min_by("i"), top=c("i").top_k(3), low=c("f").bottom_k(2),
        high=c("s").max(),
    )  # fmt: skip
    wanted = duckdb.sql("""
        SELECT k, median(f) AS middle, stddev_samp(f) AS spread, var_pop(f) AS pop,
          count(DISTINCT i) + max(CASE WHEN i IS NULL THEN 1 ELSE 0 END) AS different,
          coalesce(sum(f) FILTER (WHERE w > 0), 0) AS part, count(*) FILTER (WHERE b) AS some,
          quantile_cont(f, 0.9) AS share, arg_max(w, f ORDER BY place) AS best,
          coalesce(max(i, 3), []) AS top, coalesce(min(f, 2), []) AS low, max(s) AS high
        FROM (SELECT *, row_number() OVER () AS place FROM "table") GROUP BY k""")
    names = wanted.columns
    assert not differences(found, by_key(dict(zip(names, row, strict=True)) for row in wanted.fetchall()))
