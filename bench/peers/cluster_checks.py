"""What the journal, the checksums of shuffle blocks and those of rows take of a job that is bound by its shuffle. JSON.

The job groups a table of 4 * 10^6 distinct keys, so that every row travels, on two workers of one slot; its output is
the local run's, byte for byte. Once the workers share a host, so blocks are read where they lie, and once each has a
scratch folder of its own, so that half of them are fetched, and checked on arrival too. The processes run as they are,
but for wrappers around the calls that are timed: stopwatch/sitecustomize.py.

share           the larger of both runs: seconds of the checksums over those of both slots, and of the journal, whose
                thread is one, over the job's own
cpu_share       the same by processor: of these calls' threads over that of all processes of the cluster
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import kernelmill as km
from bench.engines import ROOT
from bench.peers.stopwatch.sitecustomize import FIELDS, FOLDER_VARIABLE, KINDS

sys.path[:0] = [str(ROOT / "tests" / "cluster" / "faults")]

import known  # noqa: E402 -- found by the line above
import rig as rigs  # noqa: E402

ROWS, WORKERS, PARTITIONS = 4_000_000, ("w1", "w2"), 4
_TICKS = os.sysconf("SC_CLK_TCK")


def write_table(path: Path) -> None:
    """Distinct numbers in no order, each with a text and a number that follow from it."""
    ids = np.random.default_rng(5).permutation(ROWS)
    texts = pa.array(ids * 2_654_435_761 % 1_000_000_007).cast(pa.string())
    pq.write_table(pa.table({"id": ids, "text": texts, "value": ids * 31 % 97}), path, row_group_size=1 << 18)


def run_job(source: Path, target: Path) -> float:
    """Run it where jobs run now; its seconds."""
    began = time.perf_counter()
    frame = km.scan_parquet(source).group_by("id", "text").agg(km.col("value").sum())
    frame.sink_parquet(str(target), partitions=PARTITIONS, mode="overwrite", progress=False)
    return time.perf_counter() - began


class WatchedRig(rigs.Rig):
    """A cluster whose processes write their times into the folder `stopwatch`."""

    def __init__(self, is_one_host: bool) -> None:
        super().__init__(memory="1GiB")
        self._is_one_host = is_one_host
        self.stopwatch = self.folder / "stopwatch"
        self.stopwatch.mkdir()

    def scratch(self, name: str) -> Path:
        return super().scratch("all" if self._is_one_host else name)

    def _start_words(
        self, name: str, argv: list[str], failpoints: str, environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[Any]:
        path = filter(None, (str(ROOT / "bench" / "peers" / "stopwatch"), os.environ.get("PYTHONPATH")))
        watched = {"PYTHONPATH": os.pathsep.join(path), FOLDER_VARIABLE: str(self.stopwatch)}
        return super()._start_words(name, argv, failpoints, {**watched, **(environ or {})})

    def read(self) -> Counter[str]:
        """Nanoseconds, sizes and calls of each kind."""
        found: Counter[str] = Counter()
        for path in self.stopwatch.iterdir():
            if path.suffix:
                continue
            data = path.read_bytes()
            for number, kind in enumerate(KINDS):
                names = (f"{kind} ns", f"{kind} cpu", f"{kind} size", f"{kind} calls")
                found.update(dict(zip(names, FIELDS.unpack_from(data, number * FIELDS.size), strict=True)))
        return found

    def cpu_seconds(self) -> dict[int, float]:
        """Processor seconds of all processes of the cluster that live, by their numbers."""
        found: dict[int, float] = {}
        pids = [process.pid for process in self.members.values()]
        while pids:
            pid = pids.pop()
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                found[pid] = (int(words[11]) + int(words[12])) / _TICKS
                pids += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return found

    def appends_ms(self) -> list[float]:
        """How long each append of the journal took."""
        data = b"".join(path.read_bytes() for path in self.stopwatch.glob("*.journal"))
        return [int.from_bytes(data[at : at + 8], "little") / 1e6 for at in range(0, len(data), 8)]


def measure(source: Path, expected: Path, is_one_host: bool) -> dict[str, Any]:
    """Run the job in a warm cluster under the stopwatch."""
    rig = WatchedRig(is_one_host)
    try:
        rig.start_master()
        rig.start_workers(*WORKERS)
        rig.wait_workers(*WORKERS)
        table = rig.files / "table.parquet"
        table.write_bytes(source.read_bytes())
        with rig.connect():
            run_job(table, rig.files / "warm")
            before, cpu_before, appends = rig.read(), rig.cpu_seconds(), len(rig.appends_ms())
            seconds = run_job(table, rig.files / "out")
            cpu_s = sum(own - cpu_before.get(pid, 0.0) for pid, own in rig.cpu_seconds().items())
        found, took_ms = rig.read(), rig.appends_ms()[appends:]
        if known.bytes_of(rig.files / "out") != known.bytes_of(expected):
            raise SystemExit("the cluster's output is not the local run's")
    finally:
        rig.close()
    found.subtract(before)
    shares = {kind: found[f"{kind} ns"] / 1e9 / seconds / (1 if kind == "journal" else len(WORKERS)) for kind in KINDS}
    cpu_shares = {kind: found[f"{kind} cpu"] / 1e9 / cpu_s for kind in KINDS}
    return {
        "seconds": seconds,
        "cpu_s": cpu_s,
        "share": sum(shares.values()),
        "cpu_share": sum(cpu_shares.values()),
        "shares": shares,
        "cpu_shares": cpu_shares,
        "calls": {kind: found[f"{kind} calls"] for kind in KINDS},
        "block_bytes_hashed": found["blocks size"],
        "rows_summed": found["rows size"],
        "appends": len(took_ms),
        "commit_p50_ms": statistics.median(took_ms),
        "commit_max_ms": max(took_ms),
    }


def main() -> None:
    """Measure on one host and on two."""
    with tempfile.TemporaryDirectory(prefix="kernelmill-bench-") as folder:
        source, expected = Path(folder) / "table.parquet", Path(folder) / "local"
        write_table(source)
        run_job(source, expected)
        runs = {"one host": measure(source, expected, True), "two hosts": measure(source, expected, False)}
    for where, one in runs.items():
        if one["rows_summed"] < ROWS or not all(one["calls"].values()):
            raise SystemExit(f"{where}: {one}: the stopwatch saw too little of {ROWS} rows")
    largest = {name: max(one[name] for one in runs.values()) for name in ("share", "cpu_share")}
    print(json.dumps({**largest, "runs": runs}))


if __name__ == "__main__":
    main()
