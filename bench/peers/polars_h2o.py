"""Answer a group-by question of h2o with Polars: FILE OUT.parquet QUESTION CODEC THREADS RUNS. Prints seconds."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

os.environ["POLARS_MAX_THREADS"] = sys.argv[5] if len(sys.argv) > 5 else "2"  # read when polars is imported

import polars as pl

from bench.peers.timing import print_runs

c = pl.col
QUESTIONS: dict[str, Callable[[pl.LazyFrame], pl.LazyFrame]] = {
    "q1": lambda x: x.group_by("id1").agg(v1=c("v1").sum()),
    "q2": lambda x: x.group_by("id1", "id2").agg(v1=c("v1").sum()),
    "q3": lambda x: x.group_by("id3").agg(v1=c("v1").sum(), v3=c("v3").mean()),
    "q4": lambda x: x.group_by("id4").agg(v1=c("v1").mean(), v2=c("v2").mean(), v3=c("v3").mean()),
    "q5": lambda x: x.group_by("id6").agg(v1=c("v1").sum(), v2=c("v2").sum(), v3=c("v3").sum()),
    "q6": lambda x: x.group_by("id4", "id5").agg(median=c("v3").median(), sd=c("v3").std()),
    "q7": lambda x: x.group_by("id3").agg(range=c("v1").max() - c("v2").min()),
    "q8": lambda x: x.group_by("id6").agg(largest=c("v3").top_k(2)).explode("largest"),
    "q9": lambda x: x.group_by("id2", "id4").agg(r2=pl.corr("v1", "v2") ** 2),
    "q10": lambda x: x.group_by("id1", "id2", "id3", "id4", "id5", "id6").agg(v3=c("v3").sum(), n=pl.len()),
}


def main(path: str, target: str, question: str, codec: Any, _threads: str, runs: str) -> None:
    """Run the question on the streaming engine."""

    def job() -> None:
        result = QUESTIONS[question](pl.scan_parquet(path))
        result.sink_parquet(target, compression=codec, engine="streaming", maintain_order=False, statistics=False)

    print_runs(job, int(runs))


if __name__ == "__main__":
    main(*sys.argv[1:])
