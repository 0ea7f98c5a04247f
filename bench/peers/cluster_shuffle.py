"""Shuffle blocks from one worker to another: one partition of 48 map tasks, 390 MB, read to the last row. Prints JSON.

The holder is a process with the data plane of a supervisor; the reader is this one, with a data plane and the store
that a task in a slot reads from. Blocks come over TCP on loopback, encrypted, into the reader's spool, are checked, and
read from there while others come: `fetched`. Then the reader has the holder's scratch folder, as a worker of the same
host, and opens its files: `placed`. In turn, medians of three; files are in the page cache. Sums of all rows are
compared with what the holder wrote.

fetched_gb_s, placed_gb_s                 10^9 bytes of blocks a second, until their rows are there
fetched_cpu_s_a_gb, placed_cpu_s_a_gb     processor seconds of both processes for 10^9 bytes
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from bench.engines import ROOT

sys.path[:0] = [str(ROOT / "tests" / "cluster" / "data")]

from blocks import JOB, reader, refs, write_map  # noqa: E402 -- found by the line above

from kernelmill.cluster.data.plane import DataPlane, DataSettings  # noqa: E402
from kernelmill.cluster.data.store import ClusterStore  # noqa: E402
from kernelmill.cluster.fields import AttemptKey  # noqa: E402
from kernelmill.cluster.keys.curve import KeyPair, make_pair  # noqa: E402
from kernelmill.cluster.keys.signing import ticket  # noqa: E402
from kernelmill.cluster.messages import Peer  # noqa: E402
from kernelmill.cluster.worker.events import BlockCame, Want  # noqa: E402
from kernelmill.cluster.worker.slotframes import BlockHere, BlockWanted  # noqa: E402
from kernelmill.engine.exec.rowsums import RowSums, row_sums  # noqa: E402

MAPS, BATCHES, BATCH_ROWS, PARTITION, ROUNDS = 48, 4, 1 << 16, 0, 3
TICKET_KEY = b"t" * 32
ENDPOINT = "tcp://127.0.0.1:*"
NO_PARTS = "ipc:///nowhere", make_pair().public


def cpu_seconds() -> float:
    """Of this process: all its threads, those that encrypt among them."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def attempt_of(task: int) -> AttemptKey:
    """The attempt of a map task."""
    return AttemptKey(1, 10 + task)


def write_blocks(scratch: str) -> tuple[int, RowSums]:
    """Run the map tasks; bytes of all blocks and the sums of their rows."""
    chance, size, sums = np.random.default_rng(3), 0, RowSums()
    for task in range(MAPS):
        batches = []
        for _ in range(BATCHES):
            numbers = pa.array(chance.integers(0, 1 << 62, BATCH_ROWS))
            batches.append(pa.record_batch([numbers.cast(pa.string()), numbers], names=["s", "n"]))
            sums = sums.plus(row_sums(batches[-1]))
        rows = {PARTITION: batches}
        size += write_map(scratch, "w1", task, attempt_of(task), rows=lambda _, part, rows=rows: rows.get(part, []))[0]
    return size, sums


def hold(scratch: str, reader_key: str) -> None:
    """The holder's process: tell what there is and where, then the processor's time at each line that is read."""
    size, sums = write_blocks(scratch)
    own = make_pair()
    plane = DataPlane(DataSettings(scratch, "w1", own, TICKET_KEY, ENDPOINT, *NO_PARTS), lambda: None)
    plane.set_peers([Peer("w2", "tcp://127.0.0.1:1", reader_key.encode())])
    print(json.dumps([size, sums, plane.endpoint, own.public]), flush=True)
    for _ in sys.stdin:
        print(cpu_seconds(), flush=True)
    plane.close()


class Fetching:
    """The reader's data plane, and between it and a task's store what a supervisor does."""

    def __init__(self, scratch: str, pair: KeyPair, holder: Peer) -> None:
        self._wants: list[Want] = []
        self._desk: Any = None
        self._plane = DataPlane(DataSettings(scratch, "w2", pair, TICKET_KEY, ENDPOINT, *NO_PARTS), self._take)
        self._plane.set_peers([holder])
        self._scratch = scratch

    def _ask(self, wanted: BlockWanted) -> None:
        want = Want(JOB, wanted.stage, wanted.gen, wanted.map_task, wanted.attempt, "w1", wanted.output, PARTITION)
        self._wants.append(want)
        ours = ticket(TICKET_KEY, JOB, want.stage, want.gen, want.output, want.partition, "w2")
        self._plane.want(want, ours)

    def _take(self) -> None:
        for came in self._plane.take():
            assert isinstance(came, BlockCame), came
            want = came.want
            place = want.stage, want.map_task, want.output, want.partition
            self._desk.take_answer(BlockHere(*place, want.attempt, "w1", came.path, ""))

    @contextlib.contextmanager
    def store(self) -> Iterator[ClusterStore]:
        """A store whose blocks are asked for all at once; the files that came are removed at its end."""
        held = [(task, attempt_of(task), "w1") for task in range(MAPS)]
        store, self._desk, _ = reader(self._scratch, PARTITION, held, maps=MAPS, worker="w2", ask=self._ask)
        store.prefetch()
        yield store
        while self._wants:
            self._plane.forget(self._wants.pop())

    def close(self) -> None:
        """Close the plane."""
        self._plane.close()


@contextlib.contextmanager
def store_in_place(scratch: str) -> Iterator[ClusterStore]:
    """A store of a worker with the holder's scratch folder."""
    held = [(task, attempt_of(task), "w1") for task in range(MAPS)]
    store, _, _ = reader(scratch, PARTITION, held, maps=MAPS, worker="w2")
    store.prefetch()
    yield store


def main() -> None:
    """Measure both ways in turn."""
    with tempfile.TemporaryDirectory(prefix="kernelmill-bench-") as folder, contextlib.ExitStack() as closing:
        places = [os.path.join(folder, name) for name in ("here", "there")]
        pair = make_pair()
        words = [sys.executable, "-m", "bench.peers.cluster_shuffle", "hold", places[0], pair.public]
        holder = closing.enter_context(
            subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        )
        assert holder.stdin is not None and holder.stdout is not None
        size, written, endpoint, key = json.loads(holder.stdout.readline())
        fetching = Fetching(places[1], pair, Peer("w1", endpoint, key.encode()))
        closing.callback(fetching.close)
        ways = {"fetched": fetching.store, "placed": lambda: store_in_place(places[0])}

        def holders_cpu_s() -> float:
            print(file=holder.stdin, flush=True)
            return float(holder.stdout.readline())

        found: dict[str, list[float]] = {}
        for number in range(ROUNDS + 1):  # the first is not measured: its sums are taken
            for way, opened in ways.items():
                sums = RowSums()
                began, cpu = time.perf_counter(), cpu_seconds() + holders_cpu_s()
                with opened() as store:
                    for ref in refs(MAPS, PARTITION):
                        for batch in store.read(ref):
                            sums = sums.plus(row_sums(batch) if number == 0 else RowSums(batch.num_rows))
                    seconds = time.perf_counter() - began
                    used = cpu_seconds() + holders_cpu_s() - cpu
                if list(sums) != written and (number == 0 or sums.rows != written[0]):
                    raise SystemExit(f"{way}: {sums}, and {written} were written")
                if number:
                    found.setdefault(f"{way}_gb_s", []).append(size / 1e9 / seconds)
                    found.setdefault(f"{way}_cpu_s_a_gb", []).append(used / (size / 1e9))
    print(json.dumps({"bytes": size, **{name: statistics.median(each) for name, each in found.items()}}))


if __name__ == "__main__":
    if sys.argv[1:2] == ["hold"]:
        hold(*sys.argv[2:])
    else:
        main()
