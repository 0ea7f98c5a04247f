"""A client's connection to its master: messages out and in, over CURVE. For one thread; it knows nothing of jobs."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

import zmq

from kernelmill.cluster.keys.bundle import Bundle
from kernelmill.cluster.messages import PROTOCOL, ClientToMaster, Envelope, MasterToClient
from kernelmill.cluster.sockets import connect_dealer
from kernelmill.cluster.wire import FRAME_BYTES_MAX, MASTER_TO_CLIENT, encode
from kernelmill.engine.errors import Code, error

_QUEUED_MAX = 64
_NOBODY = bytes(16)
"""The cluster's id before the master has told it: bundles do not hold it."""


class Link:
    """Say messages and hear them; use it in a `with`. `reconnect` makes a new socket, as after any silence."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], bundle: Bundle, address: str) -> None:
        self._context, self._bundle, self._address = context, bundle, address
        self._cluster, self._epoch, self._life = _NOBODY, 0, bytes(8)
        self._said = self._heard = 0
        self._waiting: list[bytes] = []
        self._socket = self._connected()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close(linger=200)  # a cancel that was said last should arrive

    def say(self, message: ClientToMaster) -> None:
        """Send a message, or drop it where the master is not there: whoever says something says it again."""
        self._said += 1
        envelope = Envelope(PROTOCOL, self._cluster, self._epoch, self._life, b"", self._said, self._heard, message)
        self._waiting.append(encode(envelope))
        self._waiting = self._waiting[-_QUEUED_MAX:]
        self._send_waiting()

    def hear(self, wait_s: float) -> MasterToClient | None:
        """The next message, None if none comes within `wait_s`. What is no message of this version is KM0607."""
        until_s = time.monotonic() + wait_s
        while True:
            self._send_waiting()
            left_ms = max(0, int((until_s - time.monotonic()) * 1000) + 1) if wait_s > 0 else 0
            # before the handshake is over nothing can be sent: look again soon
            found = self._socket.poll(min(left_ms, 50) if self._waiting else left_ms)
            if found:
                return self._received()
            if time.monotonic() >= until_s:
                return None

    def reconnect(self) -> None:
        """Forget this connection and what waits to be sent, and make a new one."""
        self._socket.close(linger=0)
        self._waiting.clear()
        self._socket = self._connected()

    def _connected(self) -> zmq.Socket[bytes]:
        return connect_dealer(
            self._context,
            self._bundle.pair,
            self._bundle.master_key,
            self._address,
            message_bytes_max=FRAME_BYTES_MAX,
            queued_max=_QUEUED_MAX,
        )

    def _send_waiting(self) -> None:
        while self._waiting:
            try:
                self._socket.send(self._waiting[0], zmq.DONTWAIT)
            except zmq.Again:
                return
            del self._waiting[0]

    def _received(self) -> MasterToClient | None:
        envelope = MASTER_TO_CLIENT.decode(self._socket.recv())
        self._cluster, self._epoch, self._life = envelope.cluster, envelope.epoch, envelope.life
        self._heard = max(self._heard, envelope.seq)
        return envelope.body


def ask(link: Link, message: ClientToMaster, kinds: tuple[type, ...], *, patience_s: float = 15.0) -> MasterToClient:
    """Say a message until one of these kinds comes back, and return that. Raises KM0601 if none does."""
    until_s = time.monotonic() + patience_s
    while time.monotonic() < until_s:
        link.say(message)
        again_s = time.monotonic() + 1.0
        while (left_s := again_s - time.monotonic()) > 0:
            heard = link.hear(left_s)
            if heard is not None and isinstance(heard, kinds):
                return heard
        link.reconnect()
    what = f"the cluster's master has not answered for {patience_s:.0f} s"
    hint = "is it running, is the address right, and is this client still in its clients.allow?"
    raise error(Code.UNREACHABLE, what, hint=hint)
