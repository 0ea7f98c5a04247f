"""Pieces of shuffle blocks as bytes: there and back, a golden file, and no damage that goes unseen."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.shuffle import block

GOLDEN = Path(__file__).with_name("golden_block.bin")
SCHEMA = pa.schema([pa.field("word", pa.string()), pa.field("n", pa.uint32(), nullable=False), ("x", pa.float64())])


def batch_of(words):
    counts = pa.array(range(len(words)), pa.uint32())
    values = pa.array([None if i % 3 == 0 else i / 4 for i in range(len(words))], pa.float64())
    return pa.RecordBatch.from_arrays([pa.array(words, pa.string()), counts, values], schema=SCHEMA)


def small_batches():
    return [batch_of(["a", None, "", "é" * 20]), batch_of(["last"])]


def joined(chunks):
    return pa.py_buffer(b"".join(bytes(chunk) for chunk in chunks))


def decoded(data, schema=SCHEMA):
    return block.decode_piece(pa.py_buffer(data), schema, where="here")


def is_refused(data):
    with pytest.raises(KernelmillError) as caught:
        decoded(data)
    return caught.value.code is Code.CORRUPT_BLOCK and "here" in caught.value.where


@settings(max_examples=25)
@given(st.lists(st.lists(st.one_of(st.none(), st.text(max_size=12)), max_size=40), max_size=4))
def test_batches_come_back_as_they_were(lists):
    batches = [batch_of(words) for words in lists]
    found = decoded(joined(block.encode_piece(batches)))
    assert pa.Table.from_batches(found, SCHEMA) == pa.Table.from_batches(batches, SCHEMA)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([True, None, False] * 5),
        pa.array([1, None, 3] * 5, pa.int16()),
        pa.array([b"\0\xff", None, b""] * 5, pa.binary()),
        pa.array([[1, None], None, []] * 5, pa.list_(pa.int64())),
        pa.array([1, None, 2] * 5, pa.timestamp("us", "UTC")),
        pa.nulls(15),
    ],
    ids=lambda column: str(column.type),
)
def test_any_type_comes_back_from_slices_too(column):
    whole = pa.record_batch({"c": column})
    for start in (0, 1, 7, 9):
        part = whole.slice(start, 5)
        (back,) = block.decode_piece(joined(block.encode_piece([part])), whole.schema, where="")
        back.validate(full=True)
        assert back == part


def test_a_slice_is_encoded_without_its_parent():
    whole = pa.record_batch({"s": pa.array(["text" * 10] * 100_000), "n": np.arange(100_000)})
    size = joined(block.encode_piece([whole.slice(50_001, 10)])).size
    assert size < 2_000


def test_no_rows_have_no_bytes():
    assert block.encode_piece([]) == []
    assert block.encode_piece([batch_of([])]) == []
    assert decoded(b"") == []


def test_the_bytes_are_those_of_the_golden_file():
    """The format crosses processes and versions: a change of it is a new magic and a new golden file."""
    data = joined(block.encode_piece(small_batches())).to_pybytes()
    assert data == GOLDEN.read_bytes()
    assert pa.Table.from_batches(decoded(GOLDEN.read_bytes())) == pa.Table.from_batches(small_batches())


def test_a_piece_cut_anywhere_is_refused():
    data = GOLDEN.read_bytes()
    assert all(is_refused(data[:length]) for length in range(1, len(data)))
    assert is_refused(data + b"\0")


def test_a_bit_flipped_anywhere_is_refused():
    data = bytearray(GOLDEN.read_bytes())
    for at in range(len(data)):
        data[at] ^= 1 << at % 8
        assert is_refused(bytes(data)), f"byte {at}"
        data[at] ^= 1 << at % 8


def test_zeros_and_another_pieces_header_are_refused():
    data = GOLDEN.read_bytes()
    other = joined(block.encode_piece([batch_of(["x"])])).to_pybytes()
    assert is_refused(bytes(len(data)))
    assert is_refused(other[: block.HEAD_BYTES] + data[block.HEAD_BYTES :])


# The index -----------------------------------------------------------------------------------------------------------

BLOCKS = [
    [block.Place(0, 100, 3, 640), block.Place(7_000_000_100, 50, 1, 90)],
    [],
    [block.Place(100, 7_000_000_000, 9, 2**40)],
]


def test_an_index_comes_back_with_its_schema():
    data = block.encode_index(SCHEMA, BLOCKS)
    assert block.decode_index(data, where="") == (SCHEMA, BLOCKS)


def test_an_index_that_is_cut_or_has_a_bit_flipped_is_refused():
    data = block.encode_index(SCHEMA, BLOCKS)
    damaged = [data[:length] for length in range(len(data))]
    damaged += [data[:at] + bytes([data[at] ^ (1 << at % 8)]) + data[at + 1 :] for at in range(len(data))]
    for one in damaged:
        with pytest.raises(KernelmillError) as caught:
            block.decode_index(one, where="there")
        assert caught.value.code is Code.CORRUPT_BLOCK
