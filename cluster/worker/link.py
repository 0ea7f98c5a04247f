"""The worker's socket to the master: messages in envelopes, a new socket for each connection, and its monitor.

Sending never waits. What the socket does not take is dropped and counted: all that matters is said again.
"""

from __future__ import annotations

import msgspec
import zmq
from zmq.utils.monitor import recv_monitor_message

from kernelmill.cluster.failpoints import failpoint
from kernelmill.cluster.keys.bundle import Bundle
from kernelmill.cluster.messages import PROTOCOL, Done, Envelope, Hello, MasterToWorker, Welcome, WorkerToMaster
from kernelmill.cluster.sockets import connect_dealer, receive_now, send_now
from kernelmill.cluster.wire import FRAME_BYTES_MAX, MASTER_TO_WORKER, encode
from kernelmill.engine.errors import KernelmillError

_QUEUED_MAX = 1000
FRAMES_MAX = 256
"""Messages that are sent as the frames of one, at most; the master takes no more."""
_EVENTS = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_AUTH
NO_CLUSTER = bytes(16)


class News(msgspec.Struct, frozen=True):
    """What came from a link: messages in order, and what happened to the connection, in order."""

    messages: tuple[Envelope[MasterToWorker], ...] = ()
    is_connected: bool = False
    is_disconnected: bool = False
    is_refused: bool = False


class Link:
    """The connection to the master's socket for workers; used by one thread."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], bundle: Bundle, endpoint: str) -> None:
        self._context, self._bundle, self._endpoint = context, bundle, endpoint
        self._seq = self._ack = 0
        self._posted: list[bytes] = []
        self._passed: list[str] = []  # failpoints of what was posted
        self.cluster = NO_CLUSTER
        self.dropped = self.malformed = 0
        self.socket: zmq.Socket[bytes] | None = None
        self.monitor: zmq.Socket[bytes] | None = None

    def reconnect(self) -> None:
        """Close the socket and open another; what was not sent is gone."""
        self.close()
        self._seq = self._ack = 0
        self._posted, self._passed = [], []
        self.socket = connect_dealer(
            self._context,
            self._bundle.pair,
            self._bundle.master_key,
            self._endpoint,
            message_bytes_max=FRAME_BYTES_MAX,
            queued_max=_QUEUED_MAX,
            before_connect=self._watch,
        )

    def _watch(self, socket: zmq.Socket[bytes]) -> None:
        self.monitor = socket.get_monitor_socket(_EVENTS)
        self.monitor.linger = 0

    def post(self, epoch: int, life: bytes, session: bytes, body: WorkerToMaster) -> None:
        """Put a message with those that `flush` sends together: one a frame, for each costs as much as its sending."""
        self._seq += 1
        self._posted.append(encode(Envelope(PROTOCOL, self.cluster, epoch, life, session, self._seq, self._ack, body)))
        if isinstance(body, Done):
            self._passed.append("worker.done.sent")
        elif isinstance(body, Hello):
            self._passed.append("worker.hello.sent")

    def flush(self) -> None:
        """Send what was posted, as far as the socket takes it now."""
        posted, passed, self._posted, self._passed = self._posted, self._passed, [], []
        for start in range(0, len(posted), FRAMES_MAX):
            frames = posted[start : start + FRAMES_MAX]
            try:
                if self.socket is None:
                    raise zmq.Again
                send_now(self.socket, frames)
            except zmq.Again:
                self.dropped += len(frames)
                passed.clear()
        for name in passed:
            failpoint(name)

    def receive(self, messages_max: int) -> News:
        """Take what has come, at most so many messages."""
        taken: list[Envelope[MasterToWorker]] = []
        while self.socket is not None and len(taken) < messages_max:
            try:
                frames = receive_now(self.socket)
            except zmq.Again:
                break
            for frame in frames:
                envelope = self._read(frame)
                if envelope is not None:
                    taken.append(envelope)
        return News(messages=tuple(taken))

    def _read(self, frame: zmq.Frame) -> Envelope[MasterToWorker] | None:
        try:
            envelope = MASTER_TO_WORKER.decode(frame.buffer)
        except KernelmillError:  # from a master of another version, or a bug of it: none of its words stands
            self.malformed += 1
            return None
        if isinstance(envelope.body, Welcome) and self.cluster == NO_CLUSTER:
            self.cluster = envelope.cluster
        if self.cluster not in (NO_CLUSTER, envelope.cluster):
            self.malformed += 1
            return None
        self._ack = max(self._ack, envelope.seq)
        return envelope

    def look(self) -> News:
        """Take what the monitor has seen; of a connection that came and went, the end."""
        connected = disconnected = refused = False
        while self.monitor is not None:
            try:
                event = recv_monitor_message(self.monitor, zmq.DONTWAIT)["event"]
            except zmq.Again:
                break
            connected = event == zmq.EVENT_HANDSHAKE_SUCCEEDED or (connected and event != zmq.EVENT_DISCONNECTED)
            disconnected |= event == zmq.EVENT_DISCONNECTED
            refused |= event == zmq.EVENT_HANDSHAKE_FAILED_AUTH
        return News(is_connected=connected, is_disconnected=disconnected, is_refused=refused)

    def close(self, linger_ms: int = 0) -> None:
        """Close the socket; what was sent has `linger_ms` to go out."""
        if self.socket is not None:
            self.socket.disable_monitor()
            self.socket.close(linger_ms)
        if self.monitor is not None:
            self.monitor.close(0)
        self.socket = self.monitor = None
