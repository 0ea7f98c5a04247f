"""Products of groups against Python's own integers and floats."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import NO_NULLS, Guarded

from kernelmill.kernels import multiplying
from kernelmill.kernels._jit import JIT_DISABLED

EXAMPLES = settings(max_examples=30 if JIT_DISABLED else 150)
GROUPS = 3
SMALL = st.integers(-7, 7)
INT64 = SMALL | st.sampled_from([2**31, -(2**31), 3037000500, 2**62, 2**63 - 1, -(2**63)])
UINT64 = st.integers(0, 7) | st.sampled_from([2**32, 2**32 - 1, 2**63, 2**64 - 1])
FLOATS = st.floats() | st.sampled_from([0.0, -0.0, 1e200, math.inf, math.nan])


def rows(values):
    """(group, value or None) rows."""
    return st.lists(st.tuples(st.integers(0, GROUPS - 1), st.none() | values), max_size=12)


def columns(drawn, dtype):
    groups = np.array([group for group, _ in drawn], np.int32)
    values = np.array([3 if value is None else value for _, value in drawn], dtype)
    validity = np.array([value is not None for _, value in drawn], np.uint8)
    return groups, values, (NO_NULLS if validity.all() else validity)


def check_whole(drawn, kernel, dtype):
    least, most = np.iinfo(dtype).min, np.iinfo(dtype).max
    products, bad = [1] * GROUPS, -1
    for row, (group, value) in enumerate(drawn):
        if value is not None:
            products[group] *= value
            if not least <= products[group] <= most:
                bad = row
                break
    made = Guarded(GROUPS, dtype, 0)
    made.array[:] = 1
    assert kernel(*columns(drawn, dtype), made.array) == bad
    if bad < 0:
        assert made.check().tolist() == products


@EXAMPLES
@given(rows(INT64))
def test_signed_integers_are_multiplied_and_the_first_that_leaves_64_bits_is_told(drawn):
    with np.errstate(over="ignore"):
        check_whole(drawn, multiplying.multiply_integers, np.int64)


@EXAMPLES
@given(rows(UINT64))
def test_unsigned_integers_are_multiplied_and_the_first_that_leaves_64_bits_is_told(drawn):
    with np.errstate(over="ignore"):
        check_whole(drawn, multiplying.multiply_unsigned, np.uint64)


@EXAMPLES
@given(rows(FLOATS))
def test_floats_are_multiplied_in_row_order(drawn):
    products = [1.0] * GROUPS
    for group, value in drawn:
        if value is not None:
            products[group] *= value
    made = Guarded(GROUPS, np.float64, 0)
    made.array[:] = 1
    with np.errstate(all="ignore"):
        multiplying.multiply_floats(*columns(drawn, np.float64), made.array)
    assert np.array_equal(made.check(), products, equal_nan=True)
