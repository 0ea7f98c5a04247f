"""Join the tables with DuckDB: FOLDER OUT.parquet QUESTION CODEC THREADS RUNS. Prints each run's seconds as JSON."""

from __future__ import annotations

import sys

import duckdb

from bench.peers.joinquestions import COLUMNS, QUESTIONS
from bench.peers.timing import print_runs


def main(folder: str, target: str, name: str, codec: str, threads: str, runs: str) -> None:
    """Run the question; columns are called as the other engines call them."""
    connection = duckdb.connect(config={"threads": int(threads), "preserve_insertion_order": False})
    connection.execute("SET enable_progress_bar = false")
    question = QUESTIONS[name]
    taken = [
        f"r.{column} AS {column}_right" if column in COLUMNS["x"] else f"r.{column}"
        for column in COLUMNS[question.right]
        if column != question.key
    ]
    join = f"{question.how} JOIN read_parquet('{folder}/{question.right}.parquet') r USING ({question.key})"
    query = f"SELECT x.*, {', '.join(taken)} FROM read_parquet('{folder}/x.parquet') x {join}"
    print_runs(lambda: connection.execute(f"COPY ({query}) TO '{target}' (FORMAT parquet, CODEC {codec})"), int(runs))


if __name__ == "__main__":
    main(*sys.argv[1:])
