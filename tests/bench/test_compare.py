"""The comparison measures what it says, and refuses results that differ."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import click
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from bench import compare
from bench.engines import output_name
from bench.facts import digest_of_counts
from bench.harness import check_words
from bench.measure import CommandFailedError, Run, measure
from bench.outputs import group_differences, word_facts
from bench.report import round_order, seconds_table, summarise

ROOT = Path(__file__).resolve().parents[2]
COUNTS = Counter({b"caf\xc3\xa9": 3, b"a": 2, b"1:a": 1})


def counts_file(path: Path, counts: Counter[bytes], codec: str = "snappy") -> Path:
    words = [word.decode() for word in counts]
    pq.write_table(pa.table({"word": words, "len": list(counts.values())}), path, compression=codec)
    return path


def groups_file(path: Path, keys: list[int], totals: list[int], averages: list[float]) -> Path:
    pq.write_table(pa.table({"id6": keys, "total": totals, "average": averages}), path)
    return path


def run_of(seconds: float) -> Run:
    return Run(seconds, seconds, 0.0, 1_000_000, "")


MEASURE_TWO = """
import json, sys
from dataclasses import asdict
from bench.measure import measure
runs = [measure([sys.executable, "-c", code]) for code in ("print('x')", "x = b'1' * 200_000_000")]
print(json.dumps([asdict(run) for run in runs]))
"""


def test_a_process_is_measured_with_its_memory_and_output() -> None:
    # From a small process: a child's peak begins at the size of the process that forked it, here pytest's.
    done = subprocess.run([sys.executable, "-c", MEASURE_TWO], capture_output=True, cwd=ROOT, check=True)
    small, large = json.loads(done.stdout)
    assert small["output"] == "x\n"
    assert small["seconds"] > 0
    assert small["peak_bytes"] < 60_000_000 < 200_000_000 < large["peak_bytes"] < 260_000_000


def test_the_process_that_measures_imports_nothing_large() -> None:
    program = "import sys, bench.compare; print(sorted({'numpy', 'pyarrow', 'duckdb', 'polars'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, cwd=ROOT, check=True)
    assert done.stdout == b"[]\n"


def test_a_process_that_fails_tells_what_it_said() -> None:
    with pytest.raises(CommandFailedError, match="oh no"):
        measure([sys.executable, "-c", "raise SystemExit('oh no')"])


def test_an_output_has_the_digest_that_plain_python_gives(tmp_path: Path) -> None:
    facts = word_facts(counts_file(tmp_path / "o.parquet", COUNTS))
    expected = {"rows": 3, "distinct": 3, "words": 6, "digest": digest_of_counts(COUNTS), "codecs": ["snappy"]}
    assert facts == expected


def test_an_output_in_several_parts_has_the_digest_of_the_whole(tmp_path: Path) -> None:
    counts_file(tmp_path / "part-00000.parquet", Counter({b"a": 2}))
    counts_file(tmp_path / "part-00001.parquet", Counter({b"caf\xc3\xa9": 3, b"1:a": 1}))
    assert word_facts(tmp_path)["digest"] == digest_of_counts(COUNTS)


@pytest.mark.parametrize("wrong", [Counter({b"a": 2}), COUNTS + Counter([b"a"]), Counter({b"a": 2, b"b": 3, b"c": 1})])
def test_a_wrong_word_count_is_refused(tmp_path: Path, wrong: Counter[bytes]) -> None:
    text = tmp_path / "t.txt"
    truth = {"distinct": 3, "words": 6, "digest": digest_of_counts(COUNTS)}
    text.with_suffix(".json").write_text(json.dumps(truth))
    check_words(text, counts_file(tmp_path / "right.parquet", COUNTS), "x", "snappy")
    with pytest.raises(click.ClickException):
        check_words(text, counts_file(tmp_path / "wrong.parquet", wrong), "x", "snappy")
    with pytest.raises(click.ClickException):
        check_words(text, counts_file(tmp_path / "codec.parquet", COUNTS, "zstd"), "x", "snappy")


def test_group_differences_are_counted_by_kind(tmp_path: Path) -> None:
    one = groups_file(tmp_path / "a.parquet", [1, 2, 3], [5, 6, 7], [1.0, 2.0, 3.0])
    two = groups_file(tmp_path / "b.parquet", [4, 3, 2], [1, 7, 9], [0.0, 3.1, 2.0 + 1e-12])
    assert not any(group_differences(one, one, ["id6"])["differences"].values())
    assert group_differences(one, two, ["id6"])["differences"] == {"absent": 1, "extra": 1, "sums": 1, "means": 1}


def test_rounds_begin_with_each_engine_in_turn() -> None:
    assert [round_order("abc", number) for number in range(4)] == [list("abc"), list("bca"), list("cab"), list("abc")]


def test_only_kernelmill_writes_a_folder() -> None:
    assert [output_name(name) for name in ("kernelmill", "duckdb-words", "polars")] == [
        "kernelmill",
        "duckdb-words.parquet",
        "polars.parquet",
    ]


def test_ratios_are_taken_within_a_round() -> None:
    measured = [
        {"kernelmill": run_of(1.0), "duckdb": run_of(4.0), "polars": run_of(3.0)},
        {"kernelmill": run_of(2.0), "duckdb": run_of(6.0), "polars": run_of(9.0)},
        {"kernelmill": run_of(1.0), "duckdb": run_of(5.0), "polars": run_of(6.0)},
    ]
    summary = summarise(measured)
    assert summary["ratios"] == {"duckdb": 4.0, "polars": 4.5}
    assert summary["ratio_to_fastest_peer"] == 3.0
    assert summary["medians"]["kernelmill"]["seconds"] == 1.0
    assert len(seconds_table(summary)) == 5


def test_an_absent_corpus_is_named_with_the_command_that_builds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERNELMILL_BENCH_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)  # the command goes to the checkout; this brings the tests back
    result = CliRunner().invoke(compare.main, ["wordcount-kernel"])
    assert result.exit_code == 1
    assert "python -m bench.corpus kernel" in result.output
