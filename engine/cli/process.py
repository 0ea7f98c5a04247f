"""What the system gives a command's process: signals that end it, and its standard streams.

For the command line alone: a library leaves both to the program that it is part of. Only the standard library is
imported here, so that a signal during all later imports ends the command as it does later on.
"""

from __future__ import annotations

import codecs
import io
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

_ASKED_TO_END = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_AGAIN_AFTER_S = 0.01
_LEAVE_AFTER_S = 8.0
"""So long a command may take to clear up: a function of the user's in an endless loop cannot be stopped, and service
managers kill after 10 s."""


class Stopped(KeyboardInterrupt):
    """A signal asked the command to end: what Ctrl-C makes a job undo is undone for each of them."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


def exit_code_of(stop: BaseException) -> int:
    """The exit code of a command that was interrupted: 128 and the number of the signal, SIGINT unless it is known."""
    return stop.exit_code if isinstance(stop, Stopped) else 128 + signal.SIGINT


def raise_on_signals() -> None:
    """Make SIGINT, SIGTERM and SIGHUP raise Stopped in the main thread; one that is ignored, as by nohup, stays so."""
    sys.unraisablehook = _raise_later
    for number in _ASKED_TO_END:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def ignore_signals(*numbers: int) -> None:
    """From here on these signals change nothing; without arguments, none that asks to end."""
    for number in numbers or _ASKED_TO_END:
        signal.signal(number, signal.SIG_IGN)


def _stop(number: int, _: FrameType | None) -> None:
    # Service managers and closing terminals send both of these: the second must not break off the clearing up. A second
    # Ctrl-C may; the next job then clears what is left.
    ignore_signals(signal.SIGTERM, signal.SIGHUP)
    leave = threading.Timer(_LEAVE_AFTER_S, _leave, (number,))
    leave.daemon = True
    leave.start()
    raise Stopped(number)


def _leave(number: int) -> None:
    """End at once: the next command with the same output clears what is left."""
    said = f"still at work {_LEAVE_AFTER_S:g} s after {signal.Signals(number).name}: ended without clearing up"
    text = f"kernelmill: {said}\n"
    os.write(2, text.encode())
    os._exit(128 + number)


def _raise_later(unraisable: Any) -> None:
    """Python drops what is raised in a destructor or a callback: a signal that came there is sent once more."""
    stop = unraisable.exc_value
    if not isinstance(stop, Stopped):
        sys.__unraisablehook__(unraisable)
        return
    number = stop.exit_code - 128
    signal.signal(number, _stop)
    threading.Timer(_AGAIN_AFTER_S, os.kill, (os.getpid(), number)).start()


def prepare_streams() -> None:
    """Make standard streams to which everything can be written.

    A closed one leads to /dev/null: else the next file that is opened would get its number, and whatever C code prints.
    File names that are not text are written as their own bytes, characters that an encoding lacks as escapes.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, os.O_RDWR)  # the lowest free number: that of the closed stream
            setattr(sys, name, os.fdopen(handle, mode, encoding="utf-8"))
    codecs.register_error("kernelmill", _bytes_or_escapes)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="kernelmill")


def _bytes_or_escapes(problem: UnicodeError) -> tuple[str | bytes, int]:
    try:
        return codecs.lookup_error("surrogateescape")(problem)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(problem)
