"""Workers that cannot run a job: those that can do it, and where there are none the error names one that cannot."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import rig as rigs

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError

ROWS = 1_000_000


@pytest.fixture
def cluster():
    made = rigs.Rig()
    try:
        numbers = np.random.default_rng(5).integers(0, 1 << 62, ROWS)  # 8 MB, which do not shrink
        pq.write_table(pa.table({"x": numbers}), made.files / "in.parquet")
        made.start_master()
        yield made
    finally:
        made.close()


def run(cluster, name, verb=lambda frame: frame.sort("x")):
    roots = {rigs.ROOT: str(cluster.files), rigs.SCRATCH: str(cluster.rows)}
    with km.connect(str(cluster.bundle("client", "ann", is_admin=True)), roots=roots):
        frame = verb(km.scan_parquet(str(cluster.files / "in.parquet")))
        return frame.sink_parquet(str(cluster.files / name), progress=False)


def small(argv):
    """A worker's command line with little memory."""
    at = argv.index("--memory")
    return [*argv[: at + 1], "64MiB", *argv[at + 2 :]]


@pytest.mark.timeout(120)
def test_a_job_that_is_too_large_for_a_worker_runs_on_larger_ones(cluster):
    cluster.start_worker("w1", slots=1, wrap=small)
    cluster.wait_workers("w1")
    with pytest.raises(KernelmillError) as caught:
        run(cluster, "no")
    assert caught.value.code is Code.MEMORY_LIMIT and "worker w1" in caught.value.what
    assert "kernelmill worker --memory" in caught.value.hint
    cluster.start_worker("w2", slots=1)
    cluster.wait_workers("w1", "w2")
    for name in ("a", "b"):
        assert run(cluster, name).rows == ROWS
    assert cluster.history().workers(0) == {"w2"}


@pytest.mark.timeout(120)
def test_a_worker_whose_clock_is_a_month_ahead_is_named_and_others_do_its_work(cluster):
    ahead = cluster.folder / "ahead"
    ahead.write_text(str(30 * 86_400))
    cluster.start_worker("w1", changes="wrong-clock,slot-wrong-clock", changed_file=ahead)
    cluster.wait_workers("w1")
    with pytest.raises(KernelmillError) as caught:
        run(cluster, "no")
    assert caught.value.code is Code.CODE_REFUSED and "worker w1: the job's signature expired" in caught.value.what
    cluster.start_worker("w2", slots=1)
    cluster.wait_workers("w1", "w2")
    assert run(cluster, "a").rows == ROWS
    assert cluster.history().workers(0) == {"w2"}


@pytest.mark.timeout(120)
def test_a_worker_without_the_inputs_is_named_and_others_do_its_work(cluster, tmp_path):
    cluster.start_worker("w1", slots=1, wrap=lambda argv: elsewhere(argv, tmp_path))
    cluster.wait_workers("w1")
    with pytest.raises(KernelmillError) as caught:
        run(cluster, "no", by_digit)
    assert caught.value.code is Code.INPUT_NOT_FOUND and "worker w1: " in caught.value.what
    assert "another folder under the root's name" in caught.value.hint
    cluster.start_worker("w2", slots=1)
    cluster.wait_workers("w1", "w2")
    assert run(cluster, "a", by_digit).rows == 10
    assert cluster.history().workers(0) == {"w2"}


def by_digit(frame):
    """Its first stage reads, and writes nothing below a root."""
    return frame.group_by(d=km.col("x") % 10).agg(km.len())


def elsewhere(argv, folder):
    """A worker's command line with an empty folder under the root's name."""
    (folder / "files").mkdir()
    return [f"{rigs.ROOT}={folder / 'files'}" if one.startswith(f"{rigs.ROOT}=") else one for one in argv]
