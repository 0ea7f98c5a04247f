"""A client's connection: what is said before there is one goes out as soon as there is."""

from __future__ import annotations

import zmq

from kernelmill.cluster.client.link import Link
from kernelmill.cluster.messages import ListWorkers


class Handshaking:
    """A socket that takes nothing until somebody has waited for it to; then no answer comes."""

    def __init__(self):
        self.is_open, self.sent = False, []

    def poll(self, milliseconds, flags=zmq.POLLIN):
        self.is_open = self.is_open or bool(flags & zmq.POLLOUT)
        return flags & zmq.POLLOUT

    def send(self, data, flags):
        if not self.is_open:
            raise zmq.Again
        self.sent.append(data)


class Unconnected(Link):
    def _connected(self):
        return Handshaking()

    def _check_refused(self):
        pass


def test_what_is_said_before_the_handshake_is_over_is_sent_as_soon_as_it_is():
    link = Unconnected(None, None, "ipc://nowhere")
    link.say(ListWorkers())
    assert link._socket.sent == []
    assert link.hear(0.01) is None
    assert len(link._socket.sent) == 1
