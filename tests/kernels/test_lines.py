import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelmill.kernels.lines import BEYOND_ASCII, count_characters_before, find_lines, split_lines, split_records

PIECES = st.sampled_from(
    [b"\n", b"\r\n", b"\r", b"\n\n", b"a", b"", b"b" * 7, b"c" * 63, b"d" * 64, b"e" * 65, b"\0", b"\xff"]
)
TEXTS = st.lists(PIECES, max_size=40).map(b"".join)


def pythons_lines(raw, separator=b"\n", drop_cr=True):
    """The slow twin: split, and forget what follows a last separator if it is nothing."""
    parts = raw.split(separator)
    ends = [p.removesuffix(b"\r") if drop_cr else p for p in parts[:-1]]
    return ends + ([parts[-1]] if parts[-1] else [])


def cut(raw, rows_max, before=0, separator=None):
    """All lines and where each begins, through calls that make `rows_max` rows at most."""
    data = np.frombuffer(b"\n" * before + raw + b"\n" * 64, np.uint8)
    stop, at = before + len(raw), before
    lines, starts = [], []
    while at < stop:
        out = oracle.Guarded(stop - at + 64, np.uint8)
        ends, begins = oracle.Guarded(rows_max, np.int32), oracle.Guarded(rows_max, np.int64)
        where = np.zeros(1, np.int64)
        if separator is None:
            n = split_lines(data, at, stop, out.array, ends.array, begins.array, where)
        else:
            marks = np.frombuffer(separator, np.uint8)
            n = split_records(data, at, stop, marks, out.array, ends.array, begins.array, where)
        assert 0 < n <= rows_max and at < where[0] <= stop
        text, bounds = out.check().tobytes(), [0, *ends.check()[:n].tolist()]
        lines += [text[a:b] for a, b in zip(bounds, bounds[1:], strict=False)]
        starts += [int(s) - before for s in begins.check()[:n]]
        at = int(where[0])
    return lines, starts


def pythons_starts(raw, separator=b"\n"):
    starts, at = [], 0
    for part in raw.split(separator):
        starts.append(at)
        at += len(part) + len(separator)
    return [s for s in starts if s < len(raw)]


@given(TEXTS, st.sampled_from([1, 2, 3, 100]), st.integers(0, 3))
def test_lines_and_where_they_begin_are_pythons(raw, rows_max, before):
    assert cut(raw, rows_max, before) == (pythons_lines(raw), pythons_starts(raw))


@given(TEXTS, st.sampled_from([1, 2, 3, 100]), st.integers(0, 3))
def test_lines_are_found_in_place_where_they_would_be_cut(raw, rows_max, before):
    data = np.frombuffer(b"\n" * before + raw + b"\xff\n" * 32, np.uint8)
    stop, at, lines, starts = before + len(raw), before, [], []
    while at < stop:
        begins, ends, found = (
            oracle.Guarded(rows_max, np.int32),
            oracle.Guarded(rows_max, np.int32),
            np.zeros(1, np.int64),
        )
        n = find_lines(data, at, stop, begins.array, ends.array, found)
        assert 0 < n <= rows_max and at < found[0] <= stop
        places = zip(begins.check()[:n].tolist(), ends.check()[:n].tolist(), strict=True)
        for told, end in places:
            begin = told if told >= 0 else told - BEYOND_ASCII
            assert (told >= 0) == data[at + begin : at + end].tobytes().isascii()
            lines.append(data[at + begin : at + end].tobytes())
            starts.append(at + begin - before)
        at = int(found[0])
    assert (lines, starts) == (pythons_lines(raw), pythons_starts(raw))


@given(st.lists(st.sampled_from([b"a", b"b", b"ab", b"\n", b"\r\n"]), max_size=40).map(b"".join))
def test_records_are_pythons_split_at_any_separator(raw):
    for separator in (b"a", b"ab", b"aa", b"\n\n", b"aba"):
        expected = pythons_lines(raw, separator, drop_cr=False), pythons_starts(raw, separator)
        assert cut(raw, 3, separator=separator) == expected


@pytest.mark.parametrize("ending", [b"\n", b"\r\n"])
def test_a_line_ending_is_seen_at_every_place_around_the_edges_of_64_bytes(ending):
    for size in (0, 1, 2, *range(60, 69), *range(124, 132)):
        raw = b"x" * size + ending + b"y" * 70 + ending + b"z"
        assert cut(raw, 100)[0] == [b"x" * size, b"y" * 70, b"z"]


def test_only_one_carriage_return_before_a_newline_goes():
    assert cut(b"a\r\r\n\r\nb\r", 10)[0] == [b"a\r", b"", b"b\r"]


def test_empty_text_has_no_lines():
    assert cut(b"", 5) == ([], [])


@given(st.text(max_size=60))
def test_characters_are_counted_up_to_each_place(text):
    data = np.frombuffer(text.encode() + bytes(64), np.uint8)
    places = np.cumsum([0] + [len(c.encode()) for c in text])
    counts = np.full(places.size, -1)
    assert count_characters_before(data, 0, places, places.size, counts) == len(text)
    assert counts.tolist() == list(range(len(text) + 1))
