"""Files without a name for what a task cannot hold: nothing is left of them, and nothing false comes out of them."""

import functools
import os

import pyarrow as pa
import pytest

from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.shuffle import spillfile
from kernelmill.engine.shuffle.spillfile import SpillFile
from kernelmill.engine.shuffle.store import BlockStore

BATCHES = [pa.record_batch({"s": ["a", None, "c"], "n": [1, 2, 3]}), pa.record_batch({"s": ["é"], "n": [4]})]
SCHEMA = BATCHES[0].schema


def ignored(_):
    """Bytes that nobody counts."""


def test_blocks_are_read_back_by_their_places_in_any_order(tmp_path):
    with SpillFile(tmp_path, SCHEMA, ignored) as file:
        places = [file.append(BATCHES[:1]), file.append(BATCHES), file.append([])]
        assert file.read(places[1]) == BATCHES
        assert file.read(places[0]) == BATCHES[:1]
        assert file.read(places[2]) == []
        assert file.bytes == sum(place.length for place in places)


def test_the_file_has_no_name_and_its_bytes_are_given_back(tmp_path):
    with BlockStore(memory_bytes_max=0, spill_dir=str(tmp_path), spill_bytes_max=1 << 30) as store:
        file = store.spill_file(SCHEMA)
        file.append(BATCHES)
        (folder,) = tmp_path.iterdir()
        assert [path.name for path in folder.iterdir()] == ["lock"]
        assert store.task_bytes == file.bytes > 0
        file.close()
        file.close()
        assert store.task_bytes == 0
    assert list(tmp_path.iterdir()) == []


def test_blocks_and_tasks_share_one_limit(tmp_path):
    with BlockStore(memory_bytes_max=0, spill_dir=str(tmp_path), spill_bytes_max=3_000) as store:
        with store.spill_file(SCHEMA) as file:
            with pytest.raises(KernelmillError) as caught:
                for _ in range(100):
                    file.append(BATCHES)
            assert caught.value.code is Code.DISK_FULL
            with pytest.raises(KernelmillError) as caught:
                store.put(0, 0, SCHEMA, [BATCHES])
            assert caught.value.code is Code.DISK_FULL
        store.put(0, 0, SCHEMA, [BATCHES])


@pytest.mark.parametrize("damage", ["flip", "cut"])
def test_damage_is_found(tmp_path, damage):
    with SpillFile(tmp_path, SCHEMA, ignored) as file:
        place = file.append(BATCHES)
        handle = file._file.fileno()
        if damage == "flip":
            (byte,) = os.pread(handle, 1, place.length - 9)
            os.pwrite(handle, bytes([byte ^ 1]), place.length - 9)
        else:
            os.ftruncate(handle, place.length - 9)
        with pytest.raises(KernelmillError) as caught:
            file.read(place)
        assert caught.value.code is Code.CORRUPT_BLOCK


def test_a_full_disk_is_a_typed_error(tmp_path, monkeypatch):
    if not os.path.exists("/dev/full"):
        pytest.skip("needs /dev/full")
    full = functools.partial(open, "/dev/full", "wb", buffering=0)
    monkeypatch.setattr(spillfile.tempfile, "TemporaryFile", lambda **_: full())
    with SpillFile(tmp_path, SCHEMA, ignored) as file:
        with pytest.raises(KernelmillError) as caught:
            file.append(BATCHES)
        assert caught.value.code is Code.DISK_FULL


def test_a_folder_that_is_gone_is_a_typed_error(tmp_path):
    with pytest.raises(KernelmillError) as caught:
        SpillFile(tmp_path / "gone", SCHEMA, ignored)
    assert caught.value.code is Code.COMMIT
