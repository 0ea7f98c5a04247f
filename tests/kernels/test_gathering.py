import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelmill.kernels.gathering import (
    SLACK_BYTES,
    gather_string_lengths,
    gather_strings,
    gather_u8,
    gather_u16,
    gather_u32,
    gather_u64,
)

ROWS = st.lists(st.integers(0, 10**6), max_size=60)
BY_WIDTH = {np.uint8: gather_u8, np.uint16: gather_u16, np.uint32: gather_u32, np.uint64: gather_u64}


@pytest.mark.parametrize("dtype", BY_WIDTH)
@given(size=st.integers(1, 40), picks=ROWS)
def test_values_of_every_width_are_taken_in_the_order_asked(dtype, size, picks):
    values = (np.arange(size, dtype=np.uint64) * 0x9E3779B97F4A7C15).astype(dtype)
    rows = [pick % size for pick in picks]
    out = oracle.Guarded(len(rows), dtype)
    BY_WIDTH[dtype](values, np.array(rows, np.uint32), out.array)
    assert out.check().tolist() == [int(values[row]) for row in rows]


@given(st.lists(oracle.KEYS, min_size=1, max_size=20), ROWS, st.integers(0, 9), st.sampled_from([0, 3, 64]))
def test_strings_are_taken_in_the_order_asked(values, picks, before, after):
    data, offsets, _ = oracle.string_column(values, before=before, after=after)
    rows = np.array([pick % len(values) for pick in picks], np.uint32)
    first, last = len(rows) // 4, len(rows) - len(rows) // 4
    out_offsets = oracle.Guarded(last - first + 1, np.int32)
    total = gather_string_lengths(offsets, rows, first, last, out_offsets.array)
    out = oracle.Guarded(int(total) + SLACK_BYTES, np.uint8)
    gather_strings(data, offsets, rows, first, last, out_offsets.array, out.array)
    bounds, taken = out_offsets.check().tolist(), out.check().tobytes()
    expected = [values[row] for row in rows[first:last]]
    assert total == bounds[-1] == sum(map(len, expected))
    assert [taken[a:b] for a, b in zip(bounds[:-1], bounds[1:], strict=True)] == expected


def test_the_bytes_of_too_many_strings_are_counted_beyond_int32():
    offsets = np.array([0, 2**30], np.int32)
    rows = np.zeros(5, np.uint32)
    assert gather_string_lengths(offsets, rows, 0, 5, np.empty(6, np.int32)) == 5 * 2**30
