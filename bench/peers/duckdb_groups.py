"""Group the table with DuckDB: FILE OUT.parquet KEY[,KEY] CODEC THREADS RUNS. Prints each run's seconds as JSON."""

from __future__ import annotations

import sys

import duckdb

from bench.peers.timing import print_runs


def main(path: str, target: str, keys: str, codec: str, threads: str, runs: str) -> None:
    """Run the group-by; the sum is cast, for DuckDB's HUGEINT would be written as a double."""
    connection = duckdb.connect(config={"threads": int(threads), "preserve_insertion_order": False})
    connection.execute("SET enable_progress_bar = false")
    query = f"SELECT {keys}, sum(v1)::BIGINT AS total, avg(v3) AS average FROM read_parquet('{path}') GROUP BY {keys}"
    print_runs(lambda: connection.execute(f"COPY ({query}) TO '{target}' (FORMAT parquet, CODEC {codec})"), int(runs))


if __name__ == "__main__":
    main(*sys.argv[1:])
