"""KeyTable against a dict: first-seen numbers, whatever the slots' size, the seed or the place of the bytes."""

import mmap

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import EDGE_LENGTHS, NO_NULLS, contract_hash, string_column

from kernelmill.kernels import keytable, table
from kernelmill.kernels._jit import JIT_DISABLED
from kernelmill.kernels.hashing import PARTITION_SEED
from kernelmill.kernels.table import KeyTable
from kernelmill.kernels.tablerows import KEY_SLACK_BYTES

EXAMPLES = settings(max_examples=15 if JIT_DISABLED else 60)
MANY = 9_000 if JIT_DISABLED else 60_000
KEYS = st.one_of(
    st.none(),
    st.binary(max_size=70),
    st.builds(lambda n, last: b"k" * n + last, st.sampled_from([*EDGE_LENGTHS, 3, 4, 5]), st.binary(max_size=1)),
    st.builds(lambda n, first: first + b"k" * n, st.sampled_from([*EDGE_LENGTHS, 3, 4, 5]), st.binary(max_size=1)),
    st.builds(lambda n: b"k" * n + b"\0", st.sampled_from(EDGE_LENGTHS)),
)


@pytest.fixture(scope="module")
def reused():
    """A thread's table, used again and again as threads do."""
    return KeyTable()


def fresh(groups_max=1 << 20, key_bytes_max=64 << 20, made=None):
    made = KeyTable() if made is None else made
    made.reset(groups_max=groups_max, key_bytes_max=key_bytes_max)
    return made


def first_seen(keys):
    """Group of each key, and the keys in order of their groups."""
    number = {}
    return [number.setdefault(key, len(number)) for key in keys], list(number)


def group_strings(grouping, keys, **place):
    data, offsets, validity = string_column(keys, **place)
    groups = np.full(len(keys), -7, np.int32)
    done = grouping.group_strings(data, offsets, validity, 0, groups)
    return done, groups.tolist()


def strings_of(grouping, first=0, last=None):
    last = len(grouping) if last is None else last
    data, offsets, validity, nulls = grouping.strings(first, last)
    assert nulls == int((validity == 0).sum())
    return [data[a:b].tobytes() if valid else None for a, b, valid in zip(offsets, offsets[1:], validity, strict=False)]


def words_of(grouping):
    values, validity, nulls = grouping.words(0, len(grouping))
    assert nulls == int((validity == 0).sum())
    return [value if valid else None for value, valid in zip(values.view(np.int64).tolist(), validity, strict=True)]


def int_column(values):
    words = np.array([0x5A5A if value is None else value for value in values], np.int64).view(np.uint64)
    return words, np.array([value is not None for value in values], np.uint8)


# Strings -------------------------------------------------------------------------------------------------------------


@EXAMPLES
@given(st.lists(KEYS, max_size=60), st.integers(0, 9))
def test_strings_are_numbered_as_a_dict_numbers_them(reused, keys, before):
    grouping = fresh(made=reused)
    expected, order = first_seen(keys)
    assert group_strings(grouping, keys, before=before) == (len(keys), expected)
    assert strings_of(grouping) == order


@EXAMPLES
@given(st.lists(st.lists(KEYS, max_size=20), max_size=5))
def test_batches_share_one_numbering(reused, batches):
    grouping = fresh(made=reused)
    expected, order = first_seen([key for batch in batches for key in batch])
    found = []
    for batch in batches:
        found += group_strings(grouping, batch)[1]
    assert (found, strings_of(grouping)) == (expected, order)


def test_keys_that_differ_in_one_place_only_stay_apart():
    keys = [b""]
    for length in (*EDGE_LENGTHS[1:], 3, 4, 5, 6, 100, 70_000):
        whole = bytes(i % 251 for i in range(length))
        keys.append(whole)
        for at in {0, length // 2, max(0, length - 9), length - 1}:
            keys.append(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        keys.append(whole[:-1] + b"\0")
    expected, order = first_seen(keys * 2)
    grouping = fresh()
    assert group_strings(grouping, keys * 2) == (len(expected), expected)
    assert strings_of(grouping) == order


def test_keys_that_end_in_nuls_null_and_the_empty_key_stay_apart():
    keys = [b"\0" * n for n in range(20)] + [None] + [b"a" + b"\0" * n for n in range(20)]
    grouping = fresh()
    assert group_strings(grouping, keys)[1] == list(range(41))
    assert strings_of(grouping) == keys


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 7, 8, 9, 12, 15, 16, 17, 23, 24, 25, 33])
def test_no_byte_outside_the_keys_is_read(length):
    """The keys lie against the end of a page that a page without access follows: an over-read ends the process."""
    if JIT_DISABLED:
        pytest.skip("slices of numpy cannot over-read")
    import ctypes

    page = mmap.PAGESIZE
    area = mmap.mmap(-1, 2 * page)
    held = (ctypes.c_char * (2 * page)).from_buffer(area)
    where = ctypes.addressof(held)
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.mprotect(ctypes.c_void_p(where + page), ctypes.c_size_t(page), 0) == 0
    try:
        keys = [bytes([65 + i]) * length for i in range(3)]
        text = b"".join(keys)
        data = np.frombuffer(area, np.uint8, len(text), page - len(text))
        data[:] = np.frombuffer(text, np.uint8)
        offsets = np.arange(0, len(text) + 1, length, dtype=np.int32)
        groups = np.empty(3, np.int32)
        grouping = fresh()
        assert grouping.group_strings(data, offsets, NO_NULLS, 0, groups) == 3
        assert strings_of(grouping) == keys
        codes = fresh()
        direct = np.full(3, -1, np.int32)
        numbers = np.array([2, 1, 0], np.int32)
        assert codes.group_codes(numbers, NO_NULLS, (data, offsets, NO_NULLS), direct, 0, groups) == 3
        assert strings_of(codes) == keys[::-1]
        del data
    finally:
        libc.mprotect(ctypes.c_void_p(where + page), ctypes.c_size_t(page), mmap.PROT_READ | mmap.PROT_WRITE)


# Growth, seeds, collisions --------------------------------------------------------------------------------------------


def test_growth_changes_no_number():
    keys = [b"%d" % (i * i % (MANY * 2 // 3)) + b"x" * (i % 30) for i in range(MANY)]
    expected, order = first_seen(keys)
    small, large = fresh(), fresh()
    small.slots = np.zeros(64, np.uint32)
    large.slots = np.zeros(1 << 20, np.uint32)
    assert group_strings(small, keys) == group_strings(large, keys) == (len(keys), expected)
    assert strings_of(small) == strings_of(large) == order
    assert small.slots.size >= len(order) * 10 / 6


def test_at_most_sixty_percent_of_the_slots_are_taken():
    grouping = fresh()
    for first in range(0, MANY, 777):
        group_strings(grouping, [b"%d" % i for i in range(first, min(MANY, first + 777))])
        assert len(grouping) * 10 <= grouping.slots.size * 6
        assert np.count_nonzero(grouping.slots) == len(grouping)


def test_keys_whose_hashes_are_equal_under_one_seed_are_told_apart_and_the_seed_changes():
    """Under seed k the word MIX_A ^ k hashes to nothing: so do all keys of 9 to 16 bytes that begin with it."""
    seed = int(table._SEEDS[0])
    first = ((0x9E3779B97F4A7C15 ^ seed) & (2**64 - 1)).to_bytes(8, "little")
    keys = [first + i.to_bytes(8, "little") for i in range(400)]
    grouping = fresh()
    slots = np.zeros(1 << 16, np.uint32)
    grouping.slots = slots
    assert group_strings(grouping, keys) == (400, list(range(400)))
    assert group_strings(grouping, keys[::-1]) == (400, list(range(399, -1, -1)))
    assert grouping._seed != 0
    assert grouping.state[keytable.LONGEST_PROBE] <= keytable.PROBE_LENGTH_MAX
    assert strings_of(grouping) == keys
    assert grouping.slots.size == slots.size  # a new seed is the cure, more slots are not


def test_no_set_of_keys_collides_under_every_seed():
    """The hash's second factor must hang on the seed too, or these keys all hash to nothing whatever the seed is."""
    last = (0xE7037ED1A0B428DB ^ 16).to_bytes(8, "little")
    keys = [i.to_bytes(8, "little") + last for i in range(6_000 if not JIT_DISABLED else 600)]
    chain = (0xE7037ED1A0B428DB).to_bytes(8, "little")
    keys += [i.to_bytes(8, "little") + chain + b"the same end....." for i in range(600)]
    grouping = fresh()
    assert group_strings(grouping, keys)[1] == list(range(len(keys)))
    assert group_strings(grouping, keys)[1] == list(range(len(keys)))
    assert grouping.state[keytable.LONGEST_PROBE] <= keytable.PROBE_LENGTH_MAX
    assert grouping.slots.size <= 1 << 16


def test_memory_stays_bounded_where_every_seed_collides(monkeypatch):
    """The worst an adversary can do is to make it slow."""
    seed = int(table._SEEDS[0])
    monkeypatch.setattr(table, "_SEEDS", [table._SEEDS[0]] * 16)
    first = ((0x9E3779B97F4A7C15 ^ seed) & (2**64 - 1)).to_bytes(8, "little")
    keys = [first + i.to_bytes(8, "little") for i in range(400)]
    grouping = fresh()
    for _ in range(20):
        assert group_strings(grouping, keys) == (400, list(range(400)))
    assert grouping.slots.size <= 1 << 16


def test_a_new_seed_keeps_words_strings_and_null():
    keys = [None, b"", b"a", b"x" * 8, b"x" * 9, b"x" * 16, b"x" * 17, b"y" * 100]
    grouping = fresh()
    group_strings(grouping, keys)
    grouping.state[keytable.LONGEST_PROBE] = keytable.PROBE_LENGTH_MAX + 1
    assert group_strings(grouping, [b"new", *keys[::-1]])[1] == [8, *range(7, -1, -1)]
    assert grouping._seed == 1
    assert strings_of(grouping) == [*keys, b"new"]


def test_clear_forgets_keys_and_reset_reuses_memory(reused):
    grouping = fresh(made=reused)
    group_strings(grouping, [b"a", b"b" * 40])
    rows = grouping.rows
    fresh(groups_max=10, key_bytes_max=10, made=grouping)
    assert (len(grouping), grouping.rows is rows) == (0, True)
    assert group_strings(grouping, [b"b" * 40])[1] == [0]


def test_an_arena_grows_for_giant_keys():
    keys = [bytes([i]) * (20_000 if JIT_DISABLED else 300_000) for i in range(12)]
    grouping = fresh()
    small = fresh(key_bytes_max=100_000)
    grouping.arena = np.empty(64, np.uint8)
    assert group_strings(grouping, keys * 2)[1] == list(range(12)) * 2
    assert group_strings(small, keys)[1] == list(range(12))  # one chunk may pass the limit, the next one may not
    assert strings_of(small) == keys


# Flushes: the same rows whatever the slots were (I1) ------------------------------------------------------------------


def flushes(grouping, keys):
    """Rows at which the table wanted a flush, and each run's keys in order."""
    data, offsets, validity = string_column(keys)
    groups = np.empty(len(keys), np.int32)
    at, stops, runs = 0, [], []
    while True:
        at = grouping.group_strings(data, offsets, validity, at, groups)
        runs.append(strings_of(grouping))
        if at == len(keys):
            return stops, runs
        stops.append(at)
        grouping.clear()


@pytest.mark.parametrize(("groups_max", "key_bytes_max"), [(1, 1 << 20), (5_000, 1 << 20), (1 << 20, 20_000)])
def test_flushes_come_at_the_same_rows_whatever_the_table_was_before(groups_max, key_bytes_max):
    rows = 9_000 if JIT_DISABLED else 40_000
    keys = [b"%d" % (i % (rows // 2)) + b"l" * (i % 40) for i in range(rows)]
    new = fresh(groups_max, key_bytes_max)
    grown = fresh(groups_max, key_bytes_max)
    grown.slots = np.zeros(1 << 20, np.uint32)
    tiny = fresh(groups_max, key_bytes_max)
    tiny.slots = np.zeros(2, np.uint32)
    used = fresh(1 << 18, 8 << 20)  # a thread's table that a larger stage left behind: more records, a larger arena
    used._seed = 3
    fresh(groups_max, key_bytes_max, made=used)
    stops, runs = flushes(new, keys)
    assert stops and stops == sorted(set(stops))
    for other in (grown, tiny, used):
        assert flushes(other, keys) == (stops, runs)
    assert {key for run in runs for key in run} == set(keys)


def test_a_table_that_is_full_stops_before_the_first_row():
    grouping = fresh(groups_max=2)
    group_strings(grouping, [b"a", b"b", b"c"])
    groups = np.full(1, -7, np.int32)
    data, offsets, validity = string_column([b"d"])
    assert grouping.group_strings(data, offsets, validity, 0, groups) == 0
    assert groups.tolist() == [-7]


# Words ---------------------------------------------------------------------------------------------------------------

EXTREMES = [0, 1, -1, -(2**63), 2**63 - 1, 2**32, -(2**31)]
INTEGERS = st.one_of(st.none(), st.sampled_from(EXTREMES), st.integers(-5, 5), st.integers(-(2**63), 2**63 - 1))


@EXAMPLES
@given(st.lists(st.lists(INTEGERS, max_size=40), max_size=4))
def test_words_are_numbered_as_a_dict_numbers_them(reused, batches):
    grouping = fresh(made=reused)
    expected, order = first_seen([value for batch in batches for value in batch])
    found = []
    for batch in batches:
        groups = np.full(len(batch), -7, np.int32)
        assert grouping.group_words(*int_column(batch), 0, groups) == len(batch)
        found += groups.tolist()
    assert (found, words_of(grouping)) == (expected, order)


@pytest.mark.parametrize("low", [-(2**63), -300, 0, 2**63 - 300, 2**31])
@pytest.mark.parametrize("span", [1, 299])
def test_the_direct_cache_serves_any_narrow_range_and_what_lies_outside_it(low, span):
    near = [low + i * 7 % span for i in range(600)]
    far = [(value + 2**40) if value < 2**62 else value - 2**40 for value in near]
    edges = [value for value in (low - 1, low + span, low + 2 * span) if -(2**63) <= value < 2**63]
    grouping = fresh()
    expected, order = first_seen([*near, *far, *edges, None, *near, None])
    found = []
    for batch in (near, [*far, *edges, None], [*near, None]):
        groups = np.empty(len(batch), np.int32)
        grouping.group_words(*int_column(batch), 0, groups)
        found += groups.tolist()
    assert grouping._direct.size
    assert (found, words_of(grouping)) == (expected, order)


def test_a_range_as_wide_as_int64_goes_without_the_direct_cache():
    values = [-(2**63), 2**63 - 1, 0, -(2**63), None]
    grouping = fresh()
    groups = np.empty(5, np.int32)
    grouping.group_words(*int_column(values), 0, groups)
    assert not grouping._direct.size
    assert groups.tolist() == [0, 1, 2, 0, 3]


def test_words_grow_and_flush_as_strings_do():
    values = np.random.default_rng(1).integers(-(2**62), 2**62, MANY).view(np.uint64)
    grouping = fresh(groups_max=MANY // 3)
    groups = np.empty(MANY, np.int32)
    at, seen = 0, []
    while True:
        began = at
        at = grouping.group_words(values, NO_NULLS, at, groups)
        expected, order = first_seen(values[began:at].view(np.int64).tolist())
        assert (groups[began:at].tolist(), words_of(grouping)) == (expected, order)
        seen.append(at)
        if at == MANY:
            break
        grouping.clear()
    assert len(seen) > 1


def test_a_flush_voids_the_direct_cache():
    values = np.arange(10_000, dtype=np.int64).view(np.uint64)
    grouping = fresh(groups_max=4_096)
    groups = np.empty(10_000, np.int32)
    at = grouping.group_words(values, NO_NULLS, 0, groups)
    grouping.clear()
    assert grouping.group_words(values, NO_NULLS, at, groups) > at
    assert groups[at] == 0
    assert words_of(grouping)[0] == at


# Codes ---------------------------------------------------------------------------------------------------------------


@EXAMPLES
@given(st.lists(KEYS, min_size=1, max_size=12), st.data())
def test_codes_are_numbered_as_their_values_are(reused, dictionary, data):
    codes = data.draw(st.lists(st.one_of(st.none(), st.integers(0, len(dictionary) - 1)), max_size=50))
    keys = [None if code is None else dictionary[code] for code in codes]
    expected, order = first_seen(keys)
    grouping = fresh(made=reused)
    numbers = np.array([99_999 if code is None else code for code in codes], np.int32)  # under a null lies anything
    validity = np.array([code is not None for code in codes], np.uint8)
    groups = np.full(len(codes), -7, np.int32)
    direct = np.full(len(dictionary), -1, np.int32)
    done = grouping.group_codes(numbers, validity, string_column(dictionary), direct, 0, groups)
    assert (done, groups.tolist(), strings_of(grouping)) == (len(codes), expected, order)


def test_codes_grow_arena_and_slots_and_resume_after_a_flush():
    size = 700 if JIT_DISABLED else 30_000
    dictionary = [b"%06d" % i + b"long" * (i % 20) for i in range(size)]
    numbers = (np.arange(2 * size, dtype=np.int64) * 7919 % size).astype(np.int32)
    columns = string_column(dictionary)
    grouping = fresh(groups_max=size // 2)
    grouping.arena = np.empty(128, np.uint8)
    groups = np.empty(numbers.size, np.int32)
    direct = np.full(size, -1, np.int32)
    at, runs = 0, 0
    while True:
        began = at
        at = grouping.group_codes(numbers, NO_NULLS, columns, direct, at, groups)
        expected, order = first_seen([dictionary[code] for code in numbers[began:at]])
        assert (groups[began:at].tolist(), strings_of(grouping)) == (expected, order)
        runs += 1
        if at == numbers.size:
            break
        grouping.clear()
        direct[:] = -1
    assert runs > 1


# Reading -------------------------------------------------------------------------------------------------------------


@EXAMPLES
@given(st.lists(KEYS, min_size=1, max_size=40, unique=True), st.integers(0, 200))
def test_runs_of_groups_are_cut_by_key_bytes_and_join_to_all(reused, keys, key_bytes_max):
    grouping = fresh(made=reused)
    group_strings(grouping, keys)
    first, joined = 0, []
    while first < len(grouping):
        last = grouping.cut(first, 7, key_bytes_max)
        run = strings_of(grouping, first, last)
        assert 1 <= last - first <= 7
        assert last - first == 1 or sum(len(key or b"") for key in run) <= key_bytes_max
        joined += run
        first = last
    assert joined == keys


@EXAMPLES
@given(st.lists(KEYS, min_size=1, max_size=40, unique=True), st.data())
def test_groups_are_placed_and_partitioned_as_their_keys_are(reused, keys, data):
    grouping = fresh(made=reused)
    group_strings(grouping, keys)
    first = data.draw(st.integers(0, len(keys)))
    order = np.array(data.draw(st.permutations(range(len(keys) - first))), np.uint32)
    partitions = data.draw(st.integers(1, 5))
    parts, groups_of_part, key_bytes = grouping.partitions_of_strings(first, len(keys), partitions)
    hashes = [contract_hash(key, int(PARTITION_SEED)) for key in keys[first:]]
    assert parts.tolist() == [(hashed * partitions) >> 64 for hashed in hashes]
    assert groups_of_part.tolist() == [parts.tolist().count(part) for part in range(partitions)]
    (text, offsets, validity, nulls), counts = grouping.placed_strings(first, order, key_bytes)
    found = [text[a:b].tobytes() if v else None for a, b, v in zip(offsets, offsets[1:], validity, strict=False)]
    assert found == [keys[first + i] for i in order]
    assert nulls == found.count(None)
    assert text.size - KEY_SLACK_BYTES == key_bytes == int(offsets[-1])
    assert counts.tolist() == [0] * order.size


def test_placed_strings_stay_when_others_are_placed(reused):
    keys = [b"a", b"", None, b"longer than sixteen bytes", b"end"]
    grouping = fresh(made=reused)
    group_strings(grouping, keys)

    def placed(first, last):
        *_, key_bytes = grouping.partitions_of_strings(first, last, 2)
        (text, offsets, _, _), _ = grouping.placed_strings(first, np.arange(last - first, dtype=np.uint32), key_bytes)
        return text, offsets

    (text, offsets), _ = placed(0, 4), placed(1, 5)
    found = [text[a:b].tobytes() for a, b in zip(offsets, offsets[1:], strict=False)]
    assert found == [key or b"" for key in keys[:4]]
