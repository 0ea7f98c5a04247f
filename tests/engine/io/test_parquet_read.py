"""The reader: what comes back, in which types, and a typed error for every way in which a file can be wrong."""

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.io import parquet
from kernelmill.engine.io.context import PlainContext
from kernelmill.engine.io.parquet import BATCH_ROWS_MAX, parquet_info, read_row_groups, unify_schemas
from kernelmill.engine.plan.physical import ReadParquet
from kernelmill.engine.splits import FileStamp, ParquetSplit

TABLE = pa.table({"id": pa.array(range(1000), pa.int32()), "word": [f"w{n % 10}" for n in range(1000)]})


def stamp(path):
    status = os.stat(path)
    return FileStamp(str(path), status.st_size, status.st_mtime_ns)


def save(path, table=TABLE, **options):
    pq.write_table(table, path, **{"row_group_size": 300, "write_page_checksum": True, **options})
    return stamp(path)


def read(file, operator, context=None, groups=None):
    wanted = range(len(parquet_info(file).row_groups)) if groups is None else groups
    return list(read_row_groups(ParquetSplit(file, tuple(wanted), 1), operator, context or PlainContext()))


def code_of(call):
    with pytest.raises(KernelmillError) as caught:
        call()
    return caught.value.code


# What comes back ---------------------------------------------------------------------------------------------------


def test_the_footer_tells_schema_rows_bytes_and_bounds(tmp_path):
    info = parquet_info(save(tmp_path / "a.parquet"))
    assert info.schema == TABLE.schema
    assert [group.rows for group in info.row_groups] == [300, 300, 300, 100]
    assert set(info.row_groups[0].column_bytes) == {"id", "word"}
    assert info.row_groups[0].bytes_of(["id", "absent"]) == info.row_groups[0].column_bytes["id"] > 0
    assert (info.row_groups[1].stats["id"].lowest, info.row_groups[1].stats["id"].highest) == (300, 599)
    assert info.row_groups[1].stats["word"].highest == b"w9"


def test_rows_can_be_traced_to_their_number_in_the_file_whatever_groups_are_read(tmp_path):
    file, context = save(tmp_path / "a.parquet"), PlainContext()
    operator = ReadParquet(pa.schema([("id", pa.int32())]))
    split = ParquetSplit(file, (1, 3), 1)
    for batch in read_row_groups(split, operator, context):
        place = context.place(7)
        assert (place.file, place.row) == (file.path, batch["id"][7].as_py())


def test_a_file_whose_name_is_not_utf8_is_read(tmp_path):
    name = os.path.join(tmp_path, os.fsdecode(b"caf\xe9.parquet"))
    os.rename(save(tmp_path / "a.parquet").path, name)
    assert sum(batch.num_rows for batch in read(stamp(name), ReadParquet(TABLE.schema))) == 1000


def test_bytes_of_nested_columns_are_those_of_all_their_leaves(tmp_path):
    table = pa.table({"s": [{"a": 1, "b": "x"}], "l": [[1, 2]], "a.b": [1]})
    group = parquet_info(save(tmp_path / "a.parquet", table)).row_groups[0]
    assert list(group.column_bytes) == ["s", "l", "a.b"]
    assert all(group.column_bytes.values())
    assert list(group.stats) == ["a.b"]


def test_columns_come_in_the_schemas_order_and_types_are_widened(tmp_path):
    file = save(tmp_path / "a.parquet")
    schema = pa.schema([("word", pa.string()), ("id", pa.int64())])
    batches = read(file, ReadParquet(schema))
    assert all(batch.schema == schema for batch in batches)
    assert pa.Table.from_batches(batches) == TABLE.select(["word", "id"]).cast(schema)


def test_only_the_splits_row_groups_are_read_and_progress_is_a_rising_total(tmp_path):
    file = save(tmp_path / "a.parquet")
    seen = []

    class Watching(PlainContext):
        def progress(self, bytes_done):
            seen.append(bytes_done)

    batches = read(file, ReadParquet(TABLE.schema), Watching(), groups=[1, 3])
    assert pa.Table.from_batches(batches)["id"].to_pylist() == [*range(300, 600), *range(900, 1000)]
    groups = parquet_info(file).row_groups
    assert seen == sorted(seen)
    assert seen[-1] == sum(groups[n].bytes_of(["id", "word"]) for n in (1, 3))


def test_batches_are_bounded_in_rows(tmp_path):
    rows = 2 * BATCH_ROWS_MAX + 5
    file = save(tmp_path / "a.parquet", pa.table({"n": np.arange(rows)}), row_group_size=rows)
    assert [len(batch) for batch in read(file, ReadParquet(pa.schema([("n", pa.int64())])))] == [BATCH_ROWS_MAX] * 2 + [
        5
    ]


def test_neighbours_share_a_batch_up_to_its_rows_and_bytes(tmp_path, monkeypatch):
    file, schema = save(tmp_path / "a.parquet"), pa.schema([("id", pa.int32()), ("word", pa.string())])
    assert [len(batch) for batch in read(file, ReadParquet(schema))] == [1000]
    assert [len(batch) for batch in read(file, ReadParquet(schema), groups=[0, 2, 3])] == [300, 400]
    (batch,) = read(file, ReadParquet(schema), groups=[1, 2])
    assert batch["id"].to_pylist() == list(range(300, 900))
    monkeypatch.setattr(parquet, "BATCH_ROWS_MAX", 600)
    assert [len(batch) for batch in read(file, ReadParquet(schema))] == [600, 400]
    monkeypatch.setattr(parquet, "_BATCH_BYTES", 1)
    assert [len(batch) for batch in read(file, ReadParquet(schema))] == [300, 300, 300, 100]


def test_rows_of_neighbours_that_share_a_batch_are_traced_to_their_number(tmp_path):
    file, context = save(tmp_path / "a.parquet"), PlainContext()
    for batch in read_row_groups(
        ParquetSplit(file, (1, 2, 3), 1), ReadParquet(pa.schema([("id", pa.int32())])), context
    ):
        assert [context.place(row).row for row in (0, 299, 300, 650)] == [300, 599, 600, 950]
        assert batch["id"][650].as_py() == 950


def test_neighbours_that_are_coded_share_one_dictionary_and_others_stay_apart(tmp_path):
    words = [f"w{n % 100}" for n in range(20_000)] + [f"v{n % 90}" for n in range(20_000)]
    plain = [f"other {n}" for n in range(20_000)]
    file = save(tmp_path / "a.parquet", pa.table({"w": words + plain}), row_group_size=20_000)
    batches = read(file, ReadParquet(pa.schema([("w", pa.string())]), "error", ("w",)))
    assert [(len(batch), pa.types.is_dictionary(batch.column(0).type)) for batch in batches] == [
        (40_000, True),
        (20_000, False),
    ]
    coded = batches[0].column(0)
    assert sorted(coded.dictionary.to_pylist()) == sorted(set(words))
    assert coded.dictionary_decode().to_pylist() == words
    assert batches[1].column(0).to_pylist() == plain


def test_no_columns_still_give_rows(tmp_path):
    batches = read(save(tmp_path / "a.parquet"), ReadParquet(pa.schema([])))
    assert [(batch.num_rows, batch.num_columns) for batch in batches] == [(1000, 0)]


def test_a_column_that_a_file_lacks_is_an_error_or_null(tmp_path):
    file = save(tmp_path / "a.parquet")
    schema = pa.schema([("id", pa.int32()), ("new", pa.string())])
    assert code_of(lambda: read(file, ReadParquet(schema))) is Code.SCHEMA_CONFLICT
    batches = read(file, ReadParquet(schema, "null"), groups=[0])
    assert pa.Table.from_batches(batches)["new"].null_count == 300
    only_new = read(file, ReadParquet(pa.schema([("new", pa.string())]), "null"), groups=[3])
    assert [batch.column(0).null_count for batch in only_new] == [100]


def test_large_text_and_dictionaries_are_read_as_plain_text(tmp_path):
    words = pa.array(["a", None, "b"])
    table = pa.table({"large": words.cast(pa.large_string()), "coded": words.dictionary_encode()})
    file = save(tmp_path / "a.parquet", table)
    schema = parquet_info(file).schema
    assert schema.types == [pa.string(), pa.string()]
    (batch,) = read(file, ReadParquet(schema))
    assert batch.columns == [words, words]


# Dictionary columns ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_coded_columns_come_as_dictionaries_that_a_row_group_shares(tmp_path, monkeypatch, version):
    words = pa.array([f"w{n % 100}" if n % 7 else None for n in range(200_000)])
    monkeypatch.setattr(parquet, "BATCH_ROWS_MAX", 1 << 16)
    file = save(tmp_path / "a.parquet", pa.table({"w": words}), row_group_size=150_000, data_page_version=version)
    batches = read(file, ReadParquet(pa.schema([("w", pa.string())]), "error", ("w",)))
    assert all(pa.types.is_dictionary(batch.column(0).type) for batch in batches)
    assert pa.chunked_array([batch.column(0).dictionary_decode() for batch in batches]).combine_chunks() == words
    first, second = batches[0].column(0), batches[1].column(0)
    assert first.dictionary.buffers()[2].address == second.dictionary.buffers()[2].address


def test_columns_whose_dictionary_overflowed_or_hardly_repeats_come_plain(tmp_path):
    schema = pa.schema([("w", pa.string())])
    words = pa.table({"w": [f"word {n * 7919 % 20_000}" for n in range(100_000)]})
    overflowed = save(tmp_path / "a.parquet", words, row_group_size=100_000, dictionary_pagesize_limit=50_000)
    distinct = save(tmp_path / "b.parquet", words.slice(0, 20_000), row_group_size=20_000)
    never = save(tmp_path / "c.parquet", words, use_dictionary=False, row_group_size=100_000)
    for file in (overflowed, distinct, never):
        batches = read(file, ReadParquet(schema, "error", ("w",)))
        assert all(batch.schema == schema for batch in batches)
        assert pa.Table.from_batches(batches)["w"].to_pylist() == words["w"].to_pylist()[: parquet_info(file).rows]


# Files that are wrong ----------------------------------------------------------------------------------------------


def test_a_missing_file_a_folder_and_other_formats_are_told_apart(tmp_path):
    assert code_of(lambda: parquet_info(FileStamp(str(tmp_path / "no"), 1, 1))) is Code.INPUT_NOT_FOUND
    assert code_of(lambda: parquet_info(FileStamp(str(tmp_path), 1, 1))) is Code.INPUT_NOT_FOUND
    for number, data in enumerate((b"", b"a,b\n1,2\n" * 100, b"PAR", b"PARE" + b"x" * 99)):
        path = tmp_path / str(number)
        path.write_bytes(data)
        assert code_of(lambda path=path: parquet_info(stamp(path))) is Code.FORMAT


def test_a_file_cut_anywhere_is_a_typed_error(tmp_path):
    save(tmp_path / "a.parquet", TABLE.slice(0, 20))
    data = (tmp_path / "a.parquet").read_bytes()
    for length in range(4, len(data), 7):
        path = tmp_path / f"{length}"
        path.write_bytes(data[:length])
        assert code_of(lambda path=path: parquet_info(stamp(path))) is Code.TRUNCATED


def test_a_flipped_bit_is_noticed_or_harmless_and_never_an_untyped_error(tmp_path):
    table = TABLE.slice(0, 50)
    save(tmp_path / "a.parquet", table)
    data = bytearray((tmp_path / "a.parquet").read_bytes())
    noticed = 0
    for at in range(4, len(data) - 400, 3):
        path = tmp_path / "b.parquet"
        data[at] ^= 16
        path.write_bytes(data)
        data[at] ^= 16
        os.utime(path, ns=(at, at))
        try:
            batches = read(stamp(path), ReadParquet(TABLE.schema))
        except KernelmillError as problem:
            assert problem.code in (Code.FORMAT, Code.TRUNCATED, Code.SCHEMA_CONFLICT, Code.MEMORY_LIMIT)
            noticed += 1
        else:
            assert sum(len(batch) for batch in batches) == 50
    assert noticed > 20


def test_damaged_pages_name_file_and_row_group(tmp_path):
    path = tmp_path / "a.parquet"
    save(path, compression="none", use_dictionary=False)
    data = bytearray(path.read_bytes())
    offset = pq.read_metadata(path).row_group(2).column(1).data_page_offset
    data[offset + 200] ^= 1
    path.write_bytes(data)
    with pytest.raises(KernelmillError) as caught:
        read(stamp(path), ReadParquet(TABLE.schema))
    assert caught.value.code is Code.FORMAT
    assert caught.value.where == f"{path}, row group 2"


def test_a_file_that_changed_since_the_scan_is_told(tmp_path):
    path = tmp_path / "a.parquet"
    file = save(path)
    parquet_info(file)
    save(path, TABLE.slice(1))
    assert code_of(lambda: read(file, ReadParquet(TABLE.schema))) is Code.INPUT_CHANGED
    path.unlink()
    assert code_of(lambda: read(file, ReadParquet(TABLE.schema))) is Code.INPUT_CHANGED


@pytest.mark.parametrize("kept_bytes", [0, 100_000])
def test_a_file_that_shrinks_while_it_is_read_is_told_and_kills_nobody(tmp_path, kept_bytes):
    rows = 6 * 65_536
    table = pa.table({"n": np.random.default_rng(1).random(rows)})
    file = save(tmp_path / "a.parquet", table, row_group_size=65_536, compression="none")
    batches = read_row_groups(ParquetSplit(file, tuple(range(6)), 1), ReadParquet(table.schema), PlainContext())
    next(batches)
    os.truncate(tmp_path / "a.parquet", kept_bytes)
    assert code_of(lambda: list(batches)) is Code.INPUT_CHANGED


def test_a_value_that_does_not_fit_the_common_type_is_told(tmp_path):
    file = save(tmp_path / "a.parquet", pa.table({"n": pa.array([2**53 + 1])}))
    assert code_of(lambda: read(file, ReadParquet(pa.schema([("n", pa.float64())])))) is Code.CAST


def test_two_columns_of_one_name_are_refused(tmp_path):
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    assert code_of(lambda: parquet_info(save(tmp_path / "a.parquet", table))) is Code.DUPLICATE_COLUMN


def test_cancelling_ends_the_read_within_a_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "BATCH_ROWS_MAX", 300)

    class Cancelled(PlainContext):
        left = 3

        def check_cancelled(self):
            self.left -= 1
            if self.left < 0:
                raise error(Code.CANCELLED, "stop")

    file = save(tmp_path / "a.parquet")
    assert code_of(lambda: read(file, ReadParquet(TABLE.schema), Cancelled())) is Code.CANCELLED


# Several files -----------------------------------------------------------------------------------------------------


def unified(*kinds, missing="error"):
    return unify_schemas([(f"{n}.parquet", pa.schema([("c", kind)])) for n, kind in enumerate(kinds)], missing=missing)


@pytest.mark.parametrize(
    ("kinds", "wanted"),
    [
        ((pa.int8(), pa.int32(), pa.int16()), pa.int32()),
        ((pa.uint8(), pa.int8()), pa.int16()),
        ((pa.uint32(), pa.int8()), pa.int64()),
        ((pa.int64(), pa.float32()), pa.float64()),
        ((pa.float16(), pa.float32()), pa.float32()),
        ((pa.null(), pa.string(), pa.null()), pa.string()),
        ((pa.timestamp("s"), pa.timestamp("us")), pa.timestamp("us")),
    ],
)
def test_types_are_widened_across_files(kinds, wanted):
    assert unified(*kinds).field("c").type == wanted


@pytest.mark.parametrize(
    "kinds",
    [
        (pa.uint64(), pa.int8()),
        (pa.string(), pa.int64()),
        (pa.string(), pa.binary()),
        (pa.timestamp("s"), pa.timestamp("s", "UTC")),
        (pa.list_(pa.int32()), pa.list_(pa.int64())),
    ],
)
def test_types_that_do_not_meet_name_both_files(kinds):
    with pytest.raises(KernelmillError) as caught:
        unified(*kinds)
    assert caught.value.code is Code.SCHEMA_CONFLICT
    assert "0.parquet" in caught.value.what
    assert "1.parquet" in caught.value.what


def test_a_column_that_some_files_lack_is_refused_or_nullable():
    schemas = [
        ("a", pa.schema([pa.field("x", pa.int64(), nullable=False)])),
        ("b", pa.schema([pa.field("x", pa.int64(), nullable=False), pa.field("y", pa.int8(), nullable=False)])),
    ]
    assert code_of(lambda: unify_schemas(schemas)) is Code.SCHEMA_CONFLICT
    wanted = pa.schema([pa.field("x", pa.int64(), nullable=False), pa.field("y", pa.int8())])
    assert unify_schemas(schemas, missing="null") == wanted
