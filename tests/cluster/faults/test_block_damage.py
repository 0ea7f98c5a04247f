"""Matrix row 14 on the files themselves: ten thousand flipped bits, and pieces that are whole but not where they were
written. Each is refused before a row is given. The last field of a piece in an index is its header's checksum.
"""

import os
import random
from pathlib import Path

import pyarrow as pa
import pytest

from kernelmill.cluster.data.attemptfiles import AttemptFile, block_in_place
from kernelmill.cluster.data.blockindex import OutputId, read_index
from kernelmill.cluster.fields import AttemptKey
from kernelmill.engine.errors import Code, KernelmillError

FLIPS = 10_000
SCHEMA = pa.schema([("n", pa.int64())])
PARTITIONS = 3


def id_of(task):
    return OutputId(b"j" * 16, 0, 0, task, 0, AttemptKey(1, task))


def write(folder, task):
    """An output whose pieces have equal lengths and equal numbers of rows, as numbers do; its stem."""
    stem = str(folder / str(task))
    file = AttemptFile(stem, id_of(task), SCHEMA, PARTITIONS, lambda size: None)
    for partition in range(PARTITIONS):
        for piece in range(2):
            values = range(1000 * (6 * task + 2 * partition + piece), 1000 * (6 * task + 2 * partition + piece) + 40)
            file.write(partition, [pa.record_batch([pa.array(values, pa.int64())], schema=SCHEMA)])
    file.finish()
    return stem


def rows(stem, task, partition):
    block = block_in_place(stem, id_of(task), partition)
    return [row for batch in block.batches() for row in batch.column(0).to_pylist()]


def is_refused(stem, task, partition):
    try:
        rows(stem, task, partition)
    except KernelmillError as problem:
        assert problem.code is Code.CORRUPT_BLOCK
        return True
    return False


@pytest.fixture
def stems(tmp_path):
    made = [write(tmp_path, task) for task in range(2)]
    assert all(len(rows(made[task], task, partition)) == 80 for task in range(2) for partition in range(PARTITIONS))
    return made


def flips_found(stem, flips):
    """Flip so many bits of an output's files, each alone; in how many cases its block was refused."""
    chance, found = random.Random(11), 0
    paths = [stem + suffix for suffix in (".data", ".index")]
    intact = {path: Path(path).read_bytes() for path in paths}
    pieces = [(part, one) for part in range(PARTITIONS) for one in read_index(paths[1]).pieces(part)]
    for _ in range(flips):
        path = chance.choices(paths, [3, 1])[0]
        bit = chance.randrange(8 * len(intact[path]))
        with open(path, "r+b") as file:
            file.seek(bit // 8)
            file.write(bytes([intact[path][bit // 8] ^ 1 << bit % 8]))
        if path.endswith(".data"):
            partition = next(part for part, one in pieces if one.offset <= bit // 8 < one.offset + one.length)
        else:
            partition = chance.randrange(PARTITIONS)
        found += is_refused(stem, 0, partition)
        with open(path, "r+b") as file:
            file.seek(bit // 8)
            file.write(intact[path][bit // 8 : bit // 8 + 1])
    return found


def test_ten_thousand_flipped_bits_are_all_found(stems, strikes):
    assert flips_found(stems[0], FLIPS) == FLIPS
    strikes.add("bit flipped", FLIPS)
    assert not is_refused(stems[0], 0, 0)


@pytest.mark.parametrize(("one", "other"), [((0, 0), (0, 1)), ((0, 0), (2, 1)), ((1, 0), (2, 0))])
def test_whole_pieces_that_changed_places_are_not_taken_for_each_other(stems, strikes, one, other):
    """(partition, piece): equal in length and rows, each with good checksums of its own."""
    index = read_index(stems[0] + ".index")
    places = [index.pieces(partition)[number] for partition, number in (one, other)]
    with open(stems[0] + ".data", "r+b") as file:
        taken = []
        for place in places:
            file.seek(place.offset)
            taken.append(file.read(place.length))
        assert len(taken[0]) == len(taken[1])
        for place, data in zip(places, reversed(taken), strict=True):
            file.seek(place.offset)
            file.write(data)
    strikes.add("piece swapped", 2)
    for partition, _ in (one, other):
        assert is_refused(stems[0], 0, partition)


def test_the_data_file_of_another_map_is_not_taken(stems, strikes):
    os.replace(stems[1] + ".data", stems[0] + ".data")
    strikes.add("file replaced")
    assert all(is_refused(stems[0], 0, partition) for partition in range(PARTITIONS))


def test_data_and_index_of_another_map_are_not_taken(stems, strikes):
    for suffix in (".data", ".index"):
        os.replace(stems[1] + suffix, stems[0] + suffix)
    strikes.add("file replaced", 2)
    assert all(is_refused(stems[0], 0, partition) for partition in range(PARTITIONS))


def test_a_file_cut_anywhere_is_refused_where_it_is_short(stems, strikes):
    data = Path(stems[0] + ".data").read_bytes()
    last = read_index(stems[0] + ".index").pieces(PARTITIONS - 1)[-1]
    for length in range(last.offset, len(data), 7):
        os.truncate(stems[0] + ".data", length)
        assert is_refused(stems[0], 0, PARTITIONS - 1)
        with open(stems[0] + ".data", "wb") as file:
            file.write(data)
        strikes.add("cut")
    assert not is_refused(stems[0], 0, 0)
