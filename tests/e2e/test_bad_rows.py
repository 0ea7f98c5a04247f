"""on_bad: a value that does not fit ends the job, or its row is set aside with what was wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError

TABLE = pa.table({"a": ["1", "2", "x", "4"], "b": [1, 2, 3, 2**63 - 1]})


def computed():
    return km.from_arrow(TABLE).select(n=km.col("a").cast("int64"), c=km.col("b") + 1)


def test_a_bad_value_ends_the_job_unless_asked_otherwise():
    with pytest.raises(KernelmillError) as caught:
        computed().collect()
    assert caught.value.code is Code.CAST


def test_rows_with_bad_values_are_set_aside_with_the_reason():
    frame = computed().collect(on_bad="reject")
    assert frame.rows() == [(1, 2), (2, 3)]
    rejects = frame.rejects.to_arrow().to_pylist()
    assert [row["code"] for row in rejects] == ["KM0207", "KM0208"]
    assert b'"x"' in rejects[0]["record"]


def test_a_filter_sets_rows_aside_too_and_a_sink_keeps_them_beside_the_output(tmp_path):
    frame = km.from_arrow(TABLE).filter(km.col("a").cast("int64") > 1)
    result = frame.sink_parquet(tmp_path / "out", on_bad="reject")
    assert result.rows == 2
    assert sum(result.rejects.values()) == 1
    assert pq.read_table(tmp_path / "out" / "_rejects").num_rows == 1


def test_a_rejected_line_is_found_where_its_file_and_offset_say():
    contents = {"a.txt": b"1\n2\nx3\n4\n", "b.txt": b"5\n\nbad\n", "c.txt": b"6\nworse"}
    for name, content in contents.items():
        Path(name).write_bytes(content)
    numbers = km.scan_text("*.txt").filter(km.col("line") != "2").select(n=km.col("line").cast("int64"))
    frame = numbers.collect(on_bad="reject")
    assert [n for (n,) in frame.rows()] == [1, 4, 5, 6]
    rejects = frame.rejects.to_arrow().to_pylist()
    lines = [contents[row["file"]][row["offset"] :].partition(b"\n")[0].decode() for row in rejects]
    assert lines == [json.loads(row["record"])["line"] for row in rejects] == ["x3", "", "bad", "worse"]
    with pytest.raises(KernelmillError) as caught:
        numbers.collect()
    assert caught.value.where == "a.txt, byte 4, line 3"
    assert numbers.sink_parquet("out", on_bad="reject").rejects == {'col("line") is no int64': 4}


def test_a_rejected_row_of_parquet_is_found_at_its_number_in_the_file():
    for name, start in (("a", 0), ("b", 1000)):
        words = ["?" if n % 400 == 399 else str(n) for n in range(start, start + 1000)]
        pq.write_table(pa.table({"k": range(1000), "w": words}), f"{name}.parquet", row_group_size=100)
    numbers = km.scan_parquet("*.parquet").filter(km.col("k") > 350).select(n=km.col("w").cast("int64"))
    rejects = numbers.collect(on_bad="reject").rejects.to_arrow().to_pylist()
    found = [(row["file"], row["row"], row["offset"]) for row in rejects]
    assert found == [
        ("a.parquet", 399, None),
        ("a.parquet", 799, None),
        ("b.parquet", 599, None),
        ("b.parquet", 999, None),
    ]
    with pytest.raises(KernelmillError) as caught:
        numbers.collect(threads=1)
    assert caught.value.where == "a.parquet, row 399"


def test_a_row_that_a_sort_has_moved_is_not_given_a_place_it_did_not_have():
    frame = km.from_arrow(TABLE).sort("b", descending=True).select(n=km.col("a").cast("int64"))
    (row,) = frame.collect(on_bad="reject").rejects.to_arrow().to_pylist()
    assert (row["row"], row["offset"], row["record"]) == (None, None, b'{"a": "x", "b": 3}')


def test_tokens_beside_a_bad_value_are_set_aside_with_its_row():
    Path("a.txt").write_bytes(b"1\ntwo words\n3\n")
    line = km.col("line")
    words = km.scan_text("a.txt").select(n=line.cast("int64"), w=line.str.tokenize()).explode("w")
    frame = words.collect(on_bad="reject")
    assert frame.rows() == [(1, "1"), (3, "3")]
    assert frame.rejects.to_arrow()["offset"].to_pylist() == [2]


def test_more_rejects_than_allowed_end_the_job_and_leave_nothing(tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    with pytest.raises(KernelmillError) as caught:
        computed().sink_parquet(place / "out", on_bad="reject", max_rejects=1)
    assert caught.value.code is Code.REJECT_LIMIT
    assert "<table0>, row 2: " in caught.value.what
    assert list(place.iterdir()) == []
