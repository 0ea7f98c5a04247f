"""A canary for a bound CURVE socket: a peer with a key that nobody knows must be refused, at the start and for ever.

libzmq lets *every* key in at a socket whose ZAP domain nobody asks for; so does a desk that is gone. Whoever sees a
canary live must end its process: the cluster's door is open.

A canary that cannot come near the desk says nothing of it: while its connection is not made, or this process is short
of files, which is what a flood of connections does, it goes on waiting.
"""

from __future__ import annotations

from typing import Final

import zmq
from zmq.utils.monitor import parse_monitor_message

from kernelmill.cluster.filelimit import is_short_of_files, reserve
from kernelmill.cluster.keys.curve import make_pair

EVERY_S: Final = 60.0
PATIENCE_S: Final = 10.0
"""How long a handshake may take before the canary counts as alive: nobody refused it."""
_STOPPED_S: Final = 3.0
"""Who has not looked for so long stood still itself, and so did the desk that was to refuse: it gets the time back."""
_REFUSED = zmq.EVENT_HANDSHAKE_FAILED_AUTH


class Canary:
    """One try at one endpoint. Poll `socket`; `is_dead` tells the outcome."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], endpoint: str, server_key: str, now: float) -> None:
        self.endpoint, self.until_s = endpoint, now + PATIENCE_S  # by then it is decided
        self._looked_s = now
        self._is_near = False
        with reserve():
            self._peer = context.socket(zmq.DEALER)
            self._peer.linger = 0
            self.socket = self._peer.get_monitor_socket(_REFUSED | zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_CONNECTED)
        pair = make_pair()
        self._peer.curve_publickey, self._peer.curve_secretkey = pair.public.encode(), pair.secret.encode()
        self._peer.curve_serverkey = server_key.encode()
        self._peer.setsockopt(zmq.IPV6, int("[" in endpoint))
        self._peer.connect(endpoint)

    def is_dead(self, now: float) -> bool | None:
        """True: refused, as it must be. False: let in, or not refused in time. None: not known yet."""
        idle_s, self._looked_s = now - self._looked_s, now
        if idle_s > _STOPPED_S:
            self.until_s += idle_s
        while self.socket.poll(0):
            event = parse_monitor_message(self.socket.recv_multipart(zmq.DONTWAIT))["event"]
            if event != zmq.EVENT_CONNECTED:
                return event == _REFUSED
            self._is_near = True
        if not self._is_near or is_short_of_files():
            self.until_s = now + PATIENCE_S
        return False if now >= self.until_s else None

    def close(self) -> None:
        """Take the canary away."""
        self._peer.disable_monitor()
        self.socket.close(0)
        self._peer.close(0)
