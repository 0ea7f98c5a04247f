"""TPC-H: kernelmill, DuckDB and Polars answer all 22 queries alike, and a row out of place is seen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kernelmill as km
from bench.outputs import ordered_differences
from bench.tpch import queries, sql
from bench.tpch.command import QUESTIONS
from bench.tpch.small import write_small_tables
from bench.tpch.tables import scale_of, tables

ROOT = Path(__file__).resolve().parents[2]
SCALE = 0.01


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tpch")
    write_small_tables(path, scale=SCALE, seed=1)
    return path


@pytest.fixture(scope="module")
def connection(folder: Path) -> duckdb.DuckDBPyConnection:
    found = duckdb.connect(config={"threads": 2})
    for table in sql.TABLES:
        found.execute(f"CREATE TABLE {table} AS SELECT * FROM read_parquet('{folder}/{table}/*.parquet')")
    return found


def by_duckdb(connection: duckdb.DuckDBPyConnection, query: str, target: Path) -> Path:
    connection.execute(f"COPY ({sql.query(query, SCALE)}) TO '{target}' (FORMAT parquet, CODEC snappy)")
    return target


def by_kernelmill(folder: Path, query: str, target: Path, **settings: object) -> Path:
    frames = {table: km.scan_parquet(f"{folder}/{table}/*.parquet") for table in sql.TABLES}
    found = queries.query(query, frames, SCALE)
    found.sink_parquet(target, compression="snappy", progress=False, **settings)
    return target


def test_the_small_tables_have_the_columns_and_keys_of_the_specification(folder: Path) -> None:
    assert scale_of(folder) == SCALE
    found = {name: pq.read_table(folder / name) for name in sql.TABLES}
    rows = {name: table.num_rows for name, table in found.items()}
    assert 55_000 < rows.pop("lineitem") < 65_000
    assert rows == {
        **{"customer": 1_500, "nation": 25, "orders": 15_000, "part": 2_000},
        **{"partsupp": 8_000, "region": 5, "supplier": 100},
    }
    pairs = [found[name].select(list(keys)).to_pylist() for name, keys in (
        ("partsupp", ("ps_partkey", "ps_suppkey")), ("lineitem", ("l_partkey", "l_suppkey")),
    )]  # fmt: skip
    offered, sold = ({tuple(row.values()) for row in rows} for rows in pairs)
    assert len(offered) == 8_000 and sold <= offered


@pytest.mark.parametrize("query", QUESTIONS)
def test_kernelmill_answers_as_duckdb_does(
    tmp_path: Path, folder: Path, connection: duckdb.DuckDBPyConnection, query: str
) -> None:
    ours = by_kernelmill(folder, query, tmp_path / "ours", threads=2)
    found = ordered_differences(ours, by_duckdb(connection, query, tmp_path / "theirs.parquet"))
    assert found["rows"] and not any(found["differences"].values()), found


def test_polars_answers_them_too(tmp_path: Path, folder: Path, connection: duckdb.DuckDBPyConnection) -> None:
    code = "import sys; from bench.peers import polars_tpch as p; from bench.tpch.sql import QUERIES\n"
    code += "for q in QUERIES: p.main(sys.argv[1], sys.argv[2] + q, q, 'snappy', '2', '1')"
    command = [sys.executable, "-c", code, str(folder), f"{tmp_path}/"]
    subprocess.run(command, cwd=ROOT, env={**os.environ}, capture_output=True, check=True)
    for query in QUESTIONS:
        found = ordered_differences(tmp_path / query, by_duckdb(connection, query, tmp_path / "theirs.parquet"))
        assert not any(found["differences"].values()), (query, found)


@pytest.mark.parametrize("query", ["q9", "q13", "q18", "q21"])
def test_bytes_are_equal_on_one_thread_and_on_two(tmp_path: Path, folder: Path, query: str) -> None:
    written = [by_kernelmill(folder, query, tmp_path / str(n), threads=n, partitions=3) for n in (1, 2)]
    files = [{file.name: file.read_bytes() for file in output.iterdir()} for output in written]
    assert files[0] == files[1]


def test_tables_that_are_there_are_taken_and_others_need_the_tool(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "tpch-0.01").symlink_to(folder)
    assert tables(SCALE, tmp_path) == tmp_path / "tpch-0.01"
    with pytest.raises(click.ClickException, match="tpchgen-cli"):
        tables(2, tmp_path)
    assert not (tmp_path / "tpch-2").exists()


def test_the_tool_is_asked_for_eight_parts_and_half_made_tables_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "tpchgen-cli"
    tool.write_text(
        f"#!{sys.executable}\nimport os, pathlib, sys\n"
        'if "--version" in sys.argv: print("tpchgen-cli 4"); sys.exit()\n'
        'made = pathlib.Path(sys.argv[sys.argv.index("--output-dir") + 1]); made.mkdir()\n'
        '(made / "asked").write_text(" ".join(sys.argv[1:6]))\n'
        'sys.exit(os.environ["FAILS"] or 0)\n'
    )
    tool.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("FAILS", "no space")
    with pytest.raises(click.ClickException, match="no space"):
        tables(2, tmp_path / "data")
    assert not any((tmp_path / "data").iterdir())
    monkeypatch.setenv("FAILS", "")
    made = tables(2, tmp_path / "data")
    assert made == tmp_path / "data" / "tpch-2" and scale_of(made) == 2
    assert (made / "asked").read_text() == "parquet -s 2 --parts 8"


def test_an_answer_in_another_order_or_with_another_value_is_seen(tmp_path: Path) -> None:
    def write(name: str, **columns: list[object]) -> Path:
        pq.write_table(pa.table(columns), tmp_path / name)
        return tmp_path / name

    first = write("a", k=["x", "y"], v=[1.0, 2.0])
    assert not any(ordered_differences(first, write("b", k=["x", "y"], v=[1, 2]))["differences"].values())
    for other, what in (
        (write("c", k=["y", "x"], v=[2.0, 1.0]), "values"),
        (write("d", k=["x", "y"], v=[1.0, 2.00001]), "values"),
        (write("e", k=["x"], v=[1.0]), "rows"),
        (write("f", k=["x", "y"], w=[1.0, 2.0]), "columns"),
    ):
        assert ordered_differences(first, other)["differences"][what]
