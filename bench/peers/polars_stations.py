"""Summarise temperatures with Polars: FILE OUT.parquet CODEC THREADS. Prints nothing."""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ["POLARS_MAX_THREADS"] = sys.argv[4] if len(sys.argv) > 4 else "2"  # read when polars is imported

import polars as pl


def main(path: str, target: str, codec: Any, _threads: str) -> None:
    """Run the plan on the streaming engine; types, separator and quotes are given, so nothing is sniffed."""
    types = {"station": pl.String, "t": pl.Float64}
    rows = pl.scan_csv(path, separator=";", has_header=False, schema=types, quote_char=None)
    t = pl.col("t")
    aggregates = [t.min().alias("min"), t.mean().alias("mean"), t.max().alias("max"), pl.len().alias("count")]
    result = rows.group_by("station").agg(aggregates)
    result.sink_parquet(target, compression=codec, engine="streaming", maintain_order=False, statistics=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
