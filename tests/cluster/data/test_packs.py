"""Small outputs of many attempts in one file: read as those with files of their own, and damage is never believed."""

import errno
import os
import random
from pathlib import Path

import pytest
from blocks import JOB, PARTITIONS, batch_of, reader, refs, rows_of, write_map

from kernelmill.cluster.data import packs
from kernelmill.cluster.data.blockindex import attempt_folder, job_folder
from kernelmill.cluster.data.packs import PACKED_BYTES_MAX, PackReader, PackWriter
from kernelmill.cluster.data.serving import BlockFiles
from kernelmill.cluster.fields import AttemptKey
from kernelmill.cluster.keys.signing import ticket
from kernelmill.cluster.messages import BlockRange, Fetch
from kernelmill.engine.errors import Code, KernelmillError

MAPS = 4
KEY = b"t" * 32


def key_of(number):
    return AttemptKey(1, 10 + number)


def folder_of(scratch, worker="w0"):
    return Path(job_folder(str(scratch), worker, JOB))


def pack_of(scratch, worker="w0"):
    return PackWriter(str(folder_of(scratch, worker)))


def held_of(worker="w0", maps=MAPS):
    return [(number, key_of(number), worker) for number in range(maps)]


@pytest.fixture
def packed(tmp_path):
    """Four maps in one pack; what each said of its output."""
    pack = pack_of(tmp_path)
    return [write_map(tmp_path, "w0", number, key_of(number), pack=pack) for number in range(MAPS)]


def read_all(scratch, partition, maps=MAPS, **given):
    store, _, asked = reader(scratch, partition, held_of(maps=maps), maps=maps, **given)
    found = [batch for ref in refs(maps, partition) for batch in store.read(ref)]
    assert not asked
    return store, found


@pytest.mark.parametrize("partition", range(PARTITIONS))
def test_a_reader_gets_from_a_pack_what_it_gets_from_files(tmp_path, packed, partition):
    in_files = [write_map(tmp_path / "other", "w0", number, key_of(number)) for number in range(MAPS)]
    (tmp_path / "other" / "w0").chmod(0o700)
    ours, theirs = read_all(tmp_path, partition), read_all(tmp_path / "other", partition)
    assert ours[1] == theirs[1] == [batch for number in range(MAPS) for batch in rows_of(number, partition)]
    assert packed == in_files and ours[0].consumed() == theirs[0].consumed()
    assert ours[0].rows(iter(refs(MAPS, partition))) == theirs[0].rows(iter(refs(MAPS, partition)))


def test_small_outputs_make_no_folders_of_their_own(tmp_path, packed):
    assert os.listdir(folder_of(tmp_path)) == ["packs"]
    assert sorted(path.suffix for path in (folder_of(tmp_path) / "packs").iterdir()) == [".list", ".pack"]


def test_an_output_that_turns_out_large_has_files_of_its_own_beside_the_pack(tmp_path):
    def large(map_task, partition):
        return [batch_of(f"{map_task}/{partition}/{i}", 900) for i in range(3 if map_task == 1 else 0)]

    pack = pack_of(tmp_path)
    sizes = [write_map(tmp_path, "w0", n, key_of(n), rows=large, pack=pack)[0] for n in range(MAPS)]
    assert sizes[1] > PACKED_BYTES_MAX and sizes[0] == 0
    assert sorted(os.listdir(folder_of(tmp_path))) == ["1-11", "packs"]
    for partition in range(PARTITIONS):
        assert read_all(tmp_path, partition)[1] == large(1, partition)


def test_a_pack_that_grows_is_read_on(tmp_path):
    pack, found = pack_of(tmp_path), PackReader()
    for number in range(MAPS):
        assert found.find(str(folder_of(tmp_path)), key_of(number), 0) is None
        write_map(tmp_path, "w0", number, key_of(number), pack=pack)
        packed = found.find(str(folder_of(tmp_path)), key_of(number), 0)
        assert found.index(packed).id.attempt == key_of(number)
    assert found.find(str(folder_of(tmp_path)), key_of(0), 1) is None


def test_a_holder_serves_the_same_bytes_from_a_pack_as_from_files(tmp_path, packed):
    for number in range(MAPS):
        write_map(tmp_path / "other", "w0", number, key_of(number))

    def answers(scratch):
        holder = BlockFiles(str(scratch), "w0", KEY)
        for number in range(MAPS):
            for partition in range(PARTITIONS):
                given = ticket(KEY, JOB, 0, 0, 0, partition, "w9")
                for offset, length in ((0, 1 << 19), (0, 100), (90, 300), (0, 0)):
                    one = BlockRange(JOB, 0, 0, number, key_of(number), 0, partition, offset, length)
                    yield holder.answer(Fetch(1, given, (one,)), "w9")

    ours = list(answers(tmp_path))
    assert ours == list(answers(tmp_path / "other"))
    assert {one.status for one in ours} == {"OK"}


def test_a_job_that_is_forgotten_leaves_no_open_file(tmp_path, packed):
    holder = BlockFiles(str(tmp_path), "w0", KEY)
    one = BlockRange(JOB, 0, 0, 2, key_of(2), 0, 1, 0, 1 << 19)
    assert holder.answer(Fetch(1, ticket(KEY, JOB, 0, 0, 0, 1, "w9"), (one,)), "w9").status == "OK"

    def open_packs():
        links = (os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd"))
        names = [os.readlink(link) for link in links if os.path.islink(link)]
        return [name for name in names if name.startswith(str(tmp_path)) and name.endswith(".pack")]

    assert len(open_packs()) == 1
    holder.forget(JOB)
    assert open_packs() == []


def refused_as(scratch, partition, number):
    """What a reader of one map asks for instead of giving a row; the rows if it gives them."""
    asked = []

    def ask(wanted):
        asked.append(wanted.code)
        desk.cancel()

    store, desk, _ = reader(scratch, partition, held_of(), maps=MAPS, ask=ask)
    try:
        rows = list(store.read(refs(MAPS, partition)[number]))
    except KernelmillError as problem:
        assert problem.code is Code.CANCELLED
        return asked
    return rows


def test_every_flipped_bit_of_a_pack_and_its_list_is_found_before_a_wrong_row_is_given(tmp_path, packed):
    chance, flips = random.Random(7), 0
    (pack,) = (folder_of(tmp_path) / "packs").glob("*.pack")
    (entries,) = (folder_of(tmp_path) / "packs").glob("*.list")
    for path, rounds in ((pack, 1200), (entries, 300)):
        intact = path.read_bytes()
        for _ in range(rounds):
            bit = chance.randrange(8 * len(intact))
            damaged = bytearray(intact)
            damaged[bit // 8] ^= 1 << bit % 8
            path.write_bytes(damaged)
            was_refused = 0
            for number in range(MAPS):
                for partition in range(PARTITIONS):
                    answer = refused_as(tmp_path, partition, number)
                    was_refused += answer in ([""], ["CORRUPT_BLOCK"])
                    assert answer in (rows_of(number, partition), [""], ["CORRUPT_BLOCK"])
            assert was_refused
            flips += 1
        path.write_bytes(intact)
    assert flips == 1500


def test_a_list_that_is_cut_off_anywhere_has_what_is_whole_of_it(tmp_path, packed):
    (entries,) = (folder_of(tmp_path) / "packs").glob("*.list")
    intact = entries.read_bytes()
    each = len(intact) // MAPS
    for length in range(len(intact) + 1):
        entries.write_bytes(intact[:length])
        found = PackReader()
        there = [found.find(str(folder_of(tmp_path)), key_of(number), 0) is not None for number in range(MAPS)]
        assert there == [number < length // each for number in range(MAPS)]
        entries.write_bytes(intact)  # the rest comes: what was seen half is not passed over
        assert all(found.find(str(folder_of(tmp_path)), key_of(number), 0) for number in range(MAPS))


def test_a_disk_that_was_full_for_one_output_leaves_the_others_whole(tmp_path, monkeypatch):
    pack, calls = pack_of(tmp_path), [0]

    def pwrite(handle, data, offset):
        calls[0] += 1
        if calls[0] == 3:  # the third: the data of the second output
            return os_pwrite(handle, data[:100], offset)
        if calls[0] == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os_pwrite(handle, data, offset)

    os_pwrite = os.pwrite
    monkeypatch.setattr(packs.os, "pwrite", pwrite)
    write_map(tmp_path, "w0", 0, key_of(0), pack=pack)
    with pytest.raises(KernelmillError) as raised:
        write_map(tmp_path, "w0", 1, key_of(1), pack=pack)
    assert raised.value.code is Code.DISK_FULL
    for number in (2, 3, 1):
        write_map(tmp_path, "w0", number, key_of(number), pack=pack)
    for partition in range(PARTITIONS):
        assert read_all(tmp_path, partition)[1] == [row for n in range(MAPS) for row in rows_of(n, partition)]


def test_an_output_that_is_not_closed_is_not_in_the_pack(tmp_path):
    def broken(map_task, partition):
        if partition == 2:
            raise ZeroDivisionError
        return rows_of(2, partition)

    pack = pack_of(tmp_path)
    with pytest.raises(ZeroDivisionError):
        write_map(tmp_path, "w0", 0, key_of(0), rows=broken, pack=pack)
    assert PackReader().find(str(folder_of(tmp_path)), key_of(0), 0) is None
    assert not Path(attempt_folder(str(tmp_path), "w0", JOB, key_of(0))).exists()
