"""The user's file and line: where a verb was called, for errors and for explain."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from kernelmill.engine.errors import KernelmillError

_users_folder = ""


def speak_from(folder: str) -> None:
    """Name lines as a user in this working directory does: for a process that runs functions for one elsewhere."""
    global _users_folder
    _users_folder = folder


def users_line() -> str:
    """The innermost caller outside kernelmill as "file.py:12"; empty if there is none, as on the command line.

    A path below the working directory is shown relative to it, any other by its name alone.
    """
    frame = users_frame()
    return "" if frame is None else f"{short_path(frame.f_code.co_filename)}:{frame.f_lineno}"


def users_frame() -> FrameType | None:
    """The innermost caller's frame outside kernelmill; None if there is none, as on the command line or in a worker."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_ours(frame.f_globals.get("__name__", "")):
        frame = frame.f_back
    if frame is None or frame.f_globals.get("__name__", "").startswith(("click.", "threading")):
        return None  # it called a command, or started our thread: nobody wrote a line
    return frame


@contextmanager
def located(origin: str) -> Iterator[None]:
    """Give errors raised inside, if they name no place yet, `origin` as theirs."""
    try:
        yield
    except KernelmillError as exc:
        if not exc.where:
            exc.where = origin
        raise


def _is_ours(module: str) -> bool:
    # contextlib stands between a `with` block's error and its caller, and is nobody's line
    return module == "kernelmill" or module.startswith("kernelmill.") or module == "contextlib"


def short_path(path: str) -> str:
    """`path` as people know it: relative to the working directory if it is below it, else its name alone."""
    try:
        here = (_users_folder or os.getcwd()) + os.sep
    except OSError:  # the current directory is gone
        return path
    return path[len(here) :] if path.startswith(here) else os.path.basename(path)
