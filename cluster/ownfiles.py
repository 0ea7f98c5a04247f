"""Files and folders that are for this user alone, whatever the umask."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator


@contextlib.contextmanager
def own_files() -> Iterator[None]:
    """What is made in here is for this user alone: sockets of ipc, and folders that are made for others to lie in.

    The umask is the whole process's.
    """
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)
