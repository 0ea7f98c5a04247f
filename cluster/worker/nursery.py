"""Where slots are born: a process that has imported all that a slot needs, and forks itself into slots.

    python -m kernelmill.cluster.worker.nursery SOCKET_FD MODULE

A start of a new interpreter takes 0.35 s of CPU, nearly all of it for imports; a fork of this one takes 0.01 s. It
opens no job, runs no code of a user's, has no key and no thread of its own, so that what it forks is as a new process
would be. `Nursery` is the supervisor's end of it: SOCKET_FD is its SOCK_SEQPACKET pair.

    supervisor -> nursery    BEAR, number; with it link, page and output as descriptors
                             BURY, pid: its death was seen
    nursery -> supervisor    number, pid; with it a pidfd. Or number, -errno

Slots are its children: they die when it does, and it dies with its supervisor. What functions of users leave behind
becomes its child when their slot ends, and is killed then (strays.py).
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import socket
import struct
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Final, NamedTuple, NoReturn

from kernelmill.cluster.children import module_command
from kernelmill.cluster.parent import die_with_parent
from kernelmill.cluster.worker.strays import adopt_orphans, end_strays

SLOT_MODULE: Final = "kernelmill.cluster.worker.process"
"""Has `main(link_handle, page_handle)`; importing it imports what slots need."""
_BEAR: Final = 1
_BURY: Final = 2
_ORDER = struct.Struct("<Bq")
_BIRTH = struct.Struct("<qq")
_HANDLES = 3
_CLOSING_S = 2.0
_STRAYS_S, _STRAYS_AGAIN_S = 0.5, 1.0
"""How long processes that slots left are killed at a time, and when again those that make new ones faster."""


class Birth(NamedTuple):
    """A slot's process, or the error that kept it from being made: then `pid` and `pidfd` are -1."""

    number: int
    pid: int
    pidfd: int
    error: str


# The supervisor's end -------------------------------------------------------------------------------------------------


class Nursery:
    """Starts the process; ask it for slots at once, they come when it is ready. Raises OSError if it cannot be started.

    `socket` is readable when `births` has something to give, `pidfd` when the process has ended.
    """

    def __init__(self, environ: Mapping[str, str], module: str = SLOT_MODULE) -> None:
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        told = str(theirs.fileno()), module
        command = module_command("kernelmill.cluster.worker.nursery", *told, options=("-X", "faulthandler"))
        with theirs:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], process_group=0, env=dict(environ)
            )
        self.pidfd = os.pidfd_open(self._process.pid)
        self.socket.setblocking(False)

    def bear(self, number: int, handles: Sequence[int]) -> None:
        """Order a slot that holds these descriptors: link, page, output. Raises OSError if it cannot be told."""
        socket.send_fds(self.socket, [_ORDER.pack(_BEAR, number)], list(handles))

    def births(self) -> list[Birth]:
        """The slots that were born since."""
        found = []
        with contextlib.suppress(OSError):  # nothing more; if it has ended, `pidfd` says so
            while True:
                data, handles, _, _ = socket.recv_fds(self.socket, _BIRTH.size, 1, socket.MSG_CMSG_CLOEXEC)
                if not data:
                    break
                number, pid = _BIRTH.unpack(data)
                if handles:
                    found.append(Birth(number, pid, handles[0], ""))
                else:
                    found.append(Birth(number, -1, -1, os.strerror(-pid)))
        return found

    def discard(self, birth: Birth) -> None:
        """End a slot that nobody waits for any more."""
        if birth.pid > 0:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(birth.pid, signal.SIGKILL)
            os.close(birth.pidfd)
            self.bury(birth.pid)

    def bury(self, pid: int) -> None:
        """Forget a slot that has ended, or was killed."""
        with contextlib.suppress(OSError):
            self.socket.send(_ORDER.pack(_BURY, pid))

    def close(self) -> str:
        """End the process, and with it all slots that it has not buried; say how it ended if it had."""
        status = self._process.poll()
        for birth in self.births():
            self.discard(birth)
        self.socket.close()
        try:
            self._process.wait(_CLOSING_S)  # it buries what it was told to, and finds that nobody orders any more
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self.pidfd)
        return "" if status is None else f"the process that starts slots ended with status {status}"


# The process ----------------------------------------------------------------------------------------------------------


def main(handle: int, module: str) -> None:
    """Serve until the supervisor is gone."""
    die_with_parent()
    adopt_orphans()
    slots: set[int] = set()
    try:
        _serve(handle, module, slots)
    finally:
        for pid in slots:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        end_strays((), _STRAYS_S)


def _serve(handle: int, module: str, slots: set[int]) -> None:
    """Take orders until there are none; `slots` are those that live, or were not buried."""
    me = os.getpid()
    with socket.socket(fileno=handle) as orders:
        os.set_inheritable(handle, False)
        run = importlib.import_module(module).main
        for name in ("pyarrow.compute", "pyarrow.parquet"):  # what most tasks need, and loads itself when it is used
            importlib.import_module(name)
        gc.collect()
        gc.freeze()  # what is here is never garbage: collections in slots need not touch its pages
        while True:
            try:
                data, handles, _, _ = socket.recv_fds(orders, _ORDER.size, _HANDLES, socket.MSG_CMSG_CLOEXEC)
            except TimeoutError:
                orders.settimeout(None if end_strays(slots, _STRAYS_S) else _STRAYS_AGAIN_S)
                continue
            if not data:
                return
            verb, number = _ORDER.unpack(data)
            if verb == _BURY:
                os.waitpid(number, 0)
                slots.discard(number)
                orders.settimeout(None if end_strays(slots, _STRAYS_S) else _STRAYS_AGAIN_S)
                continue
            try:
                pid = os.fork()
            except OSError as problem:
                orders.send(_BIRTH.pack(number, -(problem.errno or 1)))
            else:
                if pid == 0:
                    orders.close()
                    _be_slot(run, me, *handles)
                slots.add(pid)
                if not _is_announced(orders, number, pid):
                    slots.discard(pid)
                    return
            for each in handles:
                os.close(each)


def _is_announced(orders: socket.socket, number: int, pid: int) -> bool:
    """Tell of a slot; if nobody is there to be told, end and bury it."""
    with contextlib.suppress(OSError):  # the child has done it, or has ended
        os.setpgid(pid, pid)
    pidfd = os.pidfd_open(pid)  # it is not waited for yet, so the number is its own
    try:
        socket.send_fds(orders, [_BIRTH.pack(number, pid)], [pidfd])
        return True
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return False
    finally:
        os.close(pidfd)


def _be_slot(run: Callable[[int, int], None], parent: int, link: int, page: int, output: int) -> NoReturn:
    """In the child: become a process of its own, then a slot."""
    try:
        os.setpgid(0, 0)
        die_with_parent(parent)
        for handle, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(output, handle)
            stream = open(handle, "w", closefd=False)  # noqa: SIM115 - the one before believes that it is a file
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)
        os.close(output)
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
            file.write("500")  # the system's out-of-memory killer takes a slot before its supervisor
        if "numpy.random" in sys.modules:  # Python's own is seeded anew after a fork
            sys.modules["numpy.random"].seed()
        run(link, page)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(70)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
