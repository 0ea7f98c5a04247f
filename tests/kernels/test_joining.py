"""Kernels of joins against lists: groups found, rows laid out, pairs in order, however small the room for them."""

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelmill.kernels import joining, keytable
from kernelmill.kernels.table import KeyTable

GROUPS = st.lists(st.integers(-1, 5), max_size=40)
WORDS = st.lists(st.integers(0, 9) | st.integers(2**63 - 2, 2**63 + 2), max_size=60)
TEXTS = st.lists(st.sampled_from([b"", b"a", b"a\0", b"b" * 16, b"b" * 17, b"b" * 16 + b"c", b"c" * 40]), max_size=60)


def laid_out(groups, count=6):
    """Where each group's rows begin, the rows in this order, and the rows of the largest group."""
    ends = np.zeros(count + 1, np.int64)
    most = joining.count_groups(groups, ends[:-1])
    ends[-1] = ends[-2]
    row_at = oracle.Guarded(int(ends[-1]), np.uint32)
    joining.place_rows(groups, ends[:-1], row_at.array)
    return ends, row_at.check(), most


@given(GROUPS)
def test_build_rows_stand_group_by_group_in_their_order(groups):
    starts, row_at, most = laid_out(np.array(groups, np.int32))
    for group in range(6):
        assert row_at[starts[group] : starts[group + 1]].tolist() == [r for r, g in enumerate(groups) if g == group]
    assert most == max((groups.count(group) for group in range(6)), default=0)


@given(GROUPS, GROUPS, st.booleans(), st.integers(1, 7))
def test_pairs_come_by_probe_row_then_build_row_whatever_the_room(build, probe, keeps_all, room):
    starts, row_at, _ = laid_out(np.array(build, np.int32))
    groups, place, found = np.array(probe, np.int32), np.zeros(2, np.int64), []
    while place[0] < groups.size:
        probe_rows, build_rows = oracle.Guarded(room, np.uint32), oracle.Guarded(room, np.uint32)
        at = place, probe_rows.array, build_rows.array
        count = joining.pair_rows(groups, starts, row_at, keeps_all, 99, *at)
        found += zip(probe_rows.check()[:count].tolist(), build_rows.check()[:count].tolist(), strict=True)
        assert count == room or place[0] == groups.size
    expected = []
    for row, group in enumerate(probe):
        matches = [r for r, g in enumerate(build) if g == group and g >= 0]
        expected += [(row, other) for other in matches or ([99] if keeps_all else [])]
    assert found == expected


@given(st.permutations(range(6)), st.integers(0, 6), GROUPS, st.booleans())
def test_pairs_of_unique_groups_are_those_of_any(order, count, probe, keeps_all):
    build, groups = np.array(order[:count], np.int32), np.array(probe, np.int32)
    row_of = np.full(6, joining.NO_GROUP, np.int32)
    assert joining.row_of_groups(build, row_of) == -1
    probe_rows, build_rows = oracle.Guarded(groups.size, np.uint32), oracle.Guarded(groups.size, np.uint32)
    found = joining.pair_unique(groups, row_of, keeps_all, 99, probe_rows.array, build_rows.array)
    pairs = [(row, order.index(g) if g in order[:count] else 99) for row, g in enumerate(probe)]
    expected = [pair for pair in pairs if pair[1] != 99 or keeps_all]
    assert list(zip(probe_rows.check()[:found].tolist(), build_rows.check()[:found].tolist(), strict=True)) == expected


@given(GROUPS)
def test_the_first_row_whose_group_came_before_is_told(groups):
    found = joining.row_of_groups(np.array(groups, np.int32), np.full(6, joining.NO_GROUP, np.int32))
    again = (row for row, group in enumerate(groups) if group >= 0 and group in groups[:row])
    assert found == next(again, -1)


@given(st.permutations(range(6)), st.integers(0, 6), GROUPS)
def test_rows_with_a_match_are_marked_where_groups_are_unique(order, count, probe):
    row_of, marks = np.full(6, joining.NO_GROUP, np.int32), oracle.Guarded(len(probe), np.uint8)
    joining.row_of_groups(np.array(order[:count], np.int32), row_of)
    joining.mark_found(np.array(probe, np.int32), row_of, marks.array)
    assert marks.check().tolist() == [int(group in order[:count]) for group in probe]


@given(GROUPS, GROUPS)
def test_rows_with_a_match_are_marked(build, probe):
    starts, _, _ = laid_out(np.array(build, np.int32))
    marks = oracle.Guarded(len(probe), np.uint8)
    joining.mark_matching(np.array(probe, np.int32), starts, marks.array)
    assert marks.check().tolist() == [int(group >= 0 and group in build) for group in probe]


@given(WORDS, st.integers(0, 2**64 - 1), st.integers(0, 12), st.booleans())
def test_direct_groups_are_distances_from_the_base(words, base, span, has_nulls):
    values = np.array(words, np.uint64)
    validity = (np.arange(values.size) % 3 != 0).astype(np.uint8) if has_nulls else np.empty(0, np.uint8)
    groups = oracle.Guarded(values.size, np.int32)
    joining.find_direct(values, validity, np.uint64(base), span, 77, groups.array)
    offsets = [(word - base) % 2**64 for word in words]
    expected = [offset if offset < span else -1 for offset in offsets]
    assert groups.check().tolist() == [77 if has_nulls and r % 3 == 0 else g for r, g in enumerate(expected)]


@given(WORDS, WORDS)
def test_words_are_found_under_the_numbers_that_the_table_gave_them(build, probe):
    table = KeyTable()
    table.reset_unbounded(groups=len(build), key_bytes=0)
    none = np.empty(0, np.uint8)
    table.group_words(np.array(build, np.uint64), none, 0, np.empty(len(build), np.int32))
    groups = oracle.Guarded(len(probe), np.int32)
    room = np.empty(4 * keytable.CHUNK_ROWS, np.uint64)
    at = table.slots, table.rows, table.arena, groups.array
    joining.find_words(np.array(probe, np.uint64), none, table.seed, room, *at)
    numbers = list(dict.fromkeys(build))
    assert groups.check().tolist() == [numbers.index(word) if word in numbers else -1 for word in probe]


@given(TEXTS, TEXTS)
def test_strings_are_found_under_the_numbers_that_the_table_gave_them(build, probe):
    table = KeyTable()
    table.reset_unbounded(groups=len(build), key_bytes=100)
    table.group_strings(*_column(build), 0, np.empty(len(build), np.int32))
    groups = oracle.Guarded(len(probe), np.int32)
    room, scratch = np.empty(4 * keytable.CHUNK_ROWS, np.uint64), np.empty(keytable.SCRATCH_SIZE, np.int32)
    at = table.slots, table.rows, table.arena, groups.array
    joining.find_strings(*_column(probe), table.seed, room, scratch, *at)
    numbers = list(dict.fromkeys(build))
    assert groups.check().tolist() == [numbers.index(text) if text in numbers else -1 for text in probe]


@pytest.mark.parametrize("chunks", [1, 2])
def test_more_keys_than_a_chunk_are_found_and_nulls_are_a_key(chunks):
    rows = chunks * keytable.CHUNK_ROWS + 5
    values, validity = np.arange(rows, dtype=np.uint64) * np.uint64(7), np.ones(rows, np.uint8)
    validity[3] = 0
    table = KeyTable()
    table.reset_unbounded(groups=rows, key_bytes=0)
    table.group_words(values, validity, 0, np.empty(rows, np.int32))
    groups, room = np.empty(rows, np.int32), np.empty(4 * keytable.CHUNK_ROWS, np.uint64)
    joining.find_words(values, validity, table.seed, room, table.slots, table.rows, table.arena, groups)
    assert groups.tolist() == list(range(rows))


def _column(texts):
    offsets = np.cumsum([0, *map(len, texts)], dtype=np.int32)
    return np.frombuffer(b"".join(texts), np.uint8), offsets, np.empty(0, np.uint8)
