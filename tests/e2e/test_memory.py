"""The one `memory` number holds: what does not fit is spilled, and the process stays within it and 256 MiB."""

import sys

import outside
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError

MIB = 1 << 20
ALLOWANCE = 256 * MIB  # interpreter and libraries

# The peak of this process alone: ru_maxrss would start from its parent's.
COMMAND_AND_PEAK = """
import sys
from kernelmill.engine.cli import group as cli
code = cli.run(sys.argv[1:])
with open("/proc/self/status") as status:
    print(next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM:")))
sys.exit(code)
"""

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")


def peak_of(*arguments):
    with outside.running([sys.executable, "-c", COMMAND_AND_PEAK, *arguments]) as process:
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return int(out.splitlines()[-1]), err


@pytest.fixture(scope="module")
def large(inputs):
    """85 MB, 5.9 million distinct words: their table alone would take more than what the job is given."""
    path = inputs / "large.txt"
    outside.write_words(path, words=10_000_000, distinct=10_000_000)
    yield path
    path.unlink()


def test_many_distinct_words_are_counted_in_little_memory_by_spilling(large):
    tuned = ["--split-size", "4MiB", "--partitions", "16"]
    peak, err = peak_of("wordcount", large, "-o", "out", "--memory", "64MiB", *tuned, "-v")
    assert "spilled" in err
    assert peak < 64 * MIB + ALLOWANCE
    rows = km.scan_parquet("out").group_by(one=km.lit(1)).agg(words=km.col("len").sum(), distinct=km.len())
    ((_, words, distinct),) = rows.collect(progress=False).rows()
    assert words == 10_000_000
    assert distinct > 5_000_000


def test_a_line_of_300_mb_streams(inputs):
    path = inputs / "line.txt"
    with open(path, "wb") as file:
        for number in range(300):
            file.write(b"w%03d " % number * 200_000)
    try:
        peak, _ = peak_of("wordcount", path, "-o", "out", "--memory", "256MiB", "-q")
    finally:
        path.unlink()
    assert outside.counts_in("out") == {f"w{number:03d}": 200_000 for number in range(300)}
    assert peak < 256 * MIB + ALLOWANCE


def test_less_than_one_task_needs_is_refused_at_once_with_the_least_that_would_do(large):
    with pytest.raises(KernelmillError) as caught:
        outside.word_count(large).sink_parquet("out", memory="64MiB", progress=False)
    assert caught.value.code is Code.MEMORY_LIMIT
    assert caught.value.hint


def test_a_result_beyond_the_memory_is_refused_by_collect_and_names_the_sink(many_words):
    with pytest.raises(KernelmillError) as caught:
        frame = km.scan_text(many_words).with_columns(b=km.col("line"), c=km.col("line"))
        frame.collect(memory="32MiB", split_size="1MiB", progress=False)
    assert caught.value.code is Code.MEMORY_LIMIT
    assert "sink_parquet" in caught.value.hint
