"""Answer a group-by question of h2o with DuckDB: FILE OUT.parquet QUESTION CODEC THREADS RUNS. Prints seconds."""

from __future__ import annotations

import sys

import duckdb

from bench.peers.timing import print_runs

# (what is selected, by what keys); sums of integers are cast, for a HUGEINT would be written as a double
QUESTIONS = {
    "q1": ("sum(v1)::BIGINT AS v1", "id1"),
    "q2": ("sum(v1)::BIGINT AS v1", "id1, id2"),
    "q3": ("sum(v1)::BIGINT AS v1, avg(v3) AS v3", "id3"),
    "q4": ("avg(v1) AS v1, avg(v2) AS v2, avg(v3) AS v3", "id4"),
    "q5": ("sum(v1)::BIGINT AS v1, sum(v2)::BIGINT AS v2, sum(v3) AS v3", "id6"),
    "q6": ("quantile_cont(v3, 0.5) AS median, stddev(v3) AS sd", "id4, id5"),
    "q7": ('max(v1) - min(v2) AS "range"', "id3"),
    "q8": ("unnest(max(v3, 2)) AS largest", "id6"),
    "q9": ("corr(v1, v2) ** 2 AS r2", "id2, id4"),
    "q10": ("sum(v3) AS v3, count(*) AS n", "id1, id2, id3, id4, id5, id6"),
}


def main(path: str, target: str, question: str, codec: str, threads: str, runs: str) -> None:
    """Run the question."""
    connection = duckdb.connect(config={"threads": int(threads), "preserve_insertion_order": False})
    connection.execute("SET enable_progress_bar = false")
    what, keys = QUESTIONS[question]
    query = f"SELECT {keys}, {what} FROM read_parquet('{path}') GROUP BY {keys}"
    print_runs(lambda: connection.execute(f"COPY ({query}) TO '{target}' (FORMAT parquet, CODEC {codec})"), int(runs))


if __name__ == "__main__":
    main(*sys.argv[1:])
