"""The canaries of a master: one for each of its sockets at the start and every minute; it ends when one lives."""

from __future__ import annotations

from collections.abc import Sequence

import zmq

from kernelmill.cluster.canary import EVERY_S, Canary
from kernelmill.engine.errors import Code, error


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
            for endpoint in self._endpoints:
                canary = Canary(self._context, endpoint, self._server_key, now)
                self._flying.append(canary)
                self._poller.register(canary.socket, zmq.POLLIN)
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

    def close(self) -> None:
        """Take all of them away."""
        for canary in self._flying:
            canary.close()
