"""The master's two control sockets: frames in, checked, with whose they are; frames out to whoever is meant.

What a frame says of its sender is not asked: the key that CURVE has checked is, and the line of that key in the lists.
Nothing in here knows what a message means.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import zmq

from kernelmill.cluster.keys.allow import AllowedPeer
from kernelmill.cluster.master.gate import Gate
from kernelmill.cluster.messages import PROTOCOL, Envelope, Refused
from kernelmill.cluster.sockets import USER_ID
from kernelmill.cluster.wire import FRAME_BYTES_MAX, Link, encode
from kernelmill.engine.errors import Code, KernelmillError, error

NOBODY: Final = bytes(16)
"""The cluster id of a peer that does not know it yet."""
ROUTES_MAX: Final = 4096
_REFUSALS_EVERY_S: Final = 1.0


class Me(NamedTuple):
    """What the master says of itself in every message."""

    cluster: bytes
    epoch: int
    life: bytes


class Route(NamedTuple):
    """The way to one connection: its id at the socket, and the number of its file in this process."""

    id: bytes
    descriptor: int


class Mail(NamedTuple):
    """A message that came, from whom, and on which way."""

    peer: AllowedPeer
    address: str
    route: Route
    envelope: Envelope[Any]


class Post:
    """One ROUTER and the messages that may come through it."""

    def __init__(self, socket: zmq.Socket[bytes], domain: str, link: Link[Any], gate: Gate, me: Me) -> None:
        self.socket, self._domain, self._link, self._gate, self._me = socket, domain, link, gate, me
        self._sent: dict[bytes, int] = {}  # route -> messages sent
        self._refused_s = 0.0
        self.strangers = 0  # frames that were no message of this master's peers; they changed nothing

    def receive(self, messages_max: int) -> Iterator[Mail]:
        """Take what has come, up to so many messages. What is no message is counted, and answered once a second."""
        for _ in range(messages_max):
            try:
                frames = self.socket.recv_multipart(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                return
            mail = self._read(frames)
            if mail is None:
                self.strangers += 1
            else:
                yield mail

    def send(self, route: bytes, body: Any, *, session: bytes = b"", ack: int = 0) -> bool:
        """Send a message; False if nobody is at the end of this way, or too much waits for whoever is."""
        seq = self._sent.pop(route, 0) + 1
        me = self._me
        frame = encode(Envelope(PROTOCOL, me.cluster, me.epoch, me.life, session, seq, ack, body))
        try:
            self.socket.send_multipart([route, frame], zmq.DONTWAIT)
        except zmq.Again:
            return False
        except zmq.ZMQError as problem:
            if problem.errno != zmq.EHOSTUNREACH:
                raise
            return False
        self._sent[route] = seq
        if len(self._sent) > ROUTES_MAX:
            del self._sent[next(iter(self._sent))]  # the one that was not used for longest
        return True

    def _read(self, frames: list[zmq.Frame]) -> Mail | None:
        if len(frames) != 2:
            return None
        peer = self._gate.peer(self._domain, str(frames[1].get(USER_ID)))
        if peer is None:
            return None  # its key was taken from the list
        route = Route(frames[0].bytes, int(frames[1].get(zmq.SRCFD)))
        try:
            envelope = self._link.decode(frames[1].buffer)
            if envelope.cluster not in (self._me.cluster, NOBODY):
                raise error(Code.PROTOCOL, "the message is for another cluster")
        except KernelmillError as problem:
            self._refuse(route, problem)
            return None
        return Mail(peer, str(frames[1].get("Peer-Address")), route, envelope)

    def _refuse(self, route: Route, problem: KernelmillError) -> None:
        now = time.monotonic()
        if now >= self._refused_s + _REFUSALS_EVERY_S:
            self._refused_s = now
            body = Refused(b"", "PROTOCOL", problem.what[:8192], problem.hint[:8192])
            self.send(route.id, body)


MESSAGE_BYTES_MAX: Final = FRAME_BYTES_MAX
