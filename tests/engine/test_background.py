"""Jobs in a thread of their own: what they return, how they fail, and that a cancelled one leaves nothing."""

from __future__ import annotations

import os
import threading

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.events import JobFinished

PATIENCE_S = 30
ROWS = pa.record_batch({"n": list(range(10)), "t": ["a"] * 10})


class Endless:
    """Rows without end, of which the first have `begun`."""

    schema = ROWS.schema

    def __init__(self):
        self.begun = threading.Event()

    def splits(self):
        return [1, 2, 3]

    def read(self, split):
        while True:
            yield ROWS
            self.begun.set()


@pytest.fixture
def endless():
    return Endless()


def sink(frame, folder, hear):
    return km.start(frame.sink_parquet, str(folder / "out"), progress=hear, threads=2, spill_dir=str(folder / "spill"))


def collect(frame, folder, hear):
    return km.start(frame.collect, progress=hear, threads=1, spill_dir=str(folder / "spill"))


def batches(frame, folder, hear):
    return km.start(list, frame.collect_batches(progress=hear, spill_dir=str(folder / "spill")))


@pytest.mark.parametrize("ending", [sink, collect, batches])
@pytest.mark.parametrize("verb", ["none", "sort", "group_by", "join"])
def test_a_cancelled_job_ends_and_leaves_nothing(endless, ending, verb, tmp_path):
    frame = km.scan_source(endless)
    frame = {
        "none": lambda: frame,
        "sort": lambda: frame.sort("n"),
        "group_by": lambda: frame.group_by("n").agg(km.len()),
        "join": lambda: frame.join(km.from_arrow(pa.table({"n": [1, 2]})), "n"),
    }[verb]()
    heard = []
    job = ending(frame, tmp_path, heard.append)
    assert endless.begun.wait(PATIENCE_S)
    assert job.state == "RUNNING"
    job.cancel()
    assert job.wait(PATIENCE_S) == "CANCELLED"
    with pytest.raises(KernelmillError) as raised:
        job.result()
    assert raised.value.code is Code.CANCELLED
    assert [event.outcome for event in heard if isinstance(event, JobFinished)] == ["cancelled"]
    assert not [path for path, _, files in os.walk(tmp_path) for _ in files]
    assert not (tmp_path / "out").exists()
    of_jobs = [thread.name for thread in threading.enumerate() if thread.name.startswith("kernelmill-")]
    assert set(of_jobs) <= {"kernelmill-looking"}  # the one that a process keeps


def test_a_job_that_is_cancelled_before_it_begins_runs_no_task(endless):
    may_go = threading.Event()

    def call():
        may_go.wait(PATIENCE_S)
        return km.scan_source(endless).collect(progress=False)

    job = km.start(call)
    assert job.wait(0.0) == "RUNNING"
    job.cancel()
    may_go.set()
    assert job.wait(PATIENCE_S) == "CANCELLED"


def test_a_job_that_is_over_has_a_result_and_cannot_be_cancelled():
    frame = km.from_arrow(pa.table({"n": [3, 1, 2]}))
    job = km.start(frame.sort("n").collect, progress=False)
    assert job.result().rows() == [(1,), (2,), (3,)]
    job.cancel()
    assert (job.state, job.result().height) == ("COMMITTED", 3)
    assert repr(job) == "<kernelmill job collect: COMMITTED>"


def test_a_job_that_fails_raises_its_error_where_it_is_asked_for():
    frame = km.from_arrow(pa.table({"t": ["x"]})).cast({"t": "int64"})
    job = km.start(frame.collect, progress=False)
    assert job.wait() == "FAILED"
    for _ in range(2):
        with pytest.raises(KernelmillError) as raised:
            job.result()
        assert raised.value.code is Code.CAST


def test_jobs_of_other_threads_go_on_when_one_is_cancelled(endless):
    job = km.start(km.scan_source(endless).sort("n").collect, progress=False)
    assert endless.begun.wait(PATIENCE_S)
    job.cancel()
    assert km.from_arrow(pa.table({"n": [1]})).collect(progress=False).rows() == [(1,)]
    assert job.wait(PATIENCE_S) == "CANCELLED"


def test_what_cannot_be_called_is_told():
    with pytest.raises(KernelmillError) as raised:
        km.start(km.from_arrow(pa.table({"n": [1]})))
    assert raised.value.code is Code.BAD_SETTING
