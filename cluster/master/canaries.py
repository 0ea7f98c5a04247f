"""The canaries of a master: one for each of its sockets at the start and every minute; it ends when one lives."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from typing import Final

import zmq

from kernelmill.cluster.canary import EVERY_S, Canary
from kernelmill.engine.errors import Code, error

_AGAIN_S: Final = 2.0


class Canaries:
    """Canaries for these endpoints, whose sockets `poller` watches."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], endpoints: Sequence[str], server_key: str, poller: zmq.Poller
    ) -> None:
        self._context, self._endpoints, self._server_key, self._poller = context, endpoints, server_key, poller
        self._flying: list[Canary] = []
        self._send_s = float("-inf")

    def pass_time(self, now: float) -> float:
        """Send those that are due and look how the others are; tell when to call again. Raises KM0615 if one lives."""
        if now >= self._send_s:
            self._send_s = now + EVERY_S
            try:
                self._send(now)
            except zmq.ZMQError as problem:
                if problem.errno not in (errno.EMFILE, errno.ENFILE):
                    raise
                self._send_s = now + _AGAIN_S  # a flood has taken all files; soon again
        for canary in [*self._flying]:
            is_dead = canary.is_dead(now)
            if is_dead is None:
                continue
            self._poller.unregister(canary.socket)
            canary.close()
            self._flying.remove(canary)
            if not is_dead:
                what = "a peer with an unknown key was not refused: the master stops rather than let anybody in"
                raise error(Code.KEYS, what, where=canary.endpoint, hint="report this, with the versions of pyzmq")
        return min([self._send_s, *(canary.until_s for canary in self._flying)])

    def _send(self, now: float) -> None:
        for endpoint in self._endpoints:
            if endpoint not in [canary.endpoint for canary in self._flying]:
                canary = Canary(self._context, endpoint, self._server_key, now)
                self._flying.append(canary)
                self._poller.register(canary.socket, zmq.POLLIN)

    def close(self) -> None:
        """Take all of them away."""
        for canary in self._flying:
            canary.close()
