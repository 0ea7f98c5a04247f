"""The table of MapReduce's figures: its programs agree with plain Python, its arithmetic is right."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from bench import compare
from bench.corpus import Repairs, build_measurements, build_part, write_corpus
from bench.goals import Figure, goals_table
from bench.mapreduce import ROWS, fastest_peer, ratio
from bench.measure import Run
from bench.outputs import index_facts, station_facts, word_facts
from bench.stations import digest_of_stations, station_names, write_measurements

ROOT = Path(__file__).resolve().parents[2]
SOURCE = (
    "int main(void) {\n\n  /* caf\u00e9_1, na\u00efve \u00a0 */\n\treturn _exit(0x1f) + a1-a2;\n}\n"
    "a a\n" + "#define X_1 \u4e2d\u65871\u00b2 int\n" * 3 + "last int"
)


def run_program(program: str, *arguments: str | Path) -> str:
    command = [sys.executable, "-m", f"bench.peers.{program}", *arguments]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def naive_index(text: bytes) -> dict[str, list[int]]:
    postings: defaultdict[str, list[int]] = defaultdict(list)
    start = 0
    for line in text.splitlines(keepends=True):
        for word in re.findall(rb"[A-Za-z0-9_]+", line):
            postings[word.decode()].append(start)
        start += len(line)
    return dict(postings)


def naive_stations(text: str) -> list[tuple[str, int, int, int, int]]:
    tenths: defaultdict[str, list[int]] = defaultdict(list)
    for line in text.splitlines():
        name, degrees = line.split(";")
        tenths[name].append(int(degrees.replace(".", "")))
    return [(name, len(found), min(found), max(found), sum(found)) for name, found in tenths.items()]


@pytest.fixture
def measurements(tmp_path: Path) -> Path:
    target = tmp_path / "measurements.txt"
    target.with_suffix(".json").write_text(json.dumps(write_measurements(target, lines=3_000, stations=50, seed=7)))
    return target


def test_measurements_are_a_function_of_the_seed_and_their_facts_are_of_the_lines(measurements: Path) -> None:
    facts = json.loads(measurements.with_suffix(".json").read_text())
    rows = naive_stations(measurements.read_text())
    assert facts["digest"] == digest_of_stations(rows)
    assert (facts["lines"], facts["stations"]) == (sum(row[1] for row in rows), len(rows)) == (3_000, 50)
    assert all(re.fullmatch(r"[^;\n]+;-?\d\d?\.\d", line) for line in measurements.read_text().splitlines())
    again, other = measurements.with_name("again.txt"), measurements.with_name("other.txt")
    assert write_measurements(again, lines=3_000, stations=50, seed=7)["sha256"] == facts["sha256"]
    assert write_measurements(other, lines=3_000, stations=50, seed=8)["sha256"] != facts["sha256"]
    assert again.read_bytes() == measurements.read_bytes()


def test_names_of_stations_differ_and_some_are_not_ascii() -> None:
    names = station_names(413, 1)
    assert len(set(names)) == 413
    assert 0 < sum(name.isascii() for name in names) < 413
    assert max(len(name.encode()) for name in names) < 64


@pytest.mark.parametrize(
    "program", ["user_stations verbs", "user_stations combine", "duckdb_stations", "polars_stations"]
)
def test_every_summary_is_that_of_plain_python(measurements: Path, tmp_path: Path, program: str) -> None:
    name, *way = program.split()
    target = tmp_path / ("out" if name.startswith("user") else "out.parquet")
    run_program(name, measurements, target, *way, "snappy", "2")
    facts = station_facts(target)
    truth = json.loads(measurements.with_suffix(".json").read_text())
    assert facts == {key: truth[key] for key in ("lines", "stations", "digest")} | {"codecs": ["snappy"]}


@pytest.mark.parametrize("program", ["user_index", "duckdb_index", "polars_index"])
def test_every_index_has_the_postings_of_plain_python_in_order(tmp_path: Path, program: str) -> None:
    text, target = tmp_path / "t.txt", tmp_path / ("out" if program.startswith("user") else "out.parquet")
    text.write_bytes(SOURCE.encode() * 20)
    run_program(program, text, target, "snappy", "2")
    found = pq.read_table(target).to_pydict()
    assert dict(zip(found["word"], found["at"], strict=True)) == naive_index(text.read_bytes())


def test_the_digest_of_an_index_sees_the_order_of_postings(tmp_path: Path) -> None:
    def digest(name: str, at: list[list[int]], words: list[str]) -> str:
        pq.write_table(pa.table({"word": words, "at": at}), tmp_path / name)
        return str(index_facts(tmp_path / name)["digest"])

    right = digest("a.parquet", [[1, 2], [3]], ["a", "b"])
    assert digest("b.parquet", [[3], [1, 2]], ["b", "a"]) == right
    assert digest("c.parquet", [[2, 1], [3]], ["a", "b"]) != right


@pytest.mark.parametrize("way", ["compiled", "interpreted", "built-in", "naive"])
def test_every_way_to_count_words_is_that_of_plain_python(tmp_path: Path, way: str) -> None:
    text, target = tmp_path / "t.txt", tmp_path / ("out.parquet" if way == "naive" else "out")
    text.write_bytes(b"to be or not to be\nthat  is\tthe\x0b question\n caf\xc3\xa9\n\nlast" * 30)
    if way == "naive":
        run_program("naive_words", text, target, "snappy")
    else:
        run_program("user_words", text, target, way, "snappy", "2")
    found = pq.read_table(target).to_pydict()
    counts = Counter(text.read_text().split())
    assert dict(zip(found["word"], found["len"], strict=True)) == counts
    assert word_facts(target)["words"] == counts.total()


def test_a_part_of_a_text_is_its_first_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELMILL_BENCH_DATA", str(tmp_path))
    write_corpus("prose", [b"one two\nthree\nfour five\n"], Repairs())
    facts = build_part("prose", 20)
    assert (tmp_path / "prose-part.txt").read_bytes() == b"one two\nthree\n"
    assert (facts["bytes"], facts["words"]) == (14, 3)
    assert build_part("prose", 1_000)["words"] == 5


@pytest.mark.slow
def test_the_table_is_printed_by_one_command_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELMILL_BENCH_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)  # the command goes to the checkout; this brings the tests back
    for name in ("prose", "kernel"):
        write_corpus(name, [b"to be or not to be\n" * 50], Repairs())
    build_part("kernel", 500)
    build_measurements(500, 20, 1)
    chosen = [option for name in ROWS if name != "starts" for option in ("--only", name)]  # starts compiles everything
    kept = tmp_path / "kept.json"
    result = CliRunner().invoke(compare.main, ["mapreduce", "--rounds", "1", "--json", str(kept), *chosen])
    assert result.exit_code == 0, result.output
    figures = json.loads(kept.read_text())["figures"]
    assert len(figures) == 6
    for figure in figures:
        assert figure["what"] in result.output
        assert figure["found"] > 0
        assert figure["verdict"] in ("aim", "goal", "missed")


def test_a_wrong_result_ends_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERNELMILL_BENCH_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    facts = build_measurements(500, 20, 1)
    (tmp_path / "measurements.json").write_text(json.dumps({**facts, "digest": "0" * 16}))
    result = CliRunner().invoke(compare.main, ["mapreduce", "--rounds", "1", "--only", "stations"])
    assert result.exit_code == 1
    assert "results differ" in result.output


@pytest.mark.parametrize(
    ("found", "at_most", "verdict"),
    [(1.0, True, "aim"), (1.4, True, "goal"), (1.6, True, "missed"), (2.5, False, "aim"), (1.5, False, "missed")],
)
def test_a_verdict_compares_with_goal_and_aim(found: float, at_most: bool, verdict: str) -> None:
    goal, aim = (1.5, 1.15) if at_most else (2.0, 2.5)
    figure = Figure("it", found, found, "x", goal, aim, at_most=at_most)
    assert figure.verdict == verdict
    assert goals_table([figure])[1].endswith(verdict)


def test_figures_are_taken_within_a_round_by_wall_clock_and_by_processor() -> None:
    def times(user: float, duckdb: float, polars: float) -> dict[str, Run]:
        named = {"user": user, "duckdb": duckdb, "polars": polars}
        return {name: Run(seconds, 3 * seconds**2, seconds**2, 1, "") for name, seconds in named.items()}

    measured = [times(1, 4, 3), times(2, 5, 8), times(1, 9, 7)]
    assert ratio(measured, "duckdb", "user") == (4.0, 16.0)
    assert fastest_peer(measured, "user") == (3.0, 9.0)
