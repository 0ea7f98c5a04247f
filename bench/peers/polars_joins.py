"""Join the tables with Polars: FOLDER OUT.parquet QUESTION CODEC THREADS RUNS. Prints each run's seconds as JSON."""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ["POLARS_MAX_THREADS"] = sys.argv[5] if len(sys.argv) > 5 else "2"  # read when polars is imported

import polars as pl

from bench.peers.joinquestions import QUESTIONS
from bench.peers.timing import print_runs


def main(folder: str, target: str, name: str, codec: Any, _threads: str, runs: str) -> None:
    """Run the question on the streaming engine."""
    question = QUESTIONS[name]

    def job() -> None:
        left, right = (pl.scan_parquet(f"{folder}/{table}.parquet") for table in ("x", question.right))
        joined = left.join(right, on=question.key, how="left" if question.how == "left" else "inner")
        joined.sink_parquet(target, compression=codec, engine="streaming", maintain_order=False, statistics=False)

    print_runs(job, int(runs))


if __name__ == "__main__":
    main(*sys.argv[1:])
