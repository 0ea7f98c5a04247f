"""When an attempt hangs: no sign of life for 30 s or ten times its median batch; 300 s while functions are compiled, or
while nothing of a user's is called: a sort, a median, writing a file to the disk may be one long step each.

Waiting for blocks is not hanging: whoever makes them is watched by others. Nor is taking memory in silence, which the
limit on memory would end: it is told as that, however short the patience.
"""

from __future__ import annotations

from collections import deque
from statistics import median
from typing import Final

from kernelmill.cluster.worker.events import SlotSample

START_S: Final = 60.0
"""How long a process may take to start, and to open a job; see `WorkerSettings`."""
COMPILE_S: Final = 300.0
_BATCHES_KEPT = 31
_GROWN_BYTES_MIN = 16 << 20
_SILENCES = 10
_ENGINE_TIMES, _ENGINE_S_MIN = 10.0, 60.0
_OWN_PHASES = ("engine", "write")


def takes_memory(grown_bytes: int, left_bytes: int) -> bool:
    """Tell whether a process is on its way to its limit that grew so much in a silence and has so much left.

    It is if it would be there after ten such silences.
    """
    return grown_bytes >= _GROWN_BYTES_MIN and _SILENCES * grown_bytes >= left_bytes


def is_own(phase: str) -> bool:
    """Whether only kernelmill's own code runs in a phase: its silence is no function's, and neither is its memory."""
    return phase in _OWN_PHASES


def patience_s(phase: str, hung_s: float) -> float:
    """How long a process may be silent in a phase that counts, where a user's function may be for `hung_s`."""
    return max(_ENGINE_TIMES * hung_s, _ENGINE_S_MIN) if is_own(phase) else hung_s


class Watch:
    """Signs of life of one attempt, as its samples show them; batches are timed to a sample's second."""

    __slots__ = ("_batch", "_batch_since_s", "_batches_s", "_last", "alive_bytes", "alive_s")

    def __init__(self, now: float) -> None:
        self.alive_s = self._batch_since_s = now
        self.alive_bytes: int | None = None
        """Memory at the last sign of life."""
        self._batch = -1
        self._last: tuple[str, int, int] | None = None
        self._batches_s: deque[float] = deque(maxlen=_BATCHES_KEPT)

    def look(self, sample: SlotSample, now: float) -> None:
        """Take a sample of the slot that runs the attempt."""
        seen = sample.phase, sample.batch, sample.steps
        if seen != self._last:
            self.alive_s, self.alive_bytes = now, sample.rss_bytes
            self._last = seen
        if sample.batch != self._batch:
            if self._batch >= 0 and sample.batch > self._batch:
                self._batches_s.append((now - self._batch_since_s) / (sample.batch - self._batch))
            self._batch, self._batch_since_s = sample.batch, now

    def hung_at(self, hung_s: float, batches: float, compile_s: float) -> float | None:
        """When the attempt counts as hung if nothing is seen of it till then; None while it waits for blocks."""
        phase = self._last[0] if self._last is not None else "compile"
        if phase == "fetch":
            return None
        if phase == "compile":
            return self.alive_s + compile_s
        return self.alive_s + max(patience_s(phase, hung_s), batches * median(self._batches_s or (0.0,)))
