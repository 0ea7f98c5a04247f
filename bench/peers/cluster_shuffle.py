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
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

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
from kernelmill.cluster.worker.events import BlockBegan, BlockCame, Want  # noqa: E402
from kernelmill.cluster.worker.slotframes import BlockHere, BlockWanted  # noqa: E402
from kernelmill.engine.exec.rowsums import RowSums, row_sums  # noqa: E402

MAPS, BATCHES, BATCH_ROWS, PARTITION, ROUNDS = 48, 4, 1 << 16, 0, 3
TICKET_KEY = b"t" * 32
BLOCK_BYTES_MAX = 1 << 27
ENDPOINT = "tcp://127.0.0.1:*"
NO_PARTS = "ipc:///nowhere", make_pair().public


def cpu_seconds() -> float:
    """Of this process: all its threads, those that encrypt among them."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def attempt_of(task: int) -> AttemptKey:
    """The attempt of a map task."""
    return AttemptKey(1, 10 + task)


def write_blocks(scratch: str, maps: int) -> tuple[int, RowSums]:
    """Run so many map tasks; bytes of all blocks and the sums of their rows."""
    chance, size, sums = np.random.default_rng(3), 0, RowSums()
    for task in range(maps):
        batches = []
        for _ in range(BATCHES):
            numbers = pa.array(chance.integers(0, 1 << 62, BATCH_ROWS))
            batches.append(pa.record_batch([numbers.cast(pa.string()), numbers], names=["s", "n"]))
            sums = sums.plus(row_sums(batches[-1]))
        rows = {PARTITION: batches}
        size += write_map(scratch, "w1", task, attempt_of(task), rows=lambda _, part, rows=rows: rows.get(part, []))[0]
    return size, sums


def hold(scratch: str, reader_key: str, maps: str) -> None:
    """The holder's process: tell what there is and where, then the processor's time at each line that is read."""
    size, sums = write_blocks(scratch, int(maps))
    own = make_pair()
    plane = DataPlane(DataSettings(scratch, "w1", own, TICKET_KEY, ENDPOINT, *NO_PARTS), lambda: None)
    plane.set_peers([Peer("w2", "tcp://127.0.0.1:1", reader_key.encode())])
    print(json.dumps([size, sums, plane.endpoint, own.public]), flush=True)
    for _ in sys.stdin:
        print(cpu_seconds(), flush=True)
    plane.close()


@contextlib.contextmanager
def holding(scratch: str, reader_key: str, maps: int) -> Iterator[Holder]:
    """A process that holds the blocks of so many map tasks, until the block's end."""
    words = [sys.executable, "-m", "bench.peers.cluster_shuffle", "hold", scratch, reader_key, str(maps)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        asked, told = process.stdin, process.stdout

        def cpu_s() -> float:
            print(file=asked, flush=True)
            return float(told.readline())

        size, written, endpoint, key = json.loads(told.readline())
        yield Holder(size, written, endpoint, key.encode(), cpu_s)


class Holder(NamedTuple):
    """What a holder's process says: bytes and sums of its blocks, where it is; its processor time when it is asked."""

    size_bytes: int
    written: list[int]
    endpoint: str
    key: bytes
    cpu_s: Callable[[], float]


class Fetching:
    """The reader's data plane, and between it and a task's store what a supervisor does.

    A store's blocks are all here when `is_whole` is set.
    """

    def __init__(self, scratch: str, pair: KeyPair, holder: Peer, maps: int = MAPS) -> None:
        self._maps, self._missing, self.is_whole = maps, 0, threading.Event()
        self._wants: list[Want] = []
        self._desk: Any = None
        self._plane = DataPlane(DataSettings(scratch, "w2", pair, TICKET_KEY, ENDPOINT, *NO_PARTS), self._take)
        self._plane.set_peers([holder])
        self._scratch = scratch

    def _ask(self, wanted: BlockWanted) -> None:
        want = Want(JOB, wanted.stage, wanted.gen, wanted.map_task, wanted.attempt, "w1", wanted.output, PARTITION)
        self._wants.append(want)
        ours = ticket(TICKET_KEY, JOB, want.stage, want.gen, want.output, want.partition, "w2")
        self._plane.want(want, ours, BLOCK_BYTES_MAX)

    def _take(self) -> None:
        for came in self._plane.take():
            assert isinstance(came, BlockBegan | BlockCame), came
            want, is_whole = came.want, isinstance(came, BlockCame)
            place = want.stage, want.map_task, want.output, want.partition
            self._desk.take_answer(BlockHere(*place, want.attempt, "w1", came.path, "", is_whole))
            self._missing -= is_whole
            if not self._missing:
                self.is_whole.set()

    @contextlib.contextmanager
    def store(self) -> Iterator[ClusterStore]:
        """A store whose blocks are asked for all at once; the files that came are removed at its end."""
        held = [(task, attempt_of(task), "w1") for task in range(self._maps)]
        self._missing = self._maps
        self.is_whole.clear()
        store, self._desk, _ = reader(self._scratch, PARTITION, held, maps=self._maps, worker="w2", ask=self._ask)
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
        holder = closing.enter_context(holding(places[0], pair.public, MAPS))
        size, written = holder.size_bytes, holder.written
        fetching = Fetching(places[1], pair, Peer("w1", holder.endpoint, holder.key))
        closing.callback(fetching.close)
        ways = {"fetched": fetching.store, "placed": lambda: store_in_place(places[0])}

        found: dict[str, list[float]] = {}
        for number in range(ROUNDS + 1):  # the first is not measured: its sums are taken
            for way, opened in ways.items():
                sums = RowSums()
                began, cpu = time.perf_counter(), cpu_seconds() + holder.cpu_s()
                with opened() as store:
                    for ref in refs(MAPS, PARTITION):
                        for batch in store.read(ref):
                            sums = sums.plus(row_sums(batch) if number == 0 else RowSums(batch.num_rows))
                    seconds = time.perf_counter() - began
                    used = cpu_seconds() + holder.cpu_s() - cpu
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
