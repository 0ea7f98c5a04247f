"""The private network itself: hosts reach each other, and a host that is cut off loses just what it should."""

import subprocess
import sys

import harness
import pytest

UDP_ECHO = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind((sys.argv[1], 7000))
print("bound", flush=True)
while True:
    data, peer = sock.recvfrom(100)
    print("got", data.decode(), flush=True)
    sock.sendto(data, peer)
"""
UDP_ASK = """
import socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(0.3)
for line in sys.stdin:
    sock.sendto(line.strip().encode(), (sys.argv[1], 7000))
    try:
        print("answer", sock.recv(100).decode(), flush=True)
    except TimeoutError:
        print("silence", flush=True)
"""
TCP_ECHO = """
import socket, sys
server = socket.create_server((sys.argv[1], 7001))
print("bound", flush=True)
peer, _ = server.accept()
while data := peer.recv(100):
    peer.sendall(data)
"""
TCP_ASK = """
import socket, sys
sock = socket.create_connection((sys.argv[1], 7001), timeout=20)
for line in sys.stdin:
    sock.sendall(line.strip().encode())
    if line != "keep\\n":
        print("answer", sock.recv(100).decode(), flush=True)
"""


@pytest.fixture
def net():
    with harness.network() as made:
        yield made


def start(net, host, program, *arguments):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return net.run(host, [sys.executable, "-c", program, *arguments], **pipes)


def ask(process, text):
    process.stdin.write(text + "\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def test_a_cut_drops_one_way_or_both_and_healing_ends_it(net):
    echo = start(net, "w1", UDP_ECHO, net.address("w1"))
    assert echo.stdout.readline() == "bound\n"
    client = start(net, "m", UDP_ASK, net.address("w1"))
    assert ask(client, "a") == "answer a"
    net.cut("w1", "out")
    assert ask(client, "b") == "silence"
    assert net.dropped_packets("w1", "out") >= 1
    net.heal("w1")
    net.cut("w1", "in")
    assert ask(client, "c") == "silence"
    assert net.dropped_packets("w1", "in") >= 1
    net.heal("w1")
    net.cut("w1")
    assert ask(client, "d") == "silence"
    net.heal("w1")
    assert ask(client, "e") == "answer e"
    client.kill()
    echo.kill()
    heard = echo.stdout.read().split()[1::2]
    assert heard == ["a", "b", "e"]  # what it could not answer reached it, what it could not hear did not


def test_a_connection_outlives_a_short_cut(net):
    echo = start(net, "w2", TCP_ECHO, net.address("w2"))
    assert echo.stdout.readline() == "bound\n"
    client = start(net, "w3", TCP_ASK, net.address("w2"))
    assert ask(client, "one") == "answer one"
    net.cut("w3", "out")
    client.stdin.write("keep\n")
    client.stdin.flush()
    while net.dropped_packets("w3", "out") < 2:  # the first and its repetition
        pass
    net.heal("w3")
    assert ask(client, "two").startswith("answer keep")


def test_hosts_do_not_see_this_machines_network(net):
    shown = net.run("m", ["ip", "-o", "link"], stdout=subprocess.PIPE, text=True)
    names = [line.split()[1].rstrip(":").split("@")[0] for line in shown.communicate()[0].splitlines()]
    assert names == ["lo", "e0"]


def test_where_no_network_can_be_made_ci_as_root_fails_and_others_skip(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="unshare"):
        harness.require()
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(pytest.fail.Exception, match="unshare"):
        harness.require()
