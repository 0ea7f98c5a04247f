"""The relay of the fault tests does to connections what it is told."""

import socket
import threading
import time

import pytest
import tcpproxy


@pytest.fixture
def echo():
    """A server that sends all back; its address."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                peer, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(peer,)).start()

    def answer(peer):
        with peer:
            try:
                while data := peer.recv(1000):
                    peer.sendall(data)
            except OSError:
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    yield server.getsockname()
    server.shutdown(socket.SHUT_RDWR)
    server.close()
    thread.join()


@pytest.fixture
def proxy(echo):
    with tcpproxy.Proxy(echo) as made:
        yield made


@pytest.fixture
def peer(proxy):
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as made:
        made.sendall(b"hello")
        assert made.recv(100) == b"hello"
        yield made


def is_silent(peer):
    peer.settimeout(0.2)
    try:
        peer.recv(100)
    except TimeoutError:
        peer.settimeout(10)
        return True
    return False


def test_what_is_delayed_comes_later_and_in_order(proxy, peer):
    proxy.delay(0.15, "down")
    began = time.monotonic()
    peer.sendall(b"abc")
    peer.sendall(b"def")
    heard = b""
    while len(heard) < 6:
        heard += peer.recv(100)
    assert heard == b"abcdef"
    assert time.monotonic() - began >= 0.15


@pytest.mark.parametrize("way", ["up", "down", "both"])
def test_what_is_stalled_comes_once_it_flows_again(proxy, peer, way):
    proxy.stall(way)
    peer.sendall(b"abc")
    assert is_silent(peer)
    proxy.pass_on()
    assert peer.recv(100) == b"abc"


@pytest.mark.parametrize("way", ["up", "down"])
def test_what_is_swallowed_never_comes(proxy, peer, way):
    proxy.swallow(way)
    peer.sendall(b"abc")
    assert is_silent(peer)
    proxy.pass_on()
    peer.sendall(b"def")
    assert peer.recv(100) == b"def"
    assert proxy.bytes_swallowed[way] == 3


def test_a_reset_breaks_connections_and_new_ones_are_relayed(proxy, peer):
    assert proxy.reset() == 1
    with pytest.raises(ConnectionResetError):
        peer.recv(100)
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as again:
        again.sendall(b"again")
        assert again.recv(100) == b"again"
    assert (proxy.connections, proxy.resets) == (2, 1)


def test_much_data_passes_whole(proxy, peer):
    sent = bytes(range(256)) * 20_000
    thread = threading.Thread(target=peer.sendall, args=(sent,))
    thread.start()
    heard = bytearray()
    while len(heard) < len(sent):
        heard += peer.recv(1 << 16)
    thread.join()
    assert bytes(heard) == sent
