import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.io.context import PlainContext
from kernelmill.engine.io.source import stamp
from kernelmill.engine.io.text import read_batches
from kernelmill.engine.plan.fileformats import TextOptions
from kernelmill.engine.splits import FileRange, TextSplit, split_text_files

LINE = pa.schema([("line", pa.string())])


def split_of(*paths):
    return TextSplit(tuple(FileRange(s, 0, s.size_bytes) for s in map(stamp, map(str, paths))))


def batches(split, schema=LINE, context=None, **options):
    found = list(read_batches(split, TextOptions(**options), schema, context or PlainContext()))
    for batch in found:
        batch.validate(full=True)
        assert batch.schema == schema
        assert batch.num_rows > 0
    return found


def lines(split, schema=LINE, context=None, **options):
    return [line for batch in batches(split, schema, context, **options) for line in batch.column(0).to_pylist()]


def pythons_lines(content, separator=b"\n"):
    parts = content.split(separator)
    ends = [p.removesuffix(b"\r") if separator == b"\n" else p for p in parts[:-1]]
    return [p.decode() for p in ends + ([parts[-1]] if parts[-1] else [])]


@pytest.fixture
def file(tmp_path):
    def write(content, name="t.txt"):
        path = tmp_path / name
        path.write_bytes(content)
        return path

    return write


@pytest.mark.parametrize(
    "content", [b"", b"\n", b"a", b"a\n", b"a\r\nb\r\n\r\nc\r", b"\0\n\0\0", "é\n日本\n".encode() * 9]
)
def test_lines_are_pythons_at_every_split_size(file, content):
    path = file(content)
    expected = pythons_lines(content)
    for split_bytes in range(1, 41):
        splits = split_text_files([stamp(str(path))], split_bytes, splittable=[True])
        assert [line for split in splits for line in lines(split)] == expected


@given(st.lists(st.sampled_from(["a", "ab", "\n", "\r\n", "||", "|", "é", "§"]), max_size=40).map("".join))
@settings(max_examples=60)
def test_any_separator_cuts_as_pythons_split(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("s") / "t"
    path.write_bytes(text.encode())
    for separator in ("|", "||", "§", "ab", "\r\n", "aa"):
        mark = separator.encode()
        assert lines(split_of(path), separator=mark) == pythons_lines(text.encode(), mark)


def test_path_and_offset_columns_say_where_each_line_begins(file):
    content = b"\xef\xbb\xbfone\r\n\r\nthree"
    path = file(content)
    for path_type in (pa.string(), pa.dictionary(pa.int32(), pa.string()), pa.large_string()):
        schema = pa.schema([("at", pa.int64()), ("file", path_type), ("line", pa.string())])
        (batch,) = batches(split_of(path), schema, path_column="file", offset_column="at")
        assert batch.column(0).to_pylist() == [3, 8, 10]
        assert batch.column(1).to_pylist() == [str(path)] * 3
        assert batch.column(2).to_pylist() == ["one", "", "three"]


def test_columns_that_nobody_wants_are_not_made_but_rows_are_counted(file):
    split = split_of(file(b"a\nb\n", "1"), file(b"c\n", "2"))
    assert sum(b.num_rows for b in batches(split, pa.schema([]))) == 3
    only = batches(split, pa.schema([("p", pa.string())]), path_column="p")
    assert sum(b.num_rows for b in only) == 3


def test_batches_are_bounded_in_rows_and_bytes_and_small_files_share_one(file, tmp_path):
    many = batches(split_of(file(b"x\n" * 200_000)))
    assert max(b.num_rows for b in many) == 64 << 10
    long = batches(split_of(file((b"y" * 999 + b"\n") * 9000)))
    assert max(b.nbytes for b in long) <= 4 << 20
    assert sum(b.num_rows for b in long) == 9000
    small = [file(b"%d\n" % i, f"{i:03}") for i in range(100)]
    found = batches(split_of(*small))
    assert [batch.num_rows for batch in found] == [1, 99]  # the first for itself: it may be all that is wanted
    assert [line for batch in found for line in batch.column(0).to_pylist()] == [str(i) for i in range(100)]


@pytest.mark.parametrize(
    ("encoding", "separator"),
    [("utf-8", b"\n"), ("utf-8", "§".encode()), ("cp1252", b"\n"), ("cp1252", "§".encode()), ("utf-16-le", b"\n")],
)
@pytest.mark.parametrize("invalid", ["error", "replace", "skip"])
def test_every_row_of_every_batch_can_be_traced_to_its_file_and_offset(file, encoding, separator, invalid):
    end = "\r\n" if separator == b"\n" else separator.decode()
    bad = {"utf-8": b"b\xffd", "cp1252": b"b\x81d", "utf-16-le": b"\x00\xdc"}[encoding] if invalid != "error" else b""
    good = [f"naïve line {number}{end}" for number in range(70_000)]
    contents = [
        ("".join(good[:size]).encode(encoding) + bad + (end + end).encode(encoding)) for size in (3, 70_000, 1, 5)
    ]
    paths = [file(content, f"{number}.txt") for number, content in enumerate(contents)]
    schema = pa.schema([("line", pa.string()), ("at", pa.int64()), ("file", pa.string())])
    options = TextOptions(
        invalid=invalid, separator=separator, path_column="file", offset_column="at", encoding=encoding
    )
    context = PlainContext()
    for batch in read_batches(split_of(*paths), options, schema, context):
        expected = batch.select(["file", "at"]).to_pylist()
        for row in {0, 1, 2, 3, 4, batch.num_rows // 2, batch.num_rows - 1}:
            if row < batch.num_rows:
                place = context.place(row)
                assert {"file": place.file, "at": place.offset} == expected[row]
    assert context.place(0).count_line() is not None


def test_large_types_and_binary_are_made_as_the_schema_says(file):
    path = file(b"a\nb\n")
    assert lines(split_of(path), pa.schema([("line", pa.large_string())])) == ["a", "b"]
    assert lines(split_of(path), pa.schema([("line", pa.binary())]), invalid="binary") == [b"a", b"b"]


def test_a_line_longer_than_a_block_is_one_row(file):
    content = b"a\n" + b"long " * (1 << 20) + b"\nz"
    assert lines(split_of(file(content))) == pythons_lines(content)


def test_max_line_names_the_line_and_binds_at_any_size(file):
    for filler, size, maximum in ((b"ok\n" * 5, 11, 10), (b"ok\n" * 5, 5 << 20, 3 << 20), (b"x\n" * 1_100_000, 21, 20)):
        content = filler + b"y" * size + b"\nend\n"
        with pytest.raises(KernelmillError) as caught:
            lines(split_of(file(content)), max_line_bytes=maximum)
        assert caught.value.code is Code.RECORD_TOO_LONG
        assert f"byte {len(filler):,}, line {filler.count(10) + 1:,}" in caught.value.where
        assert "separator=" in caught.value.hint
        assert lines(split_of(file(content)), max_line_bytes=size) == pythons_lines(content)


def test_whole_files_are_one_row_each_with_nothing_dropped(file):
    contents = [b"a\r\nb\n", b"", b"no newline", b"x" * (5 << 20)]
    paths = [file(c, f"{i}.txt") for i, c in enumerate(contents)]
    schema = pa.schema([("line", pa.string()), ("p", pa.string()), ("o", pa.int64())])
    found = batches(split_of(*paths), schema, whole_file=True, path_column="p", offset_column="o")
    rows = [row for batch in found for row in batch.to_pylist()]
    assert [r["line"].encode() for r in rows] == contents
    assert [r["p"] for r in rows] == [str(p) for p in paths]
    assert [r["o"] for r in rows] == [0] * 4
    with pytest.raises(KernelmillError) as caught:
        lines(split_of(*paths), whole_file=True, max_line_bytes=1 << 20)
    assert caught.value.code is Code.RECORD_TOO_LONG


@given(
    st.lists(
        st.one_of(st.sampled_from([b"\n", b"\r\n", "é".encode(), b"\xff", b"\xe2\x82"]), st.binary(max_size=4)),
        max_size=30,
    )
)
@settings(max_examples=80)
def test_policies_treat_each_bad_line_as_python_would(tmp_path_factory, pieces):
    content = b"".join(pieces)
    path = tmp_path_factory.mktemp("i") / "t"
    path.write_bytes(content)
    content = content.removeprefix(b"\xef\xbb\xbf")
    parts = content.split(b"\n")
    raw = [p.removesuffix(b"\r") for p in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
    good = [r for r in raw if r.decode(errors="ignore").encode() == r]
    context = PlainContext()
    assert lines(split_of(path), context=context, invalid="replace") == [r.decode(errors="replace") for r in raw]
    made = sum(r.decode(errors="replace").count("\ufffd") - r.count("\ufffd".encode()) for r in raw)
    assert context.counters.get("utf8_replaced", 0) == made
    assert lines(split_of(path), context=context, invalid="skip") == [r.decode() for r in good]
    assert [(r.line, r.record) for r in context.rejects] == [(i, r) for i, r in enumerate(raw, 1) if r not in good]
    assert lines(split_of(path), pa.schema([("line", pa.binary())]), invalid="binary") == raw
    if len(good) < len(raw):
        with pytest.raises(KernelmillError) as caught:
            lines(split_of(path))
        assert caught.value.code is Code.ENCODING


def test_a_whole_document_that_is_not_utf8_goes_to_the_rejects(file):
    context = PlainContext()
    split = split_of(file(b"fine", "1"), file(b"bad \xff", "2"))
    assert lines(split, context=context, whole_file=True, invalid="skip") == ["fine"]
    assert [(r.record, r.offset, r.line) for r in context.rejects] == [(b"bad \xff", 0, None)]
    assert lines(split, whole_file=True, invalid="replace") == ["fine", "bad \ufffd"]


def test_a_separator_that_is_no_text_or_empty_is_refused(file):
    for separator in (b"", b"\xff"):
        with pytest.raises(KernelmillError) as caught:
            lines(split_of(file(b"a\nb")), separator=separator)
        assert caught.value.code is Code.BAD_SETTING
