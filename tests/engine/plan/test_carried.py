"""Which text columns are read as codes, and come out of joins as codes, because they are only carried into Parquet."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kernelmill as km
from kernelmill.engine.plan import logical, physical
from kernelmill.engine.plan.planner import plan_job


@pytest.fixture
def frame(tmp_path):
    columns = {"k": ["a", "b"], "t": ["x", "x"], "n": [1, 2], "bytes": pa.array([b"", b""])}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    return km.scan_parquet(str(tmp_path / "a.parquet"))


def coded(frame, **how):
    """The coded columns of each scan, and of each join."""
    job = plan_job(logical.SinkParquet(frame._plan, "out", how.pop("single_file", False), **how), split_bytes=1 << 20)
    scans = [p.source.dictionary_columns for p in job.pipelines if isinstance(p.source, physical.ReadParquet)]
    return scans, [step.coded for p in job.pipelines for step in p.steps if isinstance(step, physical.Join)]


def test_texts_that_are_only_carried_are_read_as_codes(frame):
    assert coded(frame) == ([("k", "t")], [])
    assert coded(frame.select(km.col("t").alias("u"), "n")) == ([("t",)], [])
    assert coded(frame.filter(km.col("t") == "x")) == ([("k", "t")], [])


def test_texts_that_are_read_for_more_are_not(frame):
    assert coded(frame.with_columns(km.col("t").str.to_uppercase().alias("up"))) == ([("k",)], [])
    assert coded(frame.filter(km.col("t") == km.col("k"))) == ([()], [])
    assert coded(frame.sort("n").select("t")) == ([()], [])


def test_files_that_are_cut_by_their_rows_get_texts(frame):
    assert coded(frame, partition_by=("k",)) == ([()], [])


def test_columns_of_both_sides_of_a_join_are_carried(frame):
    assert coded(frame.join(frame, "k")) == ([(), ("k", "t")], [("t_right",)])
    assert coded(frame.join(frame, ["k", "t"])) == ([(), ()], [()])
    assert coded(frame.join(frame, "k").select("n", "t_right")) == ([(), ("k",)], [("t_right",)])
    assert coded(frame.join(frame, "n", "semi")) == ([(), ("k", "t")], [()])
