"""Moments of groups: those of plain Python, from rows or from merged states."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.kernels import variance

ROWS = st.lists(st.tuples(st.integers(0, 3), st.floats(-1e6, 1e6), st.floats(-1e6, 1e6), st.booleans()), max_size=40)
NO_MASK = np.empty(0, np.uint8)


def columns_of(rows):
    groups = np.array([row[0] for row in rows], np.int32)
    xs, ys = (np.array([row[n] for row in rows], np.float64) for n in (1, 2))
    return groups, xs, ys, np.array([row[3] for row in rows], np.uint8)


def zeros(floats):
    return [np.zeros(4, np.int64), *(np.zeros(4) for _ in range(floats))]


def expected(rows, group):
    own = [(x, y) for g, x, y, valid in rows if g == group and valid]
    n = len(own)
    if not n:
        return [0, 0.0, 0.0, 0.0, 0.0, 0.0]
    x_mean, y_mean = (math.fsum(pair[i] for pair in own) / n for i in (0, 1))
    products = [math.fsum((p[i] - (x_mean, y_mean)[i]) * (p[j] - (x_mean, y_mean)[j]) for p in own)
                for i, j in ((0, 0), (1, 1), (0, 1))]  # fmt: skip
    return [n, x_mean, y_mean, *products]


def close(found, wanted):
    return all(math.isclose(a, b, rel_tol=1e-9, abs_tol=1.0) for a, b in zip(found, wanted, strict=True))


@settings(max_examples=60)
@given(st.lists(ROWS, min_size=1, max_size=3))
def test_moments_are_those_of_python_from_rows_and_from_states(tasks):
    rows = [row for task in tasks for row in task]
    merged, merged_pairs = zeros(2), zeros(5)
    for task in tasks:
        groups, xs, ys, validity = columns_of(task)
        own, own_pairs = zeros(2), zeros(5)
        variance.add_moments(groups, xs, validity, *own)
        variance.add_comoments(groups, xs, ys, validity, *own_pairs)
        every = np.arange(4, dtype=np.int32)
        variance.merge_moments(every, *own, *merged)
        variance.merge_comoments(every, *own_pairs, *merged_pairs)
    for group in range(4):
        wanted = expected(rows, group)
        assert close([state[group] for state in merged], [wanted[0], wanted[1], wanted[3]])
        assert close([state[group] for state in merged_pairs], wanted)


def test_the_variance_of_large_numbers_that_differ_little_keeps_its_digits():
    own = zeros(2)
    variance.add_moments(np.zeros(3, np.int32), np.array([1e9, 1e9 + 1, 1e9 + 2]), NO_MASK, *own)
    assert own[2][0] == 2.0
