"""Answer a query of TPC-H with DuckDB: FOLDER OUT.parquet QUERY CODEC THREADS RUNS. Prints the seconds of each."""

from __future__ import annotations

import sys

import duckdb

from bench.peers.timing import print_runs
from bench.tpch.sql import TABLES, query
from bench.tpch.tables import scale_of


def main(folder: str, target: str, name: str, codec: str, threads: str, runs: str) -> None:
    """Run the query over views of the files."""
    connection = duckdb.connect(config={"threads": int(threads), "preserve_insertion_order": False})
    connection.execute("SET enable_progress_bar = false")
    for table in TABLES:
        connection.execute(f"CREATE VIEW {table} AS SELECT * FROM read_parquet('{folder}/{table}/*.parquet')")
    text = query(name, scale_of(folder))
    print_runs(lambda: connection.execute(f"COPY ({text}) TO '{target}' (FORMAT parquet, CODEC {codec})"), int(runs))


if __name__ == "__main__":
    main(*sys.argv[1:])
