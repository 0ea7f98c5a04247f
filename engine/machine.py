"""What this process may use of its machine: cores and memory, within its affinity and its control group."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUP = Path("/proc/self/cgroup")
# Where the system does not say how much memory it has (no sysconf), as little as any machine of today holds.
_RAM_BYTES_UNKNOWN = 4 << 30


def usable_cores() -> int:
    """Count the cores this process may use: its affinity, and its control group's CPU quota rounded up."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    quotas = [math.ceil(quota) for group in _own_groups() if (quota := _cpu_quota(group)) is not None]
    return max(1, min([cores, *quotas]))


def usable_memory_bytes() -> int:
    """Say how many bytes of memory this process can have: the machine's, or its control group's limit if smaller."""
    limits = [limit for group in _own_groups() if (limit := _memory_limit(group)) is not None]
    return min([_ram_bytes(), *limits])


def resident_bytes(pid: int | str) -> int:
    """The memory that a process of this machine holds, by its number or "self"; 0 if it has ended. Linux."""
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def _ram_bytes() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return _RAM_BYTES_UNKNOWN


def _own_groups() -> Iterator[Path]:
    """The folders of this process's control groups (version 2, and 1's memory and cpu), each followed by its parents.

    A limit of any parent binds; in a container the own path may not be visible: the mount's root is the group then.
    """
    for line in _text_of(_OWN_CGROUP).splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0":
            root = _CGROUPS
        elif {"memory", "cpu"} & set(controllers.split(",")):
            root = _CGROUPS / controllers
        else:
            continue
        group = root / path.lstrip("/")
        yield group
        yield from (parent for parent in group.parents if parent == root or root in parent.parents)


def _cpu_quota(group: Path) -> float | None:
    words = _text_of(group / "cpu.max").split()
    if not words:
        words = [_text_of(group / f"cpu.cfs_{part}_us").strip() for part in ("quota", "period")]
    quota, period = (words[0], words[1]) if len(words) == 2 else ("", "")
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else None


def _memory_limit(group: Path) -> int | None:
    for name in ("memory.max", "memory.limit_in_bytes"):
        text = _text_of(group / name).strip()
        if text.isdigit():
            return int(text)
    return None


def _text_of(path: Path) -> str:
    # A file that is missing or forbidden sets no limit we could know of.
    try:
        return path.read_text()
    except OSError:
        return ""
