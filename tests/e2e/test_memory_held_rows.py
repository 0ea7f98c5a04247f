"""Sorts, groups and outputs of more rows than memory: they spill, stay within the memory, and give the same bytes."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import outside
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.kernels import _jit, searching

MIB = 1 << 20
ALLOWANCE = 256 * MIB  # interpreter and libraries
PAIRS = {"key": "string", "value": "int64"}
LINE_BYTES, LINES = 500, 300_000

SCRIPT = """
import sys
import kernelmill as km

path, output, work, memory = sys.argv[1:]
lines = km.scan_text(path)
tuned = {"memory": memory, "split_size": "8MiB", "progress": False, "row_group_rows": 20_000}

def one_group(line, emit):
    emit("all", line)

def same_lines(key, lines, emit):
    for line in lines:
        emit(line)
        emit.count("lines")

if work == "sort":
    result = lines.sort("line").sink_parquet(output, **tuned)
elif work == "tenfold":
    def ten_times(line, emit):
        for at in range(10):
            emit(line[at:at + 2], line)

    job = km.MapReduce(ten_times, "first", order=None, schema={"key": "string", "value": "string"}, partitions=3)
    result = job(lines).sink_parquet(output, **tuned | {"split_size": "64MiB"})
elif work == "lists":
    def places(row, emit):
        for at in range(0, len(row.line), 4):
            emit(row.line[at:at + 2], row.at + at)

    places = km.MapReduce(places, "list", order=None, partitions=2)
    result = places(km.scan_text(path, include_offsets="at")).sink_parquet(output, **tuned)
else:
    options = {
        "first": ("first", {"key": "string", "value": "string"}),
        "emitted": (same_lines, {"key": "string", "value": "string"}),
    }
    reduce, schema = options[work]
    job = km.MapReduce(one_group, reduce, schema=schema, compile="never", order=None)
    result = job(lines).sink_parquet(output, **tuned)
    print(result.counters.get("lines"))
with open("/proc/self/status") as status:
    print(next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM:")))
"""

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc"),
    pytest.mark.slow,
]


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """150 MB: three copies of it are more than memory and allowance together."""
    inputs = tmp_path_factory.mktemp("large")
    path = inputs / "lines.txt"
    rng = np.random.default_rng(7)
    with open(path, "wb") as file:
        for _ in range(10):
            letters = rng.integers(97, 123, (LINES // 10, LINE_BYTES), np.uint8)
            letters[:, -1] = 10
            file.write(letters.tobytes())
    few = inputs / "few.txt"
    few.write_bytes(path.read_bytes()[: 1000 * LINE_BYTES])
    for work in ("sort", "tenfold", "first", "emitted", "lists"):  # a process that must compile takes more memory
        run(few, inputs / f"few-{work}", work, "1GiB")
    _jit.load([searching.narrow_strings])
    yield path
    path.unlink()


def run(*arguments):
    """What the script printed; the last number is the peak of its process alone."""
    with outside.running([sys.executable, "-c", SCRIPT, *map(str, arguments)], stderr=subprocess.PIPE) as process:
        out, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    *printed, peak = out.split()
    return printed, int(peak)


def test_a_sort_beyond_memory_stays_within_it_and_writes_the_same_bytes(large):
    _, peak = run(large, "small.parquet", "sort", "128MiB")
    assert peak < 128 * MIB + ALLOWANCE
    _, ample = run(large, "ample.parquet", "sort", "4GiB")
    assert ample > peak
    assert Path("small.parquet").read_bytes() == Path("ample.parquet").read_bytes()
    column = pq.read_table("small.parquet")["line"]
    assert len(column) == LINES
    assert pc.all(pc.less_equal(column[:-1], column[1:])).as_py()


def test_a_task_whose_output_is_more_than_memory_stays_within_it_and_leaves_the_same_bytes(large):
    """30 MB are one split, which makes 300 MB of pairs."""
    with open(large, "rb") as file:
        Path("some.txt").write_bytes(file.read(60_000 * LINE_BYTES))
    _, peak = run("some.txt", "small", "tenfold", "192MiB")
    assert peak < 192 * MIB + ALLOWANCE
    _, ample = run("some.txt", "ample", "tenfold", "4GiB")
    assert ample > peak
    for number in range(3):
        name = f"part-0000{number}.parquet"
        assert Path("small", name).read_bytes() == Path("ample", name).read_bytes()


@pytest.mark.parametrize("reduce", ["first", "emitted"])
def test_one_group_of_more_than_memory_is_reduced_within_it(large, reduce):
    printed, peak = run(large, "out", reduce, "192MiB")
    assert peak < 192 * MIB + ALLOWANCE
    rows = sum(pq.ParquetFile(path).metadata.num_rows for path in Path("out").glob("*.parquet"))
    assert rows == (LINES if reduce == "emitted" else 1)
    if reduce == "emitted":
        assert printed == [str(LINES)]


def test_lists_of_more_than_memory_are_made_within_it_in_the_same_order(large):
    """37.5 million values of 676 keys: 300 MB."""
    _, peak = run(large, "small", "lists", "448MiB")
    assert peak < 448 * MIB + ALLOWANCE
    run(large, "ample", "lists", "4GiB")
    for name in ("part-00000.parquet", "part-00001.parquet"):
        assert Path("small", name).read_bytes() == Path("ample", name).read_bytes()
    values = sum(len(list_) for path in Path("small").glob("*.parquet") for list_ in pq.read_table(path)["value"])
    assert values == LINES * LINE_BYTES // 4


@pytest.mark.parametrize("order", [None, "key"])
def test_a_disk_that_is_full_for_a_sort_fails_the_job_and_leaves_nothing(large, spills, order):
    """What the tasks of a job that failed spilled has no name, and the folder it was in goes with the job."""
    job = km.MapReduce(lambda line, emit: emit(line, 1), "list", schema=PAIRS, compile="never", order=order)
    lines = km.scan_text(large)
    tuned = {"memory": "512MiB", "split_size": "8MiB", "partitions": 1, "progress": False}
    for frame in (lines.sort("line"), job(lines)):
        with pytest.raises(KernelmillError) as caught:
            frame.sink_parquet("out", spill_limit="40MiB", **tuned)
        assert caught.value.code is Code.DISK_FULL
        assert list(spills.iterdir()) == []
        assert not Path("out").exists()
