"""I1 for users' functions: the same bytes for any threads, spilling or not, another process, a block that was lost."""

import os

import outside
import pytest

import kernelmill as km

SETTINGS = {"split_size": "500KiB", "max_rejects": 10_000}
PAIRS = {"word": "string", "n": "int64"}


def map_words(line, emit):
    for word in line.split():
        emit(word, len(word))
    emit.count("lines")
    if "7" in line or len(line) % 101 == 0:
        emit.reject("odd")


def reduce_sum(key, values, emit):
    emit(sum(values))


def reduce_first(key, values, emit):
    emit(next(values))
    emit.count("keys")


def first_letter(word, n):
    return ord(word[0]) % n


def place(word, n):
    return hash(word) % n


JOBS = {
    "sum": {"reduce": "sum"},
    "function": {"reduce": reduce_first, "partition": first_letter},
    "combined": {"reduce": reduce_sum, "combine": max, "order": None},
    "by-value": {"reduce": "list", "order": "value", "partition": place},
    "pairs": {"reduce": None},
}


def job_of(name):
    return km.MapReduce(map_words, key="word", value="n", schema=PAIRS, partitions=3, compile="never", **JOBS[name])


@pytest.fixture(scope="module")
def some_words(inputs):
    """2 MB with some 0.1 million distinct words."""
    path = inputs / "some-words.txt"
    outside.write_words(path, words=230_000, distinct=100_000)
    return path


@pytest.mark.parametrize("name", JOBS)
def test_the_same_bytes_for_any_threads_and_with_spilling(some_words, name, monkeypatch):
    expected = None
    frame = job_of(name)(km.scan_text(some_words))
    for threads, is_tight in ((1, False), (2, True), (3, False), (8, True)):
        memory = outside.tight_memory(frame, "out", threads, split_size="500KiB") if is_tight else "4GiB"
        spilled = outside.Spilled()
        os.mkdir(f"{threads}")
        frame.sink_parquet(f"{threads}/out", threads=threads, memory=memory, progress=spilled, **SETTINGS)
        assert (spilled.bytes > 0) == is_tight
        found = outside.digests(f"{threads}/out")
        expected = expected or found
        assert found == expected, (threads, is_tight)
    assert {"out/_manifest.json", "out/part-00002.parquet", "out/_rejects/part-00000.parquet"} < set(expected)


def test_another_process_makes_the_same_bytes(some_words):
    """Python salts its hashes per process: neither a partition by hash() nor the order of a set may tell."""
    with open("job.py", "w") as file:
        file.write(
            "import kernelmill as km\n"
            "def map(line, emit):\n"
            "    for word in sorted(set(line.split())):\n"
            "        emit(word, hash(word) % 5)\n"
            "job = km.MapReduce(map, 'sum', partition=lambda word, n: hash((word, n)) % n, partitions=3,\n"
            "                   schema={'key': 'string', 'value': 'int64'}, compile='never')\n"
        )
    expected = None
    for salt in ("1", "2"):
        os.mkdir(salt)
        done = outside.command(
            "run", "job.py:job", some_words, "-o", f"{salt}/out", "--threads", salt, "--split-size", "500KiB",
            env=os.environ | {"PYTHONHASHSEED": salt},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        found = outside.digests(f"{salt}/out")
        expected = expected or found
        assert found == expected


def test_counters_are_exact_where_a_task_runs_twice(some_words, monkeypatch):
    """A spilled block that is found damaged makes its map task run again: it must not count twice."""
    from kernelmill.engine.shuffle import store as stores

    damaged = []
    decode = stores.decode_piece

    def decode_once(data, schema, **options):
        if not damaged:
            damaged.append(1)
            data = data.slice(0, len(data) - 1)
        return decode(data, schema, **options)

    frame = job_of("function")(km.scan_text(some_words))
    memory = outside.tight_memory(frame, "out", 2, split_size="500KiB")
    plain = frame.sink_parquet("plain", threads=2, progress=False, **SETTINGS)
    monkeypatch.setattr(stores, "decode_piece", decode_once)
    again = frame.sink_parquet("again", threads=2, memory=memory, progress=False, **SETTINGS)
    assert damaged and again.counters == plain.counters and again.rejects == plain.rejects
    assert plain.counters["lines"] > 15_000
    names = {name.split("/", 1)[1]: digest for name, digest in outside.digests("plain").items()}
    assert {name.split("/", 1)[1]: digest for name, digest in outside.digests("again").items()} == names
