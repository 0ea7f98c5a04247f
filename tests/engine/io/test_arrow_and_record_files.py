"""Arrow files and fixed-width records: all rows once, whatever the splits; what is damaged is named."""

from __future__ import annotations

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError

TABLE = pa.table(
    {
        "n": pa.array([None, *range(1, 500)], pa.int32()),
        "s": pa.array([f"v{i % 7}" for i in range(500)]).dictionary_encode(),
        "l": pa.array([[i, None] for i in range(500)]),
    }
)


def code_of(call) -> Code:
    with pytest.raises(KernelmillError) as caught:
        call()
    return caught.value.code


def write(path, table=TABLE, opener=pa.ipc.new_file, rows=37):
    with opener(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return path


@pytest.mark.parametrize("opener", [pa.ipc.new_file, pa.ipc.new_stream], ids=["file", "stream"])
@pytest.mark.parametrize("split_size", [400, 3000, 1 << 20])
def test_all_rows_come_once_and_in_order(tmp_path, opener, split_size):
    frame = km.scan_ipc(write(tmp_path / "a.arrow", opener=opener))
    assert dict(frame.schema) == {"n": pa.int32(), "s": pa.string(), "l": pa.list_(pa.int64())}
    rows = [tuple(row.values()) for row in TABLE.to_pylist()]
    assert frame.collect(split_size=split_size).rows() == rows
    assert frame.select("s").collect(split_size=split_size).rows() == [(row[1],) for row in rows]


def test_types_are_widened_across_files(tmp_path):
    write(tmp_path / "a.arrow", pa.table({"n": pa.array([1], pa.int32())}))
    write(tmp_path / "b.arrow", pa.table({"n": pa.array([2], pa.int64())}))
    frame = km.scan_ipc(tmp_path, include_file_paths="path")
    assert frame.collect().rows() == [(1, str(tmp_path / "a.arrow")), (2, str(tmp_path / "b.arrow"))]
    write(tmp_path / "c.arrow", pa.table({"m": pa.array([2], pa.int64())}))
    assert code_of(lambda: km.scan_ipc(tmp_path)) is Code.SCHEMA_CONFLICT


def test_damaged_files_are_errors_and_not_rows(tmp_path):
    path = tmp_path / "a.arrow"
    path.write_bytes(b"not arrow at all")
    assert code_of(lambda: km.scan_ipc(path)) is Code.FORMAT
    data = write(tmp_path / "b.arrow").read_bytes()
    path.write_bytes(data[: len(data) // 2])
    assert code_of(lambda: km.scan_ipc(path)) is Code.FORMAT


@pytest.mark.parametrize("split_size", [1, 7, 100, 1 << 20])
def test_records_are_cut_into_fields_whatever_the_splits(tmp_path, split_size):
    records = [bytes([i, i + 1]) + b"-" + b"abc" * 3 for i in range(100)]
    (tmp_path / "r.bin").write_bytes(b"".join(records))
    frame = km.scan_records(tmp_path / "r.bin", width=12, fields={"key": 2, "skip": 1, "value": 6})
    assert frame.collect(split_size=split_size).rows() == [(r[:2], b"-", b"abcabc") for r in records]
    assert frame.select("value").collect(split_size=split_size).height == 100


def test_a_file_that_ends_within_a_record_is_truncated(tmp_path):
    (tmp_path / "r.bin").write_bytes(b"x" * 25)
    assert code_of(lambda: km.scan_records(tmp_path / "r.bin", width=10, fields={"a": 10})) is Code.TRUNCATED
    assert code_of(lambda: km.scan_records(tmp_path / "r.bin", width=5, fields={"a": 10})) is Code.BAD_SETTING
    assert code_of(lambda: km.scan_records(tmp_path / "r.bin", width=5, fields={})) is Code.BAD_SETTING
