"""The kernel cache may be empty, contended, damaged or out of reach: jobs still give the right answer."""

import os
import shutil
import sys
from pathlib import Path

import outside
import pytest

from kernelmill.kernels import _jit

BOOK = outside.KJV / "65-jude.txt"
# A job with few kernels, for they are compiled here.
SORT = """
import kernelmill as km, pyarrow as pa
rows = km.from_arrow(pa.table({"n": [3, 1, 2]})).sort("n").collect(progress=False).rows()
print(rows)
"""


def with_cache(folder):
    return os.environ | {"KERNELMILL_CACHE_DIR": str(folder)}


@pytest.mark.slow
def test_two_processes_that_find_the_cache_empty_both_succeed_and_a_third_compiles_nothing(tmp_path):
    env = with_cache(tmp_path / "cache")
    jobs = [[*outside.COMMAND, "wordcount", BOOK, "-o", f"out-{n}", "-v", "--no-progress"] for n in range(2)]
    with outside.running(jobs[0], env=env) as first, outside.running(jobs[1], env=env) as second:
        texts = [process.communicate(timeout=100) for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], texts
    assert outside.counts_in("out-0") == outside.counts_in("out-1") == outside.counts_in(_counted_here())
    assert not any("warning" in err or "Traceback" in err for _, err in texts)
    third = outside.command("wordcount", BOOK, "-o", "out-2", "-v", env=env)
    assert third.returncode == 0
    assert "kernels: from the cache" in third.stderr


def _counted_here():
    outside.word_count(BOOK).sink_parquet("here", progress=False)
    return "here"


def test_a_job_whose_kernels_are_all_cached_never_imports_numba_or_llvmlites_package():
    words = [sys.executable, "-X", "importtime", "-m", "kernelmill", "wordcount", BOOK, "-q", "-o"]
    for attempt in range(2):  # the first may compile
        done = outside.run([*words, f"out-{attempt}"])
        assert done.returncode == 0, done.stderr
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "llvmlite" in imported
    assert not any(name.partition(".")[0] == "numba" or name == "llvmlite.binding" for name in imported)


@pytest.mark.parametrize("obstacle", ["a file", "no folder can be made"])
def test_a_cache_that_cannot_be_written_costs_a_warning_and_nothing_else(tmp_path, obstacle):
    (tmp_path / "file").touch()
    cache = tmp_path / "file" if obstacle == "a file" else Path("/proc/kernelmill")
    done = outside.run([sys.executable, "-c", SORT], env=with_cache(cache))
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[(1,), (2,), (3,)]\n"
    assert "no kernel cache" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("damage", ["cut", "emptied", "overwritten"])
def test_a_damaged_cache_file_is_compiled_anew(tmp_path, damage):
    expected = outside.counts_in(_counted_here())  # by now all that it takes is compiled
    warm = Path(_jit.cache_directory())
    cache = tmp_path / "cache"
    shutil.copytree(warm, cache / warm.name)
    victims = [path for path in cache.rglob("*") if path.is_file() and "partition_groups" in path.name]
    assert victims
    for path in victims:
        data = path.read_bytes()
        path.write_bytes({"cut": data[: len(data) // 2], "emptied": b"", "overwritten": bytes(len(data))}[damage])
    done = outside.command("wordcount", BOOK, "-o", "out", "-v", env=with_cache(cache))
    assert done.returncode == 0, done.stderr
    assert "compiled in" in done.stderr
    assert outside.counts_in("out") == expected
    assert "Traceback" not in done.stderr
