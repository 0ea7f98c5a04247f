"""Files of a job made durable beside its work: a sync waits for the disk, and whoever merged the rows has more to do.

Syncs of several files that wait at once cost little more than one: a file system's journal takes them together.
"""

from __future__ import annotations

import os
import queue
import threading

from kernelmill.engine.durable import output_error

SYNCS_AT_ONCE = 4
WAITING_MAX = 16
"""Files that are written and wait for a sync, each of them open: who would add more waits."""


class Syncs:
    """Syncs and closes files in threads of its own. Call `wait` before anything is published, `close` at the end.

    Safe for many threads. Threads begin with the files: a job that writes none has none.
    """

    def __init__(self) -> None:
        self._waiting: queue.Queue[tuple[int, str] | None] = queue.Queue(WAITING_MAX)
        self._threads: list[threading.Thread] = []
        self._problems: list[tuple[str, OSError]] = []
        self._lock = threading.Lock()

    def add(self, handle: int, path: str) -> None:
        """Take over an open file that is written: it is synced soon, and closed."""
        with self._lock:
            if len(self._threads) < SYNCS_AT_ONCE:
                name = f"kernelmill-sync-{len(self._threads)}"
                thread = threading.Thread(target=self._work, name=name, daemon=True)
                thread.start()
                self._threads.append(thread)
        self._waiting.put((handle, path))

    def wait(self) -> None:
        """Return when all files that were added are durable. Raises KM0402 or KM0502 for one that cannot be."""
        self._waiting.join()
        for path, problem in sorted(self._problems, key=lambda one: one[0]):
            raise output_error(problem, "making a part file durable", path) from problem

    def close(self) -> None:
        """Return when no thread works any more; what failed is not told. More than once is fine."""
        threads, self._threads = self._threads, []
        for _ in threads:
            self._waiting.put(None)
        for thread in threads:
            thread.join()

    def _work(self) -> None:
        while (one := self._waiting.get()) is not None:
            handle, path = one
            try:
                try:
                    os.fsync(handle)
                finally:
                    os.close(handle)
            except OSError as problem:
                self._problems.append((path, problem))
            finally:
                self._waiting.task_done()
        self._waiting.task_done()
