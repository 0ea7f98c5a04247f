"""The processes in which an isolating slot tries rows: slots of its own, forked by a nursery of its own.

A try that fails costs a process. A new interpreter for each took 0.2 s on a machine that does nothing else, and seconds
on one that is busy; a fork takes some milliseconds. The nursery is started with the first try of a slot, in a group of
its own, and has opened no job: what it forks has nothing of a user's.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress

from kernelmill.cluster.worker.nursery import Birth, Nursery
from kernelmill.cluster.worker.progresspage import ProgressPage, new_page
from kernelmill.cluster.worker.slotframes import ToSlot, ToSupervisor, frame_bytes, from_slot
from kernelmill.cluster.worker.slots import exit_status
from kernelmill.engine.errors import Code, error

TURN_S = 0.05
"""How often whoever waits for a try gives a sign of life."""
_STARTS_MAX = 3
_ENDING_MS = 5000


class TryProcess:
    """A slot of the slot. Its group of processes is its own: a row that ends its group ends no other."""

    def __init__(self, birth: Birth, link: socket.socket, page: ProgressPage, nursery: Nursery) -> None:
        self.pid, self._pidfd, self._nursery = birth.pid, birth.pidfd, nursery
        self.link, self.page = link, page
        self._reader = from_slot()
        self._frames: list[ToSupervisor] = []

    def tell(self, frame: ToSlot) -> None:
        """Send a frame; nothing happens if it has ended: whoever waits for its answer finds out."""
        with suppress(OSError):
            self.link.sendall(frame_bytes(frame))

    def frame(self, wait_s: float) -> ToSupervisor | None:
        """The next frame, None if none comes in time. Raises EOFError if the process has ended."""
        if not self._frames and select.select([self.link], [], [], wait_s)[0]:
            try:
                data = self.link.recv(1 << 16)
            except ConnectionError:
                data = b""
            if not data:
                raise EOFError
            self._frames += self._reader.feed(data)
        return self._frames.pop(0) if self._frames else None

    def resident_bytes(self) -> int:
        """How much memory it holds; 0 if it has ended."""
        try:
            with open(f"/proc/{self.pid}/statm") as file:
                return int(file.read().split()[1]) * resource.getpagesize()
        except (OSError, IndexError):
            return 0

    def end(self) -> int | None:
        """Kill it, with what it has started, and wait for it; its exit status, None if nobody knows it."""
        with suppress(ProcessLookupError):  # it has ended, and so has all of its group
            os.killpg(self.pid, signal.SIGKILL)
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        poller.poll(_ENDING_MS)  # the system may hold it for a while
        status = exit_status(self.pid)
        self._nursery.bury(self.pid)
        self.link.close()
        self.page.close()
        os.close(self._pidfd)
        return status


class Tries:
    """Makes the processes of a slot's tries; of one job. `close` ends what is left of them."""

    def __init__(self) -> None:
        self._nursery: Nursery | None = None
        self._number = 0

    def begin(self, frames: Iterable[ToSlot], alive: Callable[[], None]) -> TryProcess:
        """A process that was told these frames. Calls `alive` while it waits. Raises OSError, KM0401 if none comes.

        A function may have ended the nursery, for it is the parent of its process: then another one is started.
        """
        for _ in range(_STARTS_MAX):
            link, theirs = socket.socketpair()
            handle, output = new_page(), _output()
            page = ProgressPage(handle)
            try:
                birth = self._born((theirs.fileno(), handle, output), alive)
            except BaseException:
                link.close()
                page.close()
                raise
            finally:
                theirs.close()
                os.close(handle)
                os.close(output)
            if birth is not None:
                assert self._nursery is not None
                made = TryProcess(birth, link, page, self._nursery)
                for frame in frames:
                    made.tell(frame)
                return made
            link.close()
            page.close()
            self.close()
        raise error(Code.MEMORY_LIMIT, "no process can be started to try a task's rows in", hint=_HINT)

    def close(self) -> None:
        """End the nursery, and with it all that it has forked."""
        nursery, self._nursery = self._nursery, None
        if nursery is not None:
            nursery.close()

    def _born(self, handles: tuple[int, int, int], alive: Callable[[], None]) -> Birth | None:
        """The slot that was asked for; None if the nursery has ended, or cannot fork."""
        if self._nursery is None:
            self._nursery = Nursery(os.environ)
        nursery = self._nursery
        self._number += 1
        try:
            nursery.bear(self._number, handles)
        except OSError:
            return None
        while True:
            alive()
            ready = select.select([nursery.socket.fileno(), nursery.pidfd], [], [], TURN_S)[0]
            for birth in nursery.births():
                if birth.number == self._number:
                    return birth if not birth.error else None
                nursery.discard(birth)  # one for which nobody waited any more
            if nursery.pidfd in ready:
                return None


def _output() -> int:
    """Where a try prints: where this process does, if it still can."""
    try:
        return os.dup(2)
    except OSError:  # a function has closed it
        return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


_HINT = "look at the limits on processes, files and memory of the worker's user, and at those that functions set"
