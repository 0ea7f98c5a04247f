"""Verbs of every kind in one plan, over files of every kind: DuckDB's rows, and the same bytes however it is run."""

from __future__ import annotations

import json
import os

import duckdb
import outside
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kernelmill as km

ROWS, FILES = 1_500, 75
SCHEMA = {"id": "int64", "k": "string", "n": "int64", "x": "float64"}
SETTINGS = {"split_size": 6_000, "partitions": 3}
c = km.col


def row(i: int) -> dict[str, object]:
    k = ["a", "b", "c", "dd", None, "e" * 20][i * i % 37 % 6]
    return {"id": i, "k": k, "n": i * 31 % 101 - 50 if i % 11 else None, "x": i % 17 / 4 - 2 if i % 7 else None}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The rows as CSV, as JSON lines and as a folder of tiny Parquet files by `part`; a small table beside them."""
    folder = tmp_path_factory.mktemp("together")
    rows = [row(i) for i in range(ROWS)]
    fields = [",".join("" if value is None else str(value) for value in one.values()) for one in rows]
    (folder / "t.csv").write_text("\n".join([",".join(SCHEMA), *fields]) + "\n")
    (folder / "t.ndjson").write_text("".join(json.dumps(one) + "\n" for one in rows))
    table, each = pa.Table.from_pylist(rows), ROWS // FILES
    for number in range(FILES):
        part = folder / "lake" / f"part={number % 3}"
        part.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.slice(number * each, each), part / f"{number:02}.parquet", row_group_size=7)
    pq.write_table(pa.table({"k": ["a", "b", "dd", None, "zz", "a"], "w": range(6)}), folder / "dim.parquet")
    return folder


class Frames:
    """The scans of one folder."""

    def __init__(self, folder):
        self.csv = km.scan_csv(folder / "t.csv", schema=SCHEMA, null_values=[""])
        self.ndjson = km.scan_ndjson(folder / "t.ndjson", schema=SCHEMA)
        self.lake = km.scan_parquet(folder / "lake")
        self.dim = km.scan_parquet(folder / "dim.parquet")


def self_join(f: Frames):
    both = km.concat([f.csv, f.ndjson])
    sums = both.group_by("k").agg(total=c("n").sum())
    return both.join(sums, "k", nulls_equal=True).group_by("k").agg(km.len(), t=c("total").first())


PLANS = {
    "aggregates of csv": (
        lambda f: f.csv.group_by("k").agg(
            m=c("n").median(), d=c("n").max() - c("n").min(), s=c("x").sum(), e=c("id").len().filter(c("x") > 1)
        ),
        "select k, median(n), max(n) - min(n), sum(x), count(*) filter (x > 1) from t group by k",
    ),
    "left join, then unique": (
        lambda f: f.lake.join(f.dim, "k", "left").unique(["k", "n", "w"]).select("k", "n", "w"),
        "select distinct k, n, w from t left join dim using (k)",
    ),
    "full join, then sort": (
        lambda f: f.ndjson.filter(c("n") > 40).join(f.dim, "k", "full").sort("id", "w", nulls_last=True)
        .select("id", "w"),
        "select id, w from (select * from t where n > 40) s full join dim using (k)",
    ),
    "concat joined with its own groups": (
        self_join,
        "select k, 2 * count(*), 2 * sum(n) from t group by k",
    ),
    "numbers of three formats' rows": (
        lambda f: km.concat([f.csv, f.ndjson, f.lake.select(*SCHEMA)]).with_row_index("i").gather_every(7, 3)
        .join(f.dim.unique("k"), "k", "anti").group_by("k").agg(km.len()),
        None,
    ),
    "numbers beside a broadcast join": (
        lambda f: f.csv.filter(c("n").is_not_null()).with_row_index("i").join(f.dim.unique("k"), "k").tail(100)
        .select("i", "id", "w"),
        None,
    ),
    "semi and anti make a whole": (
        lambda f: km.concat([f.csv.join(f.dim, "k", "semi"), f.csv.join(f.dim, "k", "anti")]).unique("id")
        .group_by(none=c("k").is_null()).agg(km.len()),
        "select k is null, count(*) from t group by 1",
    ),
    "three joins by unique keys": (
        lambda f: f.csv.join(f.ndjson.select("id", z="n"), "id", validate="1:1").join(f.lake.select("id", "part"), "id")
        .group_by("part", "k").agg(km.len(), (c("z") - c("n")).sum().alias("zero")),
        "select (id // 20) % 3, k, count(*), 0 from t group by 1, 2",
    ),
    "sample of a lake": (
        lambda f: f.lake.sample(fraction=0.3, seed=4).group_by("part").agg(
            q=c("n").quantile(0.25), r=c("n").corr("x"), top=c("n").top_k(3), u=c("k").n_unique()
        ),
        None,
    ),
    "lists of groups, exploded and joined": (
        lambda f: f.csv.group_by("k").agg(ids=c("id").implode()).explode("ids")
        .join(f.lake.select("id", "part"), left_on="ids", right_on="id").group_by("part").agg(km.len()),
        "select (id // 20) % 3, count(*) from t group by 1",
    ),
    "unpivot of a concat": (
        lambda f: km.concat([f.lake.select("id", "n"), f.csv.select("id", n=c("x").cast("int64", strict=False))])
        .unpivot(["n"], index="id").drop_nulls().unique().group_by("variable").agg(s=c("value").sum()),
        None,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANS)
def test_rows_are_those_of_duckdb_and_bytes_are_the_same_however_it_is_run(made, name):
    plan, sql = PLANS[name]
    frame, found = plan(Frames(made)), []
    tight = outside.tight_memory(frame, "out", 2, **SETTINGS)
    for threads, memory in ((1, "4GiB"), (2, "4GiB"), (2, tight)):
        os.mkdir(str(len(found)))
        frame.sink_parquet(f"{len(found)}/out", threads=threads, memory=memory, **SETTINGS)
        found.append(outside.digests(f"{len(found)}/out"))
    assert found[0] == found[1] == found[2]
    rows = [tuple(one.values()) for one in km.scan_parquet("0/out").collect().to_arrow().to_pylist()]
    assert rows
    if sql is not None:
        assert sorted(rows, key=repr) == sorted(rows_of_duckdb(made, sql), key=repr)


@pytest.mark.parametrize("name", ["full join, then sort", "left join, then unique"])
def test_files_share_the_rows_in_their_order(made, name):
    frame = PLANS[name][0](Frames(made))
    result = frame.sink_parquet("out", files=4, **SETTINGS)
    parts = [pq.read_table(f"out/{file}") for file in result.files]
    expected = frame.collect(**SETTINGS).to_arrow()
    assert pa.concat_tables(parts).equals(expected)
    assert max(part.num_rows for part in parts) - min(part.num_rows for part in parts) <= 1 and len(parts) == 4


def rows_of_duckdb(folder, sql: str) -> list[tuple]:
    tables = {"t": pa.Table.from_pylist([row(i) for i in range(ROWS)]), "dim": pq.read_table(folder / "dim.parquet")}
    with duckdb.connect() as connection:
        for name, table in tables.items():
            connection.register(name, table)
        rows = connection.execute(sql).fetchall()
    return [tuple(float(value) if isinstance(value, float) else value for value in one) for one in rows]
