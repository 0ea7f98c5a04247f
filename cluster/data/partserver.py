"""PartServer: the thread of a master that hands out parts of jobs to workers that have work of them."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import zmq

from kernelmill.cluster.data.answering import MESSAGE_BYTES_MAX, QUEUED_MAX, Answering
from kernelmill.cluster.data.serving import PartFiles
from kernelmill.cluster.keys.curve import KeyPair
from kernelmill.cluster.sockets import Door, bind_router, bound_endpoint, new_context
from kernelmill.engine.errors import Code, error

DOMAIN = "parts"
_WAIT_MS = 1000


class PartServer:
    """Serves the files of `folder`, each named by its SHA-256, to the workers of `set_workers`.

    may_have: asked from this thread whether a worker may have a part. Raises KM0107 where it cannot bind.
    """

    def __init__(self, endpoint: str, pair: KeyPair, folder: str, may_have: Callable[[str, bytes], bool]) -> None:
        self._names: dict[str, str] = {}
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._is_stopped = False
        self.problem: BaseException | None = None
        self._context = new_context()
        try:
            self._door = Door(self._context, lambda domain, key, address: self._names.get(key))
            limits = {"message_bytes_max": MESSAGE_BYTES_MAX, "queued_max": QUEUED_MAX}
            self._router = bind_router(self._context, pair, DOMAIN, endpoint, **limits)
        except BaseException:
            self._context.destroy(0)
            os.close(self._bell)
            raise
        self.endpoint = bound_endpoint(self._router)
        self._answering = Answering(self._router, PartFiles(folder, may_have), lambda: self._names)
        self._thread = threading.Thread(target=self._run, name="parts", daemon=True)
        self._thread.start()

    def set_workers(self, names: dict[str, str]) -> None:
        """The workers that may ask, by public key; all others may not any more, also where they are connected."""
        self._names = dict(names)

    def check(self) -> None:
        """Raise KM0901 if the thread has ended: the master cannot go on."""
        if self.problem is not None:
            raise error(Code.INTERNAL, f"the parts server ended: {self.problem!r}") from self.problem

    def close(self) -> None:
        """Serve no more; does nothing the second time."""
        if not self._is_stopped:
            self._is_stopped = True
            os.eventfd_write(self._bell, 1)
            self._thread.join()
            os.close(self._bell)

    def _run(self) -> None:
        poller = zmq.Poller()
        for socket in (self._bell, self._door.socket, self._router):
            poller.register(socket, zmq.POLLIN)
        try:
            while not self._is_stopped:
                ready = dict(poller.poll(_WAIT_MS))
                if self._door.socket in ready:
                    self._door.answer()
                if self._router in ready:
                    self._answering.receive()
        except BaseException as problem:
            self.problem = problem
        finally:
            self._context.destroy(0)
