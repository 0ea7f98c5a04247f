"""Answer a query of TPC-H with kernelmill: FOLDER OUT QUERY CODEC THREADS RUNS. Prints the seconds of each."""

from __future__ import annotations

import sys

import kernelmill as km
from bench.peers.timing import print_runs
from bench.tpch.queries import query
from bench.tpch.sql import TABLES
from bench.tpch.tables import scale_of


def main(folder: str, target: str, name: str, codec: str, threads: str, runs: str) -> None:
    """Run the query on the public API."""
    scale = scale_of(folder)

    def job() -> None:
        found = query(name, {table: km.scan_parquet(f"{folder}/{table}/*.parquet") for table in TABLES}, scale)
        found.sink_parquet(target, compression=codec, mode="overwrite", progress=False, threads=int(threads))

    print_runs(job, int(runs))


if __name__ == "__main__":
    main(*sys.argv[1:])
