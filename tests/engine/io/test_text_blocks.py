import codecs
import errno
import gzip
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.io.context import PlainContext
from kernelmill.engine.io.source import stamp
from kernelmill.engine.io.text import read_blocks
from kernelmill.engine.plan.fileformats import TextOptions
from kernelmill.engine.splits import FileRange, TextSplit

SPACES = np.zeros(256, np.uint8)
SPACES[list(b"\t\n\v\f\r ")] = 1
SMALL = [
    b"",
    b"\n",
    b"a",
    b"a\n",
    b"a\nb",
    b"one\n\ntwo three\n\n\nfour",
    b"a\r\nbb\r\n\r\nc\r",
    b"x" * 90 + b"\n" + b"y" * 9,
]


def whole(path):
    file = stamp(str(path))
    return TextSplit((FileRange(file, 0, file.size_bytes),))


def ranges(path, split_bytes):
    file = stamp(str(path))
    cuts = [*range(0, file.size_bytes, split_bytes), file.size_bytes]
    return [TextSplit((FileRange(file, a, b),)) for a, b in zip(cuts, cuts[1:], strict=False)]


def blocks(split, context=None, block_bytes=64, is_separator=None, **options):
    """(offset, bytes) of each block; what may be read past it is read, as a kernel would."""
    found = []
    for block in read_blocks(
        split, TextOptions(**options), context or PlainContext(), is_separator=is_separator, block_bytes=block_bytes
    ):
        assert block.data[block.start : block.stop + 64].size == block.stop - block.start + 64
        assert block.stop > block.start
        found.append((block.offset, block.data[block.start : block.stop].tobytes()))
    return found


def code_of(split, **options):
    with pytest.raises(KernelmillError) as caught:
        blocks(split, **options)
    return caught.value


@pytest.fixture
def file(tmp_path):
    def write(content, name="t.txt"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


def check_every_line_is_in_its_split(path, content, separator, split_bytes):
    starts, at = [], 0
    for line in content.split(separator):
        starts.append(at)
        at += len(line) + len(separator)
    for split in ranges(path, split_bytes):
        part = split.ranges[0]
        mine = [s for s in starts if part.start <= s < part.stop]
        later = [s for s in starts if s >= part.stop]
        expected = content[mine[0] : later[0] if later else len(content)] if mine else b""
        assert b"".join(text for _, text in blocks(split, separator=separator)) == expected


@pytest.mark.parametrize("content", SMALL)
@pytest.mark.parametrize("separator", [b"\n", b"a", b"\n\n", b"\r\n", b"xx"])
def test_splits_of_every_size_hold_each_line_whole_and_once(file, content, separator):
    path = file(content)
    for split_bytes in range(1, 41):
        check_every_line_is_in_its_split(path, content, separator, split_bytes)


RUNS = st.lists(st.sampled_from([b"\n", b"\n\n", b"a", b"ab", b"aba", b"\n\n\n", b"x" * 70]), max_size=30).map(b"".join)


@given(RUNS, st.sampled_from([b"\n\n", b"aba", b"\n\n\n"]), st.integers(1, 90))
@settings(max_examples=60)
def test_separators_that_overlap_themselves_cut_as_pythons_split(tmp_path_factory, content, separator, split_bytes):
    path = tmp_path_factory.getbasetemp() / "overlapping"
    path.write_bytes(content)
    check_every_line_is_in_its_split(path, content, separator, split_bytes)


def test_blocks_end_at_lines_and_say_where_they_lie(file):
    content = b"".join(b"line %d of many\n" % i for i in range(100))
    found = blocks(whole(file(content)), block_bytes=100)
    assert len(found) > 10
    assert all(text.endswith(b"\n") for _, text in found)
    assert all(content[offset : offset + len(text)] == text for offset, text in found)
    assert b"".join(t for _, t in found) == content


def test_with_token_separators_a_long_line_streams_and_words_stay_whole(file):
    content = b" ".join(b"w%d" % i for i in range(2000)) + b"\n"
    found = blocks(whole(file(content)), is_separator=SPACES, block_bytes=128)
    assert all(len(text) <= 128 for _, text in found)
    assert [w for _, t in found for w in t.split()] == content.split()


@pytest.mark.parametrize("size", [70_000, 5 << 20])
def test_a_huge_word_makes_the_buffer_grow_and_the_next_blocks_are_small_again(file, size):
    content = b"a " * 1000 + b"w" * size + b" " + b"b " * 100_000
    found = blocks(whole(file(content)), is_separator=SPACES, block_bytes=1 << 16)
    assert [w for _, t in found for w in t.split()] == content.split()
    assert len(found[-2][1]) <= 1 << 16


def test_a_line_of_300_mb_streams_in_blocks_of_ordinary_size(tmp_path):
    path = tmp_path / "huge"
    with open(path, "wb") as out:
        out.write(b"first\nsecond ")
        out.truncate(300 << 20)  # NULs, which are word bytes; sparse, so quickly there
        for at in range(1 << 20, 300 << 20, 1 << 20):
            out.seek(at)
            out.write(b" ")
    context = PlainContext()
    file = stamp(str(path))
    total, largest = 0, 0
    for part in ((0, 100 << 20), (100 << 20, 200 << 20), (200 << 20, 300 << 20)):
        split = TextSplit((FileRange(file, *part),))
        mine = 0
        for block in read_blocks(split, TextOptions(), context, is_separator=SPACES):
            mine += block.stop - block.start
            largest = max(largest, block.stop - block.start)
        assert mine == (file.size_bytes if part[0] == 0 else 0)
        total += mine
    assert total == file.size_bytes
    assert largest <= 4 << 20


def test_a_byte_order_mark_at_the_files_start_is_dropped_and_elsewhere_kept(file):
    bom = b"\xef\xbb\xbf"
    content = bom + b"a\n" + bom + b"b\n"
    assert blocks(whole(file(content))) == [(3, b"a\n" + bom + b"b\n")]
    for split_bytes in range(1, 10):
        found = [t for s in ranges(file(content), split_bytes) for _, t in blocks(s)]
        assert b"".join(found) == content[3:]
    assert blocks(whole(file(bom))) == []


def test_small_files_of_one_split_come_in_order_and_progress_counts_them_all(file):
    stamps = [stamp(str(file(b"file %d\n" % i, f"{i}.txt"))) for i in range(5)]
    context = PlainContext()
    split = TextSplit(tuple(FileRange(s, 0, s.size_bytes) for s in stamps))
    assert [t for _, t in blocks(split, context)] == [b"file %d\n" % i for i in range(5)]
    assert context.bytes_done == split.size_bytes


def test_progress_never_falls_and_ends_at_the_splits_size(file):
    class Watching(PlainContext):
        def __init__(self):
            super().__init__()
            self.seen = []

        def progress(self, bytes_done):
            self.seen.append(bytes_done)

    for split in ranges(file(b"some words here\n" * 500), 3000):
        context = Watching()
        blocks(split, context)
        assert context.seen == sorted(context.seen)
        assert context.seen[-1] == split.size_bytes


def test_cancelling_stops_the_read_at_the_next_block(file):
    class Cancelled(Exception):
        pass

    class Cancelling(PlainContext):
        left = 3

        def check_cancelled(self):
            self.left -= 1
            if self.left < 0:
                raise Cancelled

    found = []
    with pytest.raises(Cancelled):
        for block in read_blocks(whole(file(b"a line\n" * 1000)), TextOptions(), Cancelling(), block_bytes=64):
            found.append(block)
    assert len(found) == 3


def test_a_block_may_be_changed_in_place_without_harm_to_the_next(file):
    content = b"Some Words Here\n" * 300
    seen = b""
    for block in read_blocks(whole(file(content)), TextOptions(), PlainContext(), block_bytes=100):
        seen += block.data[block.start : block.stop].tobytes()
        block.data[block.start : block.stop] = ord("?")
    assert seen == content


# Invalid UTF-8 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", [b"\xff", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\xf0\x9f\x98"])
def test_every_policy_agrees_with_python_wherever_the_bad_bytes_lie_around_block_edges(file, broken):
    for at in [0, 1, *range(55, 70)]:
        lines = [b"x" * 30, b"y" * max(0, at - 31) + broken, "é".encode() * 20, b"z"]
        content = b"\n".join(lines)
        split, bad_at = whole(file(content)), content.index(broken)
        context = PlainContext()
        replaced = b"".join(t for _, t in blocks(split, context, invalid="replace", is_separator=SPACES))
        assert replaced == content.decode(errors="replace").encode()
        assert context.counters == {"utf8_replaced": replaced.count("\ufffd".encode())}
        assert b"".join(t for _, t in blocks(split, invalid="binary", is_separator=SPACES)) == content
        kept = blocks(split, context, invalid="skip", is_separator=SPACES)
        assert b"".join(t for _, t in kept) == b"\n".join([lines[0], *lines[2:]])
        assert all(content[offset : offset + len(t)] == t for offset, t in kept)
        (reject,) = context.rejects
        assert (reject.offset, reject.line, reject.record, reject.code) == (31, 2, lines[1], "KM0204")
        problem = code_of(split, is_separator=SPACES)
        assert problem.code is Code.ENCODING
        assert f"byte {bad_at:,}, line 2" in problem.where
        assert str(file(content)) in problem.where


def test_skip_sets_aside_first_middle_last_and_neighbouring_lines(file):
    content = b"\xff1\ngood\n\xff2\n\xff3\nfine\n\xff4"
    context = PlainContext()
    assert blocks(whole(file(content)), context, invalid="skip") == [(3, b"good\n"), (14, b"fine\n")]
    assert [(r.line, r.record) for r in context.rejects] == [
        (1, b"\xff1"),
        (3, b"\xff2"),
        (4, b"\xff3"),
        (6, b"\xff4"),
    ]


def test_rejects_are_the_same_however_the_file_is_split(file):
    path = file(b"".join(b"line %d\n" % i if i % 7 else b"bad \xfe %d\n" % i for i in range(60)))
    one, many = PlainContext(), PlainContext()
    blocks(whole(path), one, invalid="skip")
    for split in ranges(path, 33):
        blocks(split, many, invalid="skip")
    assert one.rejects == many.rejects
    assert [r.line for r in one.rejects] == [i + 1 for i in range(60) if i % 7 == 0]


def test_a_huge_rejected_record_is_kept_in_part_and_says_so(file):
    context = PlainContext()
    blocks(whole(file(b"\xff" + b"x" * 100_000 + b"\nok\n")), context, invalid="skip")
    (reject,) = context.rejects
    assert len(reject.record) == 64 << 10
    assert "are kept" in reject.reason


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (b"caf\xe9 au lait\n", "cp1252"),
        ("text".encode("utf-16"), "'utf-16'"),
        ("text".encode("utf-32"), "'utf-32'"),
        (codecs.BOM_UTF32_BE + "text".encode("utf-32-be"), "'utf-32'"),
        (b"\x1f\x8b\x08\x00rest", ".gz"),
        (b"\0\1\xff\xfe\0", "binary"),
        (b"PAR1\x15\xff", "scan_parquet"),
        (b"\xfd7zXZ\0\xff", "decompress it first"),
    ],
)
def test_the_hint_says_what_the_file_probably_is(file, content, hint):
    assert hint in code_of(whole(file(content))).hint


# Files that are not as they were -------------------------------------------------------------------------------------


def test_a_file_that_vanished_or_changed_before_it_is_opened_is_a_typed_error(file):
    path = file(b"a\nb\n")
    split = whole(path)
    path.write_bytes(b"longer than before\n")
    assert code_of(split).code is Code.INPUT_CHANGED
    path.unlink()
    assert code_of(split).code is Code.INPUT_NOT_FOUND


def test_a_file_rewritten_at_equal_size_is_noticed_by_its_time(file):
    path = file(b"a\nb\n")
    split = whole(path)
    os.utime(path, ns=(1, 1))
    assert code_of(split).code is Code.INPUT_CHANGED


@pytest.mark.parametrize("size_after", [1000, 200_000])
def test_a_file_that_shrinks_or_grows_while_it_is_read_is_noticed(file, size_after):
    path = file(b"some words\n" * 10_000)
    reading = read_blocks(whole(path), TextOptions(), PlainContext(), block_bytes=4096)
    next(reading)
    os.truncate(path, size_after)
    with pytest.raises(KernelmillError) as caught:
        for _ in reading:
            pass
    assert caught.value.code is Code.INPUT_CHANGED


def test_a_file_replaced_by_a_pipe_is_an_error_and_not_a_hang(file):
    path = file(b"a\n")
    split = whole(path)
    path.unlink()
    os.mkfifo(path)
    assert code_of(split).code is Code.INPUT_CHANGED


@pytest.mark.parametrize(
    ("number", "code"),
    [(errno.EACCES, Code.INPUT_NOT_FOUND), (errno.EIO, Code.INPUT_NOT_FOUND), (errno.EMFILE, Code.FILE_LIMIT)],
)
def test_a_file_that_the_system_does_not_open_is_a_typed_error(file, monkeypatch, number, code):
    split = whole(file(b"a\n"))

    def refuse(*args, **kwargs):  # root may open everything, so the system's answer is made up
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("kernelmill.engine.io.bytestream.os.open", refuse)
    with pytest.raises(KernelmillError) as caught:
        next(read_blocks(split, TextOptions(), PlainContext()))
    monkeypatch.undo()
    assert caught.value.code is code
    assert "t.txt" in caught.value.where


def test_an_unreadable_part_is_a_typed_error(file, monkeypatch):
    split = whole(file(b"a\n"))

    def fail(*args):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("kernelmill.engine.io.bytestream.os.preadv", fail)
    assert code_of(split).code is Code.INPUT_NOT_FOUND


def test_names_in_capitals_are_compressed_too(file):
    path = file(gzip.compress(b"a\nb\n"), "T.GZ")
    assert blocks(whole(path)) == [(0, b"a\nb\n")]


@pytest.mark.parametrize("tail", [b"", b" end\n"])
def test_a_word_that_does_not_end_is_an_error_that_names_where_it_begins(file, tail):
    path = file(b"one\ntwo " + b"x" * (40 << 20) + tail)
    with pytest.raises(KernelmillError) as caught:
        for _ in read_blocks(whole(path), TextOptions(), PlainContext(), is_separator=SPACES):
            pass
    assert caught.value.code is Code.RECORD_TOO_LONG
    assert caught.value.where == f"{path}, byte 8, line 2"


@pytest.mark.parametrize("invalid", ["error", "skip", "replace", "binary"])
@pytest.mark.parametrize("size", [1000, 1001, 1030, 2000, 5000])
def test_the_longest_word_is_the_same_whatever_the_buffer_and_the_policy(file, monkeypatch, size, invalid):
    monkeypatch.setattr("kernelmill.engine.io.blocks.TOKEN_BYTES_MAX", 1000)
    path = file(b"one\ntwo " * 300 + b"x" * size + b" end\n")
    if size <= 1000:
        assert blocks(whole(path), block_bytes=256, is_separator=SPACES, invalid=invalid)
        return
    problem = code_of(whole(path), block_bytes=256, is_separator=SPACES, invalid=invalid)
    assert problem.code is Code.RECORD_TOO_LONG
    assert problem.where == f"{path}, byte 2,400, line 301"


@pytest.mark.parametrize("size", [1000, 1010, 1500, 5000])
def test_a_line_that_has_to_be_whole_to_be_skipped_is_bounded_by_max_line(file, size):
    path = file(b"short\n" * 100 + b"word " * (size // 5) + b"\nend\n")
    options = {"invalid": "skip", "max_line_bytes": 1000, "is_separator": SPACES, "block_bytes": 256}
    if size <= 1000:
        assert blocks(whole(path), **options)
        return
    problem = code_of(whole(path), **options)
    assert problem.code is Code.RECORD_TOO_LONG
    assert problem.where == f"{path}, byte 600, line 101"
    assert "more than 1,000 bytes, which is all that is allowed" in problem.what
    assert "invalid=" in problem.hint and "separator=" not in problem.hint  # words end whatever ends lines
