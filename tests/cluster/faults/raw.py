"""Hostile peers: sockets with chosen keys that send what no program of ours would, and what they may send.

`RawPeer` is a DEALER with any key pair or none; `RawBytes` a connection below ZeroMQ. What they send is made from
the golden messages: with the wrong peer's words, with bytes changed, with a pickle in each field, too long, endless.
Everything is bounded: at most FRAMES_MAX frames, 400 connections, and only to addresses that a test made.
"""

from __future__ import annotations

import os
import pickle
import random
import socket
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import zmq
from zmq.utils.monitor import parse_monitor_message

from kernelmill.cluster import addresses, messages, wire
from kernelmill.cluster.keys.bundle import Bundle
from kernelmill.cluster.keys.curve import KeyPair
from kernelmill.cluster.versions import versions_here

FRAMES_MAX = 10_000
CONNECTIONS_MAX = 400
_GOLDEN = Path(__file__).resolve().parents[1] / "golden_messages.txt"

HANDSHAKES = {
    zmq.EVENT_HANDSHAKE_SUCCEEDED: "succeeded",
    zmq.EVENT_HANDSHAKE_FAILED_AUTH: "refused",
    zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: "protocol",
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: "failed",
    zmq.EVENT_DISCONNECTED: "disconnected",
}


class RawPeer:
    """A DEALER at an endpoint, shown to be `pair` to a server of key `server_key`; without them it speaks NULL.

    `routing_id` is one it claims. It connects once and keeps count of how its handshakes end.
    """

    def __init__(
        self, endpoint: str, *, server_key: str = "", pair: KeyPair | None = None, routing_id: bytes = b""
    ) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.linger = 0
        self._socket.reconnect_ivl = -1
        self._socket.sndtimeo = self._socket.rcvtimeo = 5000
        if routing_id:
            self._socket.routing_id = routing_id
        if pair is not None:
            self._socket.curve_publickey, self._socket.curve_secretkey = (text.encode() for text in pair)
            self._socket.curve_serverkey = server_key.encode()
        self._monitor = self._socket.get_monitor_socket()
        self._socket.connect(endpoint)

    def handshake(self, wait_s: float = 5.0) -> str:
        """How the handshake ended: "succeeded", "refused", "failed", "protocol", "disconnected" or "nothing"."""
        while self._monitor.poll(int(wait_s * 1000)):
            event = parse_monitor_message(self._monitor.recv_multipart())["event"]
            if event in HANDSHAKES:
                return HANDSHAKES[event]
        return "nothing"

    def send(self, *frames: bytes) -> bool:
        """Send one message of these frames; False if the other side takes no more."""
        try:
            self._socket.send_multipart(frames, flags=zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    def send_endless(self, frame: bytes, frames: int) -> None:
        """Send frames of a message that does not end."""
        assert frames <= FRAMES_MAX
        for _ in range(frames):
            try:
                self._socket.send(frame, flags=zmq.SNDMORE | zmq.DONTWAIT)
            except zmq.Again:
                return

    def answer(self, wait_s: float = 1.0) -> list[bytes] | None:
        """The next message from the other side, or None if there is none in this time."""
        return self._socket.recv_multipart() if self._socket.poll(int(wait_s * 1000)) else None

    def close(self) -> None:
        """Close the socket; what was not sent is not. More than once is fine."""
        if self._socket.closed:
            return
        self._socket.disable_monitor()
        self._monitor.close(linger=0)
        self._context.destroy(linger=0)

    def __enter__(self) -> RawPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class RawBytes:
    """A connection that speaks no ZeroMQ, to `tcp://HOST:PORT` or `ipc:///PATH`."""

    def __init__(self, endpoint: str, timeout_s: float = 5.0) -> None:
        if endpoint.startswith("ipc://"):
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.socket.settimeout(timeout_s)
            self.socket.connect(endpoint.removeprefix("ipc://"))
        else:
            host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
            self.socket = socket.create_connection((host, int(port)), timeout=timeout_s)

    def send(self, data: bytes) -> bool:
        """Send bytes; False if the other side has closed."""
        try:
            self.socket.sendall(data)
        except OSError:
            return False
        return True

    def is_closed_within(self, wait_s: float) -> bool:
        """Tell whether the other side closes, having read what it says until then (a greeting, if anything)."""
        self.socket.settimeout(wait_s)
        try:
            while self.socket.recv(4096):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True

    def close(self) -> None:
        """Close it."""
        self.socket.close()

    def __enter__(self) -> RawBytes:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# What they send ------------------------------------------------------------------------------------------------------


def golden(kinds: Sequence[str] = ()) -> dict[str, bytes]:
    """A frame for each kind of message, or for these; of several the last."""
    lines = [line.split() for line in _GOLDEN.read_text().splitlines()[1:] if line.strip()]
    return {kind: bytes.fromhex(digits) for kind, digits in lines if not kinds or kind in kinds}


def readdressed(frame: bytes, envelope: Sequence[Any]) -> bytes:
    """The frame's body in another envelope: (proto, cluster, epoch, life, session, seq, ack)."""
    return msgspec.msgpack.encode([*envelope, msgspec.msgpack.decode(frame)[-1]])


def about(frame: bytes, job: bytes, stage: int, index: int, attempt: tuple[int, int]) -> bytes:
    """A golden message about an attempt, made to be about this one."""
    content = msgspec.msgpack.decode(frame)
    content[-1][1] = [job, stage, index, list(attempt)]
    return msgspec.msgpack.encode(content)


def mutations(frame: bytes, seed: int, count: int) -> Iterator[bytes]:
    """Frames that are nearly this one: bits flipped, bytes lost, doubled, put in, the end cut off."""
    rng = random.Random(seed)
    for _ in range(count):
        data = bytearray(frame)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(max(len(data), 1))
            match rng.randrange(5):
                case 0 if data:
                    data[at] ^= 1 << rng.randrange(8)
                case 1:
                    del data[at : at + rng.randint(1, 8)]
                case 2:
                    data[at:at] = data[at : at + rng.randint(1, 64)]
                case 3:
                    data[at:at] = rng.randbytes(rng.randint(1, 16))
                case _:
                    del data[at:]
        yield bytes(data)


class _Marked:
    """Unpickled anywhere, it makes a folder: the marker that must never appear."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        import os

        return os.mkdir, (self.marker,)


def pickle_that_marks(marker: Path) -> bytes:
    """A pickle that makes the folder `marker` when somebody loads it."""
    return pickle.dumps(_Marked(str(marker)), protocol=0)  # protocol 0 is ASCII, so it is a text as well as bytes


def with_pickle_in_each_field(frame: bytes, blob: bytes) -> Iterator[bytes]:
    """The frame once for each text, bytes or number in it, with the blob in that place, as bytes and as text."""
    content = msgspec.msgpack.decode(frame)
    for path in _leaves(content):
        for value in (blob, blob.decode("ascii")):
            yield msgspec.msgpack.encode(_replaced(content, path, value))
    yield blob


def _leaves(content: Any, path: tuple[int, ...] = ()) -> Iterator[tuple[int, ...]]:
    if isinstance(content, list):
        for number, inside in enumerate(content):
            yield from _leaves(inside, (*path, number))
    else:
        yield path


def _replaced(content: Any, path: tuple[int, ...], value: Any) -> Any:
    if not path:
        return value
    return [_replaced(one, path[1:], value) if number == path[0] else one for number, one in enumerate(content)]


HTTP = b"GET /status HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n"
ZMTP_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" + bytes(31)


def byte_streams(seed: int) -> dict[str, bytes]:
    """What a connection below ZeroMQ may say: HTTP, random bytes, a greeting for NULL, a frame of 2 GiB announced."""
    rng = random.Random(seed)
    return {
        "nothing": b"",
        "http": HTTP,
        "random": rng.randbytes(100_000),
        "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(507),
        "null greeting": ZMTP_GREETING + b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x06DEALER",
        "curve greeting, then noise": ZMTP_GREETING.replace(b"NULL\0", b"CURVE") + rng.randbytes(2000),
        "frame of 2 GiB": ZMTP_GREETING + b"\x02" + (1 << 31).to_bytes(8, "big") + bytes(1 << 16),
        "command of 2 GiB": ZMTP_GREETING + b"\x06" + (1 << 31).to_bytes(8, "big") + bytes(1 << 16),
    }


class RawSession:
    """A peer with a valid key that talks as the protocol says, until a test makes it say something else."""

    def __init__(self, endpoint: str, bundle: Bundle, link: wire.Link[Any]) -> None:
        self.peer = RawPeer(endpoint, server_key=bundle.master_key, pair=bundle.pair)
        self._link = link
        self._heard: list[bytes] = []
        self.envelope: list[Any] = [messages.PROTOCOL, bytes(16), 0, bytes(8), b"", 0, 0]

    def say(self, body: Any) -> None:
        """Send a message in the envelope of now."""
        self.envelope[5] += 1
        self.peer.send(wire.encode(messages.Envelope(*self.envelope, body)))

    def around(self, frame: bytes) -> bytes:
        """A golden message, readdressed into the envelope of now."""
        return readdressed(frame, self.envelope)

    def hear(self, *kinds: type, wait_s: float = 5.0) -> Any:
        """The next message of one of these kinds (of any, if none is given), or None; learns from its envelope."""
        deadline = time.monotonic() + wait_s
        while (left_s := deadline - time.monotonic()) > 0:
            self._heard += (not self._heard and self.peer.answer(left_s)) or []  # a turn's messages come together
            if not self._heard:
                return None
            found = self._link.decode(self._heard.pop(0))
            self.envelope[1:5] = [found.cluster, found.epoch, found.life, found.session or self.envelope[4]]
            if not kinds or isinstance(found.body, kinds):
                return found.body
        return None

    def workers(self) -> list[str]:
        """The workers that the master lists, by name: for a client."""
        self.say(messages.ListWorkers())
        found = self.hear(messages.Workers)
        return [] if found is None else sorted(row.name for row in found.workers)

    def __enter__(self) -> RawSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.peer.close()


def worker_session(address: str, bundle: Bundle) -> RawSession:
    """A worker's connection, not yet registered."""
    return RawSession(addresses.for_workers(address), bundle, wire.MASTER_TO_WORKER)


def client_session(address: str, bundle: Bundle) -> RawSession:
    """A client's connection."""
    return RawSession(address, bundle, wire.MASTER_TO_CLIENT)


def hello(**changed: Any) -> messages.Hello:
    """What a worker of this version with one slot and nothing in hand says."""
    fields: dict[str, Any] = {
        "versions": versions_here(),
        "nonce": os.urandom(16),
        "count": 1,
        "epoch_seen": 0,
        "host": "here",
        "data_port": 1,
        "slots": 1,
        "memory_bytes": 1 << 30,
        "disk_free_bytes": 1 << 40,
        "ticket_key": os.urandom(32),
        "page": 0,
        "pages": 1,
        "running": (),
        "done": (),
    }
    return messages.Hello(**{**fields, **changed})
