"""Rows of several columns as one string: there and back, equal for equal rows only, and never a byte too far."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle import NO_NULLS, Guarded, string_column

from kernelmill.kernels import rowkeys
from kernelmill.kernels._jit import JIT_DISABLED

EXAMPLES = settings(max_examples=25 if JIT_DISABLED else 100)
WORDS = st.none() | st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 127, 128, 2**63, 2**64 - 1])
TEXTS = (
    st.none()
    | st.binary(max_size=20)
    | st.sampled_from([b"", b"\0", b"\0" * 8, b"\1\0\0\0\0", b"x" * 8, b"x" * 17, b"y" * 253, b"y" * 254, b"y" * 255])
)


@st.composite
def tables(draw, rows_max=12):
    kinds = draw(st.lists(st.sampled_from("ws"), min_size=1, max_size=4))
    rows = draw(st.integers(0, rows_max))
    values = {"w": WORDS, "s": TEXTS}
    return kinds, [draw(st.lists(values[kind], min_size=rows, max_size=rows)) for kind in kinds]


def encoded_bytes(kind, value):
    """The format as its module draws it."""
    if value is None:
        return b"\0"
    if kind == "w":
        signed = value - 2**64 if value >= 2**63 else value
        turned = 2 * signed if signed >= 0 else -2 * signed - 1
        size = -(-turned.bit_length() // 8)
        return bytes([1 + size]) + turned.to_bytes(size, "little")
    return (bytes([1 + len(value)]) if len(value) < 254 else b"\xff" + len(value).to_bytes(4, "little")) + value


def encode(kinds, columns):
    rows = len(columns[0])
    lengths = [sum(len(encoded_bytes(k, c[row])) for k, c in zip(kinds, columns, strict=True)) for row in range(rows)]
    offsets = np.cumsum([0, *lengths], dtype=np.int64)
    cursors = offsets[:-1].copy()
    measured = np.zeros(rows, np.int64)
    out = Guarded(int(offsets[-1]) + rowkeys.SLACK_BYTES, np.uint8)
    for kind, column in zip(kinds, columns, strict=True):
        validity = np.array([value is not None for value in column], np.uint8)
        if validity.all():
            validity = NO_NULLS
        if kind == "w":
            words = np.array([0x5A if value is None else value for value in column], np.uint64)
            rowkeys.measure_words(words, validity, measured)
            rowkeys.put_words(words, validity, cursors, out.array)
        else:
            data, starts, _ = string_column(column, before=3, after=0)
            rowkeys.measure_strings(starts, validity, measured)
            rowkeys.put_strings(data, starts, validity, cursors, out.array)
    assert cursors.tolist() == offsets[1:].tolist() and measured.tolist() == lengths
    return out.check(), offsets


def decode(kinds, data, offsets):
    cursors = offsets[:-1].copy()
    rows = cursors.size
    columns = []
    for kind in kinds:
        validity = np.full(rows, 7, np.uint8)
        if kind == "w":
            words = np.empty(rows, np.uint64)
            rowkeys.take_words(data, cursors, words, validity)
            columns.append([int(word) if valid else None for word, valid in zip(words, validity, strict=True)])
            continue
        lengths = np.empty(rows, np.int64)
        rowkeys.take_lengths(data, cursors, lengths, validity)
        own = np.zeros(rows + 1, np.int32)
        np.cumsum(lengths, out=own[1:])
        text = Guarded(int(own[-1]) + rowkeys.SLACK_BYTES, np.uint8)
        rowkeys.take_strings(data, cursors, own, validity, text.array)
        spans = zip(own, own[1:], validity, strict=False)
        columns.append([text.check()[a:b].tobytes() if valid else None for a, b, valid in spans])
    assert cursors.tolist() == offsets[1:].tolist()
    return columns


@EXAMPLES
@given(tables())
def test_rows_are_the_bytes_of_the_format_and_come_back(table):
    kinds, columns = table
    data, offsets = encode(kinds, columns)
    for row, (start, stop) in enumerate(zip(offsets, offsets[1:], strict=False)):
        expected = b"".join(encoded_bytes(kind, column[row]) for kind, column in zip(kinds, columns, strict=True))
        assert data[start:stop].tobytes() == expected
    assert decode(kinds, data, offsets) == columns


@EXAMPLES
@given(tables(rows_max=30))
def test_equal_rows_and_no_others_have_equal_bytes(table):
    kinds, columns = table
    data, offsets = encode(kinds, columns)
    keys = [data[a:b].tobytes() for a, b in zip(offsets, offsets[1:], strict=False)]
    rows = list(zip(*columns, strict=True))
    for one, key in zip(rows, keys, strict=True):
        for other, other_key in zip(rows, keys, strict=True):
            assert (one == other) == (key == other_key)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((b"", None), (None, b"")),
        ((b"a", b"b"), (b"ab", b"")),
        ((None, b"\1\0\0\0\0"), (b"", None)),
        ((b"\0", b""), (b"", b"\0")),
    ],
)
def test_rows_that_would_run_together_stay_apart(one, other):
    data, offsets = encode("ss", [[one[0], other[0]], [one[1], other[1]]])
    assert data[: offsets[1]].tobytes() != data[offsets[1] : offsets[2]].tobytes()
    assert decode("ss", data, offsets) == [[one[0], other[0]], [one[1], other[1]]]
