"""Run a job on this machine's threads or on a cluster of this machine: JOB WHERE PATH TARGET CODEC RUNS.

JOB: words, index or groups, as bench/peers/user_words.py, user_index.py and kernelmill_groups.py run them. WHERE:
"local", with two threads, or "cluster", with two workers of one slot, over ipc. Prints each run's seconds as JSON;
the start of the cluster is not in them, the first run's start of task processes is.
"""

from __future__ import annotations

import contextlib
import sys

import kernelmill as km
from bench.peers.timing import print_runs
from bench.peers.user_index import postings
from bench.peers.user_words import plan

WORKERS = 2


def frame_of(job: str, path: str) -> km.LazyFrame:
    """The plan of a job."""
    if job == "words":
        return plan("built-in", path)
    if job == "index":
        index = km.MapReduce(postings, reduce="list", order=None, key="word", value="at")
        return km.scan_text(path, include_offsets="at").pipe(index)
    groups = km.scan_parquet(path).group_by("id3")
    return groups.agg(km.col("v1").sum().alias("total"), km.col("v3").mean().alias("average"))


def main(job: str, where: str, path: str, target: str, codec: str, runs: str) -> None:
    """Run the job `runs` times."""
    options = {"threads": WORKERS} if where == "local" else {}

    def once() -> None:
        frame_of(job, path).sink_parquet(target, compression=codec, mode="overwrite", progress=False, **options)

    with km.LocalCluster(workers=WORKERS) if where == "cluster" else contextlib.nullcontext():
        print_runs(once, int(runs))


if __name__ == "__main__":
    main(*sys.argv[1:])
