"""Named places where a test makes this process die, stop or fail: `KERNELMILL_FAILPOINTS="worker.done.sent=kill@3"`.

Several are separated by commas. What follows @ is at which pass of this process it strikes, 1 if left out:

    kill     SIGKILL to this process: nothing is flushed, nothing closed
    stop     SIGSTOP to it, until somebody sends SIGCONT
    exit     os._exit(70)
    raise    OSError(EIO), as from a failing disk

`KERNELMILL_FAILPOINT_TOKENS=FOLDER` bounds the faults over processes: each strikes once in all processes that share the
folder, and leaves a file of its name there, so that a test can assert that all were spent. Without the first variable
a failpoint costs the look at an empty dict.
"""

from __future__ import annotations

import errno
import os
import signal
from collections import Counter
from collections.abc import Mapping
from typing import Final

from kernelmill.engine.errors import Code, error

VARIABLE: Final = "KERNELMILL_FAILPOINTS"
TOKENS_VARIABLE: Final = "KERNELMILL_FAILPOINT_TOKENS"
_ACTIONS: Final = ("kill", "stop", "exit", "raise")


def parse(text: str) -> dict[str, tuple[str, int]]:
    """Read "name=action@pass,...": name -> (action, pass). Raises KM0107 for what is none."""
    found = {}
    for item in filter(None, (each.strip() for each in text.split(","))):
        name, _, rest = item.partition("=")
        action, _, count = rest.partition("@")
        if not name or action not in _ACTIONS or not (count or "1").isdecimal() or int(count or "1") < 1:
            hint = f"write NAME=ACTION@PASS, as master.commit.durable=kill@7; actions: {', '.join(_ACTIONS)}"
            raise error(Code.BAD_SETTING, f"a failpoint cannot be {item!r}", where=VARIABLE, hint=hint)
        found[name] = action, int(count or "1")
    return found


class Failpoints:
    """The failpoints of a process, and how often each was passed."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._due = parse(environ.get(VARIABLE, ""))
        self._tokens = environ.get(TOKENS_VARIABLE, "")
        self._passed: Counter[str] = Counter()

    def reach(self, name: str) -> None:
        """Pass the place `name`; strike if it is its turn."""
        if name not in self._due:
            return
        self._passed[name] += 1
        action, turn = self._due[name]
        if self._passed[name] == turn and self._spend(name):
            _strike(name, action)

    def _spend(self, name: str) -> bool:
        if not self._tokens:
            return True
        try:
            os.close(os.open(os.path.join(self._tokens, name), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            return False  # another process, or this one in an earlier life, had it
        return True


def _strike(name: str, action: str) -> None:
    match action:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "exit":
            os._exit(70)
        case _:
            raise OSError(errno.EIO, f"{os.strerror(errno.EIO)} (failpoint {name})")


_OF_THIS_PROCESS: Final = Failpoints(os.environ)


def failpoint(name: str) -> None:
    """Pass the place `name`, which names role, object and event: "worker.done.sent"."""
    _OF_THIS_PROCESS.reach(name)
