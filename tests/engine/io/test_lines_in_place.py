"""Lines that stay where they were read are those that are copied into batches, and come from the same places."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.io import lines as reading
from kernelmill.engine.io.context import PlainContext
from kernelmill.engine.io.linesinplace import PLACE, LinesInPlace
from kernelmill.engine.io.source import stamp
from kernelmill.engine.io.text import read_batches
from kernelmill.engine.plan.fileformats import TextOptions
from kernelmill.engine.splits import split_text_files

LINE = pa.schema([pa.field("line", pa.string(), nullable=False)])
PIECES = st.sampled_from(
    [b"\n", b"\r\n", b"\r", b"\n\n", b"a", b"b c", b"d" * 70, "é".encode(), "日本".encode(), b"\0"]
)
BAD = st.sampled_from([b"\xff", b"\xc3", b"\xed\xa0\x80"])


@pytest.fixture(scope="module", autouse=True)
def small_blocks():
    """Blocks of a hundred bytes, few rows a batch (in place ten), and even the smallest stays in place."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reading, "BATCH_BYTES", 100)
        patch.setattr(reading, "IN_PLACE_BYTES", 100)
        patch.setattr(reading, "BATCH_ROWS", 5)
        patch.setattr(reading, "_JOIN_BELOW_BYTES", 1)
        yield


def read(path, *, in_place, split_bytes=1 << 20, schema=LINE, **options):
    """Lines, where each comes from, rejects, and how many batches stayed in place."""
    rows, places, rejects, stayed = [], [], [], 0
    for split in split_text_files([stamp(str(path))], split_bytes, splittable=["encoding" not in options]):
        context = PlainContext()
        for batch in read_batches(split, TextOptions(**options), schema, context, in_place=in_place):
            if isinstance(batch, LinesInPlace):
                stayed += 1
                data, starts, ends, validity, is_told = batch.arguments
                assert is_told and not validity.size and data.size >= int(ends.max()) + 64
                found = [data[a:b].tobytes() for a, b in zip(starts & PLACE, ends, strict=True)]
                assert [line.isascii() for line in found] == (starts >= 0).tolist()
                batch = batch.batch()
                assert [line.encode() for line in batch.column(0).to_pylist()] == found
            batch.validate(full=True)
            assert batch.schema == schema
            places += [(context.place(n).file, context.place(n).offset) for n in range(batch.num_rows)]
            rows += batch.column(0).to_pylist()
        rejects += [(one.offset, one.record) for one in context.rejects]
    return (rows, places, rejects), stayed


@settings(max_examples=60, deadline=None)
@given(pieces=st.lists(PIECES, max_size=60), split_bytes=st.sampled_from([7, 64, 1000]))
def test_lines_are_the_same_in_place_and_copied(tmp_path_factory, pieces, split_bytes):
    path = tmp_path_factory.mktemp("t") / "t.txt"
    path.write_bytes(b"".join(pieces))
    found, stayed = read(path, in_place=True, split_bytes=split_bytes)
    assert stayed or not found[0]
    assert found == read(path, in_place=False, split_bytes=split_bytes)[0]


@settings(max_examples=40, deadline=None)
@given(
    pieces=st.lists(st.one_of(PIECES, PIECES, PIECES, BAD), max_size=80), invalid=st.sampled_from(["skip", "replace"])
)
def test_blocks_with_bytes_that_are_no_text_are_copied_and_mended(tmp_path_factory, pieces, invalid):
    path = tmp_path_factory.mktemp("t") / "t.txt"
    path.write_bytes(b"".join(pieces))
    found, _ = read(path, in_place=True, invalid=invalid)
    assert found == read(path, in_place=False, invalid=invalid)[0]


def test_bytes_that_are_no_text_are_the_same_error(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes(b"good line\n" * 40 + b"bad \xff line\n")
    with pytest.raises(KernelmillError) as caught:
        read(path, in_place=True)
    assert (caught.value.code, caught.value.where) == (Code.ENCODING, f"{path}, byte 404, line 41")


def test_bytes_that_are_no_text_are_found_wherever_they_lie_in_a_block(tmp_path):
    path, good = tmp_path / "t.txt", b"".join(b"line %d\n" % number for number in range(12))
    for at in range(len(good)):
        path.write_bytes(good[:at] + b"\xff" + good[at + 1 :])
        with pytest.raises(KernelmillError) as caught:
            read(path, in_place=True)
        assert (caught.value.code, caught.value.where.split(",")[1]) == (Code.ENCODING, f" byte {at}")


@pytest.mark.parametrize(("text", "looks"), [("plain\n" * 4, 0), ("plain\n" * 3 + "é", 1), ("plain\n" * 11, 1)])
def test_text_is_looked_at_once_where_its_lines_are_ascii_and_make_one_batch(tmp_path, monkeypatch, text, looks):
    path, find, looked = tmp_path / "t.txt", reading.FileReader.find_invalid, []
    path.write_text(text)
    look = staticmethod(lambda *where: looked.append(where) or find(*where))
    monkeypatch.setattr(reading.FileReader, "find_invalid", look)
    (rows, _, _), stayed = read(path, in_place=True)
    assert rows == text.splitlines() and stayed and len(looked) == looks


def test_places_count_characters_where_the_file_has_one_byte_each(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes("é\nèè\nabc\n".encode("latin-1") * 30)
    found, _ = read(path, in_place=True, encoding="latin-1")
    assert found == read(path, in_place=False, encoding="latin-1")[0]
    assert [offset for _, offset in found[1]][:4] == [0, 2, 5, 9]


@pytest.mark.parametrize(
    ("schema", "options"),
    [
        (pa.schema([pa.field("line", pa.large_string())]), {}),
        (pa.schema([pa.field("line", pa.binary())]), {"invalid": "binary"}),
        (LINE, {"separator": b"|"}),
        (LINE, {"whole_file": True}),
        (LINE, {"path_column": "line"}),
        (pa.schema([LINE.field(0), pa.field("at", pa.int64())]), {"offset_column": "at"}),
    ],
)
def test_rows_that_are_more_or_other_than_lines_are_copied(tmp_path, schema, options):
    path = tmp_path / "t.txt"
    path.write_bytes(b"some line|or other\n" * 30)
    found, stayed = read(path, in_place=True, schema=schema, **options)
    assert found[0] and not stayed


def test_a_line_over_the_limit_is_the_same_error(tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes(b"short\n" * 3 + b"x" * 50 + b"\n" + b"short\n" * 30)
    with pytest.raises(KernelmillError) as caught:
        read(path, in_place=True, max_line_bytes=40)
    assert (caught.value.code, caught.value.where) == (Code.RECORD_TOO_LONG, f"{path}, byte 18, line 4")


def test_a_slice_holds_its_rows_after_the_block_is_gone():
    data = np.frombuffer(b"ab\ncd\r\n\nxyz\n" + bytes(64), np.uint8).copy()
    starts, ends = np.array([0, 3, 7, 8], np.int32), np.array([2, 5, 7, 11], np.int32)
    lines = LinesInPlace(LINE, data, starts, ends)
    middle, nothing = lines.slice(1, 3), lines.slice(2, 0)
    data[:] = 0
    assert (middle.column(0).to_pylist(), nothing.num_rows) == (["cd", "", "xyz"], 0)
