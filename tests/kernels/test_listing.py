import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelmill.kernels import listing

ROWS = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2**64 - 1)), max_size=60)
RUNS = st.lists(st.tuples(st.integers(0, 6), st.lists(st.integers(0, 2**64 - 1), max_size=5)), max_size=30)
GROUPS = 7


def listed(groups, runs, first, order):
    """The words of groups first + order, each group's in the order of its rows."""
    return [
        [word for own, run in zip(groups, runs, strict=True) if own == first + one for word in run] for one in order
    ]


def placed(lengths, first, order):
    """Offsets and next slots of the lists of groups first + order, and room for their elements."""
    offsets, next_slot = oracle.Guarded(len(order) + 1, np.int32), oracle.Guarded(len(order), np.int64)
    total = listing.place_lists(lengths, first, np.array(order, np.uint32), offsets.array, next_slot.array)
    assert total == sum(int(lengths[first + one]) for one in order) == offsets.check()[-1]
    return offsets.check().tolist(), next_slot, oracle.Guarded(total, np.uint64)


@given(ROWS, st.integers(0, 3), st.permutations(range(3)))
def test_words_are_held_and_then_scattered_to_the_lists_of_some_groups_in_any_order(rows, first, order):
    groups, words = np.array([g for g, _ in rows], np.int32), np.array([w for _, w in rows], np.uint64)
    held_groups, held_words = oracle.Guarded(len(rows), np.uint32), oracle.Guarded(len(rows), np.uint64)
    lengths = oracle.Guarded(GROUPS, np.int64, fill=0)
    half = len(rows) // 2
    for part in (slice(0, half), slice(half, None)):
        own = held_groups.array[part], held_words.array[part]
        listing.hold_words(groups[part], words[part], *own, lengths.array)
    assert held_groups.check().tolist() == groups.tolist() and held_words.check().tolist() == words.tolist()
    assert lengths.check().tolist() == [groups.tolist().count(one) for one in range(GROUPS)]
    offsets, next_slot, out = placed(lengths.array, first, order)
    listing.scatter_words(held_groups.array, held_words.array, first, next_slot.array, out.array)
    found, _ = out.check().tolist(), next_slot.check()
    expected = listed(groups.tolist(), [[word] for word in words.tolist()], first, order)
    assert [found[a:b] for a, b in zip(offsets, offsets[1:], strict=False)] == expected


@given(RUNS, st.integers(0, 3), st.permutations(range(4)), st.integers(0, 3))
def test_runs_are_joined_to_the_lists_of_some_groups_in_any_order(rows, first, order, skipped):
    groups, runs = np.array([g for g, _ in rows], np.uint32), [run for _, run in rows]
    words = np.array([0] * skipped + [word for run in runs for word in run], np.uint64)
    offsets_of_runs = np.cumsum([skipped, *map(len, runs)], dtype=np.int32)
    lengths = oracle.Guarded(GROUPS, np.int64, fill=0)
    listing.add_run_lengths(groups, offsets_of_runs, lengths.array)
    offsets, next_slot, out = placed(lengths.check(), first, order)
    listing.scatter_runs(groups, offsets_of_runs, words, first, next_slot.array, out.array)
    found, _ = out.check().tolist(), next_slot.check()
    expected = listed(groups.tolist(), runs, first, order)
    assert [found[a:b] for a, b in zip(offsets, offsets[1:], strict=False)] == expected


@given(st.lists(st.lists(st.integers(0, 2**64 - 1), max_size=5), min_size=1, max_size=20), st.data())
def test_runs_are_taken_in_the_order_asked(runs, data):
    rows = np.array(data.draw(st.lists(st.integers(0, len(runs) - 1), max_size=30)), np.uint32)
    words = np.array([7, *(word for run in runs for word in run)], np.uint64)
    offsets = np.cumsum([1, *map(len, runs)], dtype=np.int32)
    out_offsets = oracle.Guarded(rows.size + 1, np.int32)
    total = listing.gather_run_lengths(offsets, rows, out_offsets.array)
    out = oracle.Guarded(total, np.uint64)
    listing.gather_runs(offsets, words, rows, out.array)
    found, bounds = out.check().tolist(), out_offsets.check().tolist()
    assert [found[a:b] for a, b in zip(bounds, bounds[1:], strict=False)] == [runs[row] for row in rows]


@pytest.mark.parametrize("count", ["place", "gather"])
def test_elements_are_counted_beyond_int32(count):
    rows = np.zeros(3, np.uint32)
    if count == "place":
        order = np.arange(3, dtype=np.uint32)
        lengths, slots = np.full(3, 2**30, np.int64), np.empty(3, np.int64)
        total = listing.place_lists(lengths, 0, order, np.empty(4, np.int32), slots)
    else:
        total = listing.gather_run_lengths(np.array([0, 2**30], np.int32), rows, np.empty(4, np.int32))
    assert total == 3 * 2**30
