import math

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelmill.kernels import sorting
from kernelmill.kernels._jit import JIT_DISABLED
from kernelmill.kernels.sorting import SortKey, argsort

INT64 = st.one_of(st.integers(-(2**63), 2**63 - 1), st.integers(-3, 3), st.sampled_from([-(2**63), 2**63 - 1]))
FLOATS = st.one_of(st.floats(width=64), st.sampled_from([0.0, -0.0, math.nan, math.inf, -math.inf, 1.0]))
BYTES = st.one_of(
    oracle.KEYS,
    st.lists(st.sampled_from([b"\x00", b"a", b"\xff"]), max_size=20).map(b"".join),
    st.lists(st.sampled_from([b"\x00", b"a"]), max_size=10).map(lambda tail: b"one prefix for all" + b"".join(tail)),
)
DIRECTIONS = st.tuples(st.booleans(), st.booleans())


def sort_key(values, dtype, descending=False, nulls_last=False):
    """A SortKey of Python values; None is null, over a value that must not matter."""
    validity = np.array([v is not None for v in values], np.uint8) if None in values else oracle.NO_NULLS
    if dtype is bytes:
        data, offsets, _ = oracle.string_column(values, before=3, after=0)
        return SortKey((data, offsets), validity, descending, nulls_last)
    filled = [len(values) - row if v is None else v for row, v in enumerate(values)]
    return SortKey(np.array(filled, dtype), validity, descending, nulls_last)


def check(*columns):
    """Columns are (values, dtype, descending, nulls_last)."""
    expected = oracle.sorted_rows([(values, *directions) for values, _, *directions in columns])
    assert argsort([sort_key(*column) for column in columns]).tolist() == expected


@given(st.lists(st.one_of(st.none(), INT64), max_size=60), DIRECTIONS)
def test_integers_sort_as_python_sorts_them(values, directions):
    check((values, np.int64, *directions))


@given(st.lists(st.one_of(st.none(), FLOATS), max_size=60), DIRECTIONS)
def test_floats_sort_with_nan_greatest_and_one_zero(values, directions):
    check((values, np.float64, *directions))


@given(st.lists(st.one_of(st.none(), BYTES), max_size=60), DIRECTIONS)
def test_strings_sort_by_their_bytes(values, directions):
    check((values, bytes, *directions))


@given(
    st.lists(st.tuples(st.sampled_from([None, b"", b"a", b"a\x00", b"b" * 9]), st.integers(0, 2), FLOATS), max_size=40),
    DIRECTIONS,
    DIRECTIONS,
    DIRECTIONS,
)
def test_ties_are_broken_by_the_next_column_and_then_by_the_row(rows, first, second, third):
    texts, numbers, floats = ([row[column] for row in rows] for column in range(3))
    check((texts, bytes, *first), (numbers, np.int64, *second), (floats, np.float64, *third))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint32, np.uint64, np.bool_, np.float32])
def test_every_width_sorts_by_value(dtype):
    values = np.array([1, 0, 100, 7, 0, 1], np.int64).astype(dtype)
    assert argsort([SortKey(values)]).tolist() == oracle.sorted_rows([(values.tolist(), False, False)])


def test_uint64_beyond_the_sign_bit_is_greatest():
    assert argsort([SortKey(np.array([2**63, 1, 2**64 - 1], np.uint64))]).tolist() == [1, 0, 2]


SIZES = (0, 1, 2, 13, 300) if JIT_DISABLED else (0, 1, 2, 13, 300, 20_000)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    "make",
    [
        lambda n, r: np.arange(n),
        lambda n, r: np.arange(n)[::-1],
        lambda n, r: np.zeros(n, np.int64),
        lambda n, r: r.integers(-(2**63), 2**63 - 1, n),
        lambda n, r: r.integers(0, 3, n),
        lambda n, r: r.integers(0, 2, n) << 40,
    ],
    ids=["sorted", "reversed", "equal", "distinct", "few", "far apart"],
)
@pytest.mark.parametrize("descending", [False, True])
def test_any_shape_of_input_sorts_stably(make, size, descending, monkeypatch):
    monkeypatch.setattr(sorting, "_SPLIT_ROWS", 128)  # so that small inputs are split, too
    values = make(size, np.random.default_rng(size)).astype(np.int64)
    expected = np.argsort(~values if descending else values, kind="stable")
    assert np.array_equal(argsort([SortKey(values, descending=descending)]), expected)


@pytest.mark.parametrize("prefix", [b"", b"p" * 8, b"p" * 31])
@pytest.mark.skipif(JIT_DISABLED, reason="long runs have 4,096 rows and more")
def test_long_and_short_runs_of_equal_prefixes_are_mended(prefix):
    r = np.random.default_rng(7)
    tails = [b"a" * 8, b"a" * 16, b"", b"\x00", b"b" * 9]
    values = [prefix + tails[pick] + bytes(r.integers(97, 100, size)) for pick, size in r.integers(0, 5, (20_000, 2))]
    values += [prefix + b"a" * 24] * 6_000
    check((values, bytes, False, False))
    check((values, bytes, True, False))


def test_a_column_of_equal_strings_keeps_its_order():
    check(([b"the same, and longer than eight"] * 50, bytes, False, False))


def test_two_rows_that_agree_for_a_long_way_sort_by_what_comes_then():
    long = b"x" * (100 if JIT_DISABLED else 70_000)
    check(([long + b"b", long, long + b"a", long + b"\x00"], bytes, False, False))


def test_the_order_is_of_uint32_rows():
    assert argsort([SortKey(np.array([2, 1]))]).dtype == np.uint32
    assert argsort([SortKey(np.empty(0, np.int64))]).size == 0
