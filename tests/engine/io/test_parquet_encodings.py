"""Which columns get a dictionary: told by how many values the first rows have."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelmill.engine.io.parquet_encodings import repeats


@given(
    dtype=st.sampled_from([pa.int32(), pa.int64()]),
    rows=st.integers(0, 400),
    values=st.integers(1, 600),
    null_every=st.integers(0, 5),
    start=st.integers(0, 9),
)
def test_whole_numbers_repeat_where_arrow_counts_few_of_them(dtype, rows, values, null_every, start):
    drawn = np.random.default_rng(rows * 1000 + values).integers(-values, values, rows)
    masked = np.arange(rows) % null_every == 0 if null_every else None
    column = pa.array(drawn, dtype, mask=masked).slice(start)
    valid = len(column) - column.null_count
    assert repeats(column) == (valid < 256 or pc.count_distinct(column).as_py() * 16 <= valid * 15)


@pytest.mark.parametrize("dtype", [pa.int32(), pa.int64(), pa.float64(), pa.string()])
def test_the_bound_is_15_of_16_rows_of_the_first_16384(dtype):
    def column(distinct):
        numbers = np.concatenate([np.arange(distinct), np.zeros(16384 - distinct, np.int64), np.zeros(5000, np.int64)])
        return pa.array(np.random.default_rng(1).permutation(numbers[:16384]).tolist() + [0] * 5000).cast(dtype)

    assert repeats(column(15360))
    assert not repeats(column(15361))
