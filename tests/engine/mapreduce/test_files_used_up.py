"""A function that opens files until there are no more is named with its record, whose line is still counted."""

import gzip
import os
import resource

import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError

TYPED = {"key": "string", "value": "int64"}
LEAKED = []


def leaks(line, emit):
    while line == "bad 2":
        LEAKED.append(os.open(os.devnull, os.O_RDONLY))
    emit(line, 1)


@pytest.fixture
def few_files():
    """A limit on open files, somewhat above what is open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 40, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("name", ["in.txt", "in.txt.gz"])
def test_the_function_and_the_record_are_named_not_the_input(tmp_path, few_files, name):
    data = b"good 1\nbad 2\ngood 3\n"
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    job = km.MapReduce(leaks, "sum", schema=TYPED, compile="never")
    try:
        with pytest.raises(KernelmillError) as caught:
            km.scan_text(tmp_path / name).pipe(job).collect(threads=1)
    finally:
        while LEAKED:
            os.close(LEAKED.pop())
    assert caught.value.code is Code.FUNCTION_FAILED, caught.value
    assert "Too many open files" in caught.value.what and "bad 2" in caught.value.hint
    assert caught.value.where == f"{tmp_path / name}, byte 7, line 2"
