"""Parquet that is damaged, cut or no Parquet at all: a typed error that names the file, and no output."""

import shutil
from pathlib import Path

import outside
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError

ROWS = 40_000


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A file of four row groups whose pages carry checksums, as bytes."""
    path = tmp_path_factory.mktemp("parquet") / "whole.parquet"
    outside.write_table(path, rows=ROWS)
    pq.write_table(pq.read_table(path), path, row_group_size=ROWS // 4, write_page_checksum=True)
    return path.read_bytes()


def flipped(data, at, count):
    return data[:at] + bytes(byte ^ 0xFF for byte in data[at : at + count]) + data[at + count :]


def second_column(data):
    return pq.read_metadata(pa.BufferReader(data)).row_group(0).column(1).dictionary_page_offset


def group_and_write():
    frame = km.scan_parquet("table.parquet").group_by("s").agg(km.col("x").sum(), km.col("n").max())
    frame.sink_parquet("out", progress=False, split_size="64KiB")


DAMAGES = {
    "footer damaged": (lambda data: flipped(data, len(data) - 400, 200), {Code.FORMAT, Code.TRUNCATED}),
    "footer's length wrong": (lambda data: data[:-8] + b"\xff\xff\xff\x7f" + data[-4:], {Code.TRUNCATED}),
    "end lost": (lambda data: data[:-1000], {Code.TRUNCATED}),
    "half lost": (lambda data: data[: len(data) // 2], {Code.TRUNCATED}),
    "all but the first bytes lost": (lambda data: data[:3], {Code.FORMAT}),
    "empty": (lambda data: b"", {Code.FORMAT}),
    "text": (lambda data: b"a line of text\n" * 100, {Code.FORMAT}),
    "page header damaged": (lambda data: flipped(data, second_column(data), 20), {Code.FORMAT}),
    "bytes inside the pages lost": (lambda data: data[:5000] + data[6000:], {Code.FORMAT, Code.TRUNCATED}),
}


@pytest.mark.parametrize("how", list(DAMAGES))
def test_a_damaged_file_is_a_typed_error_and_no_output(whole, how):
    damage, codes = DAMAGES[how]
    Path("table.parquet").write_bytes(damage(whole))
    with pytest.raises(KernelmillError) as caught:
        group_and_write()
    assert caught.value.code in codes
    assert "table.parquet" in caught.value.where
    assert caught.value.hint
    assert "\n" not in caught.value.what
    assert [path.name for path in Path().iterdir()] == ["table.parquet"]


@pytest.mark.parametrize("tenth", range(10))
def test_a_flipped_bit_in_a_page_is_found_by_its_checksum(whole, tenth):
    """In a page of a column that is read; without checksums a flipped float would be just another float."""
    Path("table.parquet").write_bytes(whole)
    groups = pq.read_metadata("table.parquet")
    column = groups.row_group(tenth % 4).column(("s", "x", "n").index(("s", "x", "n")[tenth % 3]) + 1)
    begin = min(filter(None, (column.dictionary_page_offset, column.data_page_offset)))
    at = begin + 60 + (column.total_compressed_size - 80) * tenth // 10
    Path("table.parquet").write_bytes(flipped(whole, at, 1))
    with pytest.raises(KernelmillError) as caught:
        group_and_write()
    assert caught.value.code is Code.FORMAT
    assert "row group" in caught.value.where


def test_a_file_without_rows_gives_an_output_without_rows():
    pq.write_table(pa.table({"s": pa.array([], pa.string()), "x": [], "n": pa.array([], pa.int64())}), "table.parquet")
    frame = km.scan_parquet("table.parquet").group_by("s").agg(km.col("n").sum())
    assert frame.sink_parquet("out", progress=False).rows == 0
    assert km.scan_parquet("out").schema["n"] == pa.int64()


def test_files_that_disagree_on_a_type_name_both():
    for name, values in (("a", [1, 2]), ("b", ["x", "y"])):
        pq.write_table(pa.table({"v": values}), f"{name}.parquet")
    with pytest.raises(KernelmillError) as caught:
        km.scan_parquet(["a.parquet", "b.parquet"])
    assert caught.value.code is Code.SCHEMA_CONFLICT
    assert "a.parquet" in str(caught.value)
    assert "b.parquet" in str(caught.value)


def test_text_read_as_parquet_and_parquet_read_as_text_say_what_they_are(whole):
    Path("table.parquet").write_bytes(whole)
    shutil.copy("table.parquet", "table.txt")
    with pytest.raises(KernelmillError) as caught:
        outside.word_count("table.txt").sink_parquet("out", progress=False)
    assert caught.value.code is Code.ENCODING
    assert "scan_parquet" in caught.value.hint
    Path("words.parquet").write_bytes(b"words\n")
    with pytest.raises(KernelmillError) as caught:
        km.scan_parquet("words.parquet")
    assert "scan_text" in caught.value.hint


@pytest.mark.parametrize("source", ["tabel.parquet", "*.pq", "nowhere/table.parquet"])
def test_missing_files_are_named_at_the_scan(whole, source):
    Path("table.parquet").write_bytes(whole)
    with pytest.raises(KernelmillError) as caught:
        km.scan_parquet(source)
    assert caught.value.code is Code.INPUT_NOT_FOUND
    assert "table.parquet" in caught.value.hint
