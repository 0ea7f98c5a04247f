"""Build the inverted index of user_index.py with DuckDB: FILE OUT.parquet CODEC THREADS. Prints nothing."""

from __future__ import annotations

import sys

import duckdb

from bench.peers.duckdb_words import lines_of


def main(path: str, target: str, codec: str, threads: str) -> None:
    """Run the query. An empty line is read as NULL; a running sum of lengths gives each line its offset."""
    connection = duckdb.connect(config={"threads": int(threads)})
    connection.execute("SET enable_progress_bar = false")
    placed = f"SELECT line, (sum(coalesce(strlen(line), 0) + 1) OVER rows_so_far)::BIGINT AS ends FROM {lines_of(path)}"
    placed += " WINDOW rows_so_far AS (ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)"
    words = "SELECT unnest(regexp_extract_all(line, '[A-Za-z0-9_]+')) AS word, ends - strlen(line) - 1 AS pos"
    query = f'SELECT word, list(pos ORDER BY pos) AS "at" FROM ({words} FROM ({placed})) GROUP BY word'
    connection.execute(f"COPY ({query}) TO '{target}' (FORMAT parquet, CODEC {codec})")


if __name__ == "__main__":
    main(*sys.argv[1:])
