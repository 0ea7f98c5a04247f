"""Numbers of rows with several keys, and the groups found by them, against a dict of tuples."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.kernels import keycodes
from kernelmill.kernels.table import NO_MASK

BASE = np.uint64(2**64 - 2)  # values that have codes may lie on both sides of 0


@st.composite
def tables(draw):
    rows = draw(st.integers(0, 40))
    codes = draw(st.lists(st.integers(0, 2) | st.none(), min_size=rows, max_size=rows))
    words = draw(st.lists(st.integers(-2, 1) | st.none() | st.sampled_from([-3, 2, 99]), min_size=rows, max_size=rows))
    return codes, words


def mixed(codes, words):
    rows = len(codes)
    numbers = np.zeros(rows, np.int32)
    valid = np.array([code is not None for code in codes], np.uint8)
    column = np.array([0 if code is None else code for code in codes], np.int32)
    keycodes.mix_codes(column, NO_MASK if valid.all() else valid, 3, 1, numbers)
    valid = np.array([word is not None for word in words], np.uint8)
    column = np.array([0 if word is None else word for word in words], np.int64).view(np.uint64)
    keycodes.mix_words(column, NO_MASK if valid.all() else valid, BASE, 4, 4, numbers)
    return numbers


def number_of(code, word):
    if word is not None and not -2 <= word <= 1:
        return keycodes.NO_NUMBER
    return (3 if code is None else code) + 4 * (4 if word is None else word + 2)


@given(tables())
def test_rows_have_one_number_for_each_combination_and_none_beyond_the_values(table):
    codes, words = table
    assert mixed(codes, words).tolist() == [number_of(*row) for row in zip(codes, words, strict=True)]


@settings(max_examples=150)
@given(tables(), st.integers(0, 40))
def test_groups_are_those_of_a_dict_however_far_the_table_came(table, done):
    codes, words = table
    numbers, rows = mixed(codes, words), list(zip(codes, words, strict=True))
    direct, groups = np.full(20, keycodes.NEW, np.int32), np.full(len(rows), -9, np.int32)
    fresh = np.full(len(rows), 77, np.uint32)
    count = keycodes.known_groups(numbers, direct, groups, fresh)
    fresh, done = fresh[:count], min(done, count)
    first_rows = [i for i, number in enumerate(numbers) if number < 0 or number not in numbers[:i]]
    assert fresh.tolist() == first_rows
    dict_of = {}
    expected = [dict_of.setdefault(row, len(dict_of)) for row in rows]
    found = np.array([expected[row] for row in fresh], np.int32)
    keycodes.settle_groups(numbers, fresh, found, done, direct, groups)
    known = len(rows) if done == count else int(fresh[done])
    assert groups[:known].tolist() == expected[:known]
    numbered = {int(numbers[row]): expected[row] for row in fresh[:done] if numbers[row] >= 0}
    assert {n: g for n, g in enumerate(direct.tolist()) if g != keycodes.NEW} == numbered
    again = np.empty(known, np.int32)
    assert keycodes.known_groups(numbers[:known], direct, again, fresh) == np.count_nonzero(numbers[:known] < 0)
