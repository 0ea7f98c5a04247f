"""Join the tables with kernelmill: FOLDER OUT QUESTION CODEC THREADS RUNS. Prints each run's seconds as JSON."""

from __future__ import annotations

import sys

import kernelmill as km
from bench.peers.joinquestions import QUESTIONS
from bench.peers.timing import print_runs


def main(folder: str, target: str, name: str, codec: str, threads: str, runs: str) -> None:
    """Run the question on the public API."""
    question = QUESTIONS[name]

    def job() -> None:
        left, right = (km.scan_parquet(f"{folder}/{table}.parquet") for table in ("x", question.right))
        joined = left.join(right, question.key, question.how)
        joined.sink_parquet(target, compression=codec, mode="overwrite", progress=False, threads=int(threads))

    print_runs(job, int(runs))


if __name__ == "__main__":
    main(*sys.argv[1:])
