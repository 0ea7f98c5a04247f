"""files=: exactly so many part files, in the order of the rows, as even as can be, and the same bytes however run."""

from __future__ import annotations

import hashlib
from itertools import islice

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.rowverbs import to_equal_parts
from kernelmill.engine.ids import AttemptId, TaskId
from kernelmill.engine.plan.logical import SinkParquet
from kernelmill.engine.plan.planner import plan_job


@given(st.lists(st.integers(0, 30), min_size=1, max_size=5), st.integers(1, 12), st.integers(1, 7))
def test_shares_are_even_and_in_order(rows, partitions, batch_rows):
    context = TaskContext(AttemptId(TaskId(0, 0), 0))
    total, numbers, placed = sum(rows), iter(range(sum(rows))), []
    for task, count in enumerate(rows):
        own = list(islice(numbers, count))
        batches = [pa.record_batch({"n": own[at : at + batch_rows]}) for at in range(0, count, batch_rows)]
        for part, batch in to_equal_parts(iter(batches), sum(rows[:task]), total, partitions, context):
            placed += [(part, row) for row in batch["n"].to_pylist()]
    assert placed == [(row * partitions // total, row) for row in range(total)]


@pytest.fixture
def lines(tmp_path):
    (tmp_path / "in.txt").write_text("".join(f"{n}\n" for n in range(1000)))
    return km.scan_text(tmp_path / "in.txt").select(n=km.col("line").cast("int64"))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from([1, 2, 3, 7, 40]))
def test_there_are_as_many_files_as_asked_with_all_rows_in_order(lines, tmp_path, files):
    hashes = []
    for number, threads in enumerate((1, 2)):
        out = tmp_path / f"out-{number}"
        result = lines.sink_parquet(out, files=files, split_size=500, mode="overwrite", threads=threads, progress=False)
        assert list(result.files) == [f"part-{n:05d}.parquet" for n in range(files)]
        parts = [pq.read_table(out / name)["n"].to_pylist() for name in result.files]
        assert [n for part in parts for n in part] == list(range(1000))
        assert max(map(len, parts)) - min(map(len, parts)) <= 1
        hashes.append([hashlib.sha256((out / name).read_bytes()).hexdigest() for name in result.files])
    assert hashes[0] == hashes[1]


def test_fewer_rows_than_files_leave_some_empty(lines, tmp_path):
    result = lines.head(2).sink_parquet(tmp_path / "out", files=5)
    assert (len(result.files), result.rows) == (5, 2)
    assert km.scan_parquet(tmp_path / "out").collect().rows() == [(0,), (1,)]


def test_a_sort_stays_sorted_over_the_files(lines, tmp_path):
    result = lines.sort("n", descending=True).sink_parquet(tmp_path / "out", files=4, split_size=500, partitions=3)
    read = [n for name in result.files for n in pq.read_table(tmp_path / "out" / name)["n"].to_pylist()]
    assert read == list(range(999, -1, -1))


def test_rows_that_footers_tell_are_not_counted(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(80):  # so many that small files share splits
        pq.write_table(pa.table({"n": range(number * 10, number * 10 + 10)}), folder / f"{number:02}.parquet")
    frame = km.scan_parquet(folder)
    sink = SinkParquet(frame._plan, "out", False, files=7, origin="")
    assert [stage.label for stage in plan_job(sink, split_bytes=1 << 20).graph.stages] == ["read parquet", "write"]
    result = frame.sink_parquet(tmp_path / "out", files=7, progress=False)
    parts = [pq.read_table(tmp_path / "out" / name)["n"].to_pylist() for name in result.files]
    assert [n for part in parts for n in part] == list(range(800))
    assert sorted(map(len, parts)) == [114] * 5 + [115] * 2


@pytest.mark.parametrize(("path", "files"), [("out", 0), ("out", "3"), ("out", True), ("out.parquet", 2)])
def test_numbers_that_cannot_be_are_refused(lines, tmp_path, path, files):
    with pytest.raises(KernelmillError) as caught:
        lines.sink_parquet(tmp_path / path, files=files)
    assert caught.value.code is Code.BAD_SETTING
