"""Sockets of a cluster with all that CLUSTER's rules ask of them, and the desk that decides who may come in.

Every socket speaks CURVE, over ipc too. A bound one has a domain, which libzmq asks of the desk in the same context at
each handshake; without an answer nobody comes in. Contexts are made by their process, sockets used by one thread.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from contextlib import suppress

import zmq
from zmq.utils import z85

from kernelmill.cluster.filelimit import FILES_HINT
from kernelmill.cluster.keys.curve import KeyPair, require_curve
from kernelmill.cluster.logs import cluster_log
from kernelmill.engine.errors import Code, error

USER_ID = "User-Id"
_ZAP_ENDPOINT = "inproc://zeromq.zap.01"
_HANDSHAKE_MS = 2000
_SILENCE_MS = 3000
"""After which a connection to a host that answers nothing is ended by the system."""
_CURVE_BYTES = 256  # the bound is of frames as they travel: CURVE adds 33 bytes to each
_NOW, _NOW_AND_MORE = int(zmq.DONTWAIT), int(zmq.DONTWAIT | zmq.SNDMORE)
_log = cluster_log()

Decide = Callable[[str, str, str], str | None]
"""Domain, public key as text, and address of a peer -> its name, None if it may not come in, or LATER."""
LATER = ""
"""Instead of a name: this peer may not come in now, and shall try again."""
_BACKLOG = 1024
"""Connections that the system holds until they are taken: more than a short flood brings."""


class Door:
    """The desk of one context: poll `socket`, call `answer` when there is something to read."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], decide: Decide) -> None:
        self._decide = decide
        self.refused = 0
        self.socket = context.socket(zmq.REP)
        self.socket.linger = 0
        self.socket.bind(_ZAP_ENDPOINT)

    def answer(self) -> None:
        """Answer one handshake. Whatever goes wrong in here, the peer is refused and the process lives."""
        name, request = None, b""
        with suppress(zmq.Again):
            frames = self.socket.recv_multipart(zmq.DONTWAIT)
            try:
                request = frames[1]
                name = self._name_of(frames)
            except Exception:  # a desk that dies lets nobody in, or, without a domain enforced, everybody
                _log.warning("a handshake could not be judged and is refused", exc_info=True)
            if not name:
                self.refused += 1
            if name == LATER:
                status = b"300", b"later", b""  # libzmq says nothing to it then, and it knocks again
            else:
                status = (b"200", b"OK", name.encode()) if name is not None else (b"400", b"no", b"")
            self.socket.send_multipart([b"1.0", request, *status, b""])

    def _name_of(self, frames: list[bytes]) -> str | None:
        version, _, domain, address, _, mechanism, *credentials = frames
        if version != b"1.0" or mechanism != b"CURVE" or len(credentials) != 1 or len(credentials[0]) != 32:
            return None
        place = address.decode()
        if place.startswith("localhost:") and place.split(":")[1] != str(os.getuid()):
            return None  # over ipc the system says whose process it is
        return self._decide(domain.decode(), z85.encode(credentials[0]).decode(), place)

    def close(self) -> None:
        """Let nobody in any more."""
        self.socket.close(0)


def send_now(socket: zmq.Socket[bytes], frames: Sequence[bytes]) -> None:
    """Send the frames of one message without waiting. Raises zmq.Again if the socket does not take it.

    As pyzmq's send_multipart, which makes an enum of its flags for each frame: a third of the time of a short one.
    """
    for frame in frames[:-1]:
        socket.send(frame, _NOW_AND_MORE)
    socket.send(frames[-1], _NOW)


def receive_now(socket: zmq.Socket[bytes]) -> list[zmq.Frame]:
    """Take the frames of one message that has come. Raises zmq.Again if none has."""
    frames = [socket.recv(_NOW, copy=False)]
    while frames[-1].more:
        frames.append(socket.recv(_NOW, copy=False))
    return frames


def new_context() -> zmq.Context[zmq.Socket[bytes]]:
    """Make the context of a thread's sockets. Raises KM0603 if this ZeroMQ cannot be made safe."""
    require_curve()
    context = zmq.Context()
    context.set(zmq.MAX_SOCKETS, 4096)
    return context


def bind_router(
    context: zmq.Context[zmq.Socket[bytes]],
    pair: KeyPair,
    domain: str,
    endpoint: str,
    *,
    message_bytes_max: int,
    queued_max: int,
) -> zmq.Socket[bytes]:
    """Bind a ROUTER; the Door of the context must be there before. Raises KM0107 if the address cannot be had.

    KM0403 if this process may open no more files.
    A frame above message_bytes_max cuts its peer off; queued_max messages wait for a peer, then sending is refused.
    """
    socket = context.socket(zmq.ROUTER)
    _set_both(socket, pair, message_bytes_max, queued_max)
    socket.curve_server = True
    socket.setsockopt(zmq.ZAP_DOMAIN, domain.encode())
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)
    socket.setsockopt(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
    socket.setsockopt(zmq.BACKLOG, _BACKLOG)
    socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
    socket.setsockopt(zmq.ROUTER_HANDOVER, 0)
    socket.setsockopt(zmq.IPV6, int("[" in endpoint))
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as problem:
        socket.close(0)
        if problem.errno in (errno.EMFILE, errno.ENFILE):
            raise error(Code.FILE_LIMIT, "no file is left to listen with", where=endpoint, hint=FILES_HINT) from problem
        what, hint = f"cannot listen there: {problem.strerror}", "is another process of the cluster running there?"
        if problem.errno == errno.ENOENT:
            hint = "make the folder of that socket, or take another"
        if problem.errno == errno.EADDRNOTAVAIL:
            hint = "no interface of this machine has that address: take one that it has, or 0.0.0.0 for all"
        raise error(Code.BAD_SETTING, what, where=endpoint, hint=hint) from problem
    return socket


def bound_endpoint(socket: zmq.Socket[bytes]) -> str:
    """Where a socket was bound last, with the port that the system chose."""
    endpoint = socket.getsockopt(zmq.LAST_ENDPOINT)
    assert isinstance(endpoint, bytes)
    return endpoint.decode().rstrip("\0")


def connect_dealer(
    context: zmq.Context[zmq.Socket[bytes]],
    pair: KeyPair,
    server_key: str,
    endpoint: str,
    *,
    message_bytes_max: int,
    queued_max: int,
    before_connect: Callable[[zmq.Socket[bytes]], None] | None = None,
) -> zmq.Socket[bytes]:
    """Connect a DEALER to whoever holds the secret of server_key; it never queues for a peer that is not there.

    before_connect: given the socket while nothing can have happened to it, as for a monitor that must miss nothing.
    """
    socket = context.socket(zmq.DEALER)
    _set_both(socket, pair, message_bytes_max, queued_max)
    socket.curve_serverkey = server_key.encode()
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, 100)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 2000)
    socket.setsockopt(zmq.IPV6, int("[" in endpoint))
    if before_connect is not None:
        before_connect(socket)
    socket.connect(endpoint)
    return socket


def _set_both(socket: zmq.Socket[bytes], pair: KeyPair, message_bytes_max: int, queued_max: int) -> None:
    socket.curve_publickey, socket.curve_secretkey = pair.public.encode(), pair.secret.encode()
    for option, value in (
        (zmq.LINGER, 0),
        (zmq.SNDHWM, queued_max),
        (zmq.RCVHWM, queued_max),
        # No heartbeats of libzmq: their timer aborts the process (4.3.5, libzmq #4364 and #4767) when a connection ends
        # whose messages nobody took, and finds silence where only a queue is full. Sessions have beats of their own.
        (zmq.TCP_KEEPALIVE, 1),
        (zmq.TCP_KEEPALIVE_IDLE, 1),
        (zmq.TCP_KEEPALIVE_INTVL, 1),
        (zmq.TCP_KEEPALIVE_CNT, 3),
        (zmq.TCP_MAXRT, _SILENCE_MS),
    ):
        socket.setsockopt(option, value)
    socket.setsockopt(zmq.MAXMSGSIZE, message_bytes_max + _CURVE_BYTES)
