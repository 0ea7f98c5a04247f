"""BlockStore: the same batches from memory and from disk, its limits, its folder, and damage it must name."""

import fcntl
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.plan.stages import BlockRef
from kernelmill.engine.shuffle.folder import clear_dead_spills
from kernelmill.engine.shuffle.store import BlockStore, LostBlockError

GIB = 1 << 30
SCHEMA = pa.schema([("w", pa.string()), ("n", pa.int64())])


def batch_of(first, rows, text="word"):
    words = pa.array([f"{text}{i}" if i % 7 else None for i in range(first, first + rows)], pa.string())
    return pa.RecordBatch.from_arrays([words, pa.array(np.arange(first, first + rows))], schema=SCHEMA)


def partitions_of(task, count=4, rows=50):
    """Partition 1 is empty, partition 2 has two batches, one of them a slice, and an empty one."""
    made = [[batch_of(task * 1000 + 100 * part, rows)] for part in range(count)]
    made[1] = []
    made[2] += [batch_of(0, 0), batch_of(0, 100).slice(33, 9)]
    return made


def rows_of(batches):
    return pa.Table.from_batches(list(batches), SCHEMA).to_pylist()


def open_store(folder, *, memory=0, limit=GIB, keep=None):
    return BlockStore(memory_bytes_max=memory, spill_dir=str(folder), spill_bytes_max=limit, keep=keep)


def code_of(call):
    with pytest.raises(KernelmillError) as caught:
        call()
    return caught.value.code


# Memory and disk -----------------------------------------------------------------------------------------------------


def test_memory_and_disk_give_the_same_batches_rows_and_sizes(tmp_path):
    with open_store(tmp_path, memory=GIB) as in_memory, open_store(tmp_path) as on_disk:
        for task in range(3):
            kept, spilled = (s.put(0, task, SCHEMA, partitions_of(task)) for s in (in_memory, on_disk))
            assert kept[:2] == spilled[:2]
            assert kept.spilled_bytes == 0 < spilled.spilled_bytes
        refs = [BlockRef(0, task, part) for task in range(3) for part in range(4)]
        assert in_memory.rows(iter(refs)) == on_disk.rows(iter(refs))  # a merge is planned by them (I1)
        for ref in refs:
            assert in_memory.schema(ref) == on_disk.schema(ref) == SCHEMA
            assert (
                list(in_memory.read(ref))
                == list(on_disk.read(ref))
                == [batch for batch in partitions_of(ref.task)[ref.partition] if batch.num_rows]
            )
        assert (in_memory.spilled_bytes, on_disk.memory_bytes) == (0, 0)


def test_what_passes_the_budget_goes_to_disk_and_what_is_dropped_makes_room(tmp_path):
    size = open_store(tmp_path, memory=GIB).put(0, 0, SCHEMA, partitions_of(0)).bytes
    with open_store(tmp_path, memory=2 * size + 10) as store:
        spilled = [store.put(0, task, SCHEMA, partitions_of(0)).spilled_bytes > 0 for task in range(4)]
        assert spilled == [False, False, True, True]
        assert store.memory_bytes == 2 * size
        store.drop(0, 0)
        store.drop(0, 0)
        assert store.memory_bytes == size
        assert store.put(0, 4, SCHEMA, partitions_of(0)).spilled_bytes == 0
        assert all(rows_of(store.read(BlockRef(0, task, 0))) for task in range(1, 5))


def test_a_second_output_of_a_task_replaces_the_first(tmp_path):
    for memory in (0, GIB):
        with open_store(tmp_path, memory=memory) as store:
            store.put(1, 0, SCHEMA, [[batch_of(0, 10)]])
            second = store.put(1, 0, SCHEMA, [[batch_of(5, 10)]])
            assert rows_of(store.read(BlockRef(1, 0, 0))) == rows_of([batch_of(5, 10)])
            assert store.memory_bytes == (second.bytes if memory else 0)


def test_one_data_and_one_index_file_a_task_however_many_partitions(tmp_path):
    with open_store(tmp_path) as store:
        store.put(0, 0, SCHEMA, [[batch_of(i, 2)] for i in range(200)])
        (folder,) = tmp_path.iterdir()
        assert sorted(file.suffix for file in folder.iterdir()) == ["", ".data", ".index"]
        store.drop(0, 0)
        assert [file.name for file in folder.iterdir()] == ["lock"]
    assert list(tmp_path.iterdir()) == []


def test_puts_and_reads_of_many_threads_do_not_disturb_each_other(tmp_path):
    failures = []

    def work(store, number):
        try:
            for task in range(number, 40, 4):
                store.put(0, task, SCHEMA, partitions_of(task))
                for part in range(4):
                    expected = rows_of(partitions_of(task)[part])
                    assert rows_of(store.read(BlockRef(0, task, part))) == expected
                if task % 3 == 0:
                    store.drop(0, task)
        except BaseException as problem:
            failures.append(problem)

    with open_store(tmp_path, memory=60_000) as store:
        threads = [threading.Thread(target=work, args=(store, number)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        assert 0 < store.memory_bytes <= 60_000
        assert store.spilled_bytes > 0
        for task in range(40):
            store.drop(0, task)
        assert store.memory_bytes == 0


# Limits and failures -------------------------------------------------------------------------------------------------


def test_more_than_the_spill_limit_is_a_full_disk_and_leaves_nothing_half_written(tmp_path):
    with open_store(tmp_path, limit=3_000) as store:
        store.put(0, 0, SCHEMA, [[batch_of(0, 5)]])
        assert code_of(lambda: store.put(0, 1, SCHEMA, [[batch_of(0, 5_000)]])) is Code.DISK_FULL
        (folder,) = tmp_path.iterdir()
        assert sorted(file.name.split(".")[-1] for file in folder.iterdir()) == ["data", "index", "lock"]
        assert rows_of(store.read(BlockRef(0, 0, 0))) == rows_of([batch_of(0, 5)])


def test_a_spill_dir_that_is_no_folder_is_a_typed_error(tmp_path):
    file = tmp_path / "file"
    file.write_text("in the way")
    with open_store(file) as store:
        assert code_of(lambda: store.put(0, 0, SCHEMA, partitions_of(0))) is Code.COMMIT


def test_a_full_disk_while_writing_is_a_typed_error(tmp_path, monkeypatch):
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    with open_store(tmp_path) as store:
        store.put(0, 0, SCHEMA, partitions_of(0))
        monkeypatch.setattr("builtins.open", lambda *_, opened=open, **more: opened("/dev/full", "wb", **more))
        assert code_of(lambda: store.put(0, 1, SCHEMA, partitions_of(1))) is Code.DISK_FULL


@pytest.mark.parametrize("damage", ["flip", "cut", "remove"])
def test_a_damaged_spill_file_is_a_lost_block_that_names_the_block(tmp_path, damage):
    with open_store(tmp_path) as store:
        store.put(3, 7, SCHEMA, partitions_of(7))
        (path,) = tmp_path.glob("*/*.data")
        data = bytearray(path.read_bytes())
        if damage == "flip":
            data[-3] ^= 4
        path.write_bytes(data[:-1] if damage == "cut" else data)
        if damage == "remove":
            path.unlink()
        with pytest.raises(LostBlockError) as caught:
            list(store.read(BlockRef(3, 7, 3)))
        assert caught.value.code is Code.CORRUPT_BLOCK
        assert caught.value.ref == BlockRef(3, 7, 3)
        assert str(path) in caught.value.where
        if damage != "remove":
            assert rows_of(store.read(BlockRef(3, 7, 0))) == rows_of(partitions_of(7)[0])  # the others are whole
        store.put(3, 7, SCHEMA, partitions_of(7))  # the map task ran again
        assert rows_of(store.read(BlockRef(3, 7, 3))) == rows_of(partitions_of(7)[3])


def test_a_block_that_was_never_put_is_lost(tmp_path):
    with open_store(tmp_path) as store, pytest.raises(LostBlockError) as caught:
        store.read(BlockRef(0, 1, 0))
    assert caught.value.ref == BlockRef(0, 1, 0)


# A folder that several processes share -------------------------------------------------------------------------------


def test_another_store_reads_what_a_store_kept(tmp_path):
    folder = tmp_path / "kept"
    folder.mkdir()
    with open_store(tmp_path, keep=folder) as writer:
        writer.put(0, 0, SCHEMA, partitions_of(0))
    with open_store(tmp_path, keep=folder) as reader:
        refs = [BlockRef(0, 0, part) for part in range(4)]
        assert [rows_of(reader.read(ref)) for ref in refs] == [rows_of(part) for part in partitions_of(0)]
        assert reader.schema(refs[1]) == SCHEMA
        with open_store(tmp_path, memory=GIB) as memory:
            memory.put(0, 0, SCHEMA, partitions_of(0))
            assert reader.rows(iter(refs)) == memory.rows(iter(refs))


@pytest.mark.parametrize("damage", ["missing", "flip", "cut"])
def test_an_index_that_is_missing_or_damaged_is_a_lost_block(tmp_path, damage):
    with open_store(tmp_path, keep=tmp_path) as writer:
        writer.put(0, 0, SCHEMA, partitions_of(0))
    (path,) = tmp_path.glob("*.index")
    data = path.read_bytes()
    path.write_bytes(data[:-1] if damage == "cut" else bytes([data[0] ^ 1]) + data[1:])
    if damage == "missing":
        path.unlink()
    with open_store(tmp_path, keep=tmp_path) as reader:
        for call in (reader.read, reader.schema):
            with pytest.raises(LostBlockError) as caught:
                call(BlockRef(0, 0, 2))
            assert caught.value.ref == BlockRef(0, 0, 2)


def test_attempts_that_write_the_same_output_at_once_leave_a_whole_one(tmp_path):
    """Two workers may run the same task: a backup, or an attempt that was given up too early."""
    failures = []

    def write():
        try:
            with open_store(tmp_path, keep=tmp_path) as store:
                for _ in range(15):
                    store.put(0, 0, SCHEMA, partitions_of(0, rows=300))
        except BaseException as problem:
            failures.append(problem)

    threads = [threading.Thread(target=write) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert sorted(file.name for file in tmp_path.iterdir()) == ["0-0.data", "0-0.index"]
    with open_store(tmp_path, keep=tmp_path) as reader:
        assert rows_of(reader.read(BlockRef(0, 0, 3))) == rows_of(partitions_of(0, rows=300)[3])


def test_a_failed_attempt_leaves_the_output_of_another_alone(tmp_path):
    with open_store(tmp_path, keep=tmp_path) as store:
        store.put(0, 0, SCHEMA, partitions_of(0))
    with open_store(tmp_path, keep=tmp_path, limit=100) as other:
        assert code_of(lambda: other.put(0, 0, SCHEMA, partitions_of(0))) is Code.DISK_FULL
    with open_store(tmp_path, keep=tmp_path) as reader:
        assert rows_of(reader.read(BlockRef(0, 0, 0))) == rows_of(partitions_of(0)[0])


# Folders of the dead -------------------------------------------------------------------------------------------------

SPILL_AND_WAIT = """
import sys, pyarrow as pa
from kernelmill.engine.shuffle.store import BlockStore
store = BlockStore(memory_bytes_max=0, spill_dir=sys.argv[1], spill_bytes_max=1 << 30)
batch = pa.record_batch({"n": [1, 2, 3]})
store.put(0, 0, batch.schema, [[batch]])
print("spilled", flush=True)
sys.stdin.read()
"""


def test_spill_folders_of_killed_processes_are_removed_and_those_of_the_living_kept(tmp_path):
    command = [sys.executable, "-c", SPILL_AND_WAIT, str(tmp_path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as living, subprocess.Popen(command, **pipes) as doomed:
        try:
            assert [living.stdout.readline(), doomed.stdout.readline()] == ["spilled\n"] * 2
            assert len(list(tmp_path.iterdir())) == 2
            assert clear_dead_spills(str(tmp_path)) == []
            doomed.send_signal(signal.SIGKILL)
            doomed.wait()
            with open_store(tmp_path) as store:
                store.put(0, 0, SCHEMA, partitions_of(0))  # the first spill cleans up
                assert len(list(tmp_path.iterdir())) == 2
        finally:
            doomed.kill()
            living.communicate()
    assert len(clear_dead_spills(str(tmp_path))) == 1  # it ended without closing its store
    assert list(tmp_path.iterdir()) == []


def test_a_folder_whose_maker_died_before_locking_it_goes_with_the_next_job_even_if_that_spills_nothing(tmp_path):
    (tmp_path / "kernelmill-spill-new").mkdir()
    with open_store(tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_a_folder_taken_for_a_dead_ones_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    made = []

    def mkdtemp(*, prefix, dir):
        folder = Path(dir) / f"{prefix}{len(made)}"
        made.append(folder)
        folder.mkdir()
        if len(made) == 1:  # another job comes here
            assert clear_dead_spills(dir) == [str(folder)]
        return str(folder)

    monkeypatch.setattr("tempfile.mkdtemp", mkdtemp)
    with open_store(tmp_path) as store:
        store.put(0, 0, SCHEMA, partitions_of(0))
        assert list(tmp_path.iterdir()) == made[1:]
    assert list(tmp_path.iterdir()) == []


def test_folders_of_others_are_left_alone(tmp_path):
    foreign = tmp_path / "kernelmill-spill-foreign"
    foreign.mkdir()
    (foreign / "notes").touch()
    (tmp_path / "kernelmill-report").mkdir()
    held = tmp_path / "kernelmill-spill-held"
    held.mkdir()
    with open(held / "lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert clear_dead_spills(str(tmp_path)) == []
    assert clear_dead_spills(str(tmp_path)) == [str(held)]
    assert len(list(tmp_path.iterdir())) == 2
    assert clear_dead_spills(str(tmp_path / "nowhere")) == []
