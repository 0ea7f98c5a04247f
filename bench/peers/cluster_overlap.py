"""A task that merges blocks of another host while the rest is on its way: what that saves. Prints JSON.

The blocks of 19 map tasks, 153 MB, come from a holder's process over TCP, encrypted, through a relay that lets 50 MB a
second pass, and are merged at that speed too: for each batch that is read the task sleeps as long as its bytes take.
`overlapped` is what a task does: it waits for the indexes of all blocks, then merges each as it comes. `in_turn` waits
until all of them are here before it merges the first. In turn, medians of three; rows are counted.

in_turn_s, overlapped_s            from the first question to the last row
in_turn_cpu_s, overlapped_cpu_s    processor seconds of both processes
gain                               in_turn_s / overlapped_s, of each pair
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator

from bench.peers.cluster_shuffle import PARTITION, Fetching, cpu_seconds, holding, refs
from kernelmill.cluster.keys.curve import make_pair
from kernelmill.cluster.messages import Peer

MAPS, ROUNDS, BYTES_A_SECOND = 19, 3, 50_000_000
PIECE_BYTES = 64 << 10
CONNECTIONS_MAX = 16


class Pace:
    """So many bytes a second, whoever asks."""

    def __init__(self) -> None:
        self._lock, self._free_s = threading.Lock(), 0.0

    def pass_bytes(self, size_bytes: float) -> None:
        """Sleep as long as these bytes take behind those before them."""
        with self._lock:
            self._free_s = max(time.monotonic(), self._free_s) + size_bytes / BYTES_A_SECOND
            free_s = self._free_s
        time.sleep(max(0.0, free_s - time.monotonic()))


@contextlib.contextmanager
def slow_link(endpoint: str) -> Iterator[str]:
    """An endpoint on loopback from which the holder's bytes come at that pace; ended with the block."""
    host, port = endpoint.removeprefix("tcp://").rsplit(":", 1)
    pace, ends = Pace(), []

    def hand_on(source: socket.socket, target: socket.socket, *, is_slow: bool) -> None:
        with contextlib.suppress(OSError):  # one side has closed
            while data := source.recv(PIECE_BYTES):
                if is_slow:
                    pace.pass_bytes(len(data))
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with contextlib.suppress(OSError):  # the server is closed
            for _ in range(CONNECTIONS_MAX):
                near, far = server.accept()[0], socket.create_connection((host, int(port)))
                ends.extend((near, far))
                threading.Thread(target=hand_on, args=(near, far), kwargs={"is_slow": False}, daemon=True).start()
                threading.Thread(target=hand_on, args=(far, near), kwargs={"is_slow": True}, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=accept, daemon=True).start()
        try:
            yield f"tcp://127.0.0.1:{server.getsockname()[1]}"
        finally:
            for end in ends:
                end.close()


def main() -> None:
    """Measure both ways in turn."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="kernelmill-bench-") as folder, contextlib.ExitStack() as closing:
        pair = make_pair()
        holder = closing.enter_context(holding(os.path.join(folder, "here"), pair.public, MAPS))
        near = closing.enter_context(slow_link(holder.endpoint))
        fetching = Fetching(os.path.join(folder, "there"), pair, Peer("w1", near, holder.key), MAPS)
        closing.callback(fetching.close)
        for _ in range(ROUNDS):
            for way in ("in_turn", "overlapped"):
                merge, rows = Pace(), 0
                began, cpu = time.perf_counter(), cpu_seconds() + holder.cpu_s()
                with fetching.store() as store:
                    if way == "in_turn":
                        fetching.is_whole.wait()
                    counted = sum(count for count, _ in store.rows(iter(refs(MAPS, PARTITION))))
                    for ref in refs(MAPS, PARTITION):
                        for batch in store.read(ref):
                            rows += batch.num_rows
                            merge.pass_bytes(holder.size_bytes * batch.num_rows / holder.written[0])
                    seconds = time.perf_counter() - began
                    used = cpu_seconds() + holder.cpu_s() - cpu
                if {rows, counted} != {holder.written[0]}:
                    raise SystemExit(f"{way}: {rows} rows of {counted}, and {holder.written[0]} were written")
                found.setdefault(f"{way}_s", []).append(seconds)
                found.setdefault(f"{way}_cpu_s", []).append(used)
    found["gain"] = [one / other for one, other in zip(found["in_turn_s"], found["overlapped_s"], strict=True)]
    print(json.dumps({"bytes": holder.size_bytes, **{name: statistics.median(each) for name, each in found.items()}}))


if __name__ == "__main__":
    main()
