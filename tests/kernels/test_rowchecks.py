"""Checksums of rows, held to the formula in Python's own integers."""

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelmill.kernels.rowchecks import add_rows, begin_items, mix_lists, mix_strings, mix_word_lists, mix_words

MASK = (1 << 64) - 1
MIX_A, MIX_B = 0x9E3779B97F4A7C15, 0xD1B54A32D192ED03
LENGTH, PLACE, NULL = 0xA0761D6478BD642F, 0xE7037ED1A0B428DB, 0x8EBC6AF09C88C6E3
WORDS = st.integers(0, MASK)
VALUES = st.none() | WORDS
LISTS = st.none() | st.lists(VALUES, max_size=6)
SEED = 77


def turned(word):
    return (word << 32 | word >> 32) & MASK


def step(check, word0, word1):
    product = (check ^ word0 ^ MIX_A) * (turned(check) ^ word1 ^ MIX_B)
    return product >> 64 ^ product & MASK


def with_value(check, value):
    return step((check + NULL) & MASK, 0, 0) if value is None else step(check, value, turned(value))


def with_text(check, text):
    if text is None:
        return with_value(check, None)
    check = (check + len(text) * LENGTH) & MASK
    if len(text) <= 16:
        pieces = [text.ljust(16, b"\0")]
    else:
        pieces = [text[at : at + 16] for at in range(0, len(text) - 16, 16)] + [text[-16:]]
    for piece in pieces:
        check = step(check, int.from_bytes(piece[:8], "little"), int.from_bytes(piece[8:], "little"))
    return check


def with_list(check, values):
    if values is None:
        return with_value(check, None)
    total = sum(with_value((SEED + place * PLACE) & MASK, value) for place, value in enumerate(values))
    return with_value((check + len(values) * LENGTH) & MASK, total & MASK)


def column_of(values):
    """(values u64, validity u8) of words and Nones; a null's word is garbage."""
    words = np.array([9 if value is None else value for value in values], np.uint64)
    return words, validity_of(values)


def validity_of(values):
    valid = np.array([value is not None for value in values], np.uint8)
    return oracle.NO_NULLS if valid.all() else valid


def guarded(checks):
    found = oracle.Guarded(len(checks), np.uint64)
    found.array[:] = checks
    return found


@given(st.lists(st.tuples(VALUES, WORDS), max_size=20))
def test_words(rows):
    checks = guarded([check for _, check in rows])
    mix_words(*column_of([value for value, _ in rows]), checks.array)
    assert checks.check().tolist() == [with_value(check, value) for value, check in rows]


@given(
    st.lists(st.tuples(st.none() | oracle.KEYS, WORDS), max_size=20), st.integers(0, 9), st.sampled_from([0, 7, 8, 16])
)
def test_strings(rows, before, after):
    data, offsets, validity = oracle.string_column([value for value, _ in rows], before=before, after=after)
    checks = guarded([check for _, check in rows])
    has_nulls = any(value is None for value, _ in rows)
    mix_strings(data, offsets, validity if has_nulls else oracle.NO_NULLS, checks.array)
    assert checks.check().tolist() == [with_text(check, value) for value, check in rows]


@pytest.mark.parametrize("after", [0, 16])
def test_strings_of_every_length(after):
    values = [bytes((7 * size + i) % 256 for i in range(size)) for size in range(70)]
    data, offsets, _ = oracle.string_column(values, after=after)
    checks = guarded([SEED] * len(values))
    mix_strings(data, offsets, oracle.NO_NULLS, checks.array)
    assert checks.check().tolist() == [with_text(SEED, value) for value in values]
    assert len(set(checks.array.tolist())) == len(values)


@given(st.lists(st.tuples(LISTS, WORDS), max_size=8), st.integers(0, 3), st.integers(0, 2))
def test_lists_of_words_are_lists_of_any_items(rows, first, garbage):
    """`first` items belong to lists before these, and a null has items that count for nothing, as Arrow allows."""
    kept = [[5] * garbage if values is None else values for values, _ in rows]
    items = [item for values in kept for item in values]
    words, value_validity = column_of(items)
    validity = validity_of([values for values, _ in rows])
    offsets = np.cumsum([first, *map(len, kept)], dtype=np.int32)
    expected = [with_list(check, values) for values, check in rows]

    at_once = guarded([check for _, check in rows])
    mix_word_lists(offsets, first, words, value_validity, validity, np.uint64(SEED), at_once.array)
    assert at_once.check().tolist() == expected

    item_checks = oracle.Guarded(len(items), np.uint64)
    begin_items(offsets, first, np.uint64(SEED), item_checks.array)
    mix_words(words, value_validity, item_checks.check())
    one_by_one = guarded([check for _, check in rows])
    mix_lists(offsets, first, item_checks.check(), validity, one_by_one.array)
    assert one_by_one.check().tolist() == expected


@given(st.lists(WORDS, max_size=20), WORDS, WORDS)
def test_rows_are_added_to_what_is_there(checks, total, xor):
    totals = guarded([total, xor])
    add_rows(np.array(checks, np.uint64), totals.array)
    for check in checks:
        total, xor = (total + step(check, 0, 0)) & MASK, xor ^ step(check, 0, 0)
    assert totals.check().tolist() == [total, xor]


def test_rows_that_share_their_sum_are_told_apart():
    """Words that add up to the same number, each near the others: what a weaker mix would take for one another."""
    rng = np.random.default_rng(3)
    seen = set()
    for _ in range(2000):
        words = rng.integers(0, 1 << 16, 8)
        words[-1] = (1 << 20) - words[:-1].sum()  # all rows have one sum
        checks, totals = np.full(8, SEED, np.uint64), np.zeros(2, np.uint64)
        mix_words(words.astype(np.int64).view(np.uint64), oracle.NO_NULLS, checks)
        add_rows(checks, totals)
        seen.add(int(totals[0]))
        seen.add(int(totals[1]))
    assert len(seen) == 4000
