"""Answer a group-by question of h2o with kernelmill: FILE OUT.parquet QUESTION CODEC THREADS RUNS. Prints seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable

import kernelmill as km
from bench.peers.timing import print_runs

c = km.col
QUESTIONS: dict[str, Callable[[km.LazyFrame], km.LazyFrame]] = {
    "q1": lambda x: x.group_by("id1").agg(v1=c("v1").sum()),
    "q2": lambda x: x.group_by("id1", "id2").agg(v1=c("v1").sum()),
    "q3": lambda x: x.group_by("id3").agg(v1=c("v1").sum(), v3=c("v3").mean()),
    "q4": lambda x: x.group_by("id4").agg(v1=c("v1").mean(), v2=c("v2").mean(), v3=c("v3").mean()),
    "q5": lambda x: x.group_by("id6").agg(v1=c("v1").sum(), v2=c("v2").sum(), v3=c("v3").sum()),
    "q6": lambda x: x.group_by("id4", "id5").agg(median=c("v3").median(), sd=c("v3").std()),
    "q7": lambda x: x.group_by("id3").agg(range=c("v1").max() - c("v2").min()),
    "q8": lambda x: x.group_by("id6").agg(largest=c("v3").top_k(2)).explode("largest"),
    "q9": lambda x: x.group_by("id2", "id4").agg(r2=c("v1").corr("v2") ** 2),
    "q10": lambda x: x.group_by("id1", "id2", "id3", "id4", "id5", "id6").agg(v3=c("v3").sum(), n=km.len()),
}


def main(path: str, target: str, question: str, codec: str, threads: str, runs: str) -> None:
    """Run the question on the public API."""

    def job() -> None:
        result = QUESTIONS[question](km.scan_parquet(path))
        result.sink_parquet(target, compression=codec, mode="overwrite", progress=False, threads=int(threads))

    print_runs(job, int(runs))


if __name__ == "__main__":
    main(*sys.argv[1:])
