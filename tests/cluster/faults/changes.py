"""What changed programs share: see `changed.py` and `changed_slots.py`. Imports nothing that a master must not have."""

from __future__ import annotations

import os
import time
from pathlib import Path

FILE = "CHANGED_FILE"
SLOTS = "CHANGED_SLOTS"


def the_file() -> Path:
    """The file that a change is about."""
    return Path(os.environ[FILE])


def struck(what: str = "changed") -> None:
    """Note among the tokens of failpoints that a change did something."""
    Path(os.environ["KERNELMILL_FAILPOINT_TOKENS"], what).touch()


def wrong_clock() -> None:
    """The time of day is wrong by as many seconds as CHANGED_FILE says, whenever it is asked for."""
    right, right_ns = time.time, time.time_ns

    def offset_s() -> int:
        struck()
        return int(the_file().read_text())

    time.time = lambda: right() + offset_s()
    time.time_ns = lambda: right_ns() + offset_s() * 1_000_000_000
