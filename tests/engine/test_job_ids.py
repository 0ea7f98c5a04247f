"""job_id= where no job can have a name: it is said why, and what to do."""

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError


class Sink:
    def begin(self, schema, parts):
        raise AssertionError("nothing may run")

    def write(self, part, batches):
        raise AssertionError("nothing may run")

    def commit(self, receipts):
        raise AssertionError("nothing may run")

    def abort(self):
        raise AssertionError("nothing may run")


@pytest.mark.parametrize(
    "run",
    [
        lambda frame: frame.collect(job_id="counts"),
        lambda frame: list(frame.collect_batches(job_id="counts")),
        lambda frame: frame.cache(job_id="counts"),
        lambda frame: frame.sink(Sink(), job_id="counts"),
    ],
    ids=["collect", "collect_batches", "cache", "sink"],
)
def test_a_job_that_leaves_no_files_cannot_have_a_name(run):
    with pytest.raises(KernelmillError) as caught:
        run(km.from_arrow(pa.table({"n": [1, 2]})))
    assert caught.value.code is Code.BAD_SETTING
    assert "job_id=" in caught.value.what and "sink_parquet" in caught.value.hint
    assert "test_job_ids.py" in caught.value.where
