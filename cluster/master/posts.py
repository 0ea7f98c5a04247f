"""The master's two control sockets: frames in, checked, with whose they are; frames out to whoever is meant.

What a frame says of its sender is not asked: the key that CURVE has checked is, and the line of that key in the lists.
Nothing in here knows what a message means.

A ZeroMQ message may have several frames, each of which is a message of ours: what is posted to one peer in one turn
goes out together, for waking the sending thread costs more than all else (of 0.4 ms a task it was more than half).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import zmq

from kernelmill.cluster.keys.allow import AllowedPeer
from kernelmill.cluster.master.gate import CLIENTS, Gate
from kernelmill.cluster.messages import PROTOCOL, Envelope, Refused
from kernelmill.cluster.sockets import USER_ID, receive_now, send_now
from kernelmill.cluster.wire import FRAME_BYTES_MAX, Link, encode
from kernelmill.engine.errors import Code, KernelmillError, error

_log = logging.getLogger(__name__)

NOBODY: Final = bytes(16)
"""The cluster id of a peer that does not know it yet."""
ROUTES_MAX: Final = 4096
FRAMES_MAX: Final = 256
"""Messages that go together, or are taken together."""
_REFUSALS_EVERY_S: Final = 1.0
_DESCRIPTOR: Final = int(zmq.SRCFD)


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
        self._posted: dict[bytes, list[bytes]] = {}  # route -> frames that go out at the next flush
        self._refused_s = 0.0
        self.strangers = 0  # frames that were no message of this master's peers; they changed nothing
        self.unsaid = 0  # messages that no frame could hold

    def knows(self, key: str) -> bool:
        """Tell whether a key may still come in here."""
        return self._gate.peer(self._domain, key) is not None

    def receive(self, messages_max: int) -> Iterator[Mail]:
        """Take what has come, up to so many messages. What is no message is counted, and answered once a second."""
        for _ in range(messages_max):
            try:
                route, *frames = receive_now(self.socket)
            except zmq.Again:
                return
            if not 1 <= len(frames) <= FRAMES_MAX:
                self.strangers += 1
                continue
            first = frames[0]  # what is asked of one frame is true of all: they came together
            peer = self._gate.peer(self._domain, str(first.get(USER_ID)))
            way = Route(route.bytes, int(first.get(_DESCRIPTOR)))
            address = str(first.get("Peer-Address"))
            for frame in frames:
                envelope = self._read(way, frame) if peer is not None else None
                if peer is None or envelope is None:
                    self.strangers += 1
                else:
                    yield Mail(peer, address, way, envelope)

    def post(self, route: bytes, body: Any, *, session: bytes = b"", ack: int = 0) -> None:
        """Let a message go out with the next `flush`, behind what was posted on this way before."""
        frame = self._frame(route, body, session, ack)
        if frame is not None:
            self._posted.setdefault(route, []).append(frame)

    def flush(self) -> list[bytes]:
        """Send what was posted; return the ways at whose end nobody is, or for whom too much waits."""
        posted, self._posted = self._posted, {}
        return [route for route, frames in posted.items() if not self._send_all(route, frames)]

    def send(self, route: bytes, body: Any, *, session: bytes = b"", ack: int = 0) -> bool:
        """Send a message now, behind what was posted; False if that cannot be."""
        self.post(route, body, session=session, ack=ack)
        return self._send_all(route, self._posted.pop(route, []))

    def _frame(self, route: bytes, body: Any, session: bytes, ack: int) -> bytes | None:
        """The frame of a message. Of one that is too long, or that no frame can hold, a client hears why, a worker
        nothing: whatever peers have brought into it, it must not end the master.
        """
        seq = self._sent.get(route, 0) + 1
        try:
            frame = self._encoded(seq, body, session, ack)
        except (KernelmillError, OverflowError) as problem:
            self.unsaid += 1
            if self.unsaid.bit_count() == 1:  # 1, 2, 4...: nobody fills a disk with such lines
                _log.error("a message to %s cannot be sent, no. %d: %s", self._domain, self.unsaid, problem)
            if self._domain != CLIENTS:
                return None
            what = problem.what if isinstance(problem, KernelmillError) else str(problem)
            text = f"the master's answer cannot be sent: {what}"
            frame = self._encoded(seq, Refused(getattr(body, "job", b""), "PROTOCOL", text[:8192], ""), session, ack)
        self._sent.pop(route, None)
        self._sent[route] = seq
        if len(self._sent) > ROUTES_MAX:
            del self._sent[next(iter(self._sent))]  # the one that was not used for longest
        return frame

    def _encoded(self, seq: int, body: Any, session: bytes, ack: int) -> bytes:
        me = self._me
        return encode(Envelope(PROTOCOL, me.cluster, me.epoch, me.life, session, seq, ack, body))

    def _send_all(self, route: bytes, frames: list[bytes]) -> bool:
        try:
            for start in range(0, len(frames), FRAMES_MAX):
                send_now(self.socket, [route, *frames[start : start + FRAMES_MAX]])
        except zmq.Again:
            return False
        except zmq.ZMQError as problem:
            if problem.errno != zmq.EHOSTUNREACH:
                raise
            return False
        return True

    def _read(self, route: Route, frame: zmq.Frame) -> Envelope[Any] | None:
        try:
            envelope = self._link.decode(frame.buffer)
            if envelope.cluster not in (self._me.cluster, NOBODY):
                raise error(Code.PROTOCOL, "the message is for another cluster")
        except KernelmillError as problem:
            self._refuse(route, problem)
            return None
        return envelope

    def _refuse(self, route: Route, problem: KernelmillError) -> None:
        now = time.monotonic()
        if now >= self._refused_s + _REFUSALS_EVERY_S:
            self._refused_s = now
            body = Refused(b"", "PROTOCOL", problem.what[:8192], problem.hint[:8192])
            self.send(route.id, body)


MESSAGE_BYTES_MAX: Final = FRAME_BYTES_MAX
