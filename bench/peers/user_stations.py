"""Summarise temperatures as a user of MapReduce would: FILE OUT FORM CODEC THREADS. Prints the seconds of the job.

FORM says how the least, greatest, sum and count come about: verbs (the map's rows go to group_by) or combine (the map
emits all four, a function of the user's merges two such).
"""

from __future__ import annotations

import sys
import time
from typing import Any

import kernelmill as km

SUMMARY = ("min", "max", "total", "count")


def reading(line: Any, emit: Any) -> None:
    """A station and its temperature."""
    name, t = line.split(";")
    emit(name, float(t))


def summary(line: Any, emit: Any) -> None:
    """A station and the summary of its one temperature."""
    name, text = line.split(";")
    t = float(text)
    emit(name, (t, t, t, 1))


def merged(a: Any, b: Any) -> Any:
    """The summary of two summaries."""
    return min(a[0], b[0]), max(a[1], b[1]), a[2] + b[2], a[3] + b[3]


def plan(form: str, path: str) -> km.LazyFrame:
    """The frame to run: columns station, min, max, total, count."""
    lines = km.scan_text(path)
    if form == "verbs":
        t = km.col("t")
        rows = lines.pipe(km.MapReduce(reading, order=None, key="station", value="t"))
        aggregates = (t.min().alias("min"), t.max().alias("max"), t.sum().alias("total"), km.len().alias("count"))
        return rows.group_by("station").agg(*aggregates)
    if form == "combine":
        return lines.pipe(km.MapReduce(summary, combine=merged, order=None, key="station", value=SUMMARY))
    raise SystemExit(f"no form {form!r}: verbs or combine")


def main(path: str, target: str, form: str, codec: str, threads: str) -> None:
    """Run the job, and the mean from sum and count."""
    began = time.perf_counter()
    frame = plan(form, path).with_columns(mean=km.col("total") / km.col("count"))
    frame = frame.select("station", "min", "mean", "max", "count")
    frame.sink_parquet(target, compression=codec, mode="overwrite", progress=False, threads=int(threads))
    print(time.perf_counter() - began)


if __name__ == "__main__":
    main(*sys.argv[1:])
