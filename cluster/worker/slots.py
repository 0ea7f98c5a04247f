"""The processes of a worker: told, read, watched and killed. Linux: pidfd, memfd, process groups.

A slot is `kernelmill.cluster.worker.process` in a process that the nursery forks, with two descriptors, its end of a
socketpair and its progress page; it has no socket to the network and no key but the code key. What it prints comes
through a pipe. All descriptors here do not block; what a slot does not take yet waits in a buffer.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket

from kernelmill.cluster.fields import AttemptKey
from kernelmill.cluster.worker.events import SlotDied, SlotSaid, SlotSample, SlotWrote
from kernelmill.cluster.worker.nursery import Birth, Nursery
from kernelmill.cluster.worker.progresspage import ProgressPage, new_page
from kernelmill.cluster.worker.slotframes import ToSlot, frame_bytes, from_slot
from kernelmill.engine.errors import KernelmillError
from kernelmill.engine.machine import resident_bytes

_RECEIVE_BYTES = 256 << 10
_LINE_BYTES_MAX = 4096
_LINES_KEPT = 40
_ENDING_MS = 5000


class SlotProcess:
    """One slot's process, which `nursery` is told to bear; raises OSError if it cannot be told.

    Frames may be told and lines read at once. `pid` and `pidfd` are -1 until `is_born`.
    """

    def __init__(self, number: int, nursery: Nursery) -> None:
        self.number, self._nursery = number, nursery
        self.pid = self.pidfd = -1
        self._reader = from_slot()
        self._unsent = bytearray()
        self._line = b""
        self._said: list[str] = []  # the last lines, for the text of a death
        self._broken = ""
        self.is_silent = False  # its output has ended: nobody prints there any more
        page = new_page()
        self.socket, theirs = socket.socketpair()
        self.output, printed = os.pipe()
        try:
            nursery.bear(number, (theirs.fileno(), page, printed))
            self._page = ProgressPage(page)
        except BaseException:
            self.socket.close()
            os.close(self.output)
            raise
        finally:
            theirs.close()
            os.close(page)
            os.close(printed)
        self.socket.setblocking(False)
        os.set_blocking(self.output, False)

    def is_born(self, birth: Birth) -> None:
        """Its process is there."""
        self.pid, self.pidfd = birth.pid, birth.pidfd

    @property
    def has_unsent(self) -> bool:
        """Whether bytes wait for the slot to take them."""
        return bool(self._unsent)

    def tell(self, frame: ToSlot) -> None:
        """Put a frame behind those that the next `flush` sends."""
        self._unsent += frame_bytes(frame)

    def flush(self) -> None:
        """Send what waits, as far as the slot takes it."""
        while self._unsent:
            try:
                sent = self.socket.send(self._unsent)
            except BlockingIOError:
                return
            except OSError:  # it has ended: its pidfd says so
                self._unsent.clear()
                return
            del self._unsent[:sent]

    def receive(self) -> list[SlotSaid]:
        """The frames that have come. What is no frame kills the slot, for nothing after it can be believed."""
        said: list[SlotSaid] = []
        while not self._broken:
            try:
                data = self.socket.recv(_RECEIVE_BYTES)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            if not data:
                break
            try:
                said += [SlotSaid(self.number, frame) for frame in self._reader.feed(data)]
            except KernelmillError as problem:
                self._broken = problem.what
                self.kill()
        return said

    def read_output(self) -> SlotWrote | None:
        """The lines that it has printed since, as far as they are complete."""
        try:
            data = os.read(self.output, _RECEIVE_BYTES)
        except BlockingIOError:
            return None
        self.is_silent = not data
        *lines, self._line = (self._line + data).split(b"\n")
        if len(self._line) > _LINE_BYTES_MAX or (not data and self._line):
            lines, self._line = [*lines, self._line[:_LINE_BYTES_MAX]], b""
        texts = tuple(line.decode(errors="replace") for line in lines)
        self._said = [*self._said, *texts][-_LINES_KEPT:]
        return SlotWrote(self.number, texts) if texts else None

    def sample(self) -> SlotSample:
        """Where it is, and how much memory it holds."""
        place = self._page.read()
        key = AttemptKey(place.epoch, place.number) if place is not None and place.epoch else None
        rss_bytes = resident_bytes(self.pid)
        if place is None:
            return SlotSample(self.number, None, "run", 0, 0, 0, 0, 0, rss_bytes)
        fields = (place.phase, place.batch, place.first_row, place.rows, place.size_bytes, place.steps)
        return SlotSample(self.number, key, *fields, rss_bytes)

    def kill(self) -> None:
        """SIGKILL to the slot and to what it has started; its death is seen by `pidfd`. Nothing if it is not born."""
        if self.pid > 0:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)

    def await_end(self) -> None:
        """Wait for a slot that was killed; the system may hold it for a while."""
        if self.pid > 0:
            poller = select.poll()
            poller.register(self.pidfd, select.POLLIN)
            poller.poll(_ENDING_MS)

    def bury(self, text: str = "") -> SlotDied:
        """Say how a slot ended whose pidfd is readable, or that was never born, and give back all that it had here."""
        self.kill()  # what it has started
        status = exit_status(self.pid) if self.pid > 0 else None
        while self.read_output() is not None:
            pass
        sample = self.sample()
        self.socket.close()
        os.close(self.output)
        self._page.close()
        if self.pid > 0:
            os.close(self.pidfd)
            self._nursery.bury(self.pid)
        return SlotDied(self.number, "SIGNALLED", text or self._broken or _how(status, self._said), sample)


def exit_status(pid: int) -> int | None:
    """How a process ended that nobody has waited for yet, as `subprocess` tells it. None if nothing is known."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return os.waitstatus_to_exitcode(int(file.read().rpartition(b")")[2].split()[-1]))
    except (OSError, ValueError, IndexError):
        return None


def _how(status: int | None, lines: list[str]) -> str:
    if status is None:
        text = "the task's process has ended"
    elif status < 0:
        name = signal.Signals(-status).name if -status in signal.valid_signals() else f"signal {-status}"
        text = f"the task's process was ended by {name}"
        text += ", perhaps for want of memory" if -status == signal.SIGKILL else ""
    else:
        text = f"the task's process ended with status {status}"
    said = "\n".join(lines).strip()
    return f"{text}; it said:\n{said}"[:4096] if said else text
