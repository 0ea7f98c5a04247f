"""Sort records by key with kernelmill: FILE OUT CODEC THREADS MEMORY WHERE. Prints the seconds of the sort as JSON.

MEMORY as `memory=` takes it, or "any". WHERE: "local", or "cluster": as many workers of one slot as THREADS, over ipc,
which share MEMORY; their start is not in the seconds.
"""

from __future__ import annotations

import contextlib
import sys

import kernelmill as km
from bench.peers.timing import print_runs
from kernelmill.engine.sizes import parse_bytes


def main(path: str, target: str, codec: str, threads: str, memory: str, where: str) -> None:
    """Run the sort once."""
    workers, limit = int(threads), None if memory == "any" else parse_bytes(memory)
    is_local = where == "local"
    options = {"threads": workers, "memory": limit} if is_local else {}
    share = limit // workers if limit is not None else None

    def job() -> None:
        ordered = km.scan_parquet(path).sort("key")
        ordered.sink_parquet(target, compression=codec, mode="overwrite", progress=False, **options)

    with contextlib.nullcontext() if is_local else km.LocalCluster(workers=workers, memory=share):
        print_runs(job, 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
