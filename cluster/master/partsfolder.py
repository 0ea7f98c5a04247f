"""The parts of jobs on the master's disk, each a file named by its sha256, durable before its job is.

Threads write them, so that a slow fsync delays no heartbeat; several, for a job has two parts at least, and syncs that
wait at once cost little more than one. A file is written under another name, fsynced and renamed: what has the right
name is whole.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Collection
from pathlib import Path

from kernelmill.engine.durable import fsync_folder

_WRITERS = 4


class PartsFolder:
    """Keeps parts. `wake` is called in a writing thread when `take` has something; it must not block or raise."""

    def __init__(self, folder: Path, wake: Callable[[], None]) -> None:
        self._folder, self._wake = folder, wake
        folder.mkdir(mode=0o700, exist_ok=True)
        self._here: set[bytes] = set()
        for path in folder.iterdir():
            name = path.name
            if len(name) == 64 and all(digit in "0123456789abcdef" for digit in name):
                self._here.add(bytes.fromhex(name))
            else:  # what a killed master was writing
                path.unlink()
        self._orders: queue.SimpleQueue[tuple[bytes, bytes] | None] = queue.SimpleQueue()
        self._reports: deque[tuple[bytes, OSError | None]] = deque()
        self._threads = [threading.Thread(target=self._run, name="parts", daemon=True) for _ in range(_WRITERS)]
        for thread in self._threads:
            thread.start()

    def has(self, sha256: bytes) -> bool:
        """Tell whether a part is here, durably."""
        return sha256 in self._here

    def path_of(self, sha256: bytes) -> Path:
        """Where a part is."""
        return self._folder / sha256.hex()

    def keep(self, sha256: bytes, data: bytes) -> None:
        """Write a part, whose bytes were checked; `take` says when it is durable, or why it is not."""
        self._orders.put((sha256, data))

    def take(self) -> list[tuple[bytes, OSError | None]]:
        """What was written since the last call."""
        found = []
        while self._reports:
            sha256, problem = self._reports.popleft()
            if problem is None:
                self._here.add(sha256)
            found.append((sha256, problem))
        return found

    def drop_all_but(self, used: Collection[bytes]) -> None:
        """Delete the parts that no job has any more."""
        for sha256 in self._here - set(used):
            self._here.discard(sha256)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path_of(sha256))

    def close(self) -> None:
        """End the threads, after what was ordered."""
        for _ in self._threads:
            self._orders.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while (order := self._orders.get()) is not None:
            sha256, data = order
            problem: OSError | None = None
            try:
                self._write(self.path_of(sha256), data)
            except OSError as found:
                problem = found
            self._reports.append((sha256, problem))
            self._wake()

    def _write(self, path: Path, data: bytes) -> None:
        new = path.with_suffix(".new")
        try:
            with open(new, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.rename(new, path)
            fsync_folder(str(self._folder))
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new)
