"""The map side of a shuffle: every row in the partition of its hash, in the order in which it came."""

import collections
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.exchange import hash_rows, partition_rows, take_rows, to_partitions
from kernelmill.engine.ids import AttemptId, TaskId
from kernelmill.kernels.hashing import PARTITION_SEED

SEED = int(PARTITION_SEED)
ALL = 2**64 - 1


def context():
    return TaskContext(AttemptId(TaskId(0, 0), 0))


def by_partition(pairs, partitions):
    made = [[] for _ in range(partitions)]
    for part, batch in pairs:
        made[part].append(batch)
    return made


def contract_hash(cells):
    """The partition hash of a row of bytes or None cells, as kernels/hashing words it."""
    seed = SEED
    for cell in cells:
        seed = xxhash.xxh64_intdigest(b"", seed ^ ALL) if cell is None else xxhash.xxh64_intdigest(cell, seed)
    return seed


def as_bytes(cell):
    if cell is None or isinstance(cell, bytes):
        return cell
    return cell.encode() if isinstance(cell, str) else int(cell).to_bytes(8, "little", signed=True)


CELLS = st.tuples(st.none() | st.text(max_size=40), st.none() | st.integers(-(2**63), 2**63 - 1))


@settings(max_examples=60)
@given(st.lists(CELLS, max_size=40), st.integers(0, 5))
def test_the_hash_is_that_of_the_contract_through_any_slice(rows, start):
    columns = [pa.array([row[0] for row in rows], pa.string()), pa.array([row[1] for row in rows], pa.int64())]
    columns = [column.slice(start) for column in columns]
    assert hash_rows(columns).tolist() == [contract_hash(map(as_bytes, row)) for row in rows[start:]]


def test_equal_values_of_other_types_meet_in_one_partition():
    words = [pa.array([7], dtype) for dtype in (pa.int8(), pa.int64(), pa.uint16(), pa.uint64(), pa.date32())]
    assert len({int(hash_rows([column])[0]) for column in words}) == 1
    texts = [pa.array(["a", None]).cast(kind) for kind in (pa.string(), pa.binary(), pa.large_string())]
    texts.append(pa.array(["a", None]).dictionary_encode())
    assert len({tuple(hash_rows([column]).tolist()) for column in texts}) == 1
    floats = [pa.array([0.0]), pa.array([-0.0]), pa.array([0.0], pa.float32())]
    assert len({int(hash_rows([column])[0]) for column in floats}) == 1


def test_bytes_of_a_fixed_width_hash_as_text_does_and_decimals_by_their_two_words():
    assert hash_rows([pa.array([b"abc"], pa.binary(3))]).tolist() == hash_rows([pa.array(["abc"])]).tolist()
    column = pa.array([Decimal(-5), None, Decimal(2**64 + 7)], pa.decimal128(38, 0))
    words = [(-5, -1), (None, None), (7, 1)]
    assert hash_rows([column]).tolist() == [contract_hash(map(as_bytes, pair)) for pair in words]
    assert hash_rows([column.slice(1)]).tolist() == hash_rows([column]).tolist()[1:]
    assert hash_rows([pa.nulls(1)]).tolist() == [contract_hash([None])]


@settings(max_examples=50)
@given(st.lists(st.integers(0, ALL), max_size=60), st.sampled_from([1, 2, 3, 64, 1000]))
def test_partitions_are_stable_and_follow_the_high_bits(hashes, partitions):
    order, bounds = partition_rows(np.array(hashes, np.uint64), partitions)
    assert sorted(order.tolist()) == list(range(len(hashes)))
    assert (bounds[0], bounds[-1], bounds.size) == (0, len(hashes), partitions + 1)
    for part in range(partitions):
        rows = order[bounds[part] : bounds[part + 1]].tolist()
        assert rows == [row for row, hashed in enumerate(hashes) if hashed * partitions >> 64 == part]


TYPES = [
    pa.array([True, None, False, True]),
    pa.array([1, None, 3, 4], pa.int8()),
    pa.array([1, None, 3, 4], pa.uint16()),
    pa.array([1.5, None, 3, 4], pa.float32()),
    pa.array([1, None, 3, 4], pa.timestamp("us")),
    pa.array(["", None, "é", "x" * 99]),
    pa.array([b"", None, b"\0", b"x"], pa.binary()),
    pa.array(["", None, "é", "x"], pa.large_string()),
    pa.array([[1], None, [], [2, None]], pa.list_(pa.int8())),
    pa.array([{"a": 1}, None, {"a": None}, {"a": 2}]),
    pa.array([b"ab", None, b"cd", b"ef"], pa.binary(2)),
    pa.array([1, None, 3, 4], pa.decimal128(5)),
    pa.array(["a", None, "b", "a"]).dictionary_encode(),
    pa.nulls(4),
]


@pytest.mark.parametrize("column", TYPES, ids=lambda column: str(column.type))
def test_rows_of_any_type_are_taken(column):
    batch = pa.record_batch({"c": pa.concat_arrays([column] * 3).slice(1, 10)})
    rows = np.array([9, 0, 0, 4, 3], np.uint32)
    taken = take_rows(batch, rows)
    taken.validate(full=True)
    assert taken.schema == batch.schema
    assert taken.to_pylist() == [batch.to_pylist()[row] for row in rows]
    assert take_rows(batch, rows[:0]).num_rows == 0
    assert take_rows(batch.slice(3, 0), rows[:0]).num_rows == 0


@settings(max_examples=40)
@given(st.lists(st.lists(st.none() | st.text(max_size=3), max_size=30), max_size=4), st.sampled_from([1, 2, 5, 40]))
def test_every_row_is_in_one_partition_in_the_order_in_which_it_came(lists, partitions):
    schema = pa.schema([("k", pa.string()), ("row", pa.int64())])
    number, batches = 0, []
    for keys in lists:
        columns = [pa.array(keys, pa.string()), pa.array(range(number, number + len(keys)), pa.int64())]
        batches.append(pa.RecordBatch.from_arrays(columns, schema=schema))
        number += len(keys)
    made = by_partition(to_partitions(iter(batches), ("k",), partitions, context()), partitions)
    assert len(made) == partitions
    seen, part_of_key = [], {}
    for part, own in enumerate(made):
        rows = [row for batch in own for row in batch.to_pylist()]
        numbers = [row["row"] for row in rows]
        assert numbers == sorted(numbers)
        seen += numbers
        for row in rows:
            assert part_of_key.setdefault(row["k"], part) == part
            assert contract_hash([as_bytes(row["k"])]) * partitions >> 64 == part
    assert sorted(seen) == list(range(number))


def test_without_keys_all_rows_stay_in_partition_0():
    batch = pa.record_batch({"n": [1, 2, 3]})
    made = by_partition(to_partitions(iter([batch]), (), 4, context()), 4)
    assert [sum(b.num_rows for b in own) for own in made] == [3, 0, 0, 0]


def test_many_keys_spread_over_all_partitions():
    made = to_partitions(iter([pa.record_batch({"n": np.arange(64_000)})]), ("n",), 64, context())
    sizes = collections.Counter({part: own.num_rows for part, own in made})
    assert min(sizes.values()) > 800
    assert max(sizes.values()) < 1200
