"""Processes that functions of users leave behind, however they detach themselves: found, and ended.

A slot adopts whatever is orphaned below it, and the nursery what a slot leaves when it ends (PR_SET_CHILD_SUBREAPER,
prctl(2)). So all children of the nursery that are no slots were left by slots that have ended. Linux only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Collection
from typing import Final

_PR_SET_CHILD_SUBREAPER: Final = 36
_POLL_S: Final = 0.002


def adopt_orphans() -> None:
    """Have the system make this process the parent of all orphans below it; its own children do not inherit that."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def children() -> set[int]:
    """The processes whose parent this one is, those that have ended and were not waited for among them."""
    found: set[int] = set()
    with contextlib.suppress(FileNotFoundError):  # a thread that ends, or a system without such files
        for thread in os.listdir("/proc/self/task"):
            with open(f"/proc/self/task/{thread}/children") as file:
                found.update(map(int, file.read().split()))
    return found


def end_strays(kept: Collection[int], wait_s: float) -> bool:
    """Kill and bury all children but `kept`, then what these leave; whether all is gone within `wait_s` seconds.

    One that this user may not kill, for it has become another's, is left alone.
    """
    until_s = time.monotonic() + wait_s
    foreign: set[int] = set()
    while strays := children() - set(kept) - foreign:
        for pid in strays:
            try:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)
            except PermissionError:
                foreign.add(pid)
            except (ProcessLookupError, ChildProcessError):
                continue  # it has ended meanwhile
        if time.monotonic() >= until_s:
            return False
        time.sleep(_POLL_S)
    return True
