"""What it costs when a worker or the master dies, or stands still, in the middle of a job. Prints JSON.

Four workers of one slot, in processes, over ipc, started by the fault tests' own rig. The job has 80 maps that wait
0.4 s each, so that two cores are not what it is short of, and nothing but lost workers can make it slower. A worker
dies with its blocks: the maps that it had run are run again.

death_seen_s           from kill -9 of an idle worker until the master no longer lists it
one_of_four_lost       the job's time over T0 (f + ((1 - f) + f / N) N / (N - 1)): f = 0.5 was done, all of it maps
one_of_four_stopped    the same of a worker that is stopped with its slots: its blocks are made again after 5 s
extra_work             maps that began beyond those, and beyond the ones whose blocks were lost, over all maps: the one
                       that stood still, and backups, with the worker stopped
master_back_s          from the start of the next master until it gave out a task; tasks_run_again must be 0
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kernelmill as km
from bench.engines import ROOT

sys.path[:0] = [str(ROOT / "tests" / "cluster" / "faults")]

import raw  # noqa: E402 -- found by the line above
import rig as rigs  # noqa: E402

MAPS, WAIT_S, WORKERS = 80, 0.4, ("w1", "w2", "w3", "w4")
DONE = 0.5
SPLIT_BYTES = 4
"""Makes a split of each line of 16 bytes: splits of text are up to four times as large as `split_size` says."""


def waiting_map(starts: str, wait_s: float = WAIT_S) -> Callable[..., None]:
    """A map that writes down when it began, and waits."""

    def wait(line: Any, emit: Any) -> None:
        import time

        with open(starts, "a") as file:
            file.write(f"{time.time()}\n")
        time.sleep(wait_s)
        emit("line", 1)

    return wait


class Trial:
    """A cluster of four workers and one run of the job on it."""

    def __init__(self, folder: str) -> None:
        self.rig = rigs.Rig()
        self.starts = Path(folder) / "starts"
        self.starts.touch()
        self.back_s = 0.0

    def __enter__(self) -> Trial:
        self.rig.start_master()
        self.rig.start_workers(*WORKERS)
        self.rig.wait_workers(*WORKERS)
        (self.rig.files / "lines").write_bytes(b"any any any any\n" * MAPS)
        self.run()  # every slot has started, and has opened a job
        if len(self.rig.history().commits) != MAPS + 1:
            raise SystemExit(f"{len(self.rig.history().commits)} tasks were committed, not {MAPS} and a reduce")
        self.starts.write_bytes(b"")
        return self

    def __exit__(self, *_: object) -> None:
        self.rig.close()

    def run(self, meanwhile: Callable[[], None] = lambda: None) -> float:
        """Run the job, and something in its middle; its seconds."""
        job = km.MapReduce(
            waiting_map(str(self.starts)), "sum", schema={"key": "string", "value": "int64"}, compile="never"
        )
        target = str(self.rig.files / "out")

        def run() -> None:
            with self.rig.connect():
                job(km.scan_text(self.rig.files / "lines")).sink_parquet(
                    target, split_size=SPLIT_BYTES, partitions=1, mode="overwrite", progress=False
                )

        began = time.perf_counter()
        future = self.rig.submit(run)
        meanwhile()
        self.rig.done(future, 120)
        return time.perf_counter() - began

    def begun(self) -> list[float]:
        """When each map began, those that began twice twice."""
        return [float(line) for line in self.starts.read_text().splitlines()]

    def half_done(self) -> None:
        """Wait until half of the maps are done, or nearly."""
        rigs.until(lambda: len(self.begun()) >= MAPS * DONE + len(WORKERS), "half of it is done", 60)

    def kill_one(self) -> None:
        """End a worker in the middle, and all that it holds."""
        self.half_done()
        self.rig.kill(WORKERS[0])

    def stop_one(self) -> None:
        """Stop a worker and its slots in the middle."""
        self.half_done()
        for pid in [*self.rig.slots_of(WORKERS[0]), self.rig.members[WORKERS[0]].pid]:
            rigs.signal_if_there(pid, signal.SIGSTOP)

    def restart_master(self) -> None:
        """Kill the master in the middle and start the next one, which stands still for a moment at its first order."""
        self.half_done()
        self.rig.kill("master")
        began = time.time()
        self.rig.start_master(failpoints="master.assign.sent=stop")
        self.rig.wait_token("master.assign.sent")
        self.back_s = (self.rig.tokens / "master.assign.sent").stat().st_mtime - began
        self.rig.kill("master", signal.SIGCONT)


def death_seen_s() -> float:
    """Kill an idle worker and ask the master for its workers until it is gone."""
    made = rigs.Rig()
    try:
        made.start_master()
        made.start_workers("w1", "w2")
        made.wait_workers("w1", "w2")
        with raw.client_session(made.address, made.read_bundle("client", "root")) as session:
            os.kill(made.members["w1"].pid, signal.SIGKILL)
            began = time.perf_counter()
            rigs.until(lambda: session.workers() == ["w2"], "w1 is gone")
            return time.perf_counter() - began
    finally:
        made.close()


def main() -> None:
    """Measure all four."""
    found = {"death_seen_s": death_seen_s()}
    count = len(WORKERS)
    explained = DONE + ((1 - DONE) + DONE / count) * count / (count - 1)
    with tempfile.TemporaryDirectory() as folder:
        with Trial(folder) as trial:
            whole_s = trial.run()
        for name, fault in (("one_of_four_lost", Trial.kill_one), ("one_of_four_stopped", Trial.stop_one)):
            with Trial(folder) as trial:
                found[name] = trial.run(functools.partial(fault, trial)) / (whole_s * explained)
                extra = len(trial.begun()) - MAPS - trial.rig.history().commits_again
        found["extra_work"] = extra / MAPS  # of the stopped one
        with Trial(folder) as trial:
            trial.run(trial.restart_master)
            found["tasks_run_again"] = trial.rig.history().commits_again
            found["master_back_s"] = trial.back_s
    print(json.dumps({**found, "whole_s": whole_s}))


if __name__ == "__main__":
    main()
