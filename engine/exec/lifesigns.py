"""Loops over records, looked at from a thread beside them: how far they are, and whether they are still wanted.

A record may take microseconds or seconds. A clock read at each would cost quick ones more than one in a hundred, and
one read every so many records says nothing for seconds times that. So a loop does nothing: what it counts anyway, the
place of its iterator or a word that machine code keeps, is read by one thread a process, four times a second.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from types import TracebackType

LOOK_S = 0.25


class Watched:
    """A loop within `with`: `at` says how far it is, `live` hears that it is further, `stop` ends it if not wanted.

    All three are called by another thread, never after the loop is left, and must be short. `stop` is called again
    and again: a loop may have begun another record in between.
    """

    __slots__ = ("_at", "_is_cancelled", "_last", "_live", "_stop")

    def __init__(
        self,
        at: Callable[[], object],
        stop: Callable[[], object],
        live: Callable[[], None],
        is_cancelled: Callable[[], bool],
    ) -> None:
        self._at, self._stop, self._live, self._is_cancelled = at, stop, live, is_cancelled
        self._last: object = None

    def look(self) -> None:
        """Tell what is new. By the thread that looks."""
        if self._is_cancelled():
            self._stop()
            return
        at = self._at()
        if at != self._last:
            self._last = at
            self._live()

    def __enter__(self) -> None:
        _LOOKING.add(self)

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        _LOOKING.remove(self)


class _Looking:
    """The thread, started when there is something to look at; a process that was forked has none."""

    def __init__(self) -> None:
        self._loops: set[Watched] = set()
        self._lock = threading.Lock()
        self._is_wanted = threading.Event()
        self._thread: threading.Thread | None = None

    def add(self, loop: Watched) -> None:
        with self._lock:
            self._loops.add(loop)
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="kernelmill-looking", daemon=True)
                thread.start()
                self._thread = thread
        if not self._is_wanted.is_set():
            self._is_wanted.set()

    def remove(self, loop: Watched) -> None:
        with self._lock:  # so that nobody looks at it any more
            self._loops.discard(loop)

    def forget(self) -> None:
        """This process is a copy: its one thread may have been anywhere."""
        self.__init__()  # type: ignore[misc]

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            self._is_wanted.wait()
            pause.wait(LOOK_S)
            with self._lock:
                if not self._loops:
                    self._is_wanted.clear()
                for loop in self._loops:
                    loop.look()


_LOOKING = _Looking()
os.register_at_fork(after_in_child=_LOOKING.forget)
