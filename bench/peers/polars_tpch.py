"""Answer a query of TPC-H with Polars: FOLDER OUT.parquet QUERY CODEC THREADS RUNS. Prints the seconds of each."""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ["POLARS_MAX_THREADS"] = sys.argv[5] if len(sys.argv) > 5 else "2"  # read when polars is imported

import polars as pl

from bench.peers.timing import print_runs
from bench.tpch.polars_queries import query
from bench.tpch.sql import TABLES
from bench.tpch.tables import scale_of


def main(folder: str, target: str, name: str, codec: Any, _threads: str, runs: str) -> None:
    """Run the query on the streaming engine; the order of rows is part of the answer."""
    scale = scale_of(folder)

    def job() -> None:
        found = query(name, {table: pl.scan_parquet(f"{folder}/{table}/*.parquet") for table in TABLES}, scale)
        found.sink_parquet(target, compression=codec, engine="streaming", statistics=False)

    print_runs(job, int(runs))


if __name__ == "__main__":
    main(*sys.argv[1:])
