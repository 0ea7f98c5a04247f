"""Who comes in through a bound socket: peers whose key the desk knows, nobody else, whatever happens to the desk."""

import contextlib
import errno
import subprocess
import sys
import time

import pytest
import zmq

from kernelmill.cluster.keys.curve import make_pair
from kernelmill.cluster.sockets import USER_ID, Door, bind_router, connect_dealer, new_context
from kernelmill.engine.errors import Code, KernelmillError

LIMITS = {"message_bytes_max": 1 << 20, "queued_max": 100}
DEADLINE_S = 10.0


@pytest.mark.parametrize(
    ("endpoint", "hint"), [("tcp://192.0.2.1:0", "no interface"), ("ipc:///no/such/x", "make the folder")]
)
def test_an_address_that_cannot_be_listened_at_is_told_with_what_can_be_done(endpoint, hint):
    context = new_context()
    with pytest.raises(KernelmillError) as caught:
        bind_router(context, make_pair(), "workers", endpoint, **LIMITS)
    assert caught.value.code is Code.BAD_SETTING and hint in caught.value.hint
    context.destroy(0)


def test_a_process_that_has_no_file_left_to_listen_with_is_told_how_it_gets_more(monkeypatch):
    def bind(socket, endpoint):
        raise zmq.ZMQError(errno.EMFILE)

    monkeypatch.setattr(zmq.Socket, "bind", bind)
    context = new_context()
    with pytest.raises(KernelmillError) as caught:
        bind_router(context, make_pair(), "workers", "tcp://127.0.0.1:0", **LIMITS)
    assert caught.value.code is Code.FILE_LIMIT and "ulimit -n" in caught.value.hint
    context.destroy(0)


class Server:
    """A ROUTER with its door; `heard` is what came in: (name, text)."""

    def __init__(self, endpoint, decide, with_door=True):
        self.pair, self.context = make_pair(), new_context()
        self.door = Door(self.context, decide) if with_door else None
        self.socket = bind_router(self.context, self.pair, "workers", endpoint, **LIMITS)
        self.heard = []

    def poll(self, until, seconds=DEADLINE_S):
        """Serve until the condition holds; whether it did before the time was over."""
        deadline = time.monotonic() + seconds
        while not until():
            if time.monotonic() > deadline:
                return False
            if self.door is not None and self.door.socket.poll(5):
                self.door.answer()
            if self.socket.poll(5):
                _, frame = self.socket.recv_multipart(copy=False)
                self.heard.append((frame.get(USER_ID), frame.bytes))
        return True

    def close(self):
        self.socket.close(0)
        if self.door is not None:
            self.door.close()
        self.context.destroy(0)


@pytest.fixture
def serve(tmp_path):
    servers = []

    def start(decide, *, is_tcp=False, with_door=True):
        endpoint = "tcp://127.0.0.1:*" if is_tcp else f"ipc://{tmp_path}/s{len(servers)}"
        servers.append(Server(endpoint, decide, with_door))
        return servers[-1], servers[-1].socket.last_endpoint.decode().rstrip("\0")

    yield start
    for server in servers:
        server.close()


@contextlib.contextmanager
def dealer(pair, server_key, endpoint):
    context = new_context()
    socket = connect_dealer(context, pair, server_key, endpoint, **LIMITS)
    socket.sndtimeo = 0
    monitor = socket.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
    yield socket, monitor
    socket.disable_monitor()
    socket.close(0)
    monitor.close(0)
    context.destroy(0)


def sent(socket, text):
    try:
        socket.send(text)
    except zmq.Again:
        return False
    return True


@pytest.mark.parametrize("is_tcp", [True, False])
def test_a_listed_key_comes_in_under_its_name_and_another_does_not(serve, is_tcp):
    good, bad, asked = make_pair(), make_pair(), []

    def decide(domain, key, address):
        asked.append((domain, address))
        return {good.public: "w1"}.get(key)

    server, endpoint = serve(decide, is_tcp=is_tcp)
    with dealer(bad, server.pair.public, endpoint) as (stranger, monitor):
        assert server.poll(lambda: monitor.poll(0) > 0) and not sent(stranger, b"let me in")
        with dealer(good, server.pair.public, endpoint) as (friend, _):
            assert server.poll(lambda: sent(friend, b"hello"))
            assert server.poll(lambda: server.heard) and server.heard == [("w1", b"hello")]
        assert not sent(stranger, b"and now") and server.door.refused >= 1
    assert {domain for domain, _ in asked} == {"workers"}


def test_a_desk_that_raises_refuses_and_goes_on(serve):
    good, calls = make_pair(), []

    def decide(domain, key, address):
        calls.append(key)
        if len(calls) == 1:
            raise ZeroDivisionError
        return "w1"

    server, endpoint = serve(decide)
    with dealer(good, server.pair.public, endpoint) as (_, monitor):
        assert server.poll(lambda: monitor.poll(0) > 0)
    with dealer(good, server.pair.public, endpoint) as (friend, _):
        assert server.poll(lambda: sent(friend, b"hello"))
    assert len(calls) == 2


def test_without_a_desk_nobody_comes_in(serve):
    server, endpoint = serve(None, with_door=False)
    with dealer(make_pair(), server.pair.public, endpoint) as (socket, _):
        assert not server.poll(lambda: sent(socket, b"hello"), seconds=1.0) and not server.heard


def test_a_peer_without_keys_or_with_another_servers_key_does_not_come_in(serve):
    server, endpoint = serve(lambda domain, key, address: "w1", is_tcp=True)
    context = new_context()
    plain = context.socket(zmq.DEALER)
    plain.setsockopt(zmq.IMMEDIATE, 1)
    plain.sndtimeo = 0
    plain.connect(endpoint)
    with dealer(make_pair(), make_pair().public, endpoint) as (wrong, _):
        assert not server.poll(lambda: sent(plain, b"hello") or sent(wrong, b"hello"), seconds=1.0)
    plain.close(0)
    context.destroy(0)


def test_an_address_that_is_taken_is_a_typed_error(serve, tmp_path):
    server, endpoint = serve(lambda domain, key, address: None, is_tcp=True)
    with pytest.raises(KernelmillError) as raised:
        bind_router(server.context, server.pair, "workers", endpoint, **LIMITS)
    assert raised.value.code is Code.BAD_SETTING


FULL = """
import time

import zmq

from kernelmill.cluster.keys.curve import make_pair
from kernelmill.cluster.sockets import Door, bind_router, bound_endpoint, connect_dealer, new_context

here, there, server, client = new_context(), new_context(), make_pair(), make_pair()
door = Door(here, lambda domain, key, address: "one")
router = bind_router(here, server, "domain", "tcp://127.0.0.1:0", message_bytes_max=1 << 20, queued_max=5)
dealer = connect_dealer(
    there, client, server.public, bound_endpoint(router), message_bytes_max=1 << 20, queued_max=1000
)
sent, until = 0, time.monotonic() + 20
while sent < 64 and time.monotonic() < until:
    while door.socket.poll(5):
        door.answer()
    try:
        dealer.send(b"x" * 100_000, zmq.DONTWAIT)
        sent += 1
    except zmq.Again:
        pass
while router.poll(100) == 0 and time.monotonic() < until:
    pass
dealer.close(0)
there.term()
door.socket.poll(2500)  # whatever a timer of a second does now
taken = 0
while router.poll(200):
    router.recv_multipart()
    taken += 1
print("alive", sent, taken)
"""


@pytest.mark.timeout(60)
def test_a_peer_whose_messages_nobody_took_ends_and_this_process_lives():
    found = subprocess.run([sys.executable, "-c", FULL], capture_output=True, text=True, timeout=50)
    assert found.stdout.startswith("alive 64 "), (found.returncode, found.stderr)
    assert int(found.stdout.split()[2]) >= 5
