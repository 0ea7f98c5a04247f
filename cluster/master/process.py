"""What a master's shell needs of its process: a bell for its poller, and no unpickling."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from typing import Final

_EXITING: Final = 0x4
"""PF_EXITING of Linux, in the flags of /proc/PID/stat: set before a process that ends closes its sockets."""


class Bell:
    """Wakes the poller from any thread; ringing twice is ringing once."""

    def __init__(self) -> None:
        self._ear, self._button = socket.socketpair()
        self._ear.setblocking(False)
        self._button.setblocking(False)

    def ring(self) -> None:
        """Wake the poller."""
        with contextlib.suppress(OSError):  # full: it is ringing
            self._button.send(b"!")

    def fileno(self) -> int:
        """What to poll."""
        return self._ear.fileno()

    def silence(self) -> None:
        """Hear all that was rung."""
        with contextlib.suppress(BlockingIOError):
            while self._ear.recv(4096):
                pass

    def close(self) -> None:
        """Take it away; ringing it then does nothing."""
        self._ear.close()
        self._button.close()


def pid_of(address: str) -> int:
    """The number of the process at an ipc address, "localhost:UID:GID:PID" as ZeroMQ has it of the system; else 0."""
    words = address.split(":")
    return int(words[3]) if len(words) == 4 and words[0] == "localhost" and words[3].isdecimal() else 0


def has_ended(pid: int) -> bool:
    """Tell whether a process of this user is gone, or on its way out; False for number 0, which is nobody's."""
    if pid <= 0:
        return False
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            words = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return True
    except OSError:
        return False
    return words[0] in (b"Z", b"X") or bool(int(words[6]) & _EXITING)


def refuse_to_unpickle() -> None:
    """See to it that whoever makes this process unpickle a class or function ends it instead. For good."""

    def hook(event: str, _arguments: tuple[object, ...]) -> None:
        if event == "pickle.find_class":
            os._exit(70)

    sys.addaudithook(hook)
