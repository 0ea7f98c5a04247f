"""Partial columns of groups that had one number added so often: made of the table's counts, which are only read."""

import numpy as np
import pyarrow as pa
import pytest

from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.exec.states import Count, Sum

COUNTS = [1, 3, 0, 2**32 - 1]


@pytest.fixture(params=[np.uint32, np.int64])
def counts(request):
    made = np.array(COUNTS, request.param)
    made.flags.writeable = False
    return made


@pytest.mark.parametrize("weight", [1, 0, -7, 2**31, -(2**31)])
def test_sums_are_products_of_counts(counts, weight):
    column = Sum("n", pa.int64()).weighted(counts, weight)
    assert column.type == pa.int64() and column.to_pylist() == [count * weight for count in COUNTS]


def test_a_product_that_leaves_64_bits_is_an_overflow(counts):
    state = Sum("n", pa.int64())
    assert state.weighted(counts[:3], 2**61).to_pylist() == [2**61, 3 * 2**61, 0]
    with pytest.raises(KernelmillError) as caught:
        state.weighted(counts, 2**31 + 1)
    assert caught.value.code is Code.OVERFLOW


def test_counts_are_themselves(counts):
    column = Count(merging=False).weighted(counts, 1)
    assert column.type == pa.uint32() and column.to_pylist() == COUNTS
