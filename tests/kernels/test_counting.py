"""count_tokens against a Counter: every mode, tokens across chunk borders, giants, and flushes that lose nothing."""

import collections

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import TEXTS, padded, tokens

from kernelmill.kernels import counting, keytable, tokenize
from kernelmill.kernels._jit import JIT_DISABLED
from kernelmill.kernels.counting import CHUNK_BYTES
from kernelmill.kernels.table import KeyTable, counting_scratch

EXAMPLES = settings(max_examples=15 if JIT_DISABLED else 100)
MODES = [
    pytest.param(tokenize.WHITESPACE, b"", id="whitespace"),
    pytest.param(tokenize.WORD, b"", id="word"),
    pytest.param(tokenize.IDENTIFIER, b"", id="identifier"),
    pytest.param(tokenize.TABLE, b",;\n", id="table"),
]


@pytest.fixture(scope="module")
def scratch():
    return counting_scratch()


@pytest.fixture(scope="module")
def made():
    return KeyTable()


def count(made, scratch, data, start, stop, mode=tokenize.WHITESPACE, separators=b"", **limits):
    """(key, count) in table order, one list for each run between flushes."""
    limits = {"groups_max": 1 << 20, "key_bytes_max": 64 << 20, **limits}
    made.reset(**limits)
    separates = tokenize.separator_table(mode, separators)
    runs, at = [], start
    while True:
        at = made.count_tokens(data, at, stop, mode, separates, scratch)
        text, offsets, _, nulls = made.strings(0, len(made))
        assert nulls == 0
        keys = [text[a:b].tobytes() for a, b in zip(offsets, offsets[1:], strict=False)]
        counts = made.counts(0, len(made)).tolist()
        assert sum(counts) == made.rows_seen
        runs.append(list(zip(keys, counts, strict=True)))
        if at >= stop:
            assert at == stop
            return runs
        made.clear()


def expected(raw, mode=tokenize.WHITESPACE, separators=b""):
    """A Counter keeps the order in which keys were first seen."""
    return list(collections.Counter(tokens(raw, mode, separators)).items())


@pytest.mark.parametrize(("mode", "separators"), MODES)
@EXAMPLES
@given(raw=TEXTS, before=st.integers(0, 65))
def test_tokens_are_counted_as_a_counter_counts_them(made, scratch, mode, separators, raw, before):
    data = padded(b"x" * before + raw)
    found = count(made, scratch, data, before, before + len(raw), mode, separators)
    assert found == [expected(raw, mode, separators)]


@pytest.mark.skipif(JIT_DISABLED, reason="100 kB are slow without the JIT")
@pytest.mark.parametrize(("mode", "separators"), MODES)
@pytest.mark.parametrize("shift", [0, 1, 63])
def test_a_text_of_many_chunks_is_counted_whole(made, scratch, mode, separators, shift):
    words = [b"w%d" % (i * i % 5000) + b"x" * (i % 50) for i in range(12_000)]
    raw = b" " * shift + b"".join(word + b" ,\n;\t7"[i % 6 : i % 6 + 1 + i % 2] for i, word in enumerate(words))
    assert len(raw) > 10 * CHUNK_BYTES
    assert count(made, scratch, padded(raw), 0, len(raw), mode, separators) == [expected(raw, mode, separators)]


@pytest.mark.skipif(JIT_DISABLED, reason="32 KiB a case are slow without the JIT")
@pytest.mark.parametrize("length", [1, 2, 9, 17, 64, 200])
@pytest.mark.parametrize("offset", [-200, -65, -17, -2, -1, 0, 1, 2])
def test_a_token_at_the_border_of_a_chunk_is_one_token(made, scratch, length, offset):
    raw = (b"a " * CHUNK_BYTES)[: CHUNK_BYTES + offset]
    raw = raw[:-1] + b" " + b"T" * length + b" end"
    assert count(made, scratch, padded(raw), 0, len(raw)) == [expected(raw)]


@pytest.mark.skipif(JIT_DISABLED, reason="5 MB are slow without the JIT")
def test_a_token_of_megabytes_is_one_token(made, scratch):
    giant = b"g" * 5_000_001
    raw = b"a " + giant + b" b " + giant + b"h " + giant
    found = count(made, scratch, padded(raw), 0, len(raw), key_bytes_max=1 << 20)
    total = collections.Counter()
    for run in found:
        total.update(dict(run))
    assert total == collections.Counter(raw.split())


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 3 * 1024])
def test_separators_alone_make_no_token(made, scratch, size):
    data = padded(b" " * size)
    assert count(made, scratch, data, 0, size) == [[]]


def test_the_densest_text_fits_a_chunk(made, scratch):
    size = 2 * 1024 if JIT_DISABLED else 3 * CHUNK_BYTES + 1
    raw = (b"a " * size)[:size]
    assert count(made, scratch, padded(raw), 0, size) == [[(b"a", (size + 1) // 2)]]
    assert count(made, scratch, padded(b" " + raw), 1, size + 1) == [[(b"a", (size + 1) // 2)]]


def test_text_of_many_calls_goes_into_one_table(made, scratch):
    made.reset(groups_max=1 << 20, key_bytes_max=1 << 20)
    separates = tokenize.separator_table(tokenize.WHITESPACE)
    for raw in (b"a b a", b"b c", b"", b"a"):
        assert made.count_tokens(padded(raw), 0, len(raw), tokenize.WHITESPACE, separates, scratch) == len(raw)
    assert made.counts(0, len(made)).tolist() == [3, 2, 1]
    assert made.counts(1, 3).tolist() == [2, 1]
    for counted in (None, np.uint32, np.int64):
        counts = made.placed_strings(1, np.array([1, 0], np.uint32), 2, counted)[1]
        assert counts.tolist() == [1, 2] and counts.dtype == (counted or np.uint32)


def test_counts_beside_placed_strings_stay_when_others_are_placed(made, scratch):
    made.reset(groups_max=1 << 20, key_bytes_max=1 << 20)
    separates = tokenize.separator_table(tokenize.WHITESPACE)
    made.count_tokens(padded(b"a b a"), 0, 5, tokenize.WHITESPACE, separates, scratch)
    order = np.array([0, 1], np.uint32)
    for counted in (np.uint32, np.int64):
        counts = made.placed_strings(0, order, 2, counted)[1]
        made.placed_strings(0, order[::-1].copy(), 2)
        made.placed_strings(0, order[::-1].copy(), 2, counted)
        made.clear()
        made.count_tokens(padded(b"a b a"), 0, 5, tokenize.WHITESPACE, separates, scratch)
        assert counts.tolist() == [2, 1]


@pytest.mark.skipif(JIT_DISABLED, reason="many chunks are slow without the JIT")
@pytest.mark.parametrize("limits", [{"groups_max": 3_000}, {"key_bytes_max": 30_000}])
def test_flushes_lose_no_token_and_come_at_the_same_places_whatever_the_table_was(made, scratch, limits):
    raw = b" ".join(b"%d" % (i % 30_000) + b"-long-key-here-" * (i % 3) for i in range(60_000))
    found = count(made, scratch, padded(raw), 0, len(raw), **limits)
    assert len(found) > 3
    total = collections.Counter()
    for run in found:
        total.update(dict(run))
    assert total == collections.Counter(raw.split())
    small = KeyTable()
    small.slots = np.zeros(2, np.uint32)
    small._seed = 5
    assert count(small, scratch, padded(raw), 0, len(raw), **limits) == found


def test_a_table_flushes_before_a_count_could_pass_32_bits(made, scratch):
    made.reset(groups_max=1 << 20, key_bytes_max=1 << 20)
    separates = tokenize.separator_table(tokenize.WHITESPACE)
    raw = b"a a a"
    made.count_tokens(padded(raw), 0, 5, tokenize.WHITESPACE, separates, scratch)
    made.state[keytable.ROWS_SEEN] = keytable.ROWS_MAX - counting.CHUNK_TOKENS + 1
    assert made.count_tokens(padded(raw), 0, 5, tokenize.WHITESPACE, separates, scratch) == 0
    assert made.state[keytable.REASON] == keytable.FLUSH
    assert made.counts(0, 1).tolist() == [3]
