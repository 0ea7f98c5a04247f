"""A client's connection to its master: messages out and in, over CURVE. For one thread; it knows nothing of jobs."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Self

import zmq
from zmq.utils.monitor import recv_monitor_message

from kernelmill.cluster.keys.bundle import Bundle
from kernelmill.cluster.messages import PROTOCOL, ClientToMaster, Envelope, MasterToClient
from kernelmill.cluster.sockets import connect_dealer
from kernelmill.cluster.wire import FRAME_BYTES_MAX, MASTER_TO_CLIENT, encode
from kernelmill.engine.errors import Code, error

_QUEUED_MAX = 64
_REFUSED_S = 4.0
_IN_AND_OUT = zmq.POLLIN | zmq.POLLOUT
PATIENCE_S = 15.0
"""How long `ask` waits for an answer."""
_NOBODY = bytes(16)
"""The cluster's id before the master has told it: bundles do not hold it."""


class Link:
    """Say messages and hear them; use it in a `with`. `reconnect` makes a new socket, as after any silence."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], bundle: Bundle, address: str) -> None:
        self._context, self._bundle, self._address = context, bundle, address
        self._cluster, self._epoch, self._life = _NOBODY, 0, bytes(8)
        self._said = self._heard = 0
        self._waiting: list[bytes] = []
        self._refused_since_s: float | None = None
        self._monitor: zmq.Socket[bytes] | None = None
        self._socket = self._connected()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close(linger_ms=200)  # a cancel that was said last should arrive

    def say(self, message: ClientToMaster) -> None:
        """Send a message, or drop it where the master is not there: whoever says something says it again."""
        self._said += 1
        envelope = Envelope(PROTOCOL, self._cluster, self._epoch, self._life, b"", self._said, self._heard, message)
        self._waiting.append(encode(envelope))
        self._waiting = self._waiting[-_QUEUED_MAX:]
        self._send_waiting()

    def hear(self, wait_s: float) -> MasterToClient | None:
        """The next message, None if none comes within `wait_s`.

        Raises KM0607 for what is no message of this version, KM0602 if the master's door stays closed for this key.
        """
        until_s = time.monotonic() + wait_s
        while True:
            self._send_waiting()
            left_ms = max(0, int((until_s - time.monotonic()) * 1000) + 1) if wait_s > 0 else 0
            # before the handshake is over nothing can be sent
            found = self._socket.poll(min(left_ms, 1000), _IN_AND_OUT if self._waiting else zmq.POLLIN)
            if found & zmq.POLLIN:
                self._refused_since_s = None
                return self._received()
            self._check_refused()
            if time.monotonic() >= until_s:
                return None

    def reconnect(self) -> None:
        """Forget this connection and what waits to be sent, and make a new one."""
        self._close(linger_ms=0)
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
            before_connect=self._watch,
        )

    def _watch(self, socket: zmq.Socket[bytes]) -> None:
        self._monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH)
        self._monitor.linger = 0

    def _check_refused(self) -> None:
        """Raise KM0602 when the door has been closed for some seconds: a new key is not known at once."""
        assert self._monitor is not None
        while True:
            try:
                recv_monitor_message(self._monitor, zmq.DONTWAIT)
            except zmq.Again:
                break
            self._refused_since_s = self._refused_since_s or time.monotonic()
        if self._refused_since_s is not None and time.monotonic() - self._refused_since_s > _REFUSED_S:
            what = f"the cluster at {self._address} does not let {self._bundle.name} in"
            hint = "its key must be in the master's clients.allow: kernelmill keys add-client makes one that is"
            raise error(Code.REFUSED, what, hint=hint)

    def _close(self, *, linger_ms: int) -> None:
        if self._monitor is not None:
            self._socket.disable_monitor()
            self._monitor.close(0)
            self._monitor = None
        self._socket.close(linger=linger_ms)

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


def ask(link: Link, message: ClientToMaster, kinds: tuple[type, ...]) -> MasterToClient:
    """Say a message until one of these kinds comes back, and return that. Raises KM0601 if none does."""
    until_s = time.monotonic() + PATIENCE_S
    while time.monotonic() < until_s:
        link.say(message)
        again_s = time.monotonic() + 1.0
        while (left_s := again_s - time.monotonic()) > 0:
            heard = link.hear(left_s)
            if heard is not None and isinstance(heard, kinds):
                return heard
        link.reconnect()
    what = f"the cluster's master has not answered for {PATIENCE_S:.0f} s"
    hint = "is it running, is the address right, and is this client still in its clients.allow?"
    raise error(Code.UNREACHABLE, what, hint=hint)
