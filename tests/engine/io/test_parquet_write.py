"""The writer: the same rows give the same bytes, every row group is full, and each codec and type comes back."""

import hashlib
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.io import parquet_write
from kernelmill.engine.io.parquet_write import PartWriter, check_compression
from kernelmill.engine.io.rowbytes import bytes_before, bytes_of
from kernelmill.engine.plan.physical import ToParquet

SCHEMA = pa.schema([pa.field("word", pa.string(), nullable=False), pa.field("len", pa.int64())])
ROWS = pa.record_batch(
    [[f"w{n * 7919 % 1000}" for n in range(5000)], [n % 50 or None for n in range(5000)]], schema=SCHEMA
)


def operator(schema=SCHEMA, *, compression="snappy", rows=1000, unique=()):
    return ToParquet(compression, rows, True, schema, unique)


def write(path, batches, plan):
    with PartWriter(str(path), plan) as writer:
        for batch in batches:
            writer.write(batch)
        return writer.close()


def cut(batch, at):
    ends = sorted({0, *at, batch.num_rows})
    return [batch.slice(a, b - a) for a, b in zip(ends, ends[1:], strict=False)]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    path = tmp_path_factory.mktemp("reference") / "a.parquet"
    write(path, [ROWS], operator())
    return path.read_bytes()


@given(at=st.lists(st.integers(0, 5000), max_size=12), copied=st.booleans())
def test_bytes_do_not_depend_on_how_batches_are_cut(reference, tmp_path_factory, at, copied):
    path = tmp_path_factory.mktemp("cut") / "a.parquet"
    pieces = cut(ROWS, at)
    if copied:
        pieces = [pa.RecordBatch.from_pylist(piece.to_pylist(), schema=SCHEMA) for piece in pieces]
    write(path, pieces, operator())
    assert path.read_bytes() == reference


def test_row_groups_are_full_and_the_last_has_the_rest(tmp_path):
    part = write(tmp_path / "a.parquet", cut(ROWS, [1, 999, 2001, 4321]), operator(rows=1024))
    metadata = pq.read_metadata(tmp_path / "a.parquet")
    assert [metadata.row_group(n).num_rows for n in range(5)] == [1024] * 4 + [904]
    assert part.rows == 5000


def test_the_part_is_described_as_it_lies_on_disk(tmp_path):
    part = write(tmp_path / "a.parquet", [ROWS], operator())
    data = (tmp_path / "a.parquet").read_bytes()
    assert (part.name, part.bytes) == ("a.parquet", len(data))
    assert part.checksum == xxhash.xxh3_128_hexdigest(data)


@pytest.mark.parametrize("compression", ["zstd", "snappy", "lz4", "gzip", "none"])
def test_each_codec_comes_back(tmp_path, compression):
    write(tmp_path / "a.parquet", [ROWS], operator(compression=compression, unique=("word",)))
    assert pq.read_table(tmp_path / "a.parquet") == pa.table(ROWS)
    column = pq.read_metadata(tmp_path / "a.parquet").row_group(0).column(0)
    assert column.compression == {"none": "UNCOMPRESSED"}.get(compression, compression.upper())


def test_unique_columns_have_no_dictionary(tmp_path):
    write(tmp_path / "a.parquet", [ROWS], operator(unique=("word",)))
    group = pq.read_metadata(tmp_path / "a.parquet").row_group(0)
    assert [group.column(n).has_dictionary_page for n in range(2)] == [False, True]


def test_an_unknown_codec_is_refused_with_what_was_meant():
    with pytest.raises(KernelmillError) as caught:
        check_compression("ZTSD")
    assert caught.value.code is Code.BAD_SETTING
    assert "zstd" in caught.value.hint


def test_large_text_views_and_dictionaries_are_written_as_plain_text(tmp_path):
    words = pa.array(["a", None, "b", "a"])
    kinds = [pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.string_view(), pa.string()]
    digests = set()
    for number, kind in enumerate(kinds):
        array = words.dictionary_encode() if pa.types.is_dictionary(kind) else words.cast(kind)
        path = tmp_path / f"{number}.parquet"
        write(path, [pa.record_batch([array], names=["w"])], operator(pa.schema([("w", kind)])))
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
        assert pq.read_schema(path).field("w").type == pa.string()
    assert len(digests) == 1


def test_no_rows_make_a_valid_file(tmp_path):
    part = write(tmp_path / "a.parquet", [], operator())
    assert part.rows == 0
    assert pq.read_table(tmp_path / "a.parquet").schema == SCHEMA


def test_a_row_group_is_bounded_in_bytes_at_the_same_row_however_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_write, "ROW_GROUP_BYTES_MAX", 10_000)
    schema = pa.schema([("text", pa.string()), ("tags", pa.list_(pa.string()))])
    texts = ["x" * (n * 37 % 900) for n in range(200)]
    texts[50] = "y" * 30_000  # more than a whole row group may hold
    batch = pa.record_batch([texts, [[t[:3]] * (n % 4) for n, t in enumerate(texts)]], schema=schema)
    seen = set()
    for at in ([], [1, 2, 3], range(0, 200, 7)):
        path = tmp_path / f"{len(list(at))}.parquet"
        write(path, cut(batch, at), operator(schema))
        seen.add(path.read_bytes())
        assert pq.read_table(path) == pa.table(batch)
    assert len(seen) == 1
    metadata = pq.read_metadata(path)
    assert 7 < metadata.num_row_groups < 40


def test_a_file_given_up_is_deleted_and_an_existing_one_is_not_touched(tmp_path):
    with pytest.raises(RuntimeError), PartWriter(str(tmp_path / "a.parquet"), operator()) as writer:
        writer.write(ROWS)
        raise RuntimeError
    assert os.listdir(tmp_path) == []
    (tmp_path / "a.parquet").write_text("mine")
    with pytest.raises(KernelmillError) as caught:
        PartWriter(str(tmp_path / "a.parquet"), operator())
    assert caught.value.code is Code.COMMIT
    assert (tmp_path / "a.parquet").read_text() == "mine"


NESTED = st.lists(st.one_of(st.none(), st.lists(st.one_of(st.none(), st.text(max_size=5)), max_size=4)), max_size=20)


def as_numbers(lists):
    """The same lists with numbers in place of texts."""
    return [None if one is None else [None if text is None else len(text) for text in one] for one in lists]


KINDS = {
    "texts": (pa.list_(pa.string()), lambda lists: lists),
    "numbers": (pa.list_(pa.int64()), as_numbers),
    "lists": (pa.list_(pa.list_(pa.int16())), lambda lists: [one and [one] for one in as_numbers(lists)]),
    "maps": (pa.map_(pa.string(), pa.int64()), lambda lists: [[(t or "", 1) for t in one or ()] for one in lists]),
}


@pytest.mark.parametrize("kind", KINDS)
@given(lists=NESTED, start=st.integers(0, 5))
def test_bytes_of_rows_are_those_of_their_slices(kind, lists, start):
    dtype, made_of = KINDS[kind]
    array = pa.array(made_of(lists), dtype)
    whole = bytes_before([array], len(array))
    part = array.slice(start)
    copied = pa.array(part.to_pylist(), array.type)
    assert whole[0] == 0
    assert list(bytes_before([part], len(part))) == list(bytes_before([copied], len(copied)))
    assert bytes_of([part]) == bytes_before([part], len(part))[-1]
    if start <= len(array):
        assert list(bytes_before([part], len(part))) == [int(n - whole[start]) for n in whole[start:]]


def test_bytes_of_rows_count_each_kind_of_value():
    columns = [
        pa.array([1, None, 3], pa.int32()),
        pa.array(["ab", None, "cde"]),
        pa.array([{"a": 1, "b": "x"}, None, {"a": 2, "b": "yz"}]),
        pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int64())),
    ]
    assert bytes_of(columns) == bytes_before(columns, 3)[-1] == 93
    assert list(bytes_before([pa.array([True, False])], 2)) == [0, 1, 2]
    assert list(bytes_before(columns[:1], 3)) == [0, 4, 8, 12]
    assert list(bytes_before(columns[1:2], 3)) == [0, 6, 10, 17]
    assert list(bytes_before(columns[2:3], 3)) == [0, 13, 25, 39]
    assert list(bytes_before(columns[3:], 3)) == [0, 17, 21, 25]


def test_lists_of_whole_numbers_are_written_as_differences_and_read_back(tmp_path):
    lists = pa.array([[1, 2, 5], [], None, [7, None]], pa.list_(pa.int64()))
    table = pa.table(
        {"word": ["a", "b", "c", "a"], "at": lists, "small": lists.cast(pa.list_(pa.int32())), "a.b": lists}
    )
    path = tmp_path / "part.parquet"
    with PartWriter(str(path), ToParquet("zstd", 1 << 20, True, table.schema, ("word",))) as writer:
        for batch in table.to_batches():
            writer.write(batch)
        writer.close()
    found = pq.ParquetFile(path)
    encodings = {
        found.metadata.row_group(0).column(n).path_in_schema: found.metadata.row_group(0).column(n).encodings
        for n in range(4)
    }
    assert (
        "DELTA_BINARY_PACKED" in encodings["at.list.element"]
        and "DELTA_BINARY_PACKED" in encodings["small.list.element"]
    )
    assert pq.read_table(path).to_pydict() == table.to_pydict()
