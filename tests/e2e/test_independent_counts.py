"""What comes out is what other programs count: tr, sort and uniq for words, DuckDB for tables."""

import math
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import duckdb
import outside
import pytest

import kernelmill as km
from kernelmill.kernels import _jit

BENCH_DATA = os.environ.get("KERNELMILL_BENCH_DATA", "")  # read here: the tests' settings hide it later
SLICE_BYTES = 12 << 20
# `tr` of each kind of word: what is no part of a word becomes a line end.
TR = {
    "whitespace": ["tr", "-s", r" \t\v\f\r\n", r"\n"],
    "word": ["tr", "-cs", r"A-Za-z0-9_\200-\377", r"\n"],
}

needs_coreutils = pytest.mark.skipif(not all(map(shutil.which, ("tr", "sort", "uniq"))), reason="needs coreutils")


def counts_by_coreutils(paths, tokens, lowercase):
    commands = [["cat", *map(str, paths)], TR[tokens]]
    commands += [["tr", "A-Z", "a-z"]] if lowercase else []
    commands += [["sort", "-S", "256M"], ["uniq", "-c"]]
    environment = os.environ | {"LC_ALL": "C"}
    running, source = [], None
    for words in commands:
        process = subprocess.Popen(words, stdin=source, stdout=subprocess.PIPE, env=environment)
        if source is not None:
            source.close()  # so that it is told when the next one goes away
        running.append(process)
        source = process.stdout
    text = source.read()
    source.close()
    assert [process.wait() for process in running] == [0] * len(running)
    pairs = [line.lstrip(b" ").split(b" ", 1) for line in text.split(b"\n") if line]
    return {word: int(count) for count, word in pairs if word}


def source_code(inputs):
    """A slice of the kernel's source where there is one, else of Python's: much punctuation, long and strange words."""
    kernel = Path(BENCH_DATA) / "kernel.txt"
    path = inputs / "source.txt"
    if BENCH_DATA and kernel.exists():
        with open(kernel, "rb") as file:
            file.seek(kernel.stat().st_size // 2)
            path.write_bytes(file.read(SLICE_BYTES))
        return path
    with open(path, "wb") as out:
        for source in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("**/*.py")):
            if out.tell() < SLICE_BYTES:
                out.write(source.read_bytes())
    return path


@needs_coreutils
@pytest.mark.parametrize(("tokens", "lowercase"), [("whitespace", False), ("word", False), ("word", True)])
def test_the_book(tokens, lowercase):
    books = sorted(outside.KJV.glob("*.txt"))
    done = outside.command("wordcount", outside.KJV, "-o", "out", "--tokens", tokens, *["--lower"] * lowercase)
    assert done.returncode == 0, done.stderr
    found = {word.encode(): count for word, count in outside.counts_in("out").items()}
    assert found == counts_by_coreutils(books, tokens, lowercase)


@needs_coreutils
@pytest.mark.parametrize("tokens", ["whitespace", "word"])
def test_source_code(inputs, tokens):
    path = source_code(inputs)
    # Small splits: 24 borders; bytes: a slice may begin inside a character.
    outside.word_count(path, tokens=tokens, invalid="binary").sink_parquet("out", progress=False, split_size="512KiB")
    found = outside.counts_in("out")
    assert len(found) > 10_000
    assert found == counts_by_coreutils([path], tokens, False)


AGGREGATES = {
    "count(*)": km.len(),
    "sum(x)": km.col("x").sum(),
    "avg(x)": km.col("x").mean(),
    "min(x)": km.col("x").min(),
    "max(x)": km.col("x").max(),
    "sum(n)": km.col("n").sum(),
    "avg(n)": km.col("n").mean(),
    "min(n)": km.col("n").min(),
    "max(n)": km.col("n").max(),
    "count(n)": km.col("n").count(),
}
SUM_OF_N = 1 + list(AGGREGATES).index("sum(n)")


def assert_same_rows(found, expected, keys):
    assert len(found) == len(expected)
    for mine, theirs in zip(sorted(found, key=repr_of(keys)), sorted(expected, key=repr_of(keys)), strict=True):
        assert mine[:keys] == theirs[:keys]
        for number, (ours, other) in enumerate(zip(mine[keys:], theirs[keys:], strict=True)):
            if ours is None and other is None:
                continue
            if other is None:  # SQL's sum of nothing is null, ours is 0
                assert (number, ours) == (SUM_OF_N - 1, 0)
            else:
                assert math.isclose(ours, other, rel_tol=1e-9, abs_tol=1e-6), (mine, theirs)


def repr_of(keys):
    return lambda row: repr(row[:keys])


@pytest.mark.parametrize("keys", [("i",), ("s",), ("i", "s")])
def test_groups(tables, keys):
    named = {f"a{n}": aggregate for n, aggregate in enumerate(AGGREGATES.values())}
    km.scan_parquet(tables).group_by(*keys).agg(**named).sink_parquet(
        "out", progress=False, split_size="2MiB", partitions=3
    )
    found = duckdb.sql("select * from 'out/*.parquet'").fetchall()
    names = ", ".join(keys)
    expected = duckdb.sql(f"select {names}, {', '.join(AGGREGATES)} from '{tables}' group by {names}").fetchall()
    assert_same_rows(found, expected, len(keys))


def test_filtered_groups_and_the_largest_of_them(tables):
    frame = km.scan_parquet(tables).filter((km.col("n") > 2) & km.col("s").is_not_null())
    found = frame.group_by("s").agg(n=km.len(), x=km.col("x").max()).top_k(50, by="x").collect(progress=False).rows()
    expected = duckdb.sql(
        f"select s, count(*), max(x) from '{tables}' where n > 2 and s is not null group by s order by 3 desc limit 50"
    ).fetchall()
    assert found == expected


def test_the_demo_from_an_empty_folder_with_an_empty_home(tmp_path, workplace):
    home = tmp_path / "home"
    home.mkdir()
    keep = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    keep["KERNELMILL_CACHE_DIR"] = str(_jit.cache_root())  # an empty home would mean an empty cache
    done = outside.command("demo", env=keep | {"HOME": str(home)})
    assert done.returncode == 0, done.stderr
    assert [path.name for path in workplace.iterdir()] == ["kernelmill-demo"]
    assert outside.counts_in("kernelmill-demo")["the"] == 63_919
    assert outside.command("check", "kernelmill-demo").returncode == 0
    again = outside.command("demo", env=keep | {"HOME": str(home)})  # it replaces what it made
    assert again.returncode == 0, again.stderr
    assert list(home.iterdir()) == []
