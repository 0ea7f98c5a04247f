"""Texts that a compiled function staged, looked up by address: numbered and counted as Python does it."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import EDGE_LENGTHS

from kernelmill.kernels import keytable
from kernelmill.kernels._jit import JIT_DISABLED
from kernelmill.kernels.table import KeyTable

pytestmark = pytest.mark.skipif(JIT_DISABLED, reason="slices of numpy cannot reach beyond their array")
KEYS = st.one_of(
    st.none(),
    st.binary(max_size=40),
    st.builds(lambda n, last: b"k" * n + last, st.sampled_from(EDGE_LENGTHS), st.sampled_from([b"", b"\0", b"l"])),
)


class Staged:
    """Texts in one buffer, as a driver stages them; `base` lies in its middle, so some are before it, some after."""

    def __init__(self, keys):
        pieces = [b"" if key is None else key for key in keys]
        ends = np.cumsum([0, *map(len, pieces)], dtype=np.int64)
        self.bytes = np.frombuffer(b"".join(pieces) + bytes(16), np.uint8)
        self.base = self.bytes[self.bytes.size // 2 :]
        self.addresses = ends[:-1] + self.bytes.ctypes.data
        self.sizes = np.array([-1 if key is None else len(key) for key in keys], np.int64)

    def count(self, table, first=0):
        return table.count_staged(self.base, self.addresses, self.sizes, first)


def fresh(groups_max=1 << 20, key_bytes_max=1 << 20):
    table = KeyTable()
    table.reset(groups_max=groups_max, key_bytes_max=key_bytes_max)
    return table


def keys_of(table):
    data, offsets, validity, _ = table.strings(0, len(table))
    return [data[a:b].tobytes() if ok else None for a, b, ok in zip(offsets, offsets[1:], validity, strict=False)]


def counted(table):
    return list(zip(keys_of(table), table.counts(0, len(table)).tolist(), strict=True))


@settings(max_examples=60, deadline=None)
@given(st.lists(KEYS, max_size=50), st.lists(KEYS, max_size=20))
def test_staged_texts_are_counted_as_a_counter_counts_them_in_first_seen_order(first, second):
    table = fresh()
    for keys in (first, second, first):
        assert Staged(keys).count(table) == len(keys)
    assert counted(table) == list(Counter(first + second + first).items())


@settings(max_examples=40, deadline=None)
@given(st.lists(KEYS, max_size=50))
def test_staged_texts_get_the_numbers_that_a_dict_gives(keys):
    table, staged, numbers = fresh(), Staged(keys * 2), {}
    groups = np.empty(2 * len(keys), np.int32)
    assert table.group_staged(staged.base, staged.addresses, staged.sizes, 0, groups) == groups.size
    assert groups.tolist() == [numbers.setdefault(key, len(numbers)) for key in keys * 2]


@pytest.mark.parametrize("distinct", [40, 3_000, 30_000])
def test_chunks_that_mix_old_new_and_long_texts_are_counted_whole(distinct):
    """Old keys are found in the first place they are looked for, or further on; new and long ones take another way."""
    chance = random.Random(distinct)
    known = [b"%d" % n * chance.choice([1, 1, 1, 4]) for n in range(distinct)]
    keys = chance.choices(known, k=5 * keytable.CHUNK_ROWS + 7)
    table = fresh()
    assert Staged(keys).count(table) == len(keys)
    assert counted(table) == list(Counter(keys).items())


def test_a_full_table_stops_before_a_chunk_and_goes_on_where_it_stopped():
    keys = [b"word %d and more of it" % (n % 9_000) for n in range(30_000)]
    table, staged, found, done = fresh(groups_max=1 << 10), Staged(keys), Counter(), 0
    while (done := staged.count(table, done)) < len(keys):
        found.update(dict(counted(table)))
        table.clear()
    found.update(dict(counted(table)))
    assert found == Counter(keys)
