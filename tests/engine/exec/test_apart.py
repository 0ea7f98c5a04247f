"""Rows set apart by key: each is in one piece, in its order, whether on disk or not; the disk is given back."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.exec import apart
from kernelmill.engine.exec.apart import RowsApart
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.ids import AttemptId, TaskId
from kernelmill.engine.shuffle.store import BlockStore


def context_over(store, is_cancelled=lambda: False):
    context = TaskContext(AttemptId(TaskId(0, 0), 0), is_cancelled=is_cancelled)
    context.store = store
    return context


def batches_of(keys, rows_each):
    table = pa.table({"k": pa.array(keys, pa.string()), "n": pa.array(range(len(keys)), pa.int64())})
    return table.to_batches(max_chunksize=rows_each)


def read(rows_apart, pieces):
    tables = [[batch.to_pydict() for batch in rows_apart.rows(piece)] for piece in range(pieces)]
    return [[row for table in each for row in zip(*table.values(), strict=True)] for each in tables]


@settings(max_examples=12, deadline=None)
@given(
    keys=st.lists(st.none() | st.sampled_from("abcdefgh"), max_size=60),
    pieces=st.integers(1, 6),
    rows_each=st.integers(1, 9),
    held=st.sampled_from([0, 40, 1 << 20]),
)
def test_each_piece_has_its_keys_rows_in_order_as_often_as_it_is_read(tmp_path_factory, keys, pieces, rows_each, held):
    folder = str(tmp_path_factory.mktemp("spill"))
    with (
        pytest.MonkeyPatch.context() as patch,
        BlockStore(memory_bytes_max=0, spill_dir=folder, spill_bytes_max=1 << 30) as store,
    ):
        patch.setattr(apart, "HELD_BYTES_MAX", held)
        with RowsApart(iter(batches_of(keys, rows_each)), ("k",), pieces, context_over(store)) as made:
            found = read(made, pieces)
            assert read(made, pieces) == found
        assert store.task_bytes == 0
    assert sorted(n for piece in found for _, n in piece) == list(range(len(keys)))
    homes = {}
    for number, piece in enumerate(found):
        assert [n for _, n in piece] == sorted(n for _, n in piece)
        assert all(homes.setdefault(key, number) == number for key, _ in piece)


def test_a_full_disk_ends_it_and_leaves_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(apart, "HELD_BYTES_MAX", 0)
    with BlockStore(memory_bytes_max=0, spill_dir=str(tmp_path), spill_bytes_max=1000) as store:
        context = context_over(store)
        with pytest.raises(KernelmillError) as raised:
            RowsApart(iter(batches_of(["a" * 50] * 100, 5)), ("k",), 3, context)
        context.close_spills()
        assert raised.value.code is Code.DISK_FULL
        assert store.task_bytes == 0


def test_a_cancelled_job_ends_while_rows_are_set_apart(tmp_path):
    asked = iter([False, False, True])
    with BlockStore(memory_bytes_max=0, spill_dir=str(tmp_path), spill_bytes_max=1 << 20) as store:
        with pytest.raises(KernelmillError) as raised:
            RowsApart(iter(batches_of(["a"] * 9, 1)), ("k",), 2, context_over(store, lambda: next(asked)))
        assert raised.value.code is Code.CANCELLED
