"""Folders called name=value are columns that leave files out; tiny files share splits; nothing else changes."""

from __future__ import annotations

from datetime import date

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.io import many_footers
from kernelmill.engine.splits import FileStamp, ParquetFilesSplit, ParquetSplit, shared_splits


def code_of(call) -> Code:
    with pytest.raises(KernelmillError) as caught:
        call()
    return caught.value.code


@pytest.fixture
def lake(tmp_path):
    for year in (2019, 2020):
        for city in ("a", "b c", None):
            folder = (
                tmp_path / "lake" / f"year={year}" / f"city={'__HIVE_DEFAULT_PARTITION__' if city is None else city}"
            )
            folder.mkdir(parents=True)
            pq.write_table(pa.table({"n": [year, 1]}), folder / "part.parquet")
            (folder / "part.csv").write_text(f"n\n{year}\n1\n")
    return tmp_path / "lake"


ROWS = [(n, year, city) for year in (2019, 2020) for city in (None, "a", "b c") for n in (year, 1)]


@pytest.mark.parametrize("scan", [km.scan_parquet, km.scan_csv], ids=["parquet", "csv"])
def test_folders_are_columns_of_the_type_of_their_values(lake, scan):
    frame = scan(lake)
    assert dict(frame.schema) == {"n": pa.int64(), "year": pa.int64(), "city": pa.string()}
    assert frame.schema.is_nullable("city") and not frame.schema.is_nullable("year")
    assert frame.collect().rows() == ROWS
    assert frame.select("city").collect().rows() == [(row[2],) for row in ROWS]
    counted = frame.group_by("year", "city").agg(km.len()).sort("year", "city").collect().rows()
    assert counted == [(year, city, 2) for year in (2019, 2020) for city in (None, "a", "b c")]


@pytest.mark.parametrize(
    ("test", "files"),
    [
        (km.col("year") == 2019, 3),
        (km.col("year") > 2020, 0),
        ((km.col("city") == "a") & (km.col("year") == 2020), 1),
        (km.col("city").is_null(), 2),
        ((km.col("city") == "a") | (km.col("n") > 2019), 4),
    ],
    ids=str,
)
def test_a_filter_of_folders_leaves_files_out_and_keeps_the_rows(lake, test, files):
    frame = km.scan_parquet(lake)
    whole = km.from_arrow(frame.collect().to_arrow()).filter(test).collect().rows()
    assert frame.filter(test).collect().rows() == whole
    assert f"read parquet, {max(1, files)} task" in frame.filter(test).explain()


def test_only_folders_below_what_was_named_count_unless_asked(lake):
    one = lake / "year=2019" / "city=a"
    assert km.scan_parquet(one).columns == ["n"]
    assert km.scan_parquet(str(one / "*.parquet")).columns == ["n"]
    assert km.scan_parquet(one, hive_partitioning=True).collect().rows() == [(2019, 2019, "a"), (1, 2019, "a")]
    assert km.scan_parquet(lake, hive_partitioning=False).columns == ["n"]
    assert code_of(lambda: km.scan_parquet(lake, hive_partitioning="yes")) is Code.BAD_SETTING


def test_folders_that_differ_are_no_columns_or_an_error(lake):
    pq.write_table(pa.table({"n": [5]}), lake / "top.parquet")
    assert km.scan_parquet(lake).columns == ["n"]
    assert code_of(lambda: km.scan_parquet(lake, hive_partitioning=True)) is Code.SCHEMA_CONFLICT


def test_a_column_that_files_have_is_theirs_and_dates_are_dates(tmp_path):
    folder = tmp_path / "day=2020-01-02" / "n=9"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"n": [5]}), folder / "a.parquet")
    frame = km.scan_parquet(tmp_path, include_file_paths="path")
    assert frame.collect().rows() == [(5, date(2020, 1, 2), str(folder / "a.parquet"))]
    assert frame.filter(km.col("day") < date(2020, 1, 1)).collect().rows() == []


def split_of(name: str, size: int) -> ParquetSplit:
    return ParquetSplit(FileStamp(name, size, 0), (0,), size)


def test_few_files_keep_a_task_each_and_many_share_one():
    few = [split_of(str(n), 10) for n in range(64)]
    assert shared_splits(few, 1 << 20) == tuple(few)
    many = [split_of(str(n), 10) for n in range(6400)]
    shared = shared_splits(many, 1 << 20)
    assert len(shared) == 64
    assert [one for split in shared if isinstance(split, ParquetFilesSplit) for one in split.parts] == many
    assert all(split.size_bytes <= 55 for split in shared_splits(many, 55))
    large = [*many[:100], split_of("large", 10_000)]
    assert shared_splits(large, 1 << 20)[-1] == large[-1]


def test_many_tiny_files_are_read_whole_and_in_order(tmp_path):
    for number in range(130):
        pq.write_table(pa.table({"n": [number], "s": [f"v{number % 3}"]}), tmp_path / f"{number:03}.parquet")
    frame = km.scan_parquet(tmp_path)
    assert frame.collect(threads=2).rows() == [(n, f"v{n % 3}") for n in range(130)]
    assert "read parquet, 65 tasks" in frame.explain()
    assert frame.group_by("s").agg(km.len()).sort("s").collect().rows() == [("v0", 44), ("v1", 43), ("v2", 43)]


def test_footers_of_very_many_files_are_noted_and_plans_are_the_same(tmp_path, monkeypatch):
    for number in range(6):
        pq.write_table(pa.table({"n": [number], "s": [f"v{number % 3}"]}), tmp_path / f"{number:03}.parquet")
    held = km.scan_parquet(tmp_path)
    monkeypatch.setattr(many_footers, "FOOTERS_HELD_MAX", 3)
    noted = km.scan_parquet(tmp_path)
    assert len({id(info.schema) for info in noted._plan.infos}) == 1
    for verb in (lambda f: f, lambda f: f.select("s"), lambda f: f.filter(km.col("n") > 3)):
        assert stages_of(verb(noted)) == stages_of(verb(held))
        assert verb(noted).collect().rows() == verb(held).collect().rows()


def stages_of(frame: km.LazyFrame) -> str:
    return frame.explain().split("stages")[1]
