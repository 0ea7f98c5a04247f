"""The status page's server under attack: who has no token, another Host, another method or no manners gets nothing."""

import contextlib
import json
import socket
import threading
import time
from http import HTTPStatus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shown import full

from kernelmill.cluster.status.requests import HEAD_BYTES_MAX, Refusal, path_asked
from kernelmill.cluster.status.server import CONNECTIONS_MAX, StatusServer
from kernelmill.engine.errors import Code, KernelmillError

HOSTS, TOKEN = frozenset([b"127.0.0.1:80", b"localhost:80"]), b"secret"


class Master:
    """Gives a snapshot whenever one is asked for, from a thread of its own."""

    def __init__(self):
        self.bell, self.is_over, self.is_busy, self.given = threading.Event(), False, False, 0
        self.server = StatusServer(0, self.bell.set)
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        while not self.is_over:
            self.bell.wait(0.05)
            self.bell.clear()
            if self.server.is_asked and not self.is_busy:
                self.given += 1
                self.server.put(full("x"))

    def close(self):
        self.is_over = True
        self.thread.join()
        self.server.close()


@pytest.fixture
def master():
    master = Master()
    yield master
    master.close()


def link_to(server):
    return socket.create_connection(("127.0.0.1", server.port), 10)


def everything(link):
    data = b""
    with contextlib.suppress(ConnectionError):
        while piece := link.recv(1 << 16):
            data += piece
    return data


def ask(server, target=None, *, method="GET", host=None, lines=(), body=b""):
    target = f"/?token={server.token}" if target is None else target
    hosts = [f"Host: {host if host is not None else f'127.0.0.1:{server.port}'}"] if host != "" else []
    with link_to(server) as link:
        link.sendall("\r\n".join([f"{method} {target} HTTP/1.1", *hosts, *lines, "", ""]).encode() + body)
        return everything(link)


def status_of(answer):
    return int(answer.split(b" ", 2)[1]) if answer else 0


def test_the_page_and_its_json_are_there_for_who_has_the_address(master):
    page = ask(master.server)
    head, _, body = page.partition(b"\r\n\r\n")
    assert status_of(page) == 200 and b"kernelmill cluster" in body
    assert f"Content-Length: {len(body)}".encode() in head
    for line in (b"Cache-Control: no-store", b"Content-Security-Policy: default-src 'none'", b"nosniff", b"DENY"):
        assert line in head
    found = ask(master.server, f"/state.json?token={master.server.token}", host=f"LocalHost:{master.server.port}")
    assert b"Content-Type: application/json" in found
    state = json.loads(found.partition(b"\r\n\r\n")[2])
    assert state["jobs"][0]["stages"][0]["committed"] == 4 and state["workers"][0]["silent_s"] == 0.4
    assert master.server.url == f"http://127.0.0.1:{master.server.port}/?token={master.server.token}"


def test_many_who_look_cost_the_master_one_snapshot(master):
    ask(master.server)
    before, began = master.given, time.monotonic()
    for _ in range(20):
        assert status_of(ask(master.server)) == 200
    assert master.given - before <= 1 + (time.monotonic() - began) / 0.4


@pytest.mark.parametrize(
    ("target", "more", "status"),
    [
        ("/", {}, 403),
        ("/state.json", {}, 403),
        ("/?token=", {}, 403),
        ("/?token=guess", {}, 403),
        ("/nothing", {}, 403),
        ("/?token={token}x", {}, 403),
        ("/?x=1&token={token}", {}, 403),
        ("/nothing?token={token}", {}, 404),
        ("/../etc/passwd?token={token}", {}, 404),
        ("/?token={token}", {"method": "POST", "lines": ["Content-Length: 3"], "body": b"a=b"}, 405),
        ("/?token={token}", {"method": "DELETE"}, 405),
        ("/?token={token}", {"method": "HEAD"}, 405),
        ("/?token={token}", {"host": "evil.example"}, 421),
        ("/?token={token}", {"host": "127.0.0.1"}, 421),
        ("/?token={token}", {"host": "127.0.0.1:1"}, 421),
        ("/?token={token}", {"host": ""}, 400),
        ("/?token={token}", {"lines": ["Host: evil.example"]}, 400),
        ("/?token={token}", {"lines": ["no header"]}, 400),
        ("/?token={token}", {"lines": ["A: " + "b" * 5000]}, 400),
        ("/?token={token}", {"lines": ["A: b"] * 70}, 400),
        ("http://127.0.0.1/?token={token}", {}, 400),
        ("/?token={token}&" + "a" * 3000, {}, 400),
        ("/?token={token}", {"lines": ["A: " + "b" * 4000] * 3}, 431),
        ("/" + "a" * 10_000, {}, 431),
    ],
)
def test_who_may_not_is_told_so_and_nothing_else(master, target, more, status):
    answer = ask(master.server, target.replace("{token}", master.server.token), **more)
    assert status_of(answer) == status
    body = answer.partition(b"\r\n\r\n")[2]
    assert body == f"{status} {HTTPStatus(status).phrase}\n".encode()
    assert master.given == 0 and master.server.token.encode() not in answer


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=200) | st.text(max_size=80).map(lambda text: f"GET /{text} HTTP/1.1\r\nHost: {text}".encode())
)
def test_whatever_comes_is_an_answer_without_the_token(head):
    found = path_asked(head, HOSTS, TOKEN)
    assert isinstance(found, Refusal) and found.status in (400, 403, 405, 421)


def test_a_head_that_comes_byte_by_byte_is_read_and_one_that_stops_is_ended(master):
    with link_to(master.server) as slow, link_to(master.server) as stuck:
        stuck.sendall(b"GET / HT")
        for byte in f"GET /?token={master.server.token} HTTP/1.1\r\nHost: localhost:{master.server.port}\r\n\r\n":
            slow.sendall(byte.encode())
        assert status_of(everything(slow)) == 200
        began = time.monotonic()
        assert everything(stuck) == b"" and time.monotonic() - began < 10


def test_no_more_than_some_connections_are_held_and_the_rest_is_closed_at_once(master):
    with contextlib.ExitStack() as stack:
        links = [stack.enter_context(link_to(master.server)) for _ in range(200)]
        for link in links:
            link.settimeout(0.5)
        closed = 0
        for link in links:
            with contextlib.suppress(TimeoutError):
                if not everything(link):
                    closed += 1
        assert closed >= 200 - CONNECTIONS_MAX
    until = time.monotonic() + 15
    while status_of(ask(master.server)) != 200:
        assert time.monotonic() < until, "nobody is let in any more"


def test_one_who_takes_nothing_is_dropped_and_others_are_served(master):
    with link_to(master.server) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        deaf.sendall(
            f"GET /?token={master.server.token} HTTP/1.1\r\nHost: 127.0.0.1:{master.server.port}\r\n\r\n".encode()
        )
        for _ in range(5):
            assert status_of(ask(master.server)) == 200


def test_a_flood_behind_the_answer_is_thrown_away(master):
    with link_to(master.server) as link:
        link.sendall(b"POST / HTTP/1.1\r\nHost: a\r\n\r\n")
        began = time.monotonic()
        with contextlib.suppress(ConnectionError):
            while time.monotonic() < began + 10:
                link.sendall(bytes(HEAD_BYTES_MAX))
        assert time.monotonic() < began + 8
    assert status_of(ask(master.server)) == 200


def test_a_master_that_is_busy_makes_nobody_wait_for_ever(master):
    master.is_busy = True
    assert status_of(ask(master.server)) == 503
    master.is_busy = False
    assert status_of(ask(master.server)) == 200


def test_a_port_that_is_taken_is_named(master):
    with pytest.raises(KernelmillError) as caught:
        StatusServer(master.server.port, lambda: None)
    assert caught.value.code is Code.BAD_SETTING and str(master.server.port) in caught.value.where


def test_it_listens_on_the_loopback_only_and_ends_with_its_master():
    master = Master()
    assert master.server._listener.getsockname()[0] == "127.0.0.1"
    port = master.server.port
    with link_to(master.server) as link:
        master.close()
        assert everything(link) == b""
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", port), 5)
