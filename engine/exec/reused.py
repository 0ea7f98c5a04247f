"""Large buffers that are used again once nothing is left of what was in them: fresh memory must be cleared first.

A second for each 1.3 GB on the machine where it was measured, as much as sorting rows of 100 bytes takes.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from kernelmill.engine.batch import Bytes

_IDLE_BYTES_MAX = 160 << 20  # two row groups of 64 MiB, and what their sizes differ by


class Reused:
    """Lends buffers, and keeps up to 160 MiB of those that came back, the last ones. For one thread that asks."""

    def __init__(self) -> None:
        self._idle: list[Bytes] = []

    @property
    def idle_bytes(self) -> int:
        """Bytes of the buffers that are not lent."""
        return sum(memory.size for memory in self._idle)

    def lend(self, size_bytes: int) -> Lent:
        """A buffer of this size, its contents undefined: one that is at most twice as large if there is one."""
        for number, memory in enumerate(self._idle):
            if size_bytes <= memory.size <= 2 * size_bytes:
                return Lent(self, self._idle.pop(number), size_bytes)
        return Lent(self, np.empty(size_bytes, np.uint8), size_bytes)

    def take_back(self, memory: Bytes) -> None:
        """Keep what nobody uses any more; the oldest goes where it becomes too much. By any thread."""
        self._idle.append(memory)
        while self.idle_bytes > _IDLE_BYTES_MAX:
            self._idle.pop(0)


class Lent:
    """A buffer on loan: `bytes` to write, `buffer` for Arrow. It goes back when both are forgotten."""

    def __init__(self, home: Reused, memory: Bytes, size_bytes: int) -> None:
        self._home, self._memory, self._size = home, memory, size_bytes

    def __del__(self) -> None:
        self._home.take_back(self._memory)

    @property
    def bytes(self) -> Bytes:
        """The memory to write into, while the loan is held."""
        return self._memory[: self._size]

    @property
    def buffer(self) -> pa.Buffer:
        """The memory as an Arrow buffer, which holds the loan."""
        made: pa.Buffer = pa.foreign_buffer(self._memory.ctypes.data, self._size, base=self)
        return made
