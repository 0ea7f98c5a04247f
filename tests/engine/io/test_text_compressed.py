import bz2
import gzip

import numpy as np
import pyarrow as pa
import pytest

from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.io.context import PlainContext
from kernelmill.engine.io.source import stamp
from kernelmill.engine.io.text import is_splittable, read_batches, read_blocks
from kernelmill.engine.plan.fileformats import TextOptions
from kernelmill.engine.splits import FileRange, TextSplit

TEXT = b"".join(b"line %d of a text that is long enough\n" % i for i in range(9000))
SUFFIXES = [".gz", ".zst", ".bz2", ".lz4"]


def compress(suffix, content):
    if suffix == ".gz":
        return gzip.compress(content)
    if suffix == ".bz2":
        return bz2.compress(content)
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, {".zst": "zstd", ".lz4": "lz4"}[suffix]) as out:
        out.write(content)
    return sink.getvalue().to_pybytes()


def whole(path):
    file = stamp(str(path))
    return TextSplit((FileRange(file, 0, file.size_bytes),))


def read(path, context=None, block_bytes=4096, **options):
    found = read_blocks(whole(path), TextOptions(**options), context or PlainContext(), block_bytes=block_bytes)
    return b"".join(block.data[block.start : block.stop].tobytes() for block in found)


def error_of(path, **options):
    with pytest.raises(KernelmillError) as caught:
        read(path, **options)
    return caught.value


@pytest.fixture(params=SUFFIXES)
def packed(request, tmp_path):
    """A path and a way to compress for it."""
    return tmp_path / f"t.txt{request.param}", lambda content: compress(request.param, content)


def test_text_comes_out_as_it_went_in_and_progress_counts_compressed_bytes(packed):
    path, pack = packed
    path.write_bytes(pack(TEXT))
    context = PlainContext()
    assert read(path, context) == TEXT
    assert context.bytes_done == path.stat().st_size
    assert not is_splittable(str(path), TextOptions())


def test_offsets_are_those_of_the_decompressed_text(packed):
    path, pack = packed
    path.write_bytes(pack(TEXT))
    for block in read_blocks(whole(path), TextOptions(), PlainContext(), block_bytes=4096):
        size = block.stop - block.start
        assert block.data[block.start : block.stop].tobytes() == TEXT[block.offset : block.offset + size]


def test_all_members_of_a_file_are_read(packed):
    path, pack = packed
    path.write_bytes(pack(TEXT) + pack(b"") + pack(b"no newline") + pack(b" yet\n"))
    assert read(path) == TEXT + b"no newline yet\n"


def test_a_member_of_no_bytes_is_an_empty_text(packed):
    path, pack = packed
    path.write_bytes(pack(b""))
    assert read(path) == b""


@pytest.mark.parametrize("zeros", [1, 100, 200_000])
def test_zeros_between_and_behind_the_members_of_a_gz_are_padding(tmp_path, zeros):
    path = tmp_path / "t.gz"
    path.write_bytes(gzip.compress(TEXT) + bytes(zeros) + gzip.compress(b"more\n") + bytes(zeros))
    assert read(path) == TEXT + b"more\n"
    path.write_bytes(bytes(zeros))
    assert error_of(path).code in (Code.FORMAT, Code.TRUNCATED)


def test_a_file_cut_anywhere_is_truncated_and_the_error_names_it(packed):
    path, pack = packed
    content = pack(b"some text, not much\n" * 9)
    for size in range(len(content)):
        path.write_bytes(content[:size])
        problem = error_of(path)
        assert problem.code is Code.TRUNCATED, size
        assert str(path) in problem.where
        assert "byte" in problem.where


def test_flipped_bits_and_trailing_garbage_are_corrupt(packed):
    path, pack = packed
    if path.suffix != ".lz4":  # whose checksum is optional, and not written by pyarrow
        content = bytearray(pack(TEXT))
        content[len(content) // 2] ^= 0x55
        path.write_bytes(content)
        assert error_of(path).code in (Code.FORMAT, Code.TRUNCATED)
    path.write_bytes(pack(TEXT) + b"what is this doing here")
    assert error_of(path).code is Code.FORMAT
    path.write_bytes(TEXT)
    assert error_of(path).code is Code.FORMAT


def test_bad_bytes_inside_are_named_by_line_and_set_aside(packed):
    path, pack = packed
    path.write_bytes(pack(TEXT + b"bad \xff\n" + TEXT))
    assert f"byte {len(TEXT) + 4:,}, line 9,001" in error_of(path).where
    context = PlainContext()
    assert read(path, context, invalid="skip") == TEXT + TEXT
    assert [(r.offset, r.line, r.record) for r in context.rejects] == [(len(TEXT), 9001, b"bad \xff")]


def test_lines_and_documents_come_from_compressed_files_too(packed):
    path, pack = packed
    path.write_bytes(pack(TEXT))
    schema = pa.schema([("line", pa.string())])
    lines = [r for b in read_batches(whole(path), TextOptions(), schema, PlainContext()) for r in b[0].to_pylist()]
    assert lines == TEXT.decode().splitlines()
    (one,) = read_batches(whole(path), TextOptions(whole_file=True), schema, PlainContext())
    assert one[0].to_pylist() == [TEXT.decode()]


def test_a_bomb_streams_in_blocks_of_bounded_size(tmp_path):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(bytes(64 << 20), 1))
    spaces = np.zeros(256, np.uint8)
    spaces[[0, 10, 32]] = 1
    context, total = PlainContext(), 0
    for block in read_blocks(whole(path), TextOptions(), context, is_separator=spaces):
        assert block.stop - block.start <= 4 << 20
        total += block.stop - block.start
    assert total == 64 << 20
    with pytest.raises(KernelmillError) as caught:
        list(read_batches(whole(path), TextOptions(max_line_bytes=1 << 20), pa.schema([("l", pa.string())]), context))
    assert caught.value.code is Code.RECORD_TOO_LONG


def test_a_part_of_a_compressed_file_is_refused(packed):
    path, pack = packed
    path.write_bytes(pack(TEXT))
    split = TextSplit((FileRange(stamp(str(path)), 0, 10),))
    with pytest.raises(KernelmillError) as caught:
        list(read_blocks(split, TextOptions(), PlainContext()))
    assert caught.value.code is Code.ENCODING
