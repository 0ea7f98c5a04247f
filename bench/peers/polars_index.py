"""Build the inverted index of user_index.py with Polars: FILE OUT.parquet CODEC THREADS. Prints nothing."""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ["POLARS_MAX_THREADS"] = sys.argv[4] if len(sys.argv) > 4 else "2"  # read when polars is imported

import polars as pl


def main(path: str, target: str, codec: Any, _threads: str) -> None:
    """Run the plan on the streaming engine. A running sum of lengths gives offsets, where no line ends in CR LF."""
    taken = pl.col("line").str.len_bytes().cast(pl.Int64) + 1
    lines = pl.scan_lines(path).with_columns(at=taken.cum_sum() - taken)
    words = lines.select("at", word=pl.col("line").str.extract_all("[A-Za-z0-9_]+")).explode("word").drop_nulls("word")
    index = words.group_by("word").agg("at")
    index.sink_parquet(target, compression=codec, engine="streaming", maintain_order=False, statistics=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
