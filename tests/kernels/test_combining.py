"""Aggregate states against plain loops over the rows, bit for bit."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import NO_NULLS, Guarded

from kernelmill.kernels import combining
from kernelmill.kernels._jit import JIT_DISABLED
from kernelmill.kernels.orderedwords import ordered_words, values_of_words

EXAMPLES = settings(max_examples=30 if JIT_DISABLED else 100)
GROUPS = 4
FLOATS = st.floats(width=64) | st.sampled_from([0.0, -0.0, math.inf, -math.inf, math.nan, 1e308, 5e-324])
INT64 = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, -1, 2**63 - 1, -(2**63)])
UINT64 = st.integers(0, 2**64 - 1) | st.sampled_from([0, 2**64 - 1, 2**63])


def rows(values):
    """(group, value or None) rows."""
    return st.lists(st.tuples(st.integers(0, GROUPS - 1), st.none() | values), max_size=40)


def columns(drawn, dtype, under_null=1):
    """Groups, values and validity; what lies under a null must not count."""
    groups = np.array([group for group, _ in drawn], np.int32)
    values = np.array([under_null if value is None else value for _, value in drawn], dtype)
    validity = np.array([value is not None for _, value in drawn], np.uint8)
    return groups, values, (NO_NULLS if validity.all() else validity)


def by_group(drawn):
    return [[value for group, value in drawn if group == number and value is not None] for number in range(GROUPS)]


def bits(values):
    return np.asarray(values, np.float64).view(np.uint64).tolist()


@EXAMPLES
@given(rows(st.just(1)))
def test_rows_are_counted_where_they_are_valid(drawn):
    groups, _, validity = columns(drawn, np.int64)
    counts = Guarded(GROUPS, np.int64, 0)
    combining.count_rows(groups, validity, counts.array)
    assert counts.check().tolist() == [len(values) for values in by_group(drawn)]


@EXAMPLES
@given(rows(FLOATS))
def test_a_float_sum_has_the_bits_of_a_loop_in_row_order(drawn):
    groups, values, validity = columns(drawn, np.float64, under_null=math.nan)
    expected = [0.0] * GROUPS
    for group, value in drawn:
        if value is not None:
            expected[group] += value
    for add in (
        lambda sums: combining.add_floats(groups, values, validity, sums),
        lambda sums: combining.add_and_count(groups, values, validity, sums, np.zeros(GROUPS, np.int64)),
    ):
        sums = np.zeros(GROUPS)
        with np.errstate(all="ignore"):
            add(sums)
        nan = np.isnan(sums)
        assert nan.tolist() == [math.isnan(value) for value in expected]
        assert bits(sums[~nan]) == bits([value for value in expected if not math.isnan(value)])


def test_float_sums_are_not_reassociated():
    values = np.array([1e16, 1.0, -1e16, 1.0, 3.0, 1e100, 1.0, -1e100] * 64)
    expected = 0.0
    for value in values.tolist():
        expected += value
    sums = np.zeros(1)
    combining.add_floats(np.zeros(values.size, np.int32), values, NO_NULLS, sums)
    assert bits(sums) == bits([expected])


@EXAMPLES
@given(rows(FLOATS))
def test_a_mean_counts_what_it_adds(drawn):
    groups, values, validity = columns(drawn, np.float64)
    counts = np.zeros(GROUPS, np.int64)
    with np.errstate(all="ignore"):
        combining.add_and_count(groups, values, validity, np.zeros(GROUPS), counts)
    assert counts.tolist() == [len(values) for values in by_group(drawn)]


def sums_with_overflow(drawn, low, high):
    """The sums, and the first row that leaves [low, high], as exact arithmetic has it."""
    sums, bad = [0] * GROUPS, -1
    for row, (group, value) in enumerate(drawn):
        if value is not None:
            sums[group] += value
            if not low <= sums[group] <= high:
                return None, row
    return sums, bad


@EXAMPLES
@given(rows(INT64))
def test_a_sum_that_leaves_int64_is_told(drawn):
    groups, values, validity = columns(drawn, np.int64)
    expected, bad = sums_with_overflow(drawn, -(2**63), 2**63 - 1)
    sums = np.zeros(GROUPS, np.int64)
    assert combining.add_integers(groups, values, validity, sums) == bad
    assert expected is None or sums.tolist() == expected


@EXAMPLES
@given(rows(UINT64))
def test_a_sum_that_leaves_uint64_is_told(drawn):
    groups, values, validity = columns(drawn, np.uint64)
    expected, bad = sums_with_overflow(drawn, 0, 2**64 - 1)
    sums = np.zeros(GROUPS, np.uint64)
    assert combining.add_unsigned(groups, values, validity, sums) == bad
    assert expected is None or sums.tolist() == expected


@pytest.mark.parametrize(
    ("values", "bad"),
    [
        ([2**63 - 1, 1], 1),
        ([2**63 - 1, 0], -1),
        ([-(2**63), -1], 1),
        ([-(2**63), 2**63 - 1], -1),
        ([2**63 - 1, 1, -1], 1),  # back in range afterwards, yet the sum was lost
        ([2**62, 2**62], 1),
    ],
)
def test_the_borders_of_int64(values, bad):
    column = np.array(values, np.int64)
    assert combining.add_integers(np.zeros(len(values), np.int32), column, NO_NULLS, np.zeros(1, np.int64)) == bad


@pytest.mark.parametrize(("dtype", "values"), [(np.int64, INT64), (np.uint64, UINT64), (np.float64, FLOATS)])
@pytest.mark.parametrize("descending", [False, True])
def test_the_least_word_is_the_minimum_or_the_maximum(dtype, values, descending):
    @EXAMPLES
    @given(rows(values))
    def check(drawn):
        drawn = [(g, None if v is None or (dtype is np.float64 and math.isnan(v)) else v) for g, v in drawn]
        groups, column, validity = columns(drawn, dtype, under_null=0)
        least, seen = np.zeros(GROUPS, np.uint64), np.zeros(GROUPS, np.uint8)
        sign = 1 << 63 if dtype == np.int64 else 0
        flip = np.uint64(sign ^ (2**64 - 1 if descending else 0))
        words = ordered_words(column) if dtype == np.float64 else column.view(np.uint64)
        combining.keep_least(groups, words, validity, flip, least, seen)
        found = values_of_words(~least if descending else least, dtype).tolist()
        for number, own in enumerate(by_group(drawn)):
            assert seen[number] == bool(own)
            if own:
                assert found[number] == (max(own) if descending else min(own))

    check()


@pytest.mark.parametrize("descending", [False, True])
def test_the_least_and_greatest_float_are_found_from_its_bits(descending):
    flip = np.uint64(2**64 - 1 if descending else 0)

    @EXAMPLES
    @given(rows(FLOATS | st.just(-math.nan)))
    def check(drawn):
        groups, column, validity = columns(drawn, np.float64)
        least, seen = np.zeros(GROUPS, np.uint64), np.zeros(GROUPS, np.uint8)
        combining.keep_least_float(groups, column.view(np.uint64), validity, flip, least, seen)
        found = values_of_words(least ^ flip, np.float64)
        for number, own in enumerate(by_group(drawn)):
            numbers = [value for value in own if not math.isnan(value)]
            assert seen[number] == bool(numbers)
            if numbers:
                assert bits(found[number]) == bits((max(numbers) if descending else min(numbers)) + 0.0)

    check()
