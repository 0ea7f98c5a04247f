"""Run tasks that have next to nothing to do: 10,000 maps of one short line each, on two workers of one slot. JSON.

tasks_a_second: of empty tasks: each opens its file, finds its line and keeps nothing of it, for the line passes no
filter; it leaves an empty block, is recorded and acknowledged like any other, and the last task reads all the blocks.
counted_tasks_a_second: of tasks that count their line with `group_by`, so that there are 10,000 rows to move and merge.

Both are those of the second run in a warm cluster, from the submission to the published output; all in all, so the
client's planning, the journal's fsyncs, the blocks' files and the last task are in them. local_...: of one process's
two threads, beside them.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import kernelmill as km

TASKS = 10_000
LINE = b"any any any any\n"
SPLIT_BYTES = len(LINE) // 4
"""What makes a split of each line: splits of text are up to four times as large as `split_size` says."""

Plan = Callable[[km.LazyFrame], km.LazyFrame]
PLANS: dict[str, tuple[Plan, int]] = {
    "tasks_a_second": (lambda lines: lines.filter(km.col("line") == "none").head(1), 0),
    "counted_tasks_a_second": (lambda lines: lines.group_by("line").agg(km.len()), 1),
}
"""What is run, and how many rows it leaves."""


def seconds_of(plan: str, source: Path, target: Path, **options: int) -> float:
    """The seconds of one run."""
    work, rows = PLANS[plan]
    frame = work(km.scan_text(source))
    began = time.perf_counter()
    made = frame.sink_parquet(
        str(target), split_size=SPLIT_BYTES, partitions=1, mode="overwrite", progress=False, **options
    )
    seconds = time.perf_counter() - began
    if made.rows != rows:
        raise SystemExit(f"{plan}: {made.rows} rows, not {rows}")
    return seconds


def main(tasks: str = str(TASKS)) -> None:
    """Run them."""
    count = int(tasks)
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="kernelmill-bench-") as folder:
        source, target = Path(folder) / "lines.txt", Path(folder) / "out"
        source.write_bytes(LINE * count)
        for plan in PLANS:
            local = [seconds_of(plan, source, target, threads=2) for _ in range(2)]
            found[f"local_{plan}"] = count / local[1]
        with km.LocalCluster(workers=2) as there:
            for plan in PLANS:
                cluster = [seconds_of(plan, source, target) for _ in range(2)]
                found[plan] = count / cluster[1]
            ran = [job.tasks for job in there.jobs()]
        if ran != [count + 1] * 4:  # and the last one
            raise SystemExit(f"the jobs had {ran} tasks, not {count + 1}")
    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
