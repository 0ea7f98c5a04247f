"""Copies of a slot: what a user's function makes of it by `os.fork()`, by itself or by way of `multiprocessing`.

A copy has all that its slot has: the link to the supervisor, the progress page, open files with the places in them, and
the task, in the middle of which it would go on. It may do what the function wants of it, but is no slot: what it would
say or write for the task goes nowhere, it ends where the function returns in it, and it does not outlive the task.
Programs that a function starts are no copies, for they hold nothing of a slot's; processes of `multiprocessing` are,
but may serve several tasks, as a pool does: they end with their slot.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import stat
import sys
import time
import traceback
from collections.abc import Iterable
from types import FrameType
from typing import Any, Final, NoReturn

from kernelmill.cluster.worker.strays import children

_MARK: Final = "kernelmill-copy"
"""The name of a file in memory that copies hold, and no program that a copy has become."""
_OURS: Final = "kernelmill"
_LAUNCHES: Final = "multiprocessing.popen_fork"
"""The module whose forks return to nobody: they run one function and end."""
_POLL_S: Final = 0.002


def flush_streams() -> None:
    """Print what a line that is not ended holds, so that a copy does not print it too."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()


def let_go(link: int, folders: Iterable[str]) -> None:
    """In a copy: hold no link, no file that is written below `folders`, and of those that are read no shared place."""
    mark = os.memfd_create(_MARK)
    os.dup2(mark, link, inheritable=False)
    os.close(mark)
    below = tuple(folder.rstrip(os.sep) + os.sep for folder in folders)
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # such as the one of the listing itself
            _let_go_of_file(int(name), below)


def _let_go_of_file(handle: int, below: tuple[str, ...]) -> None:
    """Replace one that is written by what takes no notice, and one that is read by itself with a place of its own."""
    path = f"/proc/self/fd/{handle}"
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        return
    is_read = fcntl.fcntl(handle, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDONLY
    if is_read:
        other = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        os.lseek(other, os.lseek(handle, 0, os.SEEK_CUR), os.SEEK_SET)
    elif os.readlink(path).startswith(below):
        other = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    else:
        return
    os.dup2(other, handle, inheritable=os.get_inheritable(handle))
    os.close(other)


def end_with_function() -> None:
    """In a copy, while it is made: have it end where the user's function returns in which that happens.

    Its status is 0, or what `sys.exit` in it says; 1 with a traceback for any other exception.
    """
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_ours(frame):
        frame = frame.f_back
    if frame is None:
        os._exit(0)  # what was to be called was os.fork itself
    while not _is_last_of_users(frame):
        if frame.f_globals.get("__name__") == _LAUNCHES:
            return
        if frame.f_back is None:
            return  # a thread of the function's, with which the copy ends
        frame = frame.f_back
    raised: BaseException | None = None

    def ends(_: FrameType, event: str, value: Any) -> Any:
        nonlocal raised
        if event == "return":
            _end(raised)
        raised = value[1] if event == "exception" else None
        return ends

    frame.f_trace = ends
    sys.settrace(lambda *_: None)  # nothing is traced but that frame


def _is_ours(frame: FrameType) -> bool:
    name = str(frame.f_globals.get("__name__", ""))
    return name == _OURS or name.startswith(f"{_OURS}.")


def _is_last_of_users(frame: FrameType) -> bool:
    return frame.f_back is not None and _is_ours(frame.f_back)


def _end(raised: BaseException | None) -> NoReturn:
    sys.settrace(None)
    status = 0
    if isinstance(raised, SystemExit):
        status = raised.code if isinstance(raised.code, int) else int(raised.code is not None)
    elif raised is not None:
        traceback.print_exception(raised)
        status = 1
    flush_streams()
    os._exit(status & 0xFF)


def end_copies(wait_s: float) -> int:
    """Kill the copies below this process, those of `multiprocessing` excepted; how many, found in `wait_s` seconds.

    One whose parent ends becomes a child of the slot, and is found then.
    """
    until_s, ended = time.monotonic() + wait_s, 0
    while copies := [pid for pid in children() - _of_multiprocessing() if _is_copy(pid)]:
        for pid in copies:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
                ended += 1
        for pid in copies:
            _bury(pid, until_s)
        if time.monotonic() >= until_s:
            break
    return ended


def _bury(pid: int, until_s: float) -> None:
    with contextlib.suppress(ChildProcessError):  # a thread of the function's has waited for it
        while os.waitpid(pid, os.WNOHANG)[0] == 0 and time.monotonic() < until_s:
            time.sleep(_POLL_S)


def _of_multiprocessing() -> set[int]:
    module = sys.modules.get("multiprocessing")
    return {child.pid for child in module.active_children() if child.pid is not None} if module is not None else set()


def _is_copy(pid: int) -> bool:
    folder = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):  # it has ended, or is another user's by now
        return any(_MARK in _linked(f"{folder}/{name}") for name in os.listdir(folder))
    return False


def _linked(path: str) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(path)
    return ""
