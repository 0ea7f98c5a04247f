"""The least string of each group, and sums of 128 bits: against Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.kernels import leaststrings

ROWS = st.lists(st.tuples(st.integers(0, 2), st.none() | st.binary(max_size=5)), max_size=30)


@settings(max_examples=80)
@given(ROWS, st.sampled_from([1, -1]), st.integers(0, 40))
def test_the_least_and_the_greatest_string_are_kept_however_small_the_arena_begins(rows, sign, room):
    groups = np.array([row[0] for row in rows], np.int32)
    texts = [row[1] or b"" for row in rows]
    data, offsets = np.frombuffer(b"".join(texts), np.uint8), np.cumsum([0, *map(len, texts)]).astype(np.int32)
    validity = np.array([row[1] is not None for row in rows], np.uint8)
    starts, sizes, state = np.zeros(3, np.int64), np.zeros(3, np.int64), np.zeros(1, np.int64)
    arena, row = np.zeros(room, np.uint8), 0
    while True:
        row = leaststrings.keep_least_strings(
            groups, data, offsets, validity, row, sign, starts, sizes, arena, state
        )  # fmt: skip
        if row == len(rows):
            break
        arena = np.concatenate([arena, np.zeros(8, np.uint8)])
    limit = int(np.maximum(sizes - 1, 0).sum())
    out, joined = np.zeros(limit, np.uint8), np.zeros(4, np.int32)
    assert leaststrings.join_strings(arena, starts, sizes, limit, joined, out) == limit
    for group in range(3):
        known = [text for g, text in rows if g == group and text is not None]
        wanted = (min if sign == 1 else max)(known, default=None)
        found = out[joined[group] : joined[group + 1]].tobytes() if sizes[group] else None
        assert found == wanted


def words_of(numbers):
    return np.frombuffer(b"".join(n.to_bytes(16, "little", signed=True) for n in numbers), np.uint64)


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(-(2**120), 2**120), st.booleans()), max_size=20))
def test_sums_of_128_bits_are_exact(rows):
    sums = np.zeros(4, np.uint64)
    groups, validity = np.array([row[0] for row in rows], np.int32), np.array([row[2] for row in rows], np.uint8)
    assert leaststrings.add_wide_integers(groups, words_of([row[1] for row in rows]), validity, sums) == -1
    wanted = words_of([sum(n for g, n, valid in rows if g == group and valid) for group in (0, 1)])
    assert sums.tolist() == wanted.tolist()


@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")
@pytest.mark.parametrize("step", [1, -1])
def test_a_sum_that_leaves_128_bits_names_its_row(step):
    most = 2**127 - 1 if step == 1 else -(2**127)
    sums = np.zeros(2, np.uint64)
    groups, empty = np.zeros(3, np.int32), np.empty(0, np.uint8)
    assert leaststrings.add_wide_integers(groups, words_of([most, 0, step]), empty, sums) == 2
