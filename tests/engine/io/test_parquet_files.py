"""Parquet in folders: what is written comes back, whatever the values are; files end where they should."""

from __future__ import annotations

import os
from collections import Counter
from datetime import date, datetime

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kernelmill as km
from kernelmill.engine.commit import check, read_manifest
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.events import SpillWritten
from kernelmill.engine.exec.groupruns import group_starts
from kernelmill.engine.io.folders import folder_of
from kernelmill.engine.io.parquet_files import FilesWriter
from kernelmill.engine.plan.explain import stages_text
from kernelmill.engine.plan.logical import SinkParquet
from kernelmill.engine.plan.physical import ToParquetFiles
from kernelmill.engine.plan.planner import plan_job

QUIET = {"progress": False}
STRANGE = ["..", ".", "/", "a/b", "\0", "", "NULL", "null", "__HIVE_DEFAULT_PARTITION__", "a=b", "%2F", "%", "7", "007",
           "2020-01-01", "ø x", "\u2028", "Aa", "aA", " ", "_a", "#?*[{'\"", "\n"]  # fmt: skip


def code_of(call) -> Code:
    with pytest.raises(KernelmillError) as caught:
        call()
    return caught.value.code


def files_in(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def counted(rows) -> Counter:
    return Counter(map(tuple, rows))


KEYS = {
    "text": (pa.string(), st.one_of(st.sampled_from(STRANGE), st.text(max_size=5))),
    "int64": (pa.int64(), st.integers(-(1 << 63), (1 << 63) - 1)),
    "int8": (pa.int8(), st.integers(-3, 3)),
    "uint64": (pa.uint64(), st.integers(0, (1 << 64) - 1)),
    "bool": (pa.bool_(), st.booleans()),
    "date": (pa.date32(), st.dates()),
    "time": (pa.timestamp("us"), st.datetimes()),
    "zone": (pa.timestamp("ms", "UTC"), st.integers(0, 1 << 40)),
}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_columns_types_and_rows_come_back_as_they_were(tmp_path, data):
    kinds = data.draw(st.lists(st.sampled_from(sorted(KEYS)), min_size=1, max_size=2, unique=True))
    rows = data.draw(st.integers(0, 12))
    columns = {
        kind: pa.array(data.draw(st.lists(st.none() | KEYS[kind][1], min_size=rows, max_size=rows)), KEYS[kind][0])
        for kind in kinds
    }
    table = pa.table({**columns, "n": pa.array(range(rows), pa.int64())})
    out = tmp_path / "out"
    made = km.from_arrow(table).sink_parquet(out, partition_by=kinds, mode="overwrite", **QUIET)
    back = km.scan_parquet(out)
    assert dict(back.schema) == {"n": pa.int64(), **{kind: KEYS[kind][0] for kind in kinds}}
    assert counted(back.select(*table.column_names).collect().rows()) == counted(km.from_arrow(table).collect().rows())
    assert check(out).ok and made.rows == rows == sum(pq.read_metadata(out / name).num_rows for name in made.files)
    assert len(made.files) == max(1, len(counted(zip(*(one.to_pylist() for one in columns.values()), strict=True))))


@pytest.mark.parametrize("kind", ["text", "int8", "uint64", "bool", "date", "time", "zone"])
def test_a_filter_of_a_column_of_folders_finds_the_same_rows_and_leaves_files_out(tmp_path, kind):
    values = {"text": ["a", "", None], "bool": [True, False, None]}.get(kind)
    if values is None:
        values = pa.array([1000, 5, None], pa.int64()) if kind in ("time", "zone") else pa.array([100, 5, None])
        values = values.cast("int32").cast("date32") if kind == "date" else values
    table = pa.table({"n": range(3), "k": pa.array(values).cast(KEYS[kind][0])})
    made = km.from_arrow(table)
    made.sink_parquet(tmp_path / "out", partition_by="k", **QUIET)
    back, first = km.scan_parquet(tmp_path / "out"), made.collect().rows()[0][1]
    for test in (km.col("k") == first, km.col("k") != first, km.col("k") >= first, km.col("k").is_null()):
        assert sorted(back.filter(test).collect().rows()) == sorted(made.filter(test).collect().rows()), str(test)
    assert "read parquet, 3 tasks" in back.explain()
    assert "read parquet, 1 task," in back.filter(km.col("k") > first).explain()
    assert "read parquet, 1 task," in back.filter(km.col("k").is_null()).explain()


def test_other_engines_read_the_values(tmp_path):
    values = [*STRANGE, None]
    rows = range(len(values))
    table = pa.table({"n": rows, "city": values, "year": [2019 + n % 2 for n in rows]})
    km.from_arrow(table).sink_parquet(tmp_path / "out", partition_by=["year", "city"], **QUIET)
    found = duckdb.sql(
        f"select n, city, year from read_parquet('{tmp_path}/out/*/*/*.parquet', hive_partitioning = true,"
        " hive_types = {'city': varchar, 'year': bigint}) order by n"
    ).fetchall()
    assert found == list(zip(*table.to_pydict().values(), strict=True))


def test_plain_values_are_read_by_polars_and_pyarrow(tmp_path):
    table = pa.table({"n": [1, 2, 3], "city": ["Oslo", "a b", None], "year": [2019, 2020, None]})
    km.from_arrow(table).sink_parquet(tmp_path / "out", partition_by=["city", "year"], **QUIET)
    files = f"{tmp_path}/out/*/*/*.parquet"
    assert pl.scan_parquet(files, hive_partitioning=True).sort("n").collect().rows() == list(
        zip(*table.to_pydict().values(), strict=True)
    )
    found = pyarrow.dataset.dataset(tmp_path / "out", partitioning="hive").to_table().sort_by("n")
    assert found.to_pydict() == table.to_pydict()


def test_what_another_engine_wrote_in_folders_is_read(tmp_path):
    values = [one for one in STRANGE if one]
    table = pa.table({"n": list(range(len(values))), "city": values})
    with duckdb.connect() as connection:
        connection.register("given", table)
        connection.sql(f"copy (select n, city from given) to '{tmp_path}/out' (format parquet, partition_by (city))")
    back = km.scan_parquet(f"{tmp_path}/out/*/*.parquet").sort("n").collect().rows()
    assert back == list(zip(*table.to_pydict().values(), strict=True))


@pytest.fixture
def lines(tmp_path):
    (tmp_path / "in.txt").write_text("".join(f"{n}\n" for n in range(3000)))
    n = km.col("line").cast("int64")
    return km.scan_text(tmp_path / "in.txt").select(n=n, k=n * n % 7, s=km.col("line").str.head(1))


CUTS = {
    "folders": {"partition_by": "k"},
    "two": {"partition_by": ["s", "k"], "max_rows_per_file": 10},
    "rows": {"max_rows_per_file": 100},
    "row groups": {"max_rows_per_file": 100, "row_group_rows": 30},
}


@pytest.mark.parametrize("cut", CUTS)
def test_bytes_are_the_same_for_any_threads_memory_and_format_of_spills(lines, tmp_path, cut):
    found = []
    for number, options in enumerate(({"threads": 1}, {"threads": 2}, {"threads": 2, "memory": "200MB"})):
        out = tmp_path / f"out-{number}"
        lines.sink_parquet(out, split_size=4000, **CUTS[cut], **options, **QUIET)
        found.append(files_in(out))
    assert found[0] == found[1] == found[2] and len(found[0]) > 4


def test_rows_that_do_not_fit_are_sorted_on_disk_into_the_same_files(tmp_path):
    rows = 300_000
    columns = {"n": range(rows), "k": [n * 7919 % 13 for n in range(rows)], "s": [f"text {n:>60}" for n in range(rows)]}
    pq.write_table(pa.table(columns), tmp_path / "in.parquet")
    frame, seen, found = km.scan_parquet(tmp_path / "in.parquet"), [], []
    for options in ({"threads": 2, "progress": False}, {"memory": "90MB", "progress": seen.append}):
        frame.sink_parquet(tmp_path / "out", partition_by="k", mode="overwrite", **options)
        found.append(files_in(tmp_path / "out"))
    assert any(isinstance(event, SpillWritten) for event in seen)
    assert found[0] == found[1] and len(found[0]) == 14


def test_rows_keep_their_order_in_each_folder(lines, tmp_path):
    made = lines.sink_parquet(tmp_path / "out", partition_by=["k"], split_size=4000, **QUIET)
    for k in {n * n % 7 for n in range(7)}:
        names = [name for name in made.files if name.startswith(f"k={k}/")]
        assert names == [f"k={k}/part-{number:05d}.parquet" for number in range(len(names))] and len(names) > 1
        parts = [pq.ParquetFile(tmp_path / "out" / name).read()["n"].to_pylist() for name in names]
        assert [n for part in parts for n in part] == [n for n in range(3000) if n * n % 7 == k]


def test_a_sort_by_the_columns_of_folders_is_not_done_twice(lines, tmp_path):
    sorted_lines = lines.sort("k", "n", descending=[True, False])
    made = sorted_lines.sink_parquet(tmp_path / "out", partition_by="k", **QUIET)
    assert len(made.files) == 4
    assert km.scan_parquet(tmp_path / "out").select("n", "k").collect().rows() == [
        (n, k) for k in (0, 1, 2, 4) for n in range(3000) if n * n % 7 == k
    ]


def test_no_file_has_more_rows_than_asked_for_and_only_the_last_of_a_task_has_fewer(lines, tmp_path):
    made = lines.sink_parquet(tmp_path / "out", max_rows_per_file=700, row_group_rows=400, **QUIET)
    rows = [[g.num_rows for g in groups_of(tmp_path / "out" / name)] for name in made.files]
    assert rows == [[400, 300]] * 4 + [[200]]
    assert km.scan_parquet(tmp_path / "out").select("n").collect().rows() == [(n,) for n in range(3000)]


def groups_of(path):
    metadata = pq.read_metadata(path)
    return [metadata.row_group(number) for number in range(metadata.num_row_groups)]


def test_files_are_about_as_large_as_asked_for(tmp_path):
    table = pa.table({"n": [n * 2654435761 % (1 << 40) for n in range(200_000)]})
    frame = km.from_arrow(table)
    made = frame.sink_parquet(tmp_path / "out", target_file_bytes="256KiB", compression="none", **QUIET)
    sizes = [os.path.getsize(tmp_path / "out" / name) for name in made.files]
    assert len(sizes) > 2 and all(0.7 < size / (256 << 10) < 1.4 for size in sizes[:-1])
    assert km.scan_parquet(tmp_path / "out").collect().to_arrow() == frame.collect().to_arrow()


def test_an_output_without_rows_tells_its_columns(lines, tmp_path):
    none = lines.filter(km.col("n") < 0)
    made = none.sink_parquet(tmp_path / "out", partition_by=["s", "k"], split_size=4000, **QUIET)
    assert made.files == ("part-00000.parquet",) and made.rows == 0
    back = km.scan_parquet(tmp_path / "out")
    assert dict(back.schema) == {"n": pa.int64(), "s": pa.string(), "k": pa.int64()}
    assert back.collect().rows() == [] and check(tmp_path / "out").ok


def test_a_level_of_compression_is_used(lines, tmp_path):
    sizes = [
        lines.sink_parquet(tmp_path / f"{name}-{level}", compression=name, compression_level=level, **QUIET).bytes
        for name in ("zstd", "gzip")
        for level in (1, 9)
    ]
    assert sizes[0] > sizes[1] and sizes[2] != sizes[3]


def test_check_finds_what_is_wrong_below_folders(lines, tmp_path):
    out = tmp_path / "out"
    made = lines.sink_parquet(out, partition_by=["k", "s"], **QUIET)
    assert check(out).ok
    (out / "k=0" / "s=1" / "more.parquet").write_bytes(b"x")
    (out / "k=9").mkdir()
    os.unlink(out / made.files[-1])
    problems = {(one.kind, one.name) for one in check(out).problems}
    assert problems == {("extra", "k=0/s=1/more.parquet"), ("extra", "k=9"), ("missing", made.files[-1])}
    assert code_of(lambda: lines.sink_parquet(out, mode="overwrite", **QUIET)) is Code.COMMIT


def test_an_output_in_folders_is_overwritten_whole(lines, tmp_path):
    out = tmp_path / "out"
    lines.sink_parquet(out, partition_by=["k", "s"], **QUIET)
    made = lines.sink_parquet(out, partition_by=["s"], mode="overwrite", **QUIET)
    assert set(files_in(out)) == {*made.files, "_manifest.json"} and os.listdir(tmp_path).count(".out.km-staging") == 0


def test_the_manifest_lists_files_by_folder_and_columns_of_folders_last(lines, tmp_path):
    made = lines.sink_parquet(tmp_path / "out", partition_by=["k"], **QUIET)
    manifest = read_manifest(tmp_path / "out")
    assert [file.name for file in manifest.files] == sorted(made.files) and manifest.rows == 3000
    assert [field.name for field in manifest.schema] == ["n", "s", "k"]


FIELD = pa.field("city", pa.string())


def test_a_value_whose_folder_has_too_long_a_name_is_an_error_and_leaves_nothing(tmp_path):
    assert len(folder_of(pa.schema([FIELD]), [pa.scalar("x" * 250)])) == 255
    frame = km.from_arrow(pa.table({"city": ["x" * 251], "n": [1]}))
    assert code_of(lambda: frame.sink_parquet(tmp_path / "out", partition_by="city", **QUIET)) is Code.CAST
    assert os.listdir(tmp_path) == []


def test_a_date_that_has_no_exact_text_is_an_error(tmp_path):
    frame = km.from_arrow(pa.table({"day": pa.array([2**30], pa.date32()), "n": [1]}))
    assert code_of(lambda: frame.sink_parquet(tmp_path / "out", partition_by="day", **QUIET)) is Code.CAST


MISUSED = {
    "float": ({"partition_by": "x"}, Code.TYPE_MISMATCH),
    "no column": ({"partition_by": "m"}, Code.COLUMN_NOT_FOUND),
    "all columns": ({"partition_by": ["n", "x", "d"]}, Code.BAD_SETTING),
    "twice": ({"partition_by": ["n", "n"]}, Code.DUPLICATE_COLUMN),
    "no name": ({"partition_by": 3}, Code.BAD_SETTING),
    "files": ({"partition_by": "n", "files": 2}, Code.BAD_SETTING),
    "files and rows": ({"max_rows_per_file": 3, "files": 2}, Code.BAD_SETTING),
    "no rows": ({"max_rows_per_file": 0}, Code.BAD_SETTING),
    "small": ({"target_file_bytes": 1000}, Code.BAD_SETTING),
    "no size": ({"target_file_bytes": "big"}, Code.BAD_SETTING),
    "no levels": ({"compression": "snappy", "compression_level": 3}, Code.BAD_SETTING),
    "level": ({"compression": "gzip", "compression_level": 10}, Code.BAD_SETTING),
}


@pytest.mark.parametrize("name", MISUSED)
def test_misuse_is_told_before_anything_runs(tmp_path, name):
    options, code = MISUSED[name]
    frame = km.from_arrow(pa.table({"n": [1], "x": [0.5], "d": [date(2020, 1, 1)]}))
    if name == "all columns":
        frame = frame.cast({"x": "int64"})
    assert code_of(lambda: frame.sink_parquet(tmp_path / "out", **options, **QUIET)) is code
    assert os.listdir(tmp_path) == []


def test_one_file_is_not_cut(tmp_path):
    frame = km.from_arrow(pa.table({"n": [1], "t": [datetime(2020, 1, 1)]}))
    for options in ({"partition_by": "t"}, {"max_rows_per_file": 3}, {"target_file_bytes": "1MB"}):
        assert code_of(lambda o=options: frame.sink_parquet(tmp_path / "a.parquet", **o, **QUIET)) is Code.BAD_SETTING


def last_lines(frame, **options) -> list[str]:
    sink = SinkParquet(frame._plan, "out", False, **options)
    return stages_text(plan_job(sink, split_bytes=1 << 20)).splitlines()[-2:]


def test_the_plan_says_where_files_begin_and_end(lines):
    assert last_lines(lines, partition_by=("s", "k"), file_rows_max=1000) == [
        "  Sort s, k",
        "  ToParquet zstd, row groups of 1,048,576, a folder for each s, k, at most 1,000 rows a file",
    ]
    found = last_lines(lines.sort("k", "s", "n"), partition_by=("s", "k"), file_bytes=1_000_000)
    assert found == [
        "  Sort k, s, n",
        "  ToParquet zstd, row groups of 1,048,576, a folder for each s, k, about 1.0 MB a file",
    ]


def test_names_of_columns_may_be_strange_too(tmp_path):
    table = pa.table({"n": [1, 2], "a/b=%": ["x", None], "_id": [7, 8]})
    km.from_arrow(table).sink_parquet(tmp_path / "out", partition_by=["a/b=%", "_id"], **QUIET)
    back = km.scan_parquet(tmp_path / "out").sort("n").collect()
    assert back.columns == table.column_names and back.rows() == [(1, "x", 7), (2, None, 8)]


def test_outputs_of_a_job_with_several_are_cut_too(tmp_path):
    (tmp_path / "in.txt").write_text("".join(f"{n} {n % 3}\n" for n in range(40)))

    def split(line, emit):
        emit(line.split()[0], 1)
        emit.to("more", line.split()[1], 1)

    schema = {"key": "string", "value": "int64"}
    job = km.MapReduce(split, "sum", schema=schema, outputs={"more": km.Output("max", schema=schema)})
    made = job.run(tmp_path / "in.txt", output=tmp_path / "out", max_rows_per_file=15, **QUIET)
    assert made.files == tuple(f"part-{n:05d}.parquet" for n in range(3))
    assert [os.path.basename(name) for name in made.outputs["more"].files] == ["part-00000.parquet"]
    assert check(tmp_path / "out").ok
    refused = lambda: job.run(tmp_path / "in.txt", output=tmp_path / "no", partition_by="key", **QUIET)  # noqa: E731
    assert code_of(refused) is Code.BAD_SETTING


def test_a_task_is_cancelled_between_two_of_its_files(tmp_path):
    path, told = str(tmp_path / "parts"), []

    def before_file():
        told.append(len(os.listdir(path)))
        if len(told) == 4:
            raise KeyboardInterrupt

    operator = ToParquetFiles("zstd", 100, True, pa.schema([("n", "int64")]), file_rows_max=2)
    with (
        pytest.raises(KeyboardInterrupt),
        FilesWriter(path, operator, group_starts, before_file=before_file) as writer,
    ):
        writer.write(pa.record_batch({"n": range(100)}))
    assert told == [0, 1, 2, 3] and os.listdir(tmp_path) == []
