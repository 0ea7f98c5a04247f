"""What the journal, the checksums of shuffle blocks and those of rows take of a job that is bound by its shuffle. JSON.

The job groups a table of 4 * 10^6 distinct keys, so that every row travels, on two workers of one slot; its output is
the local run's, byte for byte. Once the workers share a host, so blocks are read where they lie, and once each has a
scratch folder of its own, so that half of them are fetched, and checked on arrival too. Two clusters run it in turn,
PAIRS times: one as it is, and one in whose processes these calls do nothing (stopwatch/sitecustomize.py).

share           what the job takes longer, of its seconds: the median over the pairs, the larger of both places
cpu_share       the same by the processor seconds of all processes of the cluster
calls           of a third cluster, whose calls are timed: what they take by the clock and of their threads, by kind.
                That is more than they cost where threads wait: a slot's for its processor, the journal's for the disk
                while tasks run on
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
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import kernelmill as km
from bench.engines import ROOT
from bench.peers.stopwatch.sitecustomize import FIELDS, FOLDER_VARIABLE, KINDS, UNCHECKED_VARIABLE

sys.path[:0] = [str(ROOT / "tests" / "cluster" / "faults")]

import known  # noqa: E402 -- found by the line above
import rig as rigs  # noqa: E402

ROWS, WORKERS, PARTITIONS, PAIRS = 4_000_000, ("w1", "w2"), 4, 15
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


Calls = Literal["as they are", "timed", "nothing"]


class ChangedRig(rigs.Rig):
    """A cluster whose workers are warm; in its processes the calls are as they are, `timed`, or do `nothing`."""

    def __init__(self, source: Path, is_one_host: bool, calls: Calls) -> None:
        super().__init__(memory="1GiB")
        self._is_one_host, self._calls = is_one_host, calls
        self.stopwatch = self.folder / "stopwatch"
        self.stopwatch.mkdir()
        try:
            self.start_master()
            self.start_workers(*WORKERS)
            self.wait_workers(*WORKERS)
            self._table = self.files / "table.parquet"
            self._table.write_bytes(source.read_bytes())
            self.job_seconds()
        except BaseException:
            self.close()
            raise

    def scratch(self, name: str) -> Path:
        return super().scratch("all" if self._is_one_host else name)

    def _start_words(
        self, name: str, argv: list[str], failpoints: str, environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[Any]:
        changed = dict(environ or {})
        if self._calls != "as they are":
            path = filter(None, (str(ROOT / "bench" / "peers" / "stopwatch"), os.environ.get("PYTHONPATH")))
            changed |= {"PYTHONPATH": os.pathsep.join(path), FOLDER_VARIABLE: str(self.stopwatch)}
        if self._calls == "nothing":
            changed[UNCHECKED_VARIABLE] = "1"
        return super()._start_words(name, argv, failpoints, changed)

    def job_seconds(self) -> tuple[float, float]:
        """Run the job; its seconds, and those of the processor in all processes of the cluster."""
        with self.connect():
            before = self.cpu_seconds()
            seconds = run_job(self._table, self.files / "out")
            return seconds, sum(own - before.get(pid, 0.0) for pid, own in self.cpu_seconds().items())

    def check(self, expected: Path) -> None:
        """Raise SystemExit unless the last job's output is this one, byte for byte."""
        if known.bytes_of(self.files / "out") != known.bytes_of(expected):
            raise SystemExit("the cluster's output is not the local run's")

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


def check_all_seen(found: Mapping[str, int], rows: int) -> None:
    """Raise SystemExit unless sitecustomize.py was in the way of every kind of call, and of these rows."""
    if found["rows size"] < rows or not all(found[f"{kind} calls"] for kind in KINDS):
        raise SystemExit(f"{found}: too few calls for {rows} rows")


def compare(source: Path, expected: Path, is_one_host: bool) -> dict[str, Any]:
    """The job with and without all that is asked for, in turn; which is first changes from pair to pair."""
    with (
        contextlib.closing(ChangedRig(source, is_one_host, "as they are")) as checked,
        contextlib.closing(ChangedRig(source, is_one_host, "nothing")) as unchecked,
    ):
        times: dict[ChangedRig, list[tuple[float, float]]] = {checked: [], unchecked: []}
        for number in range(PAIRS):
            for rig in (checked, unchecked) if number % 2 else (unchecked, checked):
                times[rig].append(rig.job_seconds())
        for rig in times:
            rig.check(expected)
        check_all_seen(unchecked.read(), PAIRS * ROWS)
    pairs = list(zip(times[checked], times[unchecked], strict=True))
    wall, cpu = (statistics.median(1 - without[at] / own[at] for own, without in pairs) for at in (0, 1))
    return {"share": wall, "cpu_share": cpu, "pairs": pairs}


def time_calls(source: Path, expected: Path, is_one_host: bool) -> dict[str, Any]:
    """The calls of one job under the stopwatch."""
    with contextlib.closing(ChangedRig(source, is_one_host, "timed")) as rig:
        before, appends = rig.read(), len(rig.appends_ms())
        seconds, cpu_s = rig.job_seconds()
        found, took_ms = rig.read(), rig.appends_ms()[appends:]
        rig.check(expected)
    found.subtract(before)
    check_all_seen(found, ROWS)
    at_once = {kind: 1 if kind == "journal" else len(WORKERS) for kind in KINDS}
    return {
        "wall_shares": {kind: found[f"{kind} ns"] / 1e9 / seconds / at_once[kind] for kind in KINDS},
        "cpu_shares": {kind: found[f"{kind} cpu"] / 1e9 / cpu_s for kind in KINDS},
        "number": {kind: found[f"{kind} calls"] for kind in KINDS},
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
        places = {"one host": True, "two hosts": False}
        runs = {name: compare(source, expected, is_one) for name, is_one in places.items()}
        calls = {name: time_calls(source, expected, is_one) for name, is_one in places.items()}
    largest = {name: max(one[name] for one in runs.values()) for name in ("share", "cpu_share")}
    print(json.dumps({**largest, "runs": runs, "calls": calls}))


if __name__ == "__main__":
    main()
