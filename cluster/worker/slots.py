"""The processes of a worker: started, told, read, watched and killed. Linux: pidfd, memfd, process groups.

A slot is a fresh exec of `kernelmill.cluster.worker.process` with two inherited descriptors, its end of a socketpair
and its progress page; it has no socket to the network and no key but the code key. What it prints comes through a
pipe. All descriptors here do not block; what a slot does not take yet waits in a buffer.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping

from kernelmill.cluster.fields import AttemptKey
from kernelmill.cluster.worker.events import SlotDied, SlotSaid, SlotSample, SlotWrote
from kernelmill.cluster.worker.progresspage import ProgressPage, new_page
from kernelmill.cluster.worker.slotframes import ToSlot, frame_bytes, from_slot
from kernelmill.engine.errors import KernelmillError
from kernelmill.engine.machine import resident_bytes

_RECEIVE_BYTES = 256 << 10
_LINE_BYTES_MAX = 4096
_LINES_KEPT = 40
MODULE = "kernelmill.cluster.worker.process"


class SlotProcess:
    """One slot's process. Raises OSError if it cannot be started."""

    def __init__(self, number: int, environ: Mapping[str, str], module: str = MODULE) -> None:
        self.number = number
        self._reader = from_slot()
        self._unsent = bytearray()
        self._line = b""
        self._said: list[str] = []  # the last lines, for the text of a death
        self._broken = ""
        self.is_silent = False  # its output has ended: nobody prints there any more
        ours, theirs = socket.socketpair()
        page = new_page()
        try:
            command = [sys.executable, "-X", "faulthandler", "-m", module, str(theirs.fileno()), str(page)]
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs.fileno(), page),
                process_group=0,
                env=dict(environ),
            )
            self._page = ProgressPage(page)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
            os.close(page)
        self.pid = self._process.pid
        self.pidfd = os.pidfd_open(self.pid)
        assert self._process.stdout is not None
        self.output = self._process.stdout
        self.socket = ours
        ours.setblocking(False)
        os.set_blocking(self.output.fileno(), False)
        _prefer_to_be_killed(self.pid)

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
            data = os.read(self.output.fileno(), _RECEIVE_BYTES)
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
        """SIGKILL to the slot and to what it has started; its death is seen by `pidfd`."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def bury(self) -> SlotDied:
        """Say how a slot ended whose pidfd is readable, and give back all that it had here."""
        self.kill()  # what it has started
        status = self._process.wait()
        while self.read_output() is not None:
            pass
        sample = self.sample()
        self.socket.close()
        self.output.close()
        self._page.close()
        os.close(self.pidfd)
        return SlotDied(self.number, "SIGNALLED", self._broken or _how(status, self._said), sample)


def _how(status: int, lines: list[str]) -> str:
    if status < 0:
        name = signal.Signals(-status).name if -status in signal.valid_signals() else f"signal {-status}"
        text = f"the task's process was ended by {name}"
        text += ", perhaps for want of memory" if -status == signal.SIGKILL else ""
    else:
        text = f"the task's process ended with status {status}"
    said = "\n".join(lines).strip()
    return f"{text}; it said:\n{said}"[:4096] if said else text


def _prefer_to_be_killed(pid: int) -> None:
    """Let the system's out-of-memory killer take a slot before its supervisor."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/oom_score_adj", "w") as file:
        file.write("500")
