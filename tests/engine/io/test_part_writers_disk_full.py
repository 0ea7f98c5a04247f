"""A disk that is full at any write of a part file: a typed error that names the file, and nothing is left of it."""

import errno
import os

import pyarrow as pa
import pytest

from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.io import parquet_write
from kernelmill.engine.io.arrow_parts import ArrowWriter
from kernelmill.engine.io.parquet_write import PartWriter
from kernelmill.engine.plan.physical import ToParquet

SCHEMA = pa.schema([("n", pa.int64())])
BATCH = pa.record_batch({"n": range(1000)}, schema=SCHEMA)
OPEN = {
    "parquet": lambda path: PartWriter(path, ToParquet("zstd", 1 << 20, True, SCHEMA)),
    "arrow": lambda path: ArrowWriter(path, SCHEMA),
}


class FullFrom:
    """The system's write, on a disk that takes so many writes and no more."""

    def __init__(self, writes):
        self.left = writes

    def __call__(self, handle, data):
        self.left -= 1
        if self.left < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.write(handle, data)

    write = staticmethod(os.write)


@pytest.mark.parametrize("kind", OPEN)
def test_a_disk_that_is_full_at_any_write_is_a_typed_error_and_leaves_no_file(tmp_path, monkeypatch, kind):
    path = str(tmp_path / "part")
    for writes in range(100):
        full = FullFrom(writes)
        monkeypatch.setattr(parquet_write.os, "write", full)
        try:
            with OPEN[kind](path) as writer:
                writer.write(BATCH)
                writer.close()
        except KernelmillError as problem:
            assert (problem.code, problem.where) == (Code.DISK_FULL, path), f"at write {writes}"
            assert os.listdir(tmp_path) == []
        else:
            break
    assert writes > 2 and os.listdir(tmp_path) == ["part"]
