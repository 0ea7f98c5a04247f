"""Sort records by key with Polars: FILE OUT.parquet CODEC THREADS. Prints the seconds of the sort as JSON."""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ["POLARS_MAX_THREADS"] = sys.argv[4] if len(sys.argv) > 4 else "2"  # read when polars is imported

import polars as pl

from bench.peers.timing import print_runs


def main(path: str, target: str, codec: Any, _threads: str) -> None:
    """Run the sort once, on the streaming engine."""

    def job() -> None:
        ordered = pl.scan_parquet(path).sort("key")
        ordered.sink_parquet(target, compression=codec, engine="streaming", statistics=False)

    print_runs(job, 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
