"""run_task: a task is a function of its value and its blocks, in this process, in a fresh one, from memory or disk."""

import collections
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.exec import aggregate, steps
from kernelmill.engine.exec.context import Scratch, TaskContext
from kernelmill.engine.exec.task import run_task
from kernelmill.engine.ids import AttemptId, TaskId
from kernelmill.engine.io import parquet_join
from kernelmill.engine.plan import logical
from kernelmill.engine.plan.codec import decode_task, encode_task
from kernelmill.engine.plan.planner import plan_job
from kernelmill.engine.plan.stages import BlockRef, task_of
from kernelmill.engine.shuffle.store import BlockStore, LostBlockError

ONE_TASK = """
import sys
from pathlib import Path
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.task import run_task
from kernelmill.engine.ids import AttemptId, TaskId
from kernelmill.engine.plan.codec import decode_task
from kernelmill.engine.shuffle.store import BlockStore

task_file, blocks, part = sys.argv[1:]
task = decode_task(Path(task_file).read_bytes())
store = BlockStore(memory_bytes_max=0, spill_dir=blocks, spill_bytes_max=1 << 40, keep=Path(blocks))
context = TaskContext(AttemptId(TaskId(task.stage, task.index), 0), part_path=part)
result = run_task(task, store, context)
print(result.rows, result.bytes)
"""


def sunk(frame, *, split_bytes=20_000, partitions=3, single_file=False):
    plan = logical.SinkParquet(frame._plan, "out", single_file)
    return plan_job(plan, split_bytes=split_bytes, partitions=partitions)


def context_of(task, part_path=None, **more):
    return TaskContext(AttemptId(TaskId(task.stage, task.index), 0), part_path=part_path, **more)


def all_tasks(job):
    return [task_of(job.graph, stage.number, index) for stage in job.graph.stages for index in range(stage.tasks)]


def run_here(job, folder, *, memory=1 << 30, scratch=None, tables=None):
    """Part files' bytes by index, every task run in this process."""
    folder.mkdir(parents=True)
    with BlockStore(memory_bytes_max=memory, spill_dir=str(folder), spill_bytes_max=1 << 30) as store:
        for task in all_tasks(job):
            part = None if task.partitions else str(folder / f"{task.index}.parquet")
            run_task(task, store, context_of(task, part, scratch=scratch), tables or job.tables)
        return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def run_apart(job, folder):
    """The same, each task in a process of its own that is told nothing but the task's bytes and the blocks' folder."""
    blocks = folder / "blocks"
    blocks.mkdir(parents=True)
    for task in all_tasks(job):
        file = folder / f"{task.stage}-{task.index}.task"
        file.write_bytes(encode_task(task))
        part = str(folder / f"{task.index}.parquet")
        command = [sys.executable, "-c", ONE_TASK, str(file), str(blocks), part]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
    return {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "in.txt"
    path.write_text("\n".join(f"The line {i} has wörds{i % 97} and {'long ' * (i % 3)}tails" for i in range(1200)))
    return path


def word_count(path):
    lines = km.scan_text(path)
    return lines.select(km.col("line").str.tokenize(lowercase=True).alias("w")).explode("w").group_by("w").len()


@pytest.fixture
def sales(tmp_path):
    path = tmp_path / "sales.parquet"
    n = 6_000
    table = pa.table(
        {
            "city": pa.array([None if i % 71 == 0 else f"city {i * i % 301}" for i in range(n)]),
            "day": pa.array(np.arange(n) % 7, pa.int8()),
            "price": pa.array(np.random.default_rng(3).normal(size=n)),
        }
    )
    pq.write_table(table, path, row_group_size=2_000)
    return path


def grouped(path):
    aggs = [km.len(), km.col("price").sum().alias("total"), km.col("price").mean().alias("mean")]
    return km.scan_parquet(path).group_by("city", "day").agg(*aggs)


# The cluster's shape --------------------------------------------------------------------------------------------------


def test_every_task_in_a_fresh_process_makes_the_bytes_of_one_process_for_a_word_count(text, tmp_path):
    job = sunk(word_count(text))
    assert [stage.tasks for stage in job.graph.stages] == [3, 3]
    apart, here = run_apart(job, tmp_path / "apart"), run_here(job, tmp_path / "here")
    assert apart == here
    assert len(here) == 3
    counted = pa.concat_tables(pq.read_table(pa.BufferReader(data)) for data in here.values())
    expected = collections.Counter(text.read_text().lower().split())
    assert dict(zip(*(column.to_pylist() for column in counted.columns), strict=True)) == expected


def test_every_task_in_a_fresh_process_makes_the_bytes_of_one_process_for_a_group_by(sales, tmp_path):
    job = sunk(grouped(sales), split_bytes=100_000, partitions=2)
    assert job.graph.stages[0].tasks > 1
    apart, here = run_apart(job, tmp_path / "apart"), run_here(job, tmp_path / "here")
    assert apart == here
    assert len(here) == 2
    rows = sum(pq.read_metadata(pa.BufferReader(data)).num_rows for data in here.values())
    assert rows == pq.read_table(sales).group_by(["city", "day"]).aggregate([]).num_rows


# The same bytes whatever the surroundings (I1) ------------------------------------------------------------------------


@pytest.mark.parametrize("frame", ["words", "groups"])
def test_memory_spilling_and_reused_buffers_change_no_byte(text, sales, tmp_path, frame):
    job = sunk(word_count(text)) if frame == "words" else sunk(grouped(sales), split_bytes=100_000)
    scratch = Scratch()
    plain = run_here(job, tmp_path / "plain")
    assert plain
    assert run_here(job, tmp_path / "spilled", memory=0) == plain
    assert run_here(job, tmp_path / "some", memory=20_000) == plain
    assert run_here(job, tmp_path / "first", scratch=scratch) == plain
    assert run_here(job, tmp_path / "second", scratch=scratch) == plain


@pytest.mark.parametrize("limit", ["MERGE_ROWS_MAX", "MERGE_BYTES_MAX"])
def test_a_merge_in_pieces_is_the_same_from_memory_and_from_disk(text, tmp_path, monkeypatch, limit):
    """The pieces' number decides the order of rows: it must not hang on where the blocks lie."""
    job = sunk(word_count(text), partitions=1)
    whole = run_here(job, tmp_path / "whole")
    differing = 0
    for size in range(120, 1600, 37):
        monkeypatch.setattr(steps, limit, size)
        memory, disk = (run_here(job, tmp_path / f"{size}-{m}", memory=m) for m in (1 << 30, 0))
        assert memory == disk, size
        differing += memory != whole
        read = [pq.read_table(pa.BufferReader(one["0.parquet"])).sort_by("w") for one in (memory, whole)]
        assert read[0] == read[1]
    assert differing  # or nothing was cut


def test_a_task_that_flushes_makes_one_block_a_partition(text, tmp_path, monkeypatch):
    job = sunk(grouped_lines(text))
    plain = run_here(job, tmp_path / "plain")
    monkeypatch.setattr(aggregate, "FLUSH_GROUPS", 1)
    assert run_here(job, tmp_path / "flushed") == run_here(job, tmp_path / "flushed-spilled", memory=0)
    found = [
        pa.concat_tables(pq.read_table(tmp_path / f / f"{i}.parquet") for i in range(3)) for f in ("plain", "flushed")
    ]
    assert found[0].sort_by("line") == found[1].sort_by("line")
    assert plain


def grouped_lines(path):
    return km.scan_text(path).group_by("line").len()


def test_a_second_run_of_a_task_leaves_the_same_blocks(text, tmp_path):
    task = all_tasks(sunk(word_count(text)))[0]
    with BlockStore(memory_bytes_max=1 << 30, spill_dir=str(tmp_path), spill_bytes_max=1 << 30) as store:
        first = run_task(task, store, context_of(task))
        blocks = [[b.to_pylist() for b in store.read(BlockRef(0, 0, part))] for part in range(3)]
        assert run_task(task, store, context_of(task)) == first
        assert [[b.to_pylist() for b in store.read(BlockRef(0, 0, part))] for part in range(3)] == blocks


# Shapes ---------------------------------------------------------------------------------------------------------------


def test_a_table_is_read_from_what_the_runner_holds(tmp_path):
    table = pa.table({"k": pa.array(["b", "a", None, "b"]).dictionary_encode(), "n": pa.array([1, 2, 3, 4])})
    job = sunk(km.from_arrow(table).group_by("k").agg(km.col("n").sum()), partitions=1)
    (data,) = run_here(job, tmp_path / "out", memory=0).values()
    assert pq.read_table(pa.BufferReader(data)).to_pydict() == {"k": ["b", "a", None], "n": [5, 2, 3]}


def test_lines_of_many_blocks_outlive_the_buffer_they_were_read_into(tmp_path):
    """The reader's buffer is used again for each block; a sort holds all of them."""
    path = tmp_path / "long.txt"
    lines = [f"{i * 7919 % 100_003:06d} " + "x" * 90 for i in range(100_000)]
    path.write_text("\n".join(lines))
    job = sunk(km.scan_text(path).sort("line"), split_bytes=64 << 20)
    (data,) = run_here(job, tmp_path / "out").values()
    assert pq.read_table(pa.BufferReader(data))["line"].to_pylist() == sorted(lines)


def test_rows_are_gathered_in_the_order_of_tasks(text, tmp_path):
    job = sunk(km.scan_text(text).filter(km.col("line").str.contains("7")).head(50), single_file=True)
    (data,) = run_here(job, tmp_path / "out", memory=0).values()
    expected = [line for line in text.read_text().split("\n") if "7" in line][:50]
    assert pq.read_table(pa.BufferReader(data))["line"].to_pylist() == expected


@pytest.mark.parametrize("bytes_min", [1, 1 << 20])
def test_one_file_has_the_rows_of_all_tasks_in_order_wherever_their_row_groups_waited(
    text, tmp_path, monkeypatch, bytes_min
):
    monkeypatch.setattr(parquet_join, "ENCODED_BYTES_MIN", bytes_min)
    job = sunk(word_count(text), single_file=True)
    (data,) = run_here(job, tmp_path / "one", memory=0).values()
    assert [data] == list(run_here(job, tmp_path / "again").values())
    parts = run_here(sunk(word_count(text)), tmp_path / "many")
    tables = [pq.read_table(pa.BufferReader(parts[name])) for name in sorted(parts)]
    assert pq.read_table(pa.BufferReader(data)) == pa.concat_tables(tables)
    row_groups = pq.read_metadata(pa.BufferReader(data)).num_row_groups
    assert row_groups == (len(parts) if bytes_min == 1 else 1)


def test_no_input_rows_still_make_files_with_the_columns(tmp_path):
    path = tmp_path / "empty.txt"
    path.write_text("")
    job = sunk(word_count(path))
    found = run_here(job, tmp_path / "out", memory=0)
    assert [pq.read_table(pa.BufferReader(data)).shape for data in found.values()] == [(0, 2)] * 3


def test_tasks_cross_as_bytes(text):
    for task in all_tasks(sunk(word_count(text))):
        assert decode_task(encode_task(task)) == task


# Failures -------------------------------------------------------------------------------------------------------------


def test_a_lost_block_is_told_by_the_task_that_reads_it(text, tmp_path):
    job = sunk(word_count(text))
    *maps, reduce = all_tasks(job)[:4]
    with BlockStore(memory_bytes_max=0, spill_dir=str(tmp_path), spill_bytes_max=1 << 30) as store:
        for task in maps:
            run_task(task, store, context_of(task))
        path = next(tmp_path.glob("kernelmill-spill-*/0-1-*.data"))
        path.write_bytes(path.read_bytes()[:-1] + b"\xff")
        last = reduce.__class__(reduce.stage, 2, reduce.operators, 0, None, all_tasks(job)[-1].inputs)
        with pytest.raises(LostBlockError) as caught:
            run_task(last, store, context_of(last, str(tmp_path / "part.parquet")))
        assert caught.value.ref == BlockRef(0, 1, 2)
        run_task(maps[1], store, context_of(maps[1]))
        assert run_task(last, store, context_of(last, str(tmp_path / "part.parquet"))).rows > 0


def test_a_cancelled_task_leaves_no_block(text, tmp_path):
    task = all_tasks(sunk(word_count(text)))[0]
    with BlockStore(memory_bytes_max=0, spill_dir=str(tmp_path), spill_bytes_max=1 << 30) as store:
        with pytest.raises(KernelmillError) as caught:
            run_task(task, store, context_of(task, is_cancelled=lambda: True))
        assert caught.value.code is Code.CANCELLED
        with pytest.raises(LostBlockError):
            list(store.read(BlockRef(0, 0, 0)))


def test_progress_is_told_in_input_bytes(text, tmp_path):
    task, told = all_tasks(sunk(word_count(text)))[0], []
    with BlockStore(memory_bytes_max=1 << 30, spill_dir=str(tmp_path), spill_bytes_max=1 << 30) as store:
        run_task(task, store, context_of(task, on_progress=told.append))
    assert told == sorted(told)
    assert told[-1] == task.split.size_bytes


def test_a_pipeline_that_does_not_fit_its_split_is_a_bug_with_a_name(text, tmp_path):
    job = sunk(word_count(text))
    task = all_tasks(job)[0]
    wrong = task.__class__(0, 0, task.operators, 1, None, ())
    store = BlockStore(memory_bytes_max=0, spill_dir=str(tmp_path), spill_bytes_max=1)
    with store, pytest.raises(KernelmillError) as caught:
        run_task(wrong, store, context_of(wrong))
    assert caught.value.code is Code.INTERNAL
