"""Group the table with kernelmill: FILE OUT.parquet KEY[,KEY] CODEC THREADS RUNS. Prints each run's seconds as JSON."""

from __future__ import annotations

import sys

import kernelmill as km
from bench.peers.timing import print_runs


def main(path: str, target: str, keys: str, codec: str, threads: str, runs: str) -> None:
    """Run the group-by on the public API."""

    def job() -> None:
        groups = km.scan_parquet(path).group_by(*keys.split(","))
        result = groups.agg(km.col("v1").sum().alias("total"), km.col("v3").mean().alias("average"))
        result.sink_parquet(target, compression=codec, mode="overwrite", progress=False, threads=int(threads))

    print_runs(job, int(runs))


if __name__ == "__main__":
    main(*sys.argv[1:])
