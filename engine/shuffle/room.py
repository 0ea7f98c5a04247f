"""Room: what the blocks of one job may take, and have taken, of memory and disk."""

from __future__ import annotations

import threading

from kernelmill.engine.errors import Code, error


class Room:
    """Two limits and what counts against them, in bytes; safe for many threads.

    memory_bytes: of blocks, whole ones and those that a running task has left so far. On disk `spilled_bytes` of blocks
    were written so far, and `task_bytes` are in tasks' spill files now; both count against spill_bytes_max.
    """

    def __init__(self, *, memory_bytes_max: int, spill_bytes_max: int, spill_dir: str) -> None:
        self._memory_bytes_max, self._spill_bytes_max, self._spill_dir = memory_bytes_max, spill_bytes_max, spill_dir
        self.memory_bytes = self.spilled_bytes = self.task_bytes = 0
        self._lock = threading.Lock()

    def take_memory(self, size: int) -> bool:
        """Take memory for `size` bytes if there is as much."""
        with self._lock:
            if self.memory_bytes + size > self._memory_bytes_max:
                return False
            self.memory_bytes += size
            return True

    def give_memory(self, size: int) -> None:
        """Give back what was taken."""
        with self._lock:
            self.memory_bytes -= size

    def close_memory(self) -> None:
        """Let nothing more be taken of memory."""
        with self._lock:
            self._memory_bytes_max = 0

    def charge(self, size: int) -> None:
        """Count bytes of blocks that are about to be written. Raises KM0402 for more than the limit."""
        with self._lock:
            self.spilled_bytes += size
        self._check()

    def charge_task(self, size: int) -> None:
        """Count bytes of a task's spill file: before they are written, and negative when it is closed."""
        with self._lock:
            self.task_bytes += size
        if size > 0:
            self._check()

    def _check(self) -> None:
        if self.spilled_bytes + self.task_bytes > self._spill_bytes_max:
            what = f"more than {self._spill_bytes_max:,} bytes would be spilled"
            hint = "raise spill_limit= or memory=, or point spill_dir= to a larger disk"
            raise error(Code.DISK_FULL, what, where=self._spill_dir, hint=hint)
