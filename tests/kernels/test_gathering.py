import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelmill.kernels.gathering import (
    PLACED_BYTES_MIN,
    SLACK_BYTES,
    gather_fixed,
    gather_fixed_at,
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


@given(st.integers(1, 40), st.integers(1, 9), ROWS)
def test_values_of_a_fixed_width_are_taken_in_the_order_asked(width, size, picks):
    values = np.arange(size * width, dtype=np.uint8).reshape(size, width) * np.uint8(7)
    rows = np.array([pick % size for pick in picks], np.uint32)
    out = oracle.Guarded(len(rows) * width, np.uint8)
    gather_fixed(values.reshape(-1), width, rows, out.array)
    assert out.check().tobytes() == values[rows].tobytes()


@given(st.integers(PLACED_BYTES_MIN, 40), st.lists(st.integers(0, 200), min_size=1, max_size=9), ROWS)
def test_values_that_lie_anywhere_are_taken_in_the_order_asked(width, places, picks):
    base = np.random.default_rng(width).integers(0, 256, 200 + width, np.uint8)
    rows = np.array([pick % len(places) for pick in picks], np.uint32)
    out = oracle.Guarded(len(rows) * width, np.uint8)
    gather_fixed_at(base, np.array(places, np.int64), width, rows, out.array)
    expected = b"".join(base[places[row] : places[row] + width].tobytes() for row in rows)
    assert out.check().tobytes() == expected


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
