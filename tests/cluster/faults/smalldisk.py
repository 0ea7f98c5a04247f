"""Disks of a few megabytes for one program: a tmpfs that only it and its children see, in a mount namespace of theirs.

What lies below the folder outside is hidden from them, and they from it; the files are gone when they have ended.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

_UNSHARE = ["unshare", "--user", "--map-root-user", "--mount"]


def command(argv: Sequence[object], disks: Mapping[Path, str]) -> list[str]:
    """The program with a disk of this size ("4m") at each of these folders, which must be there.

    Its process is the one that is started: a signal sent to that reaches the program.
    """
    mount = "mount -t tmpfs -o mode=700,size="
    mounts = [f'{mount}{size} tmpfs "${number}"' for number, size in enumerate(disks.values(), 1)]
    script = " && ".join([*mounts, f"shift {len(disks)}", 'exec "$@"'])
    return [*_UNSHARE, "sh", "-c", script, "sh", *(str(folder) for folder in disks), *(str(word) for word in argv)]


def require(folder: Path) -> None:
    """Skip the test where no such disk can be made; where CI runs as root that is an error."""
    if shutil.which("unshare") is None:
        reason = "unshare is not installed"
    else:
        done = subprocess.run(
            command(["true"], {folder: "1m"}), capture_output=True, text=True, timeout=20, check=False
        )
        if done.returncode == 0:
            return
        reason = f"the kernel does not allow private mounts: {done.stderr.strip()}"
    if os.environ.get("CI") == "true" and os.geteuid() == 0:
        pytest.fail(f"tests with full disks must run in CI as root: {reason}")
    pytest.skip(reason)


def fill(path: Path) -> int:
    """Fill the disk that this new file is on to its last byte; how many it took."""
    written = 0
    with open(path, "wb", buffering=0) as file:
        for size in (1 << 16, 1 << 10, 1):
            try:
                while True:
                    written += file.write(bytes(size))
            except OSError as problem:
                if problem.errno != errno.ENOSPC:
                    raise
    return written
