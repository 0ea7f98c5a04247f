"""on_bad: a value that does not fit ends the job, or its row is set aside with what was wrong."""

from __future__ import annotations

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


def test_more_rejects_than_allowed_end_the_job_and_leave_nothing(tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    with pytest.raises(KernelmillError) as caught:
        computed().sink_parquet(place / "out", on_bad="reject", max_rejects=1)
    assert caught.value.code is Code.REJECT_LIMIT
    assert list(place.iterdir()) == []
