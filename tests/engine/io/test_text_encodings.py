import gzip

import pyarrow as pa
import pytest

from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.io.context import PlainContext
from kernelmill.engine.io.source import stamp
from kernelmill.engine.io.text import is_splittable, read_batches, read_blocks
from kernelmill.engine.plan.fileformats import TextOptions
from kernelmill.engine.splits import FileRange, TextSplit, split_text_files

SCHEMA = pa.schema([("line", pa.string()), ("at", pa.int64())])
LINES = ["café au lait", "", "naïve Überraschung", "plain", "é" * 80, "x" * 70 + "ü"]


def rows(path, split_bytes=1 << 20, context=None, **options):
    chosen = TextOptions(offset_column="at", **options)
    splits = split_text_files([stamp(str(path))], split_bytes, splittable=[is_splittable(str(path), chosen)])
    found = []
    for split in splits:
        for batch in read_batches(split, chosen, SCHEMA, context or PlainContext()):
            batch.validate(full=True)
            found += [(r["at"], r["line"]) for r in batch.to_pylist()]
    return found


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "iso8859-15", "cp037", "mac-roman"])
def test_single_byte_encodings_give_their_lines_and_file_offsets_at_any_split_size(tmp_path, encoding):
    path = tmp_path / "t"
    path.write_bytes("\n".join(LINES).encode(encoding))
    expected, at = [], 0
    for line in LINES:
        expected.append((at, line))
        at += len(line) + 1
    for split_bytes in (*range(1, 20), 64, 1000):
        assert rows(path, split_bytes, encoding=encoding) == expected


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "shift_jis", "gb18030"])
def test_multi_byte_encodings_are_decoded_whole(tmp_path, encoding):
    lines = ["日本語", "", "ascii", "語" * 600_000]
    path = tmp_path / "t"
    path.write_bytes("\n".join(lines).encode(encoding))
    assert not is_splittable(str(path), TextOptions(encoding=encoding))
    assert [line for _, line in rows(path, 16, encoding=encoding)] == lines
    split = TextSplit((FileRange(stamp(str(path)), 0, 4),))
    with pytest.raises(KernelmillError) as caught:
        list(read_blocks(split, TextOptions(encoding=encoding), PlainContext()))
    assert caught.value.code is Code.ENCODING


def test_a_byte_order_mark_of_utf_16_is_no_text(tmp_path):
    path = tmp_path / "t"
    path.write_bytes(b"\xff\xfe" + "a\nb".encode("utf-16-le"))
    for encoding in ("utf-16", "utf-16-le"):
        assert [line for _, line in rows(path, encoding=encoding)] == ["a", "b"]


@pytest.mark.parametrize(
    ("encoding", "content", "replaced"),
    [
        ("cp1252", b"ok\nb\x81d\nend", ["ok", "b\ufffdd", "end"]),
        ("ascii", b"ok\nb\xe9d\nend", ["ok", "b\ufffdd", "end"]),
        (
            "utf-16-le",
            "ok\nb".encode("utf-16-le") + b"\x00\xdc" + "d\nend".encode("utf-16-le"),
            ["ok", "b\ufffdd", "end"],
        ),
        ("shift_jis", b"ok\nb\xa0d\nend", ["ok", "b\ufffdd", "end"]),
    ],
)
def test_bytes_without_a_meaning_follow_the_policy_in_every_encoding(tmp_path, encoding, content, replaced):
    path = tmp_path / "t"
    path.write_bytes(content)
    context = PlainContext()
    assert [line for _, line in rows(path, context=context, encoding=encoding, invalid="replace")] == replaced
    assert context.counters == {"utf8_replaced": 1}
    assert [line for _, line in rows(path, context=context, encoding=encoding, invalid="skip")] == ["ok", "end"]
    assert [(r.line, r.offset) for r in context.rejects] == [(2, 3)]
    with pytest.raises(KernelmillError) as caught:
        rows(path, encoding=encoding)
    assert caught.value.code is Code.ENCODING
    assert "byte 4, line 2" in caught.value.where
    assert encoding in caught.value.what


def test_blocks_of_transcoded_text_say_where_they_lie_in_the_file(tmp_path):
    text = "é à ü x\n" * 200
    path = tmp_path / "t"
    path.write_bytes(text.encode("latin-1"))
    split = TextSplit((FileRange(stamp(str(path)), 0, len(text)),))
    for block in read_blocks(split, TextOptions(encoding="latin-1"), PlainContext(), block_bytes=100):
        got = block.data[block.start : block.stop].tobytes().decode()
        assert text[block.offset : block.offset + len(got)] == got
        assert block.offset_of(block.stop) == block.offset + len(got)


def test_a_compressed_file_may_be_in_any_encoding(tmp_path):
    for encoding in ("latin-1", "utf-16"):
        path = tmp_path / f"{encoding}.gz"
        path.write_bytes(gzip.compress("\n".join(LINES).encode(encoding)))
        assert [line for _, line in rows(path, encoding=encoding)] == LINES


def test_binary_takes_the_bytes_as_they_are_whatever_the_encoding(tmp_path):
    path = tmp_path / "t"
    path.write_bytes(b"caf\xe9\n\xff\xfe\n")
    schema = pa.schema([("line", pa.binary())])
    split = TextSplit((FileRange(stamp(str(path)), 0, 8),))
    (batch,) = read_batches(split, TextOptions(invalid="binary", encoding="latin-1"), schema, PlainContext())
    assert batch[0].to_pylist() == [b"caf\xe9", b"\xff\xfe"]


@pytest.mark.parametrize("name", ["t.txt", "t.gz"])
@pytest.mark.parametrize(
    ("encoding", "good", "bad", "bad_at"),
    [
        ("cp1252", "naïve Zeile", b"a\x81b\x8d", 1),
        ("ascii", "plain", b"caf\xe9", 3),
        ("shift_jis", "日本語", b"\x81\xff \xa0", 0),
        ("gb18030", "语", b"\x81\x30\x81 x\xff", 0),
        ("utf-16-le", "日本語", b"a\0\x00\xdcb\0", 2),
        ("utf-16", "日本語", b"a\0\x00\xdcb\0", 2),
        ("utf-32-le", "日本語", b"a\0\0\0\xff\xff\xff\xff", 4),
        ("iso2022_jp", "日本語", b"a\xffb", 1),
    ],
)
def test_records_that_are_no_text_are_shown_as_they_are_in_the_file(tmp_path, name, encoding, good, bad, bad_at):
    coded = {"utf-16": "utf-16-le"}.get(encoding, encoding)
    lines = (good + "\n").encode(coded) * 3000
    content = (b"\xff\xfe" if encoding == "utf-16" else b"") + 2 * (lines + bad + "\n".encode(coded)) + lines + bad
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    context = PlainContext()
    assert [line for _, line in rows(path, context=context, encoding=encoding, invalid="skip")] == [good] * 9000
    assert [(r.line, r.record) for r in context.rejects] == [(3001, bad), (6002, bad), (9003, bad)]
    assert {r.reason for r in context.rejects} == {f"invalid {encoding}"}
    in_blocks, options = PlainContext(), TextOptions(encoding=encoding, invalid="skip")
    assert list(read_blocks(TextSplit((FileRange(stamp(str(path)), 0, path.stat().st_size),)), options, in_blocks))
    assert in_blocks.rejects == context.rejects
    with pytest.raises(KernelmillError) as caught:
        rows(path, encoding=encoding)
    assert f"byte 0x{bad[bad_at]:02X} in" in caught.value.what
    assert f"encoding={encoding!r}" not in caught.value.hint


@pytest.mark.parametrize("name", ["t.txt", "t.gz"])
@pytest.mark.parametrize("size", [1, 3000, 1_200_000])
@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_text_without_the_byte_order_mark_it_needs_is_one_error_from_beginning_to_end(tmp_path, name, size, order):
    encoding = order[:6]
    content = ("naïve\n" * size)[: 2 * size].encode(order)
    path = tmp_path / name
    path.write_bytes(gzip.compress(content, 1) if path.suffix == ".gz" else content)
    with pytest.raises(KernelmillError) as caught:
        rows(path, encoding=encoding)
    assert caught.value.code is Code.ENCODING
    assert caught.value.where == f"{path}, byte 0, line 1"
    assert f"encoding={order!r} (or" in caught.value.hint
    context = PlainContext()
    assert rows(path, context=context, encoding=encoding, invalid="replace") == [(0, "\ufffd")]
    assert rows(path, context=context, encoding=encoding, invalid="skip") == []
    (reject,) = context.rejects
    assert (reject.offset, reject.line, reject.record) == (0, 1, content[: 64 << 10])
    assert ("are kept" in reject.reason) is (len(content) > 64 << 10)


@pytest.mark.parametrize("encoding", ["no-such", "rot13", "hex", "", "idna", "punycode"])
def test_an_unknown_encoding_is_a_bad_setting(tmp_path, encoding):
    path = tmp_path / "t"
    path.write_bytes(b"a\n")
    with pytest.raises(KernelmillError) as caught:
        rows(path, encoding=encoding)
    assert caught.value.code is Code.BAD_SETTING
