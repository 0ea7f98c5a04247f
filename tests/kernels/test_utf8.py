import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelmill.kernels.utf8 import find_invalid_utf8, repair_utf8, transcode_bytes

CHARACTERS = [
    "\0",
    "a",
    "\x7f",
    "\x80",
    "é",
    "\u07ff",
    "\u0800",
    "日",
    "\ud7ff",
    "\ue000",
    "\uffff",
    "\U00010000",
    "\U0010ffff",
]
BROKEN = [
    b"\x80",
    b"\xbf",
    b"\xc0\xaf",
    b"\xc1\xbf",
    b"\xc3",
    b"\xe0\x80\x80",
    b"\xe0\x9f\xbf",
    b"\xed\xa0\x80",
    b"\xe2\x82",
]
BROKEN += [b"\xf0\x80\x80\x80", b"\xf0\x8f\xbf\xbf", b"\xf0\x9f\x98", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xff"]
PIECES = st.one_of(
    st.sampled_from([c.encode() for c in CHARACTERS]),
    st.sampled_from([b"a" * n for n in (1, 31, 60, 63, 64, 65, 128)]),
)
DIRTY = st.lists(st.one_of(PIECES, st.sampled_from(BROKEN), st.binary(max_size=3)), max_size=24).map(b"".join)
CLEAN = st.lists(PIECES, max_size=24).map(b"".join)


def first_bad(raw):
    """The slow twin: where Python's own decoder stops."""
    try:
        raw.decode()
    except UnicodeDecodeError as problem:
        return problem.start
    return -1


def find(raw, before=0, slack=0x80):
    """Around the text lie continuation bytes, which must not be taken for a part of it."""
    data = np.frombuffer(bytes([slack]) * before + raw + bytes([slack]) * 64, np.uint8)
    found = int(find_invalid_utf8(data, before, before + len(raw)))
    return found if found < 0 else found - before


def repair(raw, before=0):
    data = np.frombuffer(b"\x80" * before + raw + b"\x80" * 64, np.uint8)
    out, replaced = oracle.Guarded(3 * len(raw) + 64, np.uint8), np.zeros(1, np.int64)
    size = repair_utf8(data, before, before + len(raw), out.array, replaced)
    return out.check()[:size].tobytes(), int(replaced[0])


@given(DIRTY, st.integers(0, 66))
def test_the_first_bad_sequence_is_where_pythons_decoder_stops(raw, before):
    assert find(raw, before) == first_bad(raw)


@given(CLEAN, st.integers(0, 9))
def test_valid_text_has_no_bad_sequence(raw, before):
    assert find(raw, before) == -1


@given(CLEAN, st.integers(1, 3))
def test_a_character_cut_off_by_the_end_is_bad(raw, cut):
    short = raw[:-cut]
    assert find(short) == first_bad(short)


@pytest.mark.parametrize("broken", BROKEN)
def test_a_bad_sequence_is_found_at_every_place_around_the_edges_of_64_bytes(broken):
    for at in [0, 1, 2, 3, *range(58, 70), 126, 127, 128]:
        for filler in (b"x" * at, ("é" * at).encode()[:at] if at % 2 == 0 else b"x" + ("é" * at).encode()[: at - 1]):
            for tail in (b"", b"x", b"y" * 130):
                assert find(filler + broken + tail) == first_bad(filler + broken + tail)


@pytest.mark.parametrize("character", CHARACTERS)
def test_a_valid_character_is_valid_at_every_place_around_the_edges_of_64_bytes(character):
    for at in range(56, 70):
        raw = b"x" * at + character.encode() + b"y" * 70
        assert find(raw) == -1
        assert find(raw[: at + len(character.encode())], slack=0xBF) == -1


def test_every_pair_of_bytes_is_judged_as_python_judges_it():
    for first in [*range(0xC0, 0xC4), 0xDF, *range(0xE0, 0xF8), 0xFF]:
        for second in (0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF):
            for rest in (b"", b"\x80", b"\x80\x80"):
                raw = bytes([first, second]) + rest
                assert find(raw) == first_bad(raw), raw


@given(DIRTY, st.integers(0, 3))
def test_repaired_text_is_what_python_decodes_with_replace(raw, before):
    fixed, replaced = repair(raw, before)
    assert fixed == raw.decode(errors="replace").encode()
    assert replaced == fixed.count("\ufffd".encode()) - raw.count("\ufffd".encode())


def test_nothing_but_bad_bytes_grows_threefold_and_no_further():
    assert repair(b"\xff" * 200) == ("\ufffd".encode() * 200, 200)


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "koi8-r", "cp037"])
def test_transcoding_agrees_with_the_codec(encoding):
    utf8 = [bytes([byte]).decode(encoding, "replace").encode() for byte in range(256)]
    table = np.array([len(t) << 24 | int.from_bytes(t, "little") for t in utf8], np.uint32)
    for raw in (b"", b"plain", b"a" * 200, bytes(range(256)), b"x" * 63 + b"\xe9" + b"y" * 70):
        data = np.frombuffer(raw + bytes(64), np.uint8)
        out = oracle.Guarded(5 + 3 * len(raw) + 64, np.uint8)
        end = transcode_bytes(data, 0, len(raw), table, out.array, 5)
        assert out.check()[5:end].tobytes() == raw.decode(encoding, "replace").encode()
