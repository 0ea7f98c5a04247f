"""The sort of records: the generator is gensort's, the check sees what is wrong, every engine's output passes it."""

from __future__ import annotations

import json
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from bench import compare
from bench.records import checksum_of, record_blocks, write_records
from bench.sortcheck import sort_facts

ROOT = Path(__file__).resolve().parents[2]
ROWS = 70_000  # more than one block of the generator
FACTOR, ADDEND = 0x2360ED051FC65DA44385DF649FCCF645, 0x4A696D47726179524950202020202001


def naive_records(rows: int) -> list[bytes]:
    made, word = [], 0
    for number in range(rows):
        word = (word * FACTOR + ADDEND) % 2**128
        filler = "".join(4 * digit for digit in f"{word % 2**48:012X}")
        head = word.to_bytes(16, "big")[:10] + b"\x00\x11" + f"{number:032X}".encode() + b"\x88\x99\xaa\xbb"
        made.append(head + filler.encode() + b"\xcc\xdd\xee\xff")
    return made


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("records") / "records-7MB.parquet"
    target.with_suffix(".json").write_text(json.dumps(write_records(target, rows=ROWS)))
    return target


def written(path: Path, rows: list[bytes], width: int = 10) -> Path:
    columns = {"key": [row[:width] for row in rows], "payload": [row[width:] for row in rows]}
    pq.write_table(pa.table(columns), path, compression="snappy")
    return path


def test_records_are_those_of_the_formula_across_blocks() -> None:
    expected = naive_records(ROWS)
    assert expected[0].startswith(b"JimGrayRIP\x00\x11" + b"0" * 32)
    blocks = list(record_blocks(ROWS))
    assert len(blocks) == 2
    assert b"".join(block.tobytes() for block in blocks) == b"".join(expected)
    assert sum(map(checksum_of, blocks)) == sum(map(zlib.crc32, expected))


def test_what_is_known_of_the_file_is_true_of_it(records: Path) -> None:
    facts, found = json.loads(records.with_suffix(".json").read_text()), sort_facts(records)
    assert (facts["rows"], facts["checksum"]) == (found["rows"], found["checksum"])
    assert found["unordered"] > ROWS // 3


@pytest.mark.parametrize(
    ("change", "fact"),
    [
        (lambda rows: [rows[1], rows[0], *rows[2:]], {"unordered": 1}),
        (lambda rows: rows[:-1], {"rows": 499}),
        (lambda rows: [*rows[:-1], rows[-1][:50] + b"?" + rows[-1][51:]], {"unordered": 0, "rows": 500}),
        (lambda rows: [rows[0], *rows[:-1]], {"equal": 1, "unordered": 0, "rows": 500}),
    ],
)
def test_the_check_sees_what_is_wrong(tmp_path: Path, change: Any, fact: dict[str, int]) -> None:
    rows = sorted(naive_records(500))
    right = sort_facts(written(tmp_path / "right.parquet", rows))
    assert {name: right[name] for name in ("rows", "unordered", "equal")} == {"rows": 500, "unordered": 0, "equal": 0}
    wrong = sort_facts(written(tmp_path / "wrong.parquet", change(rows)))
    assert wrong["checksum"] != right["checksum"] or wrong["unordered"]
    assert {name: wrong[name] for name in fact} == fact


def test_the_order_must_hold_from_file_to_file_and_in_the_last_bytes_of_a_key(tmp_path: Path) -> None:
    rows = sorted(naive_records(100))
    written(tmp_path / "part-00000.parquet", rows[50:])
    written(tmp_path / "part-00001.parquet", rows[:50])
    assert sort_facts(tmp_path)["unordered"] == 1
    near = [b"12345678\x01\x02" + b"p" * 90, b"12345678\x01\x01" + b"p" * 90]
    assert sort_facts(written(tmp_path / "near.parquet", near))["unordered"] == 1
    with pytest.raises(pa.ArrowInvalid):
        sort_facts(written(tmp_path / "narrow.parquet", near, width=9))


def run_program(name: str, *arguments: str | Path) -> float:
    command = [sys.executable, "-m", f"bench.peers.{name}", *arguments]
    done = subprocess.run(command, capture_output=True, cwd=ROOT, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    (seconds,) = json.loads(done.stdout)
    return float(seconds)


@pytest.mark.parametrize(
    ("program", "more"),
    [
        ("kernelmill_sort", ["2", "any", "local"]),
        ("kernelmill_sort", ["1", "512MB", "local"]),
        ("duckdb_sort", ["2", "512MB"]),
        ("polars_sort", ["2"]),
    ],
)
def test_every_engine_passes_the_check(tmp_path: Path, records: Path, program: str, more: list[str]) -> None:
    target = tmp_path / ("out" if program.startswith("kernelmill") else "out.parquet")
    assert run_program(program, records, target, "snappy", *more) > 0
    truth = json.loads(records.with_suffix(".json").read_text())
    expected = {"rows": ROWS, "unordered": 0, "equal": 0, "checksum": truth["checksum"], "codecs": ["snappy"]}
    assert sort_facts(target) == expected


def test_the_command_prints_times_and_goals_and_keeps_them(
    tmp_path: Path, records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KERNELMILL_BENCH_DATA", str(records.parent))
    kept = tmp_path / "kept.json"
    options = ["--bytes", "7MB", "--rounds", "1", "--engine", "kernelmill", "--engine", "duckdb", "--json", str(kept)]
    done = CliRunner().invoke(compare.main, ["terasort", *options])
    assert done.exit_code == 0, done.output
    assert "70,000 records of 100 bytes" in done.output and "fastest peer's time / kernelmill's" in done.output
    assert json.loads(kept.read_text())["figures"][0]["goal"] == 1.7


def test_an_output_that_is_not_the_input_ends_the_command(
    tmp_path: Path, records: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (records.name, "records-7MB.json"):
        (tmp_path / name).write_bytes((records.parent / name).read_bytes())
    facts = json.loads((tmp_path / "records-7MB.json").read_text())
    (tmp_path / "records-7MB.json").write_text(json.dumps({**facts, "checksum": "0"}))
    monkeypatch.setenv("KERNELMILL_BENCH_DATA", str(tmp_path))
    options = ["--bytes", "7MB", "--rounds", "1", "--engine", "duckdb"]
    done = CliRunner().invoke(compare.main, ["terasort", *options])
    assert done.exit_code == 1 and "results differ" in done.output
