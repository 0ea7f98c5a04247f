"""Folders of spilled blocks: each has a lock while its job lives, so that the next job can clear those of the dead."""

from __future__ import annotations

import fcntl
import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import IO

_PREFIX, _LOCK = "kernelmill-spill-", "lock"


def locked_folder(spill_dir: str) -> tuple[Path, IO[bytes]]:
    """Make a spill folder and hold its lock; again, if another job took it for a dead one's before it was locked."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=spill_dir))
        try:
            lock = open(folder / _LOCK, "wb")  # noqa: SIM115 - held while the job lives
        except FileNotFoundError:
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock.fileno()).st_nlink:
            return folder, lock
        lock.close()


def clear_dead_spills(spill_dir: str) -> list[str]:
    """Remove the spill folders of processes that died: those whose lock nobody holds. Returns their paths.

    An empty folder without a lock goes too: its maker died before it had one, or will make another.
    """
    removed = []
    names: list[str] = []
    with suppress(OSError):  # a folder that is not there has none
        names = sorted(name for name in os.listdir(spill_dir) if name.startswith(_PREFIX))
    for folder in (Path(spill_dir, name) for name in names):
        try:
            with open(folder / _LOCK, "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove_folder(folder)
        except FileNotFoundError:
            with suppress(OSError):  # somebody else's, or gone meanwhile
                folder.rmdir()
                removed.append(str(folder))
        except OSError:  # alive, or somebody else's: not ours to remove
            continue
        else:
            removed.append(str(folder))
    return removed


def remove_folder(folder: Path) -> None:
    """Remove a spill folder whose lock is held, the lock last: a kill before that leaves what the next job clears."""
    for file in folder.iterdir():
        if file.name != _LOCK:
            file.unlink(missing_ok=True)
    (folder / _LOCK).unlink(missing_ok=True)
    folder.rmdir()
