"""Slow and plainly right: what each kernel must agree with, in Python's own dicts, sorts and byte strings."""

import re

import numpy as np
import xxhash
from hypothesis import strategies as st

from kernelmill.kernels import tokenize
from kernelmill.kernels.hashing import PARTITION_SEED
from kernelmill.kernels.lowercase import LOWER_TABLE_SIZE

GUARD = 8
EDGE_LENGTHS = (0, 1, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 63, 64, 65)
NO_NULLS = np.empty(0, np.uint8)


class Guarded:
    """An output array amid guard entries, which `check` finds untouched."""

    def __init__(self, size, dtype, fill=0x5A):
        self._whole = np.full(size + 2 * GUARD, fill, dtype)
        self._before = self._whole.copy()
        self.array = self._whole[GUARD : GUARD + size]

    def check(self):
        """The array, once nothing around it has changed."""
        assert np.array_equal(self._whole[:GUARD], self._before[:GUARD])
        assert np.array_equal(self._whole[-GUARD:], self._before[-GUARD:])
        return self.array


# Strings -------------------------------------------------------------------------------------------------------------

TOKEN_BYTES = st.sampled_from([b"a", b"Z", b"_", b"0", b"9", b" ", b"\n", b"\x00", b"\x1c", b"\xc3\xa9", b"\xff", b","])
TEXTS = st.one_of(
    st.binary(max_size=200),
    st.lists(TOKEN_BYTES, max_size=200).map(b"".join),
    st.builds(
        lambda word, gap, n: (b"w" * word + b" " * gap) * n, *[st.sampled_from(EDGE_LENGTHS)] * 2, st.integers(0, 4)
    ),
    st.builds(lambda gap, word: b" " * gap + b"7" * word, *[st.integers(0, 140)] * 2),
)
KEYS = st.one_of(
    st.binary(max_size=70),
    st.sampled_from(EDGE_LENGTHS).map(lambda n: b"k" * n),
    st.sampled_from(EDGE_LENGTHS).map(lambda n: b"k" * n + b"\x00"),
)


def padded(raw, *, before=0, after=64):
    """The bytes as u8 amid bytes that belong to tokens, which a read that is not masked would take in."""
    return np.frombuffer(b"x" * before + raw + b"9" * after, np.uint8)


def string_column(values, *, before=0, after=64):
    """(data u8, offsets i32, validity u8) of bytes and Nones; a null's bytes are garbage, as Arrow allows."""
    pieces = [b"gar bage" if value is None else value for value in values]
    offsets = np.cumsum([before, *map(len, pieces)], dtype=np.int32)
    validity = np.array([value is not None for value in values], np.uint8)
    return padded(b"".join(pieces), before=before, after=after), offsets, validity


def tokens(raw, mode, separators=b""):
    """The tokens as bytes."""
    if mode == tokenize.WHITESPACE:
        return raw.split()
    if mode == tokenize.TABLE:
        return [t for t in re.split(b"[" + re.escape(separators) + b"]", raw) if t] if separators else [raw] * bool(raw)
    words = re.findall(rb"[A-Za-z0-9_\x80-\xff]+", raw)
    return [w for w in words if mode == tokenize.WORD or not w[:1].isdigit()]


# Hashes --------------------------------------------------------------------------------------------------------------


def xxh64(raw):
    """The reference package's answer, under the partition seed."""
    return xxhash.xxh64_intdigest(raw, int(PARTITION_SEED))


def contract_hash(raw, seed):
    """One column's hash of a value's bytes, None for null."""
    return xxhash.xxh64_intdigest(b"", seed ^ (2**64 - 1)) if raw is None else xxhash.xxh64_intdigest(raw, seed)


# Rows -----------------------------------------------------------------------------------------------------------------


def order_by(parts):
    """The rows in the order of their parts; Python's sort is stable."""
    return sorted(range(len(parts)), key=lambda row: parts[row])


def sorted_rows(columns):
    """The rows by (values, descending, nulls_last) columns, None for null, the first column first."""
    order = list(range(len(columns[0][0])))
    for values, descending, nulls_last in reversed(columns):
        nulls = [row for row in order if values[row] is None]
        order = sorted((r for r in order if values[r] is not None), key=lambda r: _rank(values[r]), reverse=descending)
        order = order + nulls if nulls_last else nulls + order
    return order


def _rank(value):
    return (value != value, value if value == value else 0)  # NaN, the only value unlike itself, is greatest


# Text -----------------------------------------------------------------------------------------------------------------


def lower_table():
    """Code point -> lower code point, as Python has it where that is one code point."""
    lowered = (chr(point).lower() for point in range(LOWER_TABLE_SIZE))
    return np.array([ord(c) if len(c) == 1 else point for point, c in enumerate(lowered)], np.uint32)


def lower(raw, table):
    """UTF-8 in lower case by the table, code point by code point; what is no UTF-8 stays as it is."""
    text = raw.decode("utf-8", "surrogateescape")
    lowered = (chr(table[ord(c)]) if ord(c) < table.size and not 0xDC80 <= ord(c) <= 0xDCFF else c for c in text)
    return "".join(lowered).encode("utf-8", "surrogateescape")
