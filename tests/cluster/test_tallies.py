"""Sums by name stay within a message and lose nothing, however often they are folded."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.cluster.fields import COUNT_NAMES_BYTES_MAX, COUNTS_MAX, names_bytes
from kernelmill.cluster.tallies import OTHERS, folded


def as_counter(counts):
    found = Counter({one.name: one.count for one in counts})
    assert len(found) == len(counts)  # no name twice
    return found


def test_few_names_stay_as_they_are():
    assert as_counter(folded({"b": 2, "a": 1})) == {"a": 1, "b": 2}
    assert folded({}) == ()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 40)), min_size=1, max_size=3))
def test_the_sum_of_folded_sums_is_the_sum_of_all(tasks):
    total, whole = Counter(), 0
    for kinds, length in tasks:
        counts = {f"{n:05d}" + "\N{GRINNING FACE}" * length: n + 1 for n in range(kinds)}
        total.update(as_counter(folded(counts)))
        whole += sum(counts.values())
    told = folded(total)
    assert len(told) <= COUNTS_MAX
    assert names_bytes(one.name for one in told) <= COUNT_NAMES_BYTES_MAX + 1024
    assert as_counter(told).total() == whole


def test_what_was_folded_once_and_again_is_one_sum():
    once = as_counter(folded({f"{n:05d}": 1 for n in range(COUNTS_MAX + 10)}))
    assert once[OTHERS] == 11
    twice = as_counter(folded(once + Counter({f"x{n}": 1 for n in range(5)})))
    assert twice[OTHERS] == 11 + 5
