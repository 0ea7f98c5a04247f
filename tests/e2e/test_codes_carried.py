"""Texts that go from Parquet to Parquet as codes are the texts that they were, whatever is between."""

import random

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kernelmill as km

QUIET = {"progress": False, "compression": "snappy"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """left: a text of few values with nulls, one that never repeats; right: as many rows as keys, and twice that."""
    path, rng = tmp_path_factory.mktemp("carried"), random.Random(3)
    keys = [None, *(f"key{n}" for n in range(40))]
    left = {
        "k": [rng.choice(keys) for _ in range(30_000)],
        "city": [rng.choice(["Oslo", "Łódź", "", None, "Rome"]) for _ in range(30_000)],
        "alone": [f"row {n}" for n in range(30_000)],
        "n": list(range(30_000)),
    }
    once = {"k": keys[:35], "city": [None if n % 7 == 0 else f"c{n % 3}" for n in range(35)], "v": list(range(35))}
    pq.write_table(pa.table(left), path / "left.parquet", row_group_size=7_000)
    pq.write_table(pa.table(once), path / "once.parquet")
    pq.write_table(pa.table({name: column * 2 for name, column in once.items()}), path / "twice.parquet")
    return path


def plain_join(folder, right, how, nulls_equal):
    """What it should be: dictionaries of lists, in plain Python."""
    left = pq.read_table(folder / "left.parquet").to_pylist()
    by_key = {}
    for row in pq.read_table(folder / f"{right}.parquet").to_pylist():
        if row["k"] is not None or nulls_equal:
            by_key.setdefault(row["k"], []).append(row)
    for row in left:
        found = by_key.get(row["k"], [])
        if how in ("semi", "anti"):
            if bool(found) == (how == "semi"):
                yield row
            continue
        for other in found or ([{"city": None, "v": None}] if how == "left" else []):
            yield {**row, "city_right": other["city"], "v": other["v"]}


@pytest.mark.parametrize("nulls_equal", [False, True])
@pytest.mark.parametrize("how", ["inner", "left", "semi", "anti"])
@pytest.mark.parametrize("right", ["once", "twice"])
def test_joins_give_the_rows_that_plain_python_gives(folder, tmp_path, right, how, nulls_equal):
    left, other = (km.scan_parquet(str(folder / f"{name}.parquet")) for name in ("left", right))
    left.join(other, "k", how, nulls_equal=nulls_equal).sink_parquet(tmp_path / "out", **QUIET)
    made = pq.read_table(tmp_path / "out").sort_by("n").to_pylist()
    expected = list(plain_join(folder, right, how, nulls_equal))
    key = lambda row: (row["n"], row.get("v") or 0)  # noqa: E731
    assert sorted(made, key=key) == sorted(expected, key=key)


def test_filters_and_renamed_columns_leave_codes_codes(folder, tmp_path):
    frame = km.scan_parquet(str(folder / "left.parquet"))
    frame = frame.filter((km.col("city") == "Oslo") | km.col("k").is_null()).select(
        km.col("city").alias("where"), km.col("city"), "alone", (km.col("n") * 2).alias("twice")
    )
    frame.sink_parquet(tmp_path / "out", **QUIET)
    rows = pq.read_table(folder / "left.parquet").to_pylist()
    expected = [
        {"where": row["city"], "city": row["city"], "alone": row["alone"], "twice": 2 * row["n"]}
        for row in rows
        if row["city"] == "Oslo" or row["k"] is None
    ]
    assert pq.read_table(tmp_path / "out").to_pylist() == expected


def test_bytes_do_not_depend_on_threads_or_memory(folder, tmp_path):
    sums = []
    for number, options in enumerate([{"threads": 1}, {"threads": 2}, {"threads": 2, "memory": "300MB"}]):
        left, other = (km.scan_parquet(str(folder / f"{name}.parquet")) for name in ("left", "twice"))
        joined = left.join(other, "k", "left", nulls_equal=True).filter(km.col("city") != "Rome")
        made = joined.sink_parquet(tmp_path / str(number), split_size="64KiB", **QUIET, **options)
        sums.append([(tmp_path / str(number) / name).read_bytes() for name in made.files])
    assert sums[0] == sums[1] == sums[2] and len(sums[0]) > 1


def test_one_file_and_files_by_folder_hold_the_same_rows(folder, tmp_path):
    frame = km.scan_parquet(str(folder / "left.parquet"))
    frame.sink_parquet(tmp_path / "one.parquet", split_size="64KiB", **QUIET)
    assert pq.read_table(tmp_path / "one.parquet").equals(pq.read_table(folder / "left.parquet"))
    frame.filter(km.col("city") == "Oslo").sink_parquet(tmp_path / "by", partition_by="k", **QUIET)
    assert sum(pq.read_metadata(file).num_rows for file in (tmp_path / "by").rglob("*.parquet")) > 0
