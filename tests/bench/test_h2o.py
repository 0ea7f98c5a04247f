"""The questions of h2o: every engine answers alike, and a wrong row is seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.h2o import QUESTIONS
from bench.outputs import row_differences
from bench.peers import duckdb_h2o, kernelmill_h2o
from bench.tables import write_h2o_table

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("h2o") / "h2o.parquet"
    write_h2o_table(path, rows=4_000, rows_each=20, seed=3)
    return path


def test_the_table_follows_the_formulas(table: Path) -> None:
    columns = pq.read_table(table).to_pydict()
    assert len(columns["id1"]) == 4_000
    assert {len(set(columns[name])) for name in ("id1", "id2", "id4", "id5")} == {20}
    assert set(columns["id3"]) <= {f"id{n:010d}" for n in range(1, 201)} and set(columns["id6"]) <= set(range(1, 201))
    assert set(columns["v1"]) == set(range(1, 6)) and set(columns["v2"]) == set(range(1, 16))


@pytest.mark.parametrize("question", QUESTIONS)
def test_kernelmill_answers_as_duckdb_does(tmp_path: Path, table: Path, question: str) -> None:
    outputs = [tmp_path / "ours.parquet", tmp_path / "theirs.parquet"]
    for module, output in zip((kernelmill_h2o, duckdb_h2o), outputs, strict=True):
        module.main(str(table), str(output), question, "snappy", "1", "1")
    found = row_differences(*outputs)
    assert found["rows"] and not any(found["differences"].values()), found


def test_polars_answers_them_too(tmp_path: Path, table: Path) -> None:
    code = "import sys; from bench.peers import polars_h2o as p\nfor q in p.QUESTIONS:\n"
    code += " p.main(sys.argv[1], sys.argv[2] + q, q, 'snappy', '1', '1')"
    done = subprocess.run(
        [sys.executable, "-c", code, table, f"{tmp_path}/"],
        cwd=ROOT,
        env={**os.environ},
        capture_output=True,
        check=True,
    )
    assert all(len(json.loads(line)) == 1 for line in done.stdout.splitlines())
    for question in QUESTIONS:
        duckdb_h2o.main(str(table), str(tmp_path / "other"), question, "snappy", "1", "1")
        found = row_differences(tmp_path / question, tmp_path / "other")
        assert not any(found["differences"].values()), (question, found)


def test_a_changed_value_and_an_absent_row_are_seen(tmp_path: Path) -> None:
    pq.write_table(pa.table({"k": [1, 2, 3], "v": [0.5, 1.5, float("nan")]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"k": [3, 1, 2], "v": [float("nan"), 0.5, 1.5000001]}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"k": [1, 2], "v": [0.5, 1.5]}), tmp_path / "c.parquet")
    assert row_differences(tmp_path / "a.parquet", tmp_path / "b.parquet")["differences"] == {
        "absent": 0, "extra": 0, "values": 0, "floats": 1,
    }  # fmt: skip
    assert row_differences(tmp_path / "a.parquet", tmp_path / "c.parquet")["differences"]["extra"] == 1
