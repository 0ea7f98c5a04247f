"""I1: an output and its manifest are the same bytes for any number of threads, with and without spilling, each run."""

import os

import outside
import pytest

import kernelmill as km

THREADS = (1, 2, 3, 8)
TEXT = {"split_size": "2MiB", "partitions": 4}
TABLE = {"split_size": "2MiB", "partitions": 3}


def digests_of(frame, name, threads, sink=None, **settings):
    frame.sink_parquet(name, threads=threads, progress=sink or False, **settings)
    return outside.digests(name)


def assert_same_bytes(frame, output="out", **settings):
    expected = None
    for threads in THREADS:
        for number, is_tight in enumerate((False, True, False)):  # the last one: the same again
            if number == 2 and threads != 3:
                continue
            spilled = outside.Spilled()
            memory = outside.tight_memory(frame, output, threads, **settings) if is_tight else "4GiB"
            folder = f"{threads}-{number}"
            os.mkdir(folder)
            found = digests_of(frame, f"{folder}/{output}", threads, spilled, memory=memory, **settings)
            if not is_tight or memory > outside.MEMORY_MIN:
                assert (spilled.bytes > 0) == is_tight, (threads, spilled.bytes)
            expected = expected or found
            assert found == expected, (threads, is_tight)
    assert expected
    return expected


@pytest.mark.parametrize("tokens", [{}, {"tokens": "word", "lowercase": True}])
def test_word_counts_of_many_words(many_words, books, tokens):
    found = assert_same_bytes(outside.word_count([many_words, books], **tokens), **TEXT)
    assert sorted(found) == ["out/_manifest.json", *(f"out/part-{n:05d}.parquet" for n in range(4))]


def test_a_word_count_that_is_one_file(many_words):
    assert_same_bytes(outside.word_count(many_words), "words.parquet", **TEXT)


AGGREGATES = (
    km.len(),
    km.col("x").sum().alias("sum"),
    km.col("x").mean().alias("mean"),
    km.col("x").min().alias("min"),
    km.col("n").max().alias("max"),
    km.col("n").count().alias("count"),
)


@pytest.mark.parametrize("keys", [("i",), ("s",), ("i", "s")])
def test_groups_of_parquet_with_sums_and_means_of_floats(tables, keys):
    assert_same_bytes(km.scan_parquet(tables).group_by(*keys).agg(*AGGREGATES), **TABLE)


@pytest.mark.parametrize("how", ["left", "full"])
def test_rows_joined_with_what_groups_have(tables, how):
    """A left join reads its small side in every task, a full one partitions both."""
    groups = km.scan_parquet(tables).filter(km.col("i") % 3 > 0).group_by("s").agg(*AGGREGATES)
    joined = km.scan_parquet(tables).select("s", "i", "x").join(groups, "s", how)
    if how == "full":
        assert_same_bytes(joined, **TABLE)
        return
    expected = None
    for threads in THREADS:
        os.mkdir(str(threads))
        found = digests_of(joined, f"{threads}/out", threads, split_size="2MiB")
        expected = expected or found
        assert found == expected


def test_sums_over_all_rows(tables):
    """One group: nothing can spill worth the name, the order of additions is all that could differ."""
    frame = km.scan_parquet(tables).group_by(one=km.lit(1)).agg(*AGGREGATES)
    expected = None
    for threads in THREADS:
        os.mkdir(str(threads))
        found = digests_of(frame, f"{threads}/out", threads, **TABLE)
        expected = expected or found
        assert found == expected


def test_sorted_rows(tables):
    frame = km.scan_parquet(tables).group_by("s").agg(*AGGREGATES)
    assert_same_bytes(frame.sort("max", "sum", descending=[True, False]), **TABLE)


def test_the_first_of_sorted_rows(many_words):
    # Ties of `len` are many: the order among them must not depend on who came first.
    assert_same_bytes(outside.word_count(many_words).top_k(1000, by="len"), **TEXT)


def test_rows_that_are_only_filtered_and_computed(tables):
    frame = km.scan_parquet(tables).filter(km.col("n") > 0).select("s", y=km.col("x") * 2 + km.col("i"))
    expected = None
    for threads in THREADS:
        os.mkdir(str(threads))
        found = digests_of(frame, f"{threads}/out", threads, split_size="2MiB")
        expected = expected or found
        assert found == expected


def test_rejects(many_words):
    lines = many_words.read_bytes()[: 12 << 20].splitlines(keepends=True)
    lines[1000::50_000] = [b"caf\xe9 au lait\n" for _ in lines[1000::50_000]]
    with open("bad.txt", "wb") as file:
        file.writelines(lines)
    expected = None
    for threads in THREADS:
        os.mkdir(str(threads))
        frame = outside.word_count("bad.txt", invalid="skip")
        found = digests_of(frame, f"{threads}/out", threads, split_size="1MiB")
        expected = expected or found
        assert found == expected
    assert "out/_rejects/part-00000.parquet" in expected


def test_another_process_makes_the_same_bytes(books):
    """Python salts its hashes per process: nothing may depend on the order of a set."""
    expected = None
    for salt in ("1", "2"):
        os.mkdir(salt)
        done = outside.command(
            "wordcount", books, "-o", f"{salt}/out", "--tokens", "word", "--lower", "--threads", salt,
            env=os.environ | {"PYTHONHASHSEED": salt},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = outside.digests(f"{salt}/out")
        expected = expected or found
        assert found == expected
