"""The page in which a slot says where it is, shared with its supervisor: no message is lost when the slot dies.

    offset  bytes
    0       8    sequence, u64: odd while the slot writes
    8       4    epoch of the attempt, u32; 0: no task runs
    12      4    phase, u32: place in PHASES
    16      8    number of the attempt, u64
    24      8    number of the batch, u64, from 0
    32      8    first row of the batch in its task, u64
    40      8    rows of the batch, u64, 0 if not known
    48      8    input bytes done, u64
    56      8    steps, u64: rises with every sign of life, so that a long batch is told from a hung one

One writer and one reader. The reader takes what it finds between two equal, even sequence numbers. Steps alone are
written without them: they are one word, and nothing else of the page goes with them.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import NamedTuple

PAGE_BYTES = 4096
PHASES = ("compile", "fetch", "run", "write", "engine")
"""`engine` is `run` of a task that calls nothing of a user's: it is given more patience."""
_PHASE_OF = {name: place for place, name in enumerate(PHASES)}

_SEQUENCE = struct.Struct("<Q")
_STEPS_WORD = 7
_STATE = struct.Struct("<IIQQQQQQ")
_READS_MAX = 1000


class SlotPlace(NamedTuple):
    """Where a slot is: `epoch` and `number` name its attempt; `epoch` is 0 while it runs none."""

    epoch: int = 0
    number: int = 0
    phase: str = "run"
    batch: int = 0
    first_row: int = 0
    rows: int = 0
    size_bytes: int = 0
    steps: int = 0


def new_page() -> int:
    """Make a page without a name; returns its file descriptor, for both sides."""
    handle = os.memfd_create("kernelmill-progress", os.MFD_CLOEXEC)
    os.ftruncate(handle, PAGE_BYTES)
    return handle


class ProgressPage:
    """The page behind a file descriptor, which may be closed afterwards."""

    def __init__(self, handle: int) -> None:
        self._page = mmap.mmap(handle, PAGE_BYTES)
        self._words = memoryview(self._page).cast("Q")
        self._sequence = 0

    def write(self, place: SlotPlace) -> None:
        """Say where the slot is. By the slot alone, from one thread at a time."""
        epoch, number, phase, batch, first_row, rows, size_bytes, steps = place
        fields = epoch, _PHASE_OF[phase], number, batch, first_row, rows, size_bytes, steps
        self._words[0] = self._sequence + 1
        _STATE.pack_into(self._page, _SEQUENCE.size, *fields)
        self._sequence += 2
        self._words[0] = self._sequence

    def write_steps(self, steps: int) -> None:
        """Say that the slot lives: all else is as it was written last. As `write`."""
        self._words[_STEPS_WORD] = steps

    def read(self) -> SlotPlace | None:
        """Where the slot is, or was when it died; None if it died while it wrote. By the supervisor."""
        for _ in range(_READS_MAX):
            (before,) = _SEQUENCE.unpack_from(self._page, 0)
            epoch, phase, number, *rest = _STATE.unpack_from(self._page, _SEQUENCE.size)
            (after,) = _SEQUENCE.unpack_from(self._page, 0)
            if before == after and before % 2 == 0 and phase < len(PHASES):
                return SlotPlace(epoch, number, PHASES[phase], *rest)
        return None

    def close(self) -> None:
        """Give the mapping back."""
        self._words.release()
        self._page.close()
