"""The benchmark's inputs are what they say, and its arithmetic is right."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.corpus import Repairs, as_utf8, build_tree, kjv_text, texts_of_tar
from bench.facts import digest_of_counts, facts_of_text, line_blocks
from bench.tables import write_group_by_table
from bench.zipf import word_of_rank, zipf_blocks

ROOT = Path(__file__).resolve().parents[2]
ODD_WORDS = b"a\tb\x0bc\x0cd\re f\n\xc2\xa0 a\x00b caf\xc3\xa9 \x1c a:1 a\n\n  last"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KERNELMILL_BENCH_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


def test_facts_are_those_of_bytes_split_whatever_the_block_size(tmp_path: Path) -> None:
    text = tmp_path / "odd.txt"
    text.write_bytes(ODD_WORDS * 50)
    counts = Counter((ODD_WORDS * 50).split())
    facts = facts_of_text(text)
    assert (facts.words, facts.distinct, facts.digest) == (counts.total(), len(counts), digest_of_counts(counts))
    assert b"".join(line_blocks(text, 7)) == text.read_bytes()


def test_the_digest_ignores_order_and_sees_a_changed_count() -> None:
    assert digest_of_counts(Counter({b"a": 1, b"b": 2})) == digest_of_counts(Counter({b"b": 2, b"a": 1}))
    assert digest_of_counts(Counter({b"a": 1, b"b": 2})) != digest_of_counts(Counter({b"a": 2, b"b": 1}))


def test_lines_that_are_not_utf8_are_transcoded_and_others_kept() -> None:
    repairs = Repairs()
    assert as_utf8(b"caf\xc3\xa9\ncaf\xe9", repairs) == b"caf\xc3\xa9\ncaf\xc3\xa9\n"
    assert (repairs.lines_transcoded, repairs.newlines_added) == (1, 1)


def test_a_tree_is_one_text_by_path_and_its_json_gives_the_counts(tmp_path: Path, data: Path) -> None:
    for name, text in {"b/z.txt": b"one two", "a.c": b"two\n", "skipped.o": b"no"}.items():
        (tmp_path / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "tree" / name).write_bytes(text)
    build_tree(tmp_path / "tree", "small", (".c", ".txt"))
    assert (data / "small.txt").read_bytes() == b"two\none two\n"
    facts = json.loads((data / "small.json").read_text())
    assert (facts["words"], facts["distinct"], facts["lines"], facts["files"]) == (3, 2, 2, 2)


def test_a_tar_gives_its_texts_by_path(tmp_path: Path) -> None:
    for name in ("b.c", "a.h", "c.bin"):
        (tmp_path / name).write_bytes(name.encode() + b"\n")
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        for name in ("b.c", "c.bin", "a.h"):
            tar.add(tmp_path / name, name)
    assert list(texts_of_tar(tmp_path / "x.tar", (".c", ".h"), Repairs())) == [b"a.h\n", b"b.c\n"]


def test_verse_references_are_dropped(tmp_path: Path) -> None:
    (tmp_path / "01.txt").write_bytes(b"Ge1:1 In the beginning\nGe1:2 And 1:1 b\n")
    assert kjv_text(tmp_path) == b"In the beginning\nAnd 1:1 b\n"


def test_zipf_text_is_a_function_of_its_arguments_with_the_words_asked_for() -> None:
    text = b"".join(zipf_blocks(5000, 300, 1.1, seed=3))
    assert text == b"".join(zipf_blocks(5000, 300, 1.1, seed=3)) != b"".join(zipf_blocks(5000, 300, 1.1, seed=4))
    counts = Counter(text.split())
    assert counts.total() == 5000
    assert set(counts) <= {word_of_rank(rank) for rank in range(300)}
    assert counts.most_common(1)[0][0] == word_of_rank(0)
    assert len({word_of_rank(rank) for rank in range(20_000)}) == 20_000


def test_the_group_by_table_follows_the_formulas(tmp_path: Path) -> None:
    facts = write_group_by_table(tmp_path / "g.parquet", rows=20_000, groups=50, seed=1)
    row = duckdb.sql(
        "SELECT count(DISTINCT id3), count(DISTINCT id6), min(id3), max(id6), min(v1), max(v1), min(v2), max(v2),"
        f" min(v3) >= 0, max(v3) <= 100 FROM '{tmp_path}/g.parquet'"
    ).fetchall()[0]
    assert row == (50, 50, "id0000000001", 50, 1, 5, 1, 15, True, True)
    assert (facts["distinct_id3"], facts["distinct_id6"]) == (50, 50)


@pytest.mark.parametrize("engine", ["duckdb", "polars"])
@pytest.mark.parametrize("formulation", ["words", "pieces", "lines"])
def test_every_peer_formulation_counts_as_bytes_split_does(tmp_path: Path, engine: str, formulation: str) -> None:
    text, target = tmp_path / "odd.txt", tmp_path / "out.parquet"
    text.write_bytes(ODD_WORDS * 20 + b'\n"quoted, word" \\ #x\n')
    module = f"bench.peers.{engine}_words"
    done = subprocess.run(
        [sys.executable, "-m", module, text, target, formulation, "snappy", "1"], capture_output=True, cwd=ROOT
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    found = pq.read_table(target).to_pydict()
    counts = dict(zip((word.encode() for word in found["word"]), found["len"], strict=True))
    assert counts == Counter(text.read_bytes().split())


@pytest.mark.parametrize("keys", ["id6", "id3", "id3,id6"])
def test_the_peers_group_alike(tmp_path: Path, keys: str) -> None:
    write_group_by_table(tmp_path / "g.parquet", rows=5_000, groups=40, seed=1)
    tables = []
    for engine in ("duckdb", "polars"):
        target = tmp_path / f"{engine}.parquet"
        command = [sys.executable, "-m", f"bench.peers.{engine}_groups", tmp_path / "g.parquet", target]
        done = subprocess.run([*command, keys, "snappy", "1", "2"], capture_output=True, cwd=ROOT, check=True)
        assert len(json.loads(done.stdout)) == 2
        table = pq.read_table(target)
        tables.append(table.sort_by([(key, "ascending") for key in keys.split(",")]))
    assert tables[0]["total"].to_pylist() == tables[1]["total"].to_pylist()
    assert tables[0]["total"].type == pa.int64()
    assert tables[0]["average"].to_pylist() == pytest.approx(tables[1]["average"].to_pylist(), rel=1e-9)
