"""The link to the master: connections are seen, envelopes carry the session, garbage is counted."""

from __future__ import annotations

import time

import pytest
import zmq

from kernelmill.cluster import messages
from kernelmill.cluster.keys.bundle import Bundle
from kernelmill.cluster.keys.curve import make_pair
from kernelmill.cluster.messages import PROTOCOL, Envelope
from kernelmill.cluster.sockets import Door, bind_router, new_context
from kernelmill.cluster.wire import WORKER_TO_MASTER, encode
from kernelmill.cluster.worker.link import FRAMES_MAX, NO_CLUSTER, Link

SECONDS = 10.0


class MasterSide:
    """A ROUTER that lets one key in."""

    def __init__(self, endpoint, allowed):
        self.pair, self.endpoint, self.allowed = make_pair(), endpoint, allowed
        self.open()

    def open(self):
        self.context = new_context()
        self.door = Door(self.context, lambda domain, key, address: "w1" if key == self.allowed else None)
        self.router = bind_router(
            self.context, self.pair, "workers", self.endpoint, message_bytes_max=1 << 20, queued_max=100
        )

    def close(self):
        self.router.close(0)
        self.door.close()
        self.context.destroy(linger=0)


@pytest.fixture
def sides(tmp_path):
    pair = make_pair()
    master = MasterSide(f"ipc://{tmp_path}/m-w", pair.public)
    context = new_context()
    bundle = Bundle(1, "worker", "w1", f"ipc://{tmp_path}/m", pair.public, pair.secret, master.pair.public, "0" * 64)
    link = Link(context, bundle, master.endpoint)
    yield master, link
    link.close()
    context.destroy(linger=0)
    if not master.context.closed:
        master.close()


def turn_until(master, link, seen):
    """Let both sides work until `seen` gives something."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        poller = zmq.Poller()
        for socket in (master.door.socket, master.router, link.socket, link.monitor):
            if not socket.closed:
                poller.register(socket, zmq.POLLIN)
        ready = dict(poller.poll(100))
        if master.door.socket in ready:
            master.door.answer()
        if found := seen():
            return found
    raise AssertionError("nothing came")


def receive_at(master):
    if master.router.poll(0):
        return master.router.recv_multipart()
    return None


def connect(master, link):
    link.reconnect()
    return turn_until(master, link, lambda: link.look().is_connected)


def test_a_connection_and_its_end_are_seen(sides):
    master, link = sides
    assert connect(master, link)
    master.close()
    assert turn_until(master, link, lambda: link.look().is_disconnected)


def test_a_key_that_is_not_allowed_is_told_so(sides):
    master, link = sides
    master.allowed = "another"
    link.reconnect()
    assert turn_until(master, link, lambda: link.look().is_refused)


def test_messages_carry_the_session_and_count(sides):
    master, link = sides
    connect(master, link)
    for number in (1, 2):
        link.post(3, b"l" * 8, b"S" * 8, messages.Bye())
        link.flush()
        _, frame = turn_until(master, link, lambda: receive_at(master))
        envelope = WORKER_TO_MASTER.decode(frame)
        assert (envelope.epoch, envelope.session, envelope.seq) == (3, b"S" * 8, number)
        assert envelope.cluster == NO_CLUSTER


def test_what_is_no_message_or_of_another_cluster_is_counted_and_dropped(sides):
    master, link = sides
    connect(master, link)
    link.post(0, b"l" * 8, b"", messages.Bye())
    link.flush()
    peer, _ = turn_until(master, link, lambda: receive_at(master))

    def envelope(cluster, body):
        return encode(Envelope(PROTOCOL, cluster, 1, b"l" * 8, b"S" * 8, 1, 0, body))

    welcome = messages.Welcome(1, 0, 1, (), (), ())
    for frame in (b"garbage", envelope(b"c" * 16, welcome), envelope(b"d" * 16, messages.Heard())):
        master.router.send_multipart([peer, frame])
    master.router.send_multipart([peer, envelope(b"c" * 16, messages.Heard())])
    taken = []

    def all_came():
        taken.extend(link.receive(10).messages)
        return len(taken) >= 2

    turn_until(master, link, all_came)
    assert [type(each.body) for each in taken] == [messages.Welcome, messages.Heard]
    assert link.malformed == 2 and link.cluster == b"c" * 16


def test_what_nobody_takes_is_dropped_at_once(sides):
    master, link = sides
    master.close()
    link.reconnect()
    for _ in range(3):
        link.post(0, b"l" * 8, b"", messages.Bye())
    link.flush()
    assert link.dropped == 3


def test_messages_of_one_turn_go_together_and_in_order(sides):
    master, link = sides
    connect(master, link)
    for _ in range(FRAMES_MAX + 3):
        link.post(0, b"l" * 8, b"", messages.Bye())
    link.flush()
    counts, numbers = [], []
    for _ in range(2):
        _, *frames = turn_until(master, link, lambda: receive_at(master))
        counts.append(len(frames))
        numbers += [WORKER_TO_MASTER.decode(frame).seq for frame in frames]
    assert counts == [FRAMES_MAX, 3] and numbers == list(range(1, FRAMES_MAX + 4))
