import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelmill.kernels.partitioning import order_by_partition, partition_of_hashes

HASHES = st.lists(st.one_of(st.integers(0, 2**64 - 1), st.sampled_from([0, 2**63, 2**64 - 1])), max_size=50)


@given(HASHES, st.sampled_from([1, 2, 3, 7, 128, 1000, 2**14]))
def test_a_partition_is_the_high_half_of_hash_times_partitions(values, partitions):
    parts, counts = oracle.Guarded(len(values), np.uint32), oracle.Guarded(partitions, np.int64)
    partition_of_hashes(np.array(values, np.uint64), partitions, parts.array, counts.array)
    expected = [value * partitions >> 64 for value in values]
    assert parts.check().tolist() == expected
    assert counts.check().tolist() == np.bincount(np.array(expected, np.int64), minlength=partitions).tolist()


@given(st.lists(st.integers(0, 6), max_size=60))
def test_rows_are_listed_partition_by_partition_in_the_order_they_came(parts):
    counts = np.bincount(np.array(parts, np.int64), minlength=7)
    slots = np.cumsum(counts) - counts
    order = oracle.Guarded(len(parts), np.uint32)
    assert order_by_partition(np.array(parts, np.uint32), slots, order.array) == -1
    assert order.check().tolist() == oracle.order_by(parts)
    assert slots.tolist() == np.cumsum(counts).tolist()


@pytest.mark.parametrize("bad", [0, 2])
def test_a_partition_that_does_not_exist_is_named_by_its_row(bad):
    parts = np.zeros(3, np.uint32)
    parts[bad] = 2
    assert order_by_partition(parts, np.array([0, 3], np.int64), oracle.Guarded(3, np.uint32).array) == bad
