import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelmill.kernels._jit import JIT_DISABLED, i32_out, i64, kernel, u8_in
from kernelmill.kernels.tokenize import (
    IDENTIFIER,
    TABLE,
    WHITESPACE,
    WORD,
    rows_in_place,
    separator_table,
    tokenize_block,
    tokenize_rows,
    tokens_max,
)

MODES = st.sampled_from([WHITESPACE, WORD, IDENTIFIER, TABLE])
SEPARATORS = b" ,a]^-"


@kernel(i64(u8_in, i64, i64, i64, u8_in, i32_out, i32_out))
def one_block(data, start, stop, mode, table, starts, lengths):
    return tokenize_block(data, start, stop, mode, table, starts, lengths)


def tokens_of_block(raw, mode, before=0, entries=None):
    data = oracle.padded(raw, before=before)
    entries = tokens_max(len(raw)) if entries is None else entries
    starts, lengths = oracle.Guarded(entries, np.int32), oracle.Guarded(entries, np.int32)
    table = separator_table(mode, SEPARATORS)
    n = one_block(data, before, before + len(raw), mode, table, starts.array, lengths.array)
    return [raw[s : s + k] for s, k in zip(starts.check()[:n], lengths.check()[:n], strict=True)]


@given(oracle.TEXTS, MODES, st.integers(0, 9))
def test_a_blocks_tokens_are_pythons(raw, mode, before):
    assert tokens_of_block(raw, mode, before) == oracle.tokens(raw, mode, SEPARATORS)


@given(oracle.TEXTS, MODES)
def test_arrays_with_room_to_spare_give_the_same_tokens(raw, mode):
    assert tokens_of_block(raw, mode, entries=len(raw) + 64) == oracle.tokens(raw, mode, SEPARATORS)


@pytest.mark.parametrize("mode", [WHITESPACE, WORD, IDENTIFIER, TABLE])
def test_every_byte_is_a_word_byte_or_separates_as_python_says(mode):
    for byte in range(256):
        raw = b"xy" + bytes([byte]) + b"zw"
        assert tokens_of_block(raw, mode) == oracle.tokens(raw, mode, SEPARATORS)
        separates = len(oracle.tokens(raw, mode, SEPARATORS)) == 2
        assert separator_table(mode, SEPARATORS)[byte] == separates or byte in b"xyzw"


@pytest.mark.parametrize("mode", [WHITESPACE, WORD, IDENTIFIER])
def test_tokens_are_whole_wherever_they_lie_across_the_edges_of_64_bytes(mode):
    for at in range(58, 70):
        for length in (1, 2, 5, 64, 65, 130):
            for first in (b"a", b"7"):
                raw = b"." * at + b" " + first * length + b" b"
                assert tokens_of_block(raw, mode) == oracle.tokens(raw, mode)


def test_a_run_of_digits_and_letters_is_no_identifier_in_any_of_its_parts():
    assert tokens_of_block(b"9abc a9 _9 9 x" + b"1" * 70 + b"a b" + b"c" * 80, IDENTIFIER) == [
        b"a9",
        b"_9",
        b"x" + b"1" * 70 + b"a",
        b"b" + b"c" * 80,
    ]


def test_a_token_longer_than_16_bits_can_say_keeps_its_length():
    sizes = [300] if JIT_DISABLED else [65_535, 65_536, 65_537, 3 << 20]
    for size in sizes:
        raw = b" " + b"t" * size + b" u"
        assert [len(t) for t in tokens_of_block(raw, WHITESPACE)] == [size, 1]


def tokens_of_rows(values, mode, room, before=0):
    """Drive `tokenize_rows` as the engine does: go on where it stopped, with more room when it came no further."""
    data, offsets, validity = oracle.string_column(values, before=before)
    validity = validity if None in values else oracle.NO_NULLS
    table, row, found = separator_table(mode, SEPARATORS), 0, []
    while row < len(values):
        counts = np.full(len(values) - row, -1, np.int32)
        starts, lengths = oracle.Guarded(room, np.int32), oracle.Guarded(room, np.int32)
        arguments = (data, offsets, validity, row, len(values), mode, table, counts, starts.array, lengths.array)
        done = tokenize_rows(*arguments)
        if done == row:
            assert tokens_max(int(offsets[row + 1] - offsets[row])) > room
            room *= 2
            continue
        bounds = np.cumsum([0, *counts[: done - row]])
        spans = [(s, n) for s, n in zip(starts.check().tolist(), lengths.check().tolist(), strict=True)]
        for k in range(done - row):
            found.append([data[s : s + n].tobytes() for s, n in spans[bounds[k] : bounds[k + 1]]])
        row = done
    return found


@given(st.lists(st.one_of(st.none(), oracle.TEXTS), max_size=12), MODES, st.integers(1, 200), st.integers(0, 9))
def test_a_columns_tokens_are_those_of_its_rows_however_small_the_output(values, mode, room, before):
    expected = [[] if v is None else oracle.tokens(v, mode, SEPARATORS) for v in values]
    assert tokens_of_rows(values, mode, room, before) == expected


@given(st.lists(oracle.KEYS, max_size=12), st.integers(0, 200))
def test_rows_without_slack_behind_them_are_left_to_the_caller(values, after):
    data, offsets, _ = oracle.string_column(values, after=after)
    many = int(offsets[-1]) + 64
    outputs = [np.empty(size, np.int32) for size in (len(values), many, many)]
    table = separator_table(WORD)
    done = tokenize_rows(data, offsets, oracle.NO_NULLS, 0, len(values), WORD, table, *outputs)
    assert done == rows_in_place(offsets, data.size)
    assert all(offsets[row + 1] + 64 <= data.size for row in range(done))
    assert done == len(values) or offsets[done + 1] + 64 > data.size
