import json
from pathlib import Path

import numpy as np
import oracle
import pytest
import xxhash
from hypothesis import example, given
from hypothesis import strategies as st

from kernelmill.kernels._jit import JIT_DISABLED, i64, kernel, u8_in, u64
from kernelmill.kernels.hashing import (
    PARTITION_SEED,
    canonical_floats,
    first_seeds,
    hash_strings,
    hash_words,
    int_words,
    xxh64_bytes,
    xxh64_words,
)

WORDS, SEEDS = st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)
GOLDEN = json.loads(Path(__file__).with_name("golden_partition_hash.json").read_text())


@kernel(u64(u8_in, i64, i64, u64))
def hash_bytes(data, start, length, seed):
    return xxh64_bytes(data, start, length, seed)


@kernel(u64(u64, u64, u64, u64))
def hash_two_words(word0, word1, length, seed):
    return xxh64_words(word0, word1, length, seed)


@given(oracle.KEYS, SEEDS, st.integers(0, 9))
def test_bytes_hash_as_the_xxhash_package_has_it(raw, seed, before):
    data = oracle.padded(raw, before=before, after=0)
    assert int(hash_bytes(data, before, len(raw), np.uint64(seed))) == xxhash.xxh64_intdigest(raw, seed)


@pytest.mark.parametrize(
    "size", [*range(140), 1000] if JIT_DISABLED else [*range(140), 65_535, 65_536, 65_537, 3 << 20]
)
def test_every_length_hashes_as_the_xxhash_package_has_it(size):
    raw = bytes(i * 7 % 251 for i in range(size))
    assert int(hash_bytes(oracle.padded(raw, after=0), 0, size, PARTITION_SEED)) == oracle.xxh64(raw)


@given(st.binary(max_size=16), SEEDS)
@example(b"", 0)
@example(bytes(16), 2**64 - 1)
def test_up_to_sixteen_bytes_in_two_words_hash_as_the_xxhash_package_has_it(raw, seed):
    words = np.frombuffer(raw.ljust(16, b"\0"), np.uint64)
    hashed = hash_two_words(words[0], words[1], np.uint64(len(raw)), np.uint64(seed))
    assert int(hashed) == xxhash.xxh64_intdigest(raw, seed)


@pytest.mark.parametrize("size", range(17))
def test_every_length_in_two_words_hashes_as_the_xxhash_package_has_it(size):
    raw = bytes(255 - i * 7 for i in range(size))
    words = np.frombuffer(raw.ljust(16, b"\0"), np.uint64)
    assert int(hash_two_words(words[0], words[1], np.uint64(size), PARTITION_SEED)) == oracle.xxh64(raw)


@given(st.lists(st.tuples(st.one_of(st.none(), WORDS), SEEDS), max_size=20))
def test_words_hash_on_from_each_rows_seed(rows):
    values = np.array([v or 0 for v, _ in rows], np.uint64)
    validity = np.array([v is not None for v, _ in rows], np.uint8)
    hashes = oracle.Guarded(len(rows), np.uint64)
    hashes.array[:] = [s for _, s in rows]
    hash_words(values, validity if any(v is None for v, _ in rows) else oracle.NO_NULLS, hashes.array)
    expected = [oracle.contract_hash(None if v is None else v.to_bytes(8, "little"), s) for v, s in rows]
    assert hashes.check().tolist() == expected


@given(
    st.lists(st.tuples(st.one_of(st.none(), oracle.KEYS), SEEDS), max_size=20),
    st.integers(0, 9),
    st.sampled_from([0, 7, 8]),
)
def test_strings_hash_on_from_each_rows_seed(rows, before, after):
    data, offsets, validity = oracle.string_column([v for v, _ in rows], before=before, after=after)
    hashes = oracle.Guarded(len(rows), np.uint64)
    hashes.array[:] = [s for _, s in rows]
    hash_strings(data, offsets, validity if any(v is None for v, _ in rows) else oracle.NO_NULLS, hashes.array)
    assert hashes.check().tolist() == [oracle.contract_hash(v, s) for v, s in rows]


def test_a_column_of_all_lengths_hashes_as_the_xxhash_package_has_it():
    values = [bytes((7 * size + i) % 256 for i in range(size)) for size in range(100)]
    data, offsets, _ = oracle.string_column(values, after=0)
    hashes = first_seeds(len(values))
    hash_strings(data, offsets, oracle.NO_NULLS, hashes)
    assert hashes.tolist() == [oracle.xxh64(value) for value in values]


def test_a_null_is_neither_zero_nor_the_empty_string():
    hashes = first_seeds(2)
    hash_words(np.zeros(2, np.uint64), np.array([0, 1], np.uint8), hashes)
    texts = first_seeds(2)
    hash_strings(np.empty(0, np.uint8), np.zeros(3, np.int32), np.array([0, 1], np.uint8), texts)
    assert hashes[0] == texts[0]
    assert len({*hashes.tolist(), *texts.tolist()}) == 3


def test_integers_of_all_widths_meet_and_uint64_keeps_its_bits():
    for dtype in (np.int8, np.int16, np.int32, np.int64):
        assert int_words(np.array([-1, 7], dtype)).tolist() == [2**64 - 1, 7]
    for dtype in (np.uint8, np.uint16, np.uint32, np.uint64):
        assert int_words(np.array([7], dtype)).tolist() == [7]
    assert int_words(np.array([2**64 - 1], np.uint64)).tolist() == [2**64 - 1]
    assert int_words(np.array([True, False])).tolist() == [1, 0]
    assert int_words(np.arange(6, dtype=np.int64)[::2]).tolist() == [0, 2, 4]


def test_equal_floats_have_equal_words():
    odd_nan = np.array([0xFFF8000000000123, 0x7FF0000000000001], np.uint64).view(np.float64)
    assert canonical_floats(odd_nan).tolist() == [0x7FF8000000000000] * 2
    assert canonical_floats(np.array([-0.0, 0.0])).tolist() == [0, 0]
    assert canonical_floats(np.array([1.5], np.float32)).tolist() == canonical_floats(np.array([1.5])).tolist()
    given_values = np.array([-0.0, np.inf, -np.inf])
    assert canonical_floats(given_values).view(np.float64).tolist() == [0.0, np.inf, -np.inf]
    assert np.signbit(given_values[0])  # the input is not changed


@pytest.mark.parametrize("vector", GOLDEN["vectors"], ids=lambda vector: vector["name"])
def test_rows_hash_as_they_always_did(vector):
    columns = [(column["type"], column["values"]) for column in vector["columns"]]
    assert GOLDEN["version"] == 1
    assert [f"{h:016x}" for h in hash_columns(columns)] == vector["hashes"]


def hash_columns(columns):
    """The hashes of JSON columns by the kernels; floats are written as float.hex, bytes as hex."""
    hashes = first_seeds(len(columns[0][1]))
    for kind, values in columns:
        validity = np.array([v is not None for v in values], np.uint8)
        if kind in ("string", "binary"):
            raw = [v if v is None else v.encode() if kind == "string" else bytes.fromhex(v) for v in values]
            data, offsets, validity = oracle.string_column(raw)
            hash_strings(data, offsets, validity, hashes)
            continue
        if kind.startswith("float"):
            words = canonical_floats(np.array([float.fromhex(v or "0x0p+0") for v in values], kind))
        else:
            words = int_words(np.array([v or 0 for v in values], kind))
        hash_words(words, validity, hashes)
    return hashes.tolist()
