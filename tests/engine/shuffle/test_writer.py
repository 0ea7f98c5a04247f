"""An output given to the store as it is made: the same rows wherever they end, and none before they are whole."""

import os

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.plan.stages import BlockRef
from kernelmill.engine.shuffle import writer
from kernelmill.engine.shuffle.store import BlockStore, LostBlockError

GIB = 1 << 30
SCHEMA = pa.schema([("s", pa.string()), ("n", pa.int64())])


def batch_of(number, rows):
    texts = [None if i % 5 == 0 else f"text {number}.{i}" for i in range(rows)]
    return pa.RecordBatch.from_arrays([pa.array(texts, pa.string()), pa.array(np.arange(rows))], schema=SCHEMA)


def open_store(folder, *, memory=0, limit=GIB, keep=None):
    return BlockStore(memory_bytes_max=memory, spill_dir=str(folder), spill_bytes_max=limit, keep=keep)


def files_in(folder):
    return sorted(path.suffix for path in folder.glob("*/*") if path.name != "lock")


@pytest.fixture(scope="module", autouse=True)
def pieces_of_a_few_batches():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "PIECE_BYTES_MAX", 2_000)
        yield


@settings(max_examples=60, deadline=None)
@given(
    adds=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 60)), max_size=30),
    memory=st.sampled_from([0, 1, 900, 3_000, 9_000, GIB]),
)
def test_rows_and_batches_are_those_that_were_added_however_much_went_to_disk(adds, memory, tmp_path_factory):
    given_rows = [[] for _ in range(4)]
    with open_store(tmp_path_factory.mktemp("spills"), memory=memory) as store:
        with store.open(0, 0, SCHEMA, 4) as out:
            for number, (partition, rows) in enumerate(adds):
                batch = batch_of(number, rows + 3).slice(3)
                out.add(partition, batch)
                if rows:
                    given_rows[partition].append(batch)
            made = out.close()
        refs = [BlockRef(0, 0, partition) for partition in range(4)]
        assert [list(store.read(ref)) for ref in refs] == given_rows
        sizes = [(sum(b.num_rows for b in own), sum(b.nbytes for b in own)) for own in given_rows]
        assert store.rows(iter(refs)) == sizes
        size = sum(size for _, size in sizes)
        assert made[:2] == (sum(rows for rows, _ in sizes), size)
        assert made.spilled_bytes == store.spilled_bytes
        assert (made.spilled_bytes > 0) == (size > memory)
        assert store.memory_bytes == (0 if made.spilled_bytes else size)


def test_a_task_holds_a_piece_of_what_does_not_fit(tmp_path):
    with open_store(tmp_path, memory=10_000) as store, store.open(0, 0, SCHEMA, 3) as out:
        written, size = [], 0
        for number in range(60):
            batch = batch_of(number, 30)
            out.add(number % 3, batch)
            size += batch.nbytes
            written.append(store.spilled_bytes)
            held = size if not store.spilled_bytes else out._held_bytes
            assert held < (10_000 if not store.spilled_bytes else 2_000 + batch.nbytes)
            assert store.memory_bytes == (0 if store.spilled_bytes else size)
        assert len(set(written)) > 10  # it went on writing while the task ran


def test_an_output_in_pieces_is_read_a_piece_at_a_time(tmp_path, monkeypatch):
    from kernelmill.engine.shuffle import store as stores

    decoded = []
    decode = stores.decode_piece

    def counted(*arguments, **options):
        decoded.append(1)
        return decode(*arguments, **options)

    monkeypatch.setattr(stores, "decode_piece", counted)
    with open_store(tmp_path) as store:
        store.put(0, 0, SCHEMA, [[batch_of(number, 60) for number in range(20)]])
        rows = store.read(BlockRef(0, 0, 0))
        assert decoded == []
        next(rows)
        assert decoded == [1]
        assert sum(1 for _ in rows) == 19
        assert len(decoded) > 5


@pytest.mark.parametrize("memory", [0, 5_000, GIB])
@pytest.mark.parametrize("end", ["raises", "is left"])
def test_a_task_that_does_not_finish_leaves_nothing_and_what_was_there_stays(tmp_path, memory, end):
    with open_store(tmp_path, memory=memory) as store:
        store.put(0, 0, SCHEMA, [[batch_of(0, 7)]])
        taken, files = store.memory_bytes, files_in(tmp_path)
        try:
            with store.open(0, 0, SCHEMA, 1) as out, store.open(0, 1, SCHEMA, 1) as other:
                for number in range(100):
                    out.add(0, batch_of(number, 10))
                    other.add(0, batch_of(number, 10))
                assert store.memory_bytes > taken or store.spilled_bytes > 0
                if end == "raises":
                    raise KeyError
        except KeyError:
            assert end == "raises"
        assert store.memory_bytes == taken
        assert files_in(tmp_path) == files
        assert list(store.read(BlockRef(0, 0, 0))) == [batch_of(0, 7)]
        with pytest.raises(LostBlockError):
            store.read(BlockRef(0, 1, 0))


def test_nothing_can_be_read_before_the_output_is_closed(tmp_path):
    for memory in (0, GIB):
        with open_store(tmp_path, memory=memory) as store, store.open(0, 0, SCHEMA, 1) as out:
            out.add(0, batch_of(0, 3_000))
            with pytest.raises(LostBlockError):
                store.read(BlockRef(0, 0, 0))
            out.close()
            assert list(store.read(BlockRef(0, 0, 0))) == [batch_of(0, 3_000)]


@pytest.mark.parametrize("memory", [0, 20_000])
def test_more_than_the_spill_limit_fails_while_the_rows_come_and_leaves_nothing(tmp_path, memory):
    with open_store(tmp_path, memory=memory, limit=30_000) as store:
        with pytest.raises(KernelmillError) as caught, store.open(0, 0, SCHEMA, 2) as out:
            for number in range(1_000):
                out.add(number % 2, batch_of(number, 20))
        assert caught.value.code is Code.DISK_FULL
        assert number < 200
        assert files_in(tmp_path) == []
        assert store.memory_bytes == 0


def test_a_disk_that_is_full_at_the_last_byte_is_a_typed_error_and_leaves_nothing(tmp_path, monkeypatch):
    """What waits in the file's own buffer meets the full disk only when it is closed."""
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    with open_store(tmp_path) as store:
        store.put(0, 1, SCHEMA, [[batch_of(0, 7)]])  # the folder is there
        with pytest.raises(KernelmillError) as caught, store.open(0, 0, SCHEMA, 1) as out:
            with monkeypatch.context() as full:
                full.setattr("builtins.open", lambda *_, opened=open, **more: opened("/dev/full", "wb", **more))
                out.add(0, batch_of(0, 7))
            out.close()
        assert caught.value.code is Code.DISK_FULL
        assert files_in(tmp_path) == [".data", ".index"]


def test_an_output_without_rows_is_there_for_other_processes_too(tmp_path):
    folder = tmp_path / "kept"
    folder.mkdir()
    with open_store(tmp_path, keep=folder, memory=GIB) as maker, maker.open(0, 0, SCHEMA, 2) as out:
        assert out.close().rows == 0
    with open_store(tmp_path, keep=folder) as reader:
        assert reader.schema(BlockRef(0, 0, 1)) == SCHEMA
        assert list(reader.read(BlockRef(0, 0, 1))) == []


def test_what_is_spilled_after_it_was_put_is_the_same(tmp_path):
    made = [[batch_of(number, 60) for number in range(9)], [], [batch_of(9, 1)]]
    with open_store(tmp_path, memory=GIB) as store:
        store.put(0, 0, SCHEMA, made)
        assert store.memory_bytes > 0
        store.spill()
        assert store.memory_bytes == 0 < store.spilled_bytes
        assert [list(store.read(BlockRef(0, 0, partition))) for partition in range(3)] == made
