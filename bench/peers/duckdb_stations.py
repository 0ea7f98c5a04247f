"""Summarise temperatures with DuckDB: FILE OUT.parquet CODEC THREADS. Prints nothing."""

from __future__ import annotations

import sys

import duckdb


def main(path: str, target: str, codec: str, threads: str) -> None:
    """Run the query; types, separator and quotes are given, so nothing is sniffed."""
    connection = duckdb.connect(config={"threads": int(threads), "preserve_insertion_order": False})
    connection.execute("SET enable_progress_bar = false")
    source = "'" + path.replace("'", "''") + "'"
    rows = (
        f"read_csv({source}, columns={{'station': 'VARCHAR', 't': 'DOUBLE'}}, delim=';', quote='', escape='',"
        " header=false, auto_detect=false)"
    )
    query = (
        'SELECT station, min(t) AS "min", avg(t) AS "mean", max(t) AS "max", count(*) AS "count"'
        f" FROM {rows} GROUP BY station"
    )
    connection.execute(f"COPY ({query}) TO '{target}' (FORMAT parquet, CODEC {codec})")


if __name__ == "__main__":
    main(*sys.argv[1:])
