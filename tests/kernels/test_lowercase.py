import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelmill.kernels._jit import JIT_DISABLED
from kernelmill.kernels.lowercase import LOWER_TABLE_SIZE, lower_ascii, lower_utf8, lowered_bytes_max

TABLE = oracle.lower_table()
LETTERS = st.sampled_from(
    ["A", "z", "[", "@", "`", "{", "É", "Σ", "Ⱥ", "ⱥ", "\u212a", "\U00010400", "\U0001d400", "語", "\U0010ffff", "\x00"]
)
TEXTS = st.one_of(
    oracle.TEXTS,
    st.lists(LETTERS, max_size=120).map("".join).map(str.encode),
    st.builds(lambda n, c: b"A" * n + c.encode() + b"B" * 70, st.integers(0, 130), LETTERS),
)


def utf8_lowered(raw, before=0, after=0):
    out = oracle.Guarded(lowered_bytes_max(len(raw)), np.uint8)
    data = oracle.padded(raw, before=before, after=after)
    written = lower_utf8(data, before, before + len(raw), out.array, TABLE)
    return out.check()[:written].tobytes()


@given(TEXTS, st.integers(0, 9))
def test_ascii_is_lowered_in_place_and_the_first_other_byte_is_found(raw, before):
    data = np.frombuffer(b"XYZ" * 3 + raw + b"XYZ", np.uint8).copy()
    found = lower_ascii(data, 9, 9 + len(raw))
    assert data.tobytes() == b"XYZ" * 3 + raw.lower() + b"XYZ"
    assert found == next((9 + i for i, byte in enumerate(raw) if byte >= 0x80), -1)


@given(TEXTS, st.integers(0, 9))
def test_utf8_is_lowered_by_the_table(raw, before):
    assert utf8_lowered(raw, before) == oracle.lower(raw, TABLE)


def test_a_sequence_cut_off_by_the_end_is_copied():
    raw = "É".encode()
    assert utf8_lowered(raw[:1], after=0) == raw[:1]
    data = oracle.padded(raw + b"xx", after=0)  # the rest of it lies beyond `stop`
    out = np.empty(lowered_bytes_max(1), np.uint8)
    assert lower_utf8(data, 0, 1, out, TABLE) == 1 and out[0] == raw[0]


def test_text_that_grows_most_fits():
    raw = "Ⱥ".encode() * 400
    assert utf8_lowered(raw) == "ⱥ".encode() * 400


@pytest.mark.skipif(JIT_DISABLED, reason="the twin is too slow for it")
def test_every_code_point_is_lowered_as_the_table_says():
    points = [point for point in range(0x110000) if not 0xD800 <= point < 0xE000]
    raw = "".join(map(chr, points)).encode()
    expected = "".join(chr(TABLE[point]) if point < LOWER_TABLE_SIZE else chr(point) for point in points)
    assert utf8_lowered(raw) == expected.encode()
