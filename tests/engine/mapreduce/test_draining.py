"""Keys that need only be counted: a compiled map's driver hands them to the table itself, with the same counts."""

import random
from collections import Counter

import pytest

import kernelmill as km
from kernelmill.engine.exec import aggregate, draining, stages
from kernelmill.kernels import _jit
from kernelmill.kernels.table import KeyTable

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")


@pytest.fixture(autouse=True)
def small_stages(monkeypatch):
    """A stage holds 512 rows, and a driver drains it at 100."""
    monkeypatch.setattr(stages, "STAGE_WORDS", 1 << 10)
    monkeypatch.setattr(draining, "COUNT_ROWS", 100)


@pytest.fixture
def drained(monkeypatch):
    """How many rows came to tables through Python."""
    rows, count = [], KeyTable.count_staged

    def counted(table, base, addresses, sizes, first):
        rows.append(sizes.size - first)
        return count(table, base, addresses, sizes, first)

    monkeypatch.setattr(KeyTable, "count_staged", counted)
    return rows


def lines_of(distinct, rows=12_000):
    chance = random.Random(distinct)
    words = [f"w{n}" if n % 9 else f"a longer word number {n}".replace(" ", "-") for n in range(distinct)]
    return [" ".join(chance.choices(words, k=chance.choice([0, 1, 3, 40]))) for _ in range(rows)]


def counts_of(job, path, **settings):
    rows = job(km.scan_text(path)).collect(progress=False, **settings).to_arrow().to_pylist()
    return {row["word"]: row["n"] for row in rows}


def words(line, emit):
    for word in line.split():
        emit(word, 1)


def written(tmp_path, lines):
    path = tmp_path / "t.txt"
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize("distinct", [50, 30_000])
@pytest.mark.parametrize("settings", [{"threads": 1}, {"threads": 2, "split_size": "300KiB", "partitions": 3}])
def test_words_are_counted_as_a_counter_counts_them(tmp_path, drained, distinct, settings):
    lines = lines_of(distinct)
    expected = Counter(word for line in lines for word in line.split())
    job = km.MapReduce(words, "sum", key="word", value="n", order=None, compile="require")
    assert counts_of(job, written(tmp_path, lines), **settings) == expected
    assert sum(drained) < expected.total() // 2


def test_a_table_that_is_flushed_at_its_size_loses_no_row(tmp_path, monkeypatch, drained):
    monkeypatch.setattr(aggregate, "FLUSH_GROUPS", 1000)
    lines = lines_of(7_000)
    job = km.MapReduce(words, "sum", key="word", value="n", compile="require")
    expected = Counter(word for line in lines for word in line.split())
    assert counts_of(job, written(tmp_path, lines), threads=1) == expected
    assert sum(drained) < expected.total()


def test_texts_that_a_map_makes_live_until_they_are_counted(tmp_path):
    def shouted(line, emit):
        for word in line.split():
            emit(word.upper() + "!", 3)

    lines = lines_of(3_000)
    job = km.MapReduce(shouted, "sum", key="word", value="n", compile="require")
    found = counts_of(job, written(tmp_path, lines))
    assert found == {
        f"{word.upper()}!": 3 * n for word, n in Counter(word for line in lines for word in line.split()).items()
    }


def test_records_that_fail_leave_none_of_their_emits_and_the_others_all(tmp_path):
    def numbered(line, emit):
        for word in line.split():
            emit(word, 1)
        if int(line.split("#")[1]) % 10 == 0:
            emit.reject("a round number")

    lines = [f"{line} #{'x' if n % 83 == 0 else n}" for n, line in enumerate(lines_of(500, rows=5_000))]
    kept = [line for line in lines if not line.endswith(("x", "0"))]
    job = km.MapReduce(numbered, "sum", key="word", value="n", compile="require")
    found = counts_of(job, written(tmp_path, lines), on_bad="reject", max_rejects=5_000)
    assert found == Counter(word for line in kept for word in line.split())


def test_a_record_of_more_rows_than_a_stage_holds_is_counted_once(tmp_path):
    lines = [f"w{n % 7}" for n in range(3_000)] + [" ".join(f"w{n % 900}" for n in range(9_000)), "w1 w2", "w3"]
    job = km.MapReduce(words, "count", key="word", value="n", compile="require")
    assert counts_of(job, written(tmp_path, lines)) == Counter(word for line in lines for word in line.split())
