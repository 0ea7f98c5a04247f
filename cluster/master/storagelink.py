"""The master's end of its storage process: orders go out, answers come back, and a process that dies is started anew.

Every order may be carried out again from any point, so a new process is given all that was not answered; but for a
Clean at which the process has ended a few times: what that leaves is told of, and keeps no other job waiting.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections import deque
from collections.abc import Sequence

from kernelmill.cluster.children import module_command
from kernelmill.cluster.filelimit import reserve
from kernelmill.cluster.logs import cluster_log
from kernelmill.cluster.storage.frames import Answer, Clean, Order, Published, PublishFailed, answers, encode
from kernelmill.engine.errors import KernelmillError

_READ_BYTES = 1 << 20
_RESTART_S = 1.0
_DEATHS_MAX = 3
_log = cluster_log()


class StorageLink:
    """Poll `fileno()` for reading, and for writing while `is_writing`. Call `pass_time` now and then."""

    def __init__(self, roots: Sequence[tuple[str, str]]) -> None:
        self._roots = [f"{name}={folder}" for name, folder in roots]
        self._orders: deque[Order] = deque()  # not answered, in order
        self._unsent = bytearray()
        self._process: subprocess.Popen[bytes] | None = None
        self._restart_at_s = 0.0
        self.restarts = 0
        self._deaths = 0  # of processes one after the other that had the same order at their head
        self._start()

    def fileno(self) -> int:
        """The descriptor to poll; -1 while there is no process."""
        return self._channel.fileno()

    @property
    def is_writing(self) -> bool:
        """Whether something waits to be sent."""
        return bool(self._unsent)

    def order(self, order: Order) -> None:
        """Give an order; one that is in the queue already is not given twice."""
        if order not in self._orders:
            self._orders.append(order)
            self._unsent += encode(order)
            self.write()

    def write(self) -> None:
        """Send what can be sent now."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError, OSError):
            while self._unsent:
                del self._unsent[: self._channel.send(self._unsent)]

    def read(self, now: float) -> list[Answer]:
        """Take the answers that have come; if the process has ended, another one is due in a second."""
        try:
            data = self._channel.recv(_READ_BYTES)
            found = self._reader.feed(data)
        except BlockingIOError:
            return []
        except (OSError, KernelmillError) as problem:
            _log.error("the storage process: %s", problem)
            data, found = b"", []
        if not data:
            self._end()
            self._restart_at_s = now + _RESTART_S
            self._note_death()
        return [one for one in found if self._is_awaited(one)]

    def pass_time(self, now: float) -> float | None:
        """Start a new process if one is due; tell when to call again, or None."""
        if self._process is not None:
            return None
        if now < self._restart_at_s:
            return self._restart_at_s
        try:
            with reserve():
                self._start()
        except OSError as problem:  # no process or no file can be had now
            _log.error("the storage process cannot be started, and is tried again: %s", problem)
            self._restart_at_s = now + _RESTART_S
            return self._restart_at_s
        self.restarts += 1
        return None

    def close(self) -> None:
        """End the process; what it has not done the next master orders again."""
        self._end()

    def _note_death(self) -> None:
        self._deaths += bool(self._orders)
        if self._deaths >= _DEATHS_MAX and isinstance(order := self._orders[0], Clean):
            self._orders.popleft()
            self._deaths = 0
            place = f"{order.output.root}:/{'/'.join(order.output.parts)}"
            job = order.job.hex()
            _log.error(
                "the storage process ended %d times at removing the staging of job %s, which stays beside %s; "
                "kernelmill clean removes it",
                _DEATHS_MAX,
                job,
                place,
            )

    def _is_awaited(self, answer: Answer) -> bool:
        kinds = (Published, PublishFailed)
        for order in self._orders:
            if order.job == answer.job and isinstance(order, Clean) != isinstance(answer, kinds):
                self._orders.remove(order)
                self._deaths = 0
                return True
        return False

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            told = [str(theirs.fileno()), str(os.getpid()), *self._roots]
            command = module_command("kernelmill.cluster.storage", *told)
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        ours.setblocking(False)
        self._channel, self._reader = ours, answers()
        self._unsent = bytearray(b"".join(encode(order) for order in self._orders))
        self.write()

    def _end(self) -> None:
        self._channel.close()
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
            process.wait()
