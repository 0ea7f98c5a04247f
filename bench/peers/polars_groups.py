"""Group the table with Polars: FILE OUT.parquet KEY[,KEY] CODEC THREADS RUNS. Prints each run's seconds as JSON."""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ["POLARS_MAX_THREADS"] = sys.argv[5] if len(sys.argv) > 5 else "2"  # read when polars is imported

import polars as pl

from bench.peers.timing import print_runs


def main(path: str, target: str, keys: str, codec: Any, _threads: str, runs: str) -> None:
    """Run the group-by on the streaming engine, the fastest of those in README.md."""

    def job() -> None:
        groups = pl.scan_parquet(path).group_by(keys.split(","))
        result = groups.agg(pl.col("v1").sum().alias("total"), pl.col("v3").mean().alias("average"))
        result.sink_parquet(target, compression=codec, engine="streaming", maintain_order=False, statistics=False)

    print_runs(job, int(runs))


if __name__ == "__main__":
    main(*sys.argv[1:])
