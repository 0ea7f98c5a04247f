"""The master's machine alone, with 10,000 simulated workers of two slots and a job of 10^6 maps. Prints JSON.

The cluster is that of tests/cluster/simulation/test_cluster_scale.py: workers that make no mistakes, a journal that
commits in groups, no socket and no file. A decision is an attempt that was assigned and committed.

decisions_a_second       by wall clock; decisions_a_cpu_second by this process's own time
bytes_a_task             the peak of what the machine holds over its tasks, by tracemalloc, which is slow: 20,000 tasks
"""

from __future__ import annotations

import json
import sys
import time
import tracemalloc

from bench.engines import ROOT

sys.path[:0] = [str(ROOT / "tests" / "cluster" / "simulation")]

from test_cluster_scale import PARTITIONS, Cluster  # noqa: E402 -- found by the line above

MAPS, WORKERS, SLOTS = 1_000_000, 10_000, 2
WEIGHED_MAPS, WEIGHED_WORKERS = 20_000, 100


def run(maps: int, workers: int) -> int:
    """Run the job to its end; how many attempts were assigned."""
    cluster = Cluster(maps, workers, SLOTS)
    cluster.run()
    state, assigned = cluster.master.state_of("job"), cluster.assigned
    if (state, assigned) != ("COMMITTED", maps + PARTITIONS):
        raise SystemExit(f"the job is {state}, and {assigned} attempts were assigned for {maps + PARTITIONS} tasks")
    return assigned


def main() -> None:
    """Measure both."""
    began, began_cpu = time.perf_counter(), time.process_time()
    assigned = run(MAPS, WORKERS)
    wall, cpu = time.perf_counter() - began, time.process_time() - began_cpu
    tracemalloc.start()
    run(WEIGHED_MAPS, WEIGHED_WORKERS)
    _, peak = tracemalloc.get_traced_memory()
    found = {
        "decisions_a_second": assigned / wall,
        "decisions_a_cpu_second": assigned / cpu,
        "bytes_a_task": peak / WEIGHED_MAPS,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
