"""The engine against plain Python on the same input: `make bench`. Results are compared before times are taken."""

# ruff: noqa: D103 -- the names of tests are sentences
from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import kernelmill as km
from bench.facts import count_words, line_blocks
from bench.measure import OWN_VARIABLE
from bench.tables import write_group_by_table
from bench.zipf import zipf_blocks

WORDS = 1_000_000
ROWS = 500_000


@pytest.fixture(autouse=True)
def only_settings_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(OWN_VARIABLE, raising=False)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "zipf.txt"
    path.write_bytes(b"".join(zipf_blocks(WORDS, 100_000, 1.1, seed=1)))
    return path


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("table") / "groupby.parquet"
    write_group_by_table(path, rows=ROWS, groups=10_000, seed=1)
    return path


def counter_over_lines(text: Path) -> Counter[bytes]:
    counts: Counter[bytes] = Counter()
    with text.open("rb") as lines:
        for line in lines:
            counts.update(line.split())
    return counts


def engine_words(text: Path, target: Path) -> Path:
    words = km.scan_text(str(text)).select(word=km.col("line").str.tokenize())
    counts = words.explode("word").group_by("word").agg(km.len())
    counts.sink_parquet(str(target), compression="snappy", mode="overwrite", progress=False)
    return target


def dict_groups(table: Path, key: str) -> dict[Any, tuple[int, float]]:
    columns = pq.read_table(table, columns=[key, "v1", "v3"])
    totals: defaultdict[Any, int] = defaultdict(int)
    sums: defaultdict[Any, float] = defaultdict(float)
    rows: defaultdict[Any, int] = defaultdict(int)
    for name, v1, v3 in zip(*(column.to_pylist() for column in columns.columns), strict=True):
        totals[name] += v1
        sums[name] += v3
        rows[name] += 1
    return {name: (totals[name], sums[name] / rows[name]) for name in totals}


def engine_groups(table: Path, key: str, target: Path) -> Path:
    groups = km.scan_parquet(str(table)).group_by(key)
    result = groups.agg(km.col("v1").sum().alias("total"), km.col("v3").mean().alias("average"))
    result.sink_parquet(str(target), compression="snappy", mode="overwrite", progress=False)
    return target


@pytest.mark.benchmark(group="word count")
def test_words_by_a_counter_over_lines(benchmark: Any, text: Path) -> None:
    counts = benchmark.pedantic(counter_over_lines, (text,), rounds=3)
    assert counts == count_words(line_blocks(text))


@pytest.mark.benchmark(group="word count")
def test_words_by_the_engine(benchmark: Any, text: Path, tmp_path: Path) -> None:
    target = benchmark.pedantic(engine_words, (text, tmp_path / "words"), rounds=5, warmup_rounds=1)
    found = pq.read_table(target).to_pydict()
    assert {word.encode(): count for word, count in zip(found["word"], found["len"], strict=True)} == dict(
        counter_over_lines(text)
    )


@pytest.mark.parametrize("key", ["id6", "id3"])
def test_groups_by_a_dict(benchmark: Any, table: Path, key: str) -> None:
    benchmark.group = f"group by {key}"
    groups = benchmark.pedantic(dict_groups, (table, key), rounds=3)
    assert sum(total for total, _ in groups.values()) == sum(pq.read_table(table, columns=["v1"]).to_pydict()["v1"])


@pytest.mark.parametrize("key", ["id6", "id3"])
def test_groups_by_the_engine(benchmark: Any, table: Path, key: str, tmp_path: Path) -> None:
    benchmark.group = f"group by {key}"
    arguments = (table, key, tmp_path / "groups")
    target = benchmark.pedantic(engine_groups, arguments, rounds=5, warmup_rounds=1)
    found = pq.read_table(target).to_pydict()
    expected = dict_groups(table, key)
    assert dict(zip(found[key], found["total"], strict=True)) == {name: row[0] for name, row in expected.items()}
    averages = dict(zip(found[key], found["average"], strict=True))
    assert averages == pytest.approx({name: row[1] for name, row in expected.items()}, rel=1e-9)
