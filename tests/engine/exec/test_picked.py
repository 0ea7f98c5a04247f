"""Rows that were placed without being moved: the same rows, in bytes and number, as if they had been."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernelmill as km
from kernelmill.engine.exec import sorting
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.picked import PickedRows, pick_rows
from kernelmill.engine.exec.reused import Reused
from kernelmill.engine.exec.sorting import sort_rows
from kernelmill.engine.ids import AttemptId, TaskId
from kernelmill.engine.io import parquet_write
from kernelmill.engine.plan.physical import Sort, ToParquet
from kernelmill.engine.plan.stages import BlockRef
from kernelmill.engine.shuffle.store import BlockStore

ROWS = 12_000


def wide_rows(rows=ROWS, seed=5):
    """Keys with ties, a wide payload, a decimal, a text and a payload with nulls."""
    random = np.random.default_rng(seed)
    keys = [bytes([65 + n % 26, n // 26 % 256]) * 5 for n in random.integers(0, 4000, rows).tolist()]
    payloads = [b"%090d" % n for n in range(rows)]
    return pa.table(
        {
            "key": pa.array(keys, pa.binary(10)),
            "payload": pa.array(payloads, pa.binary(90)),
            "text": pa.array([f"text {n % 77}" for n in range(rows)]),
            "gaps": pa.array([None if n % 5 == 0 else b"%040d" % n for n in range(rows)], pa.binary(40)),
        }
    )


@settings(max_examples=30)
@given(st.lists(st.integers(0, 19), min_size=1, max_size=30), st.integers(0, 5), st.integers(1, 9))
def test_picked_rows_are_those_that_are_taken(picks, first, count):
    batch = wide_rows(20).combine_chunks().to_batches()[0]
    picked = pick_rows(batch, ("key",), np.array(picks, np.uint32))
    assert isinstance(picked, PickedRows)
    assert list(picked.apart) == [1]
    for rows, wanted in ((picked, picks), (picked.slice(first, count), picks[first : first + count])):
        expected = batch.take(pa.array(wanted, pa.uint32()))
        made = rows.gathered()
        made.validate(full=True)
        assert (made, rows.num_rows) == (expected, len(wanted))
        assert rows.nbytes == made.nbytes


def test_rows_are_moved_where_little_would_stay_and_where_it_would_keep_more_in_memory():
    order = np.array([2, 0], np.uint32)
    narrow = pa.record_batch(
        {"k": pa.array([b"0" * 10] * 3, pa.binary(10)), "v": pa.array([b"1" * 16] * 3, pa.binary(16))}
    )
    part = wide_rows(30).combine_chunks().to_batches()[0].slice(4, 9)
    for batch, keys in ((narrow, ("k",)), (part, ("key",)), (part, ("key", "payload"))):
        moved = pick_rows(batch, keys, order)
        assert isinstance(moved, pa.RecordBatch)
        assert moved == batch.take(pa.array(order))


@pytest.mark.parametrize("spill", ["at once", "later", "never"])
def test_a_store_has_the_rows_wherever_it_keeps_them(tmp_path, spill):
    batch = wide_rows(500).combine_chunks().to_batches()[0]
    order = np.arange(499, -1, -1, dtype=np.uint32)
    memory = 0 if spill == "at once" else 1 << 30
    with BlockStore(memory_bytes_max=memory, spill_dir=str(tmp_path), spill_bytes_max=1 << 30) as store:
        with store.open(0, 0, batch.schema, 2) as out:
            picked = pick_rows(batch, ("key",), order)
            out.add(1, picked.slice(0, 200))
            out.add(0, picked.slice(200, 300))
            out.close()
        if spill == "later":
            store.spill()
        expected = batch.take(pa.array(order))
        refs = [BlockRef(0, 0, partition) for partition in (1, 0)]
        parts = [expected.slice(0, 200), expected.slice(200, 300)]
        assert [list(store.read(ref)) for ref in refs] == [[part] for part in parts]
        assert store.rows(iter(refs)) == [(200, picked.slice(0, 200).nbytes), (300, picked.slice(200, 300).nbytes)]
        held = [type(rows) for ref in refs for rows in store.read_held(ref)]
        assert held == [PickedRows if spill == "never" else pa.RecordBatch] * 2


def test_a_row_group_is_made_where_the_one_before_it_lay(tmp_path, monkeypatch):
    monkeypatch.setattr(sorting, "ROW_GROUP_BYTES_MAX", 200_000)
    monkeypatch.setattr(parquet_write, "ROW_GROUP_BYTES_MAX", 200_000)
    batch = wide_rows().select(["key", "payload"]).combine_chunks().to_batches()[0]
    context = TaskContext(AttemptId(TaskId(0, 0), 0))
    end = ToParquet("snappy", 1 << 20, True, batch.schema)
    held = iter([pick_rows(batch, ("key",), np.arange(ROWS, dtype=np.uint32))])
    batches = sort_rows(held, Sort((("key", False, False),)), context, group_rows=end.row_group_rows)
    with parquet_write.PartWriter(str(tmp_path / "sorted.parquet"), end) as writer:
        for rows in batches:
            assert rows.num_rows <= 2_000
            writer.write(rows)
            del rows
        assert writer.close().rows == ROWS
    with context.scratch.lend(Reused) as reused:
        assert reused.idle_bytes == 2_000 * 90  # one payload of a row group; keys of one batch are gathered elsewhere
    written = pq.ParquetFile(tmp_path / "sorted.parquet")
    assert written.metadata.num_row_groups == 6
    order = pc.sort_indices(batch.column("key").cast(pa.binary()))
    assert written.read().combine_chunks().to_batches()[0].equals(batch.take(order))


def test_a_sort_by_ranges_makes_the_same_bytes_with_any_threads_and_memory(tmp_path):
    table = wide_rows()
    frame = km.from_arrow(pa.Table.from_batches(table.to_batches(max_chunksize=1500)))
    sums = set()
    for number, tuned in enumerate(({"threads": 1}, {"threads": 2}, {"threads": 2, "memory": "70MiB"})):
        out = tmp_path / f"out{number}"
        frame.sort("key").sink_parquet(out, partitions=3, split_size="300KiB", progress=False, **tuned)
        files = sorted(out.glob("*.parquet"))
        assert len(files) == 3
        sums.add(hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest())
    assert len(sums) == 1
    made = km.scan_parquet(tmp_path / "out0").collect(progress=False)
    rows = sorted(table.to_pylist(), key=lambda row: row["key"])
    assert made.to_arrow().to_pylist() == rows
