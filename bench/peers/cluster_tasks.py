"""Run tasks that do nothing: 10,000 maps of one short line each, on two workers of one slot. Prints JSON.

tasks_a_second: of the second run in a warm cluster, from the submission to the published output; all in all, so the
client's planning, the journal's fsyncs, the blocks' files and the reduce are in it. local_tasks_a_second: of one
process's two threads, beside it.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

import kernelmill as km

TASKS = 10_000
LINE = b"any any any any\n"
SPLIT_BYTES = len(LINE) // 4
"""What makes a split of each line: splits of text are up to four times as large as `split_size` says."""


def seconds_of(source: Path, target: Path, **options: int) -> float:
    """The seconds of one run."""
    began = time.perf_counter()
    frame = km.scan_text(source).group_by("line").agg(km.len())
    frame.sink_parquet(str(target), split_size=SPLIT_BYTES, partitions=1, mode="overwrite", progress=False, **options)
    return time.perf_counter() - began


def main(tasks: str = str(TASKS)) -> None:
    """Run them."""
    count = int(tasks)
    with tempfile.TemporaryDirectory(prefix="kernelmill-bench-") as folder:
        source, target = Path(folder) / "lines.txt", Path(folder) / "out"
        source.write_bytes(LINE * count)
        local = [seconds_of(source, target, threads=2) for _ in range(2)]
        with km.LocalCluster(workers=2) as there:
            cluster = [seconds_of(source, target) for _ in range(2)]
            ran = [job.tasks for job in there.jobs()]
        if ran != [count + 1] * 2:  # and the reduce
            raise SystemExit(f"the jobs had {ran} tasks, not {count + 1}")
    print(json.dumps({"tasks_a_second": count / cluster[1], "local_tasks_a_second": count / local[1]}))


if __name__ == "__main__":
    main(*sys.argv[1:])
