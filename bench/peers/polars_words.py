"""Count a text's words with Polars into Parquet: FILE OUT.parquet FORMULATION CODEC THREADS. Prints nothing.

FORMULATION is words, pieces or lines; README.md beside this file says what was tried and what it took.
"""

from __future__ import annotations

import os
import sys
from typing import Any

os.environ["POLARS_MAX_THREADS"] = sys.argv[5] if len(sys.argv) > 5 else "2"  # read when polars is imported

import polars as pl

OTHER_SPACES = ["\t", "\x0b", "\x0c", "\r"]  # of bytes.split(); "\n" ended the line


def counting_plan(path: str, formulation: str) -> pl.LazyFrame:
    """The plan that gives columns word and len."""
    text = pl.col("line")
    spaced = text.str.replace_many(OTHER_SPACES, [" "] * len(OTHER_SPACES))
    lines = pl.scan_lines(path)
    if formulation == "words":
        words = lines.select(word=spaced.str.split(" ")).explode("word")
        return words.filter(pl.col("word") != "").group_by("word").agg(pl.len().alias("len"))
    if formulation == "pieces":  # spaces first; the other white space only in each different piece
        lines = lines.select(text.str.split(" ")).explode("line")
    elif formulation != "lines":  # lines: each different line is split once, which pays where lines repeat
        raise SystemExit(f"no formulation {formulation!r}: words, pieces or lines")
    counted = lines.group_by("line").agg(pl.len().alias("n"))
    words = counted.select(spaced.str.split(" ").alias("word"), "n").explode("word")
    return words.filter(pl.col("word") != "").group_by("word").agg(pl.col("n").sum().alias("len"))


def main(path: str, target: str, formulation: str, codec: Any, _threads: str) -> None:
    """Run the count."""
    plan = counting_plan(path, formulation)
    plan.sink_parquet(target, compression=codec, engine="streaming", maintain_order=False, statistics=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
