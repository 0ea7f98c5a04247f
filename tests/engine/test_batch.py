"""Numpy views of Arrow arrays: offsets, missing buffers, bits, bytes under nulls, odd buffer lengths."""

import datetime as dt
import math
import mmap

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.engine import batch
from kernelmill.engine.errors import Code, KernelmillError

EXAMPLES = settings(max_examples=50)
WORD_TYPES = [
    (pa.bool_(), [True, False]),
    (pa.int8(), [-128, 0, 127]),
    (pa.int16(), [-(2**15), 1]),
    (pa.int32(), [-(2**31), 2**31 - 1]),
    (pa.int64(), [-(2**63), 2**63 - 1]),
    (pa.uint8(), [0, 255]),
    (pa.uint16(), [2**16 - 1]),
    (pa.uint32(), [2**32 - 1, 7]),
    (pa.uint64(), [2**64 - 1, 2**63]),
    (pa.float32(), [1.5, -math.inf]),
    (pa.float64(), [0.1, math.inf]),
    (pa.date32(), [dt.date(1969, 12, 31), dt.date(2024, 2, 29)]),
    (pa.timestamp("us"), [dt.datetime(1900, 1, 1), dt.datetime(2100, 1, 1)]),
    (pa.time64("us"), [dt.time(23, 59, 59)]),
    (pa.duration("s"), [dt.timedelta(days=-3)]),
]


def by_type(cases):
    return pytest.mark.parametrize(("dtype", "values"), cases, ids=[str(dtype) for dtype, _ in cases])


@EXAMPLES
@given(st.lists(st.booleans(), max_size=40), st.integers(0, 20), st.integers(0, 20))
def test_validity_is_a_byte_a_row_for_any_slice(valid, start, length):
    array = pa.array([1 if one else None for one in valid], pa.int32()).slice(start, length)
    found = batch.validity_bytes(array)
    expected = valid[start : start + length]
    assert found.tolist() == ([] if all(expected) else [int(one) for one in expected])


def test_the_null_type_is_null_throughout():
    assert batch.validity_bytes(pa.nulls(3)).tolist() == [0, 0, 0]


@by_type(WORD_TYPES)
def test_key_words_give_the_values_back(dtype, values):
    cells = [None, *values, None, *values] * 3
    array = pa.array(cells, dtype).slice(2)
    validity = batch.validity_bytes(array)
    back = batch.array_of_words(batch.key_words(array), validity, array.null_count, dtype)
    back.validate(full=True)
    assert back.equals(array)
    assert batch.is_word_like(dtype)


@by_type(WORD_TYPES)
def test_arrays_without_rows_or_nulls_have_no_special_case(dtype, values):
    assert batch.key_words(pa.array([], dtype)).size == 0
    plain = pa.array(values, dtype)
    assert batch.validity_bytes(plain).size == 0
    assert batch.array_of_words(batch.key_words(plain), np.empty(0, np.uint8), 0, dtype).equals(plain)


def test_integers_of_every_width_meet_in_one_word():
    words = [batch.key_words(pa.array([5], dtype))[0] for dtype in (pa.int8(), pa.int64(), pa.uint8(), pa.uint64())]
    assert len(set(words)) == 1
    assert batch.key_words(pa.array([-1], pa.int8()))[0] == 2**64 - 1


def test_zeros_are_one_key_and_nans_are_one_key():
    nans = np.array([0x7FF8000000000000, 0xFFF8000000000001, 0x7FF0000000000001], np.uint64).view(np.float64)
    words = batch.key_words(pa.array(np.concatenate([nans, [0.0, -0.0]])))
    assert len(set(words.tolist())) == 2
    narrow = np.array([0x7F800001, 0x80000000], np.uint32).view(np.float32)  # a signalling NaN warns nobody
    assert batch.key_words(pa.array(narrow)).tolist() == [0x7FF8000000000000, 0]


def test_a_buffer_may_end_anywhere_behind_the_values():
    array = pa.Array.from_buffers(pa.int64(), 1, [None, pa.py_buffer(b"\1" + b"\0" * 11)])
    assert batch.key_words(array).tolist() == [1]
    offsets = pa.py_buffer(np.array([0, 1], np.int32).tobytes() + b"?")
    text = pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(b"ab")])
    assert batch.strings_view(text)[1].tolist() == [0, 1]


STRING_TYPES = [pa.string(), pa.binary(), pa.large_string(), pa.large_binary()]


@pytest.mark.parametrize("dtype", STRING_TYPES, ids=str)
@EXAMPLES
@given(st.lists(st.none() | st.text(max_size=6), max_size=12), st.integers(0, 6))
def test_strings_are_seen_whole_through_any_slice(dtype, values, start):
    cells = [None if v is None else v if "string" in str(dtype) else v.encode() for v in values]
    array = pa.array(cells, dtype).slice(start)
    data, offsets = batch.strings_view(array)
    validity = batch.validity_bytes(array)
    assert offsets.dtype == np.int32
    found = [data[a:b].tobytes() for a, b in zip(offsets, offsets[1:], strict=False)]
    assert [f for f, v in zip(found, values[start:], strict=True) if v is not None] == [
        v.encode() for v in values[start:] if v is not None
    ]
    back = batch.array_of_strings(data, offsets, validity, array.null_count, dtype)
    back.validate(full=True)
    assert back.equals(array)


def test_more_than_2_gib_of_text_in_one_batch_is_a_memory_limit():
    offsets = pa.py_buffer(np.array([0, 1 << 31], np.int64))
    array = pa.Array.from_buffers(pa.large_string(), 1, [None, offsets, pa.py_buffer(mmap.mmap(-1, 1 << 31))])
    with pytest.raises(KernelmillError) as caught:
        batch.strings_view(array)
    assert caught.value.code is Code.MEMORY_LIMIT


@pytest.mark.parametrize(
    "dtype", [pa.decimal128(10), pa.list_(pa.int8()), pa.month_day_nano_interval(), pa.null(), pa.binary(8)], ids=str
)
def test_other_types_are_neither_words_nor_strings(dtype):
    assert not batch.is_word_like(dtype)
    assert not batch.is_string_like(dtype)


def test_a_slice_counts_its_own_bytes_only():
    whole = pa.record_batch({"n": np.arange(1000), "s": pa.array(["x" * 10] * 1000)})
    assert batch.batch_bytes(whole.slice(10, 10)) < 400
    assert batch.batch_bytes(whole.slice(10, 0)) == 0


def test_a_dictionary_is_decoded_where_plain_values_are_asked_for():
    array = pa.array(["a", None, "a"])
    assert batch.plain(array.dictionary_encode()).equals(array)
    assert batch.plain(array) is array
