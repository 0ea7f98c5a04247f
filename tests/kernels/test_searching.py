"""Places of rows among sorted rows, against counting the rows that Python's sort puts before them."""

import bisect
import math

import numpy as np
import oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.kernels.searching import SortedRows, narrow_words
from kernelmill.kernels.sorting import SortKey

NUMBERS = st.sampled_from([None, -(2**63), -1, 0, 1, 2**63 - 1])
FLOATS = st.sampled_from([None, -math.inf, -1.5, -0.0, 0.0, 2.0, math.nan])
TEXTS = st.sampled_from(
    [None, b"", b"\0", b"a", b"a\0", b"b", b"\xff", b"k" * 8, b"k" * 8 + b"\0", b"k" * 9, b"k" * 17]
)
ROWS = st.lists(st.tuples(NUMBERS, FLOATS, TEXTS), max_size=30)
COLUMNS = st.lists(
    st.tuples(st.sampled_from([0, 1, 2]), st.booleans(), st.booleans()),
    min_size=1,
    max_size=3,
    unique_by=lambda c: c[0],
)
DTYPES = (np.int64, np.float64, bytes)


def keys_of(rows, columns, before):
    keys = []
    for column, descending, nulls_last in columns:
        values = [row[column] for row in rows]
        validity = np.array([v is not None for v in values], np.uint8) if None in values else oracle.NO_NULLS
        if DTYPES[column] is bytes:
            data, offsets, _ = oracle.string_column(values, before=before, after=0)
            keys.append(SortKey((data, offsets), validity, descending, nulls_last))
        else:
            filled = [row if v is None else v for row, v in enumerate(values)]
            keys.append(SortKey(np.array(filled, DTYPES[column]), validity, descending, nulls_last))
    return keys


def in_order(rows, columns):
    values = [([row[column] for row in rows], descending, last) for column, descending, last in columns]
    return oracle.sorted_rows(values)


@settings(max_examples=150)
@given(ROWS, ROWS, COLUMNS)
def test_places_are_the_numbers_of_rows_before_and_up_to(there, wanted, columns):
    there = [there[row] for row in in_order(there, columns)]
    low, high = SortedRows(keys_of(there, columns, 3)).bounds_of(keys_of(wanted, columns, 0))
    for row, found_low, found_high in zip(wanted, low.tolist(), high.tolist(), strict=True):
        # a row put before the sorted ones comes before its equals, one put behind them after
        assert found_low == in_order([row, *there], columns).index(0)
        assert found_high == in_order([*there, row], columns).index(len(there))
    up_to = SortedRows(keys_of(there, columns, 3)).counts_up_to(keys_of(wanted, columns, 0))
    assert up_to.tolist() == high.tolist()


@settings(max_examples=100)
@given(st.lists(TEXTS.filter(bool), max_size=40), st.lists(TEXTS.filter(lambda text: text is not None), max_size=20))
def test_texts_are_counted_by_their_first_bytes_and_by_the_rest_where_these_tie(there, wanted):
    def keys(texts, before):
        data, offsets, _ = oracle.string_column(texts, before=before, after=0)
        return data, offsets

    there.sort()
    counts = SortedRows([SortKey(keys(there, 3))]).counts_up_to([SortKey(keys(wanted, 1))])
    assert counts.tolist() == [bisect.bisect_right(there, text) for text in wanted]


def test_nothing_is_written_beside_the_places():
    low, high = oracle.Guarded(2, np.int64, fill=0), oracle.Guarded(2, np.int64, fill=3)
    words = np.array([1, 5, 5], np.uint64)
    assert narrow_words(np.array([5, 7], np.uint64), words, low.array, high.array) is None
    assert low.check().tolist() == [1, 3]
    assert high.check().tolist() == [3, 3]
