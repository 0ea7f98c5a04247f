"""The serving end of a data or parts socket: Fetches in, Chunks with their bytes out. Used by one thread."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import zmq

from kernelmill.cluster.data.serving import Holder, Served
from kernelmill.cluster.messages import FETCH_BYTES_MAX, PROTOCOL, Chunk, Envelope, Fetch
from kernelmill.cluster.sockets import USER_ID
from kernelmill.cluster.wire import FRAME_BYTES_MAX, READER_TO_HOLDER, encode
from kernelmill.engine.errors import ProtocolError

MESSAGE_BYTES_MAX = max(FRAME_BYTES_MAX, FETCH_BYTES_MAX)
QUEUED_MAX = 16
"""Messages that wait for one peer; what it does not take is not sent, and it asks again."""
_AT_ONCE = 32
_COPIED_BYTES_MAX = 64 << 10


def enveloped(body: Fetch | Chunk, seq: int) -> bytes:
    """The frame of a message between reader and holder, who have neither epoch nor session: keys say who they are."""
    return encode(Envelope(PROTOCOL, bytes(16), 0, bytes(8), b"", seq, 0, body))


class Answering:
    """Answers what comes in over a ROUTER; `seen` counts what was served, refused or made no sense.

    names: gives the names of those who may ask at this moment, by public key.
    """

    def __init__(self, router: zmq.Socket[bytes], holder: Holder, names: Callable[[], Mapping[str, str]]) -> None:
        self._router, self._holder, self._names = router, holder, names
        self._seq = 0
        self.seen: dict[str, int] = {}

    def receive(self) -> None:
        """Answer some of what is there, so that others of this thread get their turn."""
        for _ in range(_AT_ONCE):
            try:
                frames = self._router.recv_multipart(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                return
            try:
                reader = str(frames[-1].get(USER_ID))
            except zmq.ZMQError:  # nobody's: the desk lets no such peer in
                reader = ""
            if len(frames) != 2 or not reader:
                self._count("nonsense")
                continue
            self._answer(frames[0].bytes, reader, frames[1].bytes)

    def _answer(self, peer: bytes, reader: str, frame: bytes) -> None:
        try:
            fetch = READER_TO_HOLDER.decode(frame).body
        except ProtocolError:
            self._count("nonsense")
            return
        # a key that was removed keeps its connection: ZeroMQ asks at the handshake only
        served = self._holder.answer(fetch, reader) if reader in self._names().values() else Served("DENIED")
        self._count(served.status)
        self._seq += 1
        chunk = Chunk(fetch.request, served.status, len(served.body), served.total)  # type: ignore[arg-type]
        frames: list[bytes] = [peer, enveloped(chunk, self._seq)]
        if served.status == "OK":
            frames.append(served.body)
        try:
            is_copied = len(served.body) <= _COPIED_BYTES_MAX
            self._router.send_multipart(frames, zmq.DONTWAIT, copy=is_copied)
        except zmq.ZMQError:  # it is gone, or does not take what it asked for
            self._count("not taken")

    def _count(self, what: str) -> None:
        self.seen[what] = self.seen.get(what, 0) + 1
