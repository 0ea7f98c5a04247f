"""How many files a process may have open, and a few that are kept back from the connections of strangers.

Each connection is a file, whoever made it, and libzmq takes all that come: a flood leaves nothing with which a list of
keys could be opened. So a master's limit is some files below the hard one, and `reserve` lifts it for a moment.
"""

from __future__ import annotations

import contextlib
import os
import resource
import threading
from collections.abc import Iterator
from typing import Final

from kernelmill.engine.errors import Code, error

RESERVED_FILES: Final = 64
FILES_MIN: Final = 128
"""What a master or worker must be allowed to start: it has some forty of its own, and one for each connection."""
FILES_HINT: Final = "raise the limit: ulimit -n 65536, its hard limit with it; LimitNOFILE=65536 in a unit of systemd"
_FILES_WANTED: Final = 65536
_SHORT_SHARE: Final = 0.9
_lock = threading.Lock()
_insides: list[int] = []  # the soft limit at each entry of `reserve` that has not been left yet


def check_file_limit() -> None:
    """Raise KM0403 if the system allows this process too few files: libzmq ends one that has none left as it starts."""
    most = _most_files()
    if most < FILES_MIN:
        what = f"this process may open {most} files, and needs {FILES_MIN} at least"
        raise error(Code.FILE_LIMIT, what, hint=FILES_HINT)


def raise_file_limit(reserved_files: int = 0) -> None:
    """Let this process open as many files as the system allows it, up to a bound, less those kept for `reserve`."""
    most = _most_files()
    wanted = most - min(reserved_files, most // 4)
    if reserved_files or resource.getrlimit(resource.RLIMIT_NOFILE)[0] < wanted:
        _set_soft(wanted)


@contextlib.contextmanager
def reserve() -> Iterator[None]:
    """In here files can be opened though connections have taken all others. Open few, from any thread, and go."""
    with _lock:
        _insides.append(resource.getrlimit(resource.RLIMIT_NOFILE)[0] if not _insides else _insides[0])
        _set_soft(max(_insides[0], _most_files()))
    try:
        yield
    finally:
        with _lock:
            soft = _insides.pop()
            if not _insides:
                _set_soft(soft)


def is_short_of_files() -> bool:
    """Tell whether nearly all files that this process may have are open."""
    try:
        count = len(os.listdir("/dev/fd"))
    except OSError:
        return True
    return count > _SHORT_SHARE * resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _most_files() -> int:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return _FILES_WANTED if hard == resource.RLIM_INFINITY else min(hard, _FILES_WANTED)


def _set_soft(files: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
