"""The hostile peers themselves: they send what they say, and see how they are received."""

import pickle

import pytest
import raw
import zmq

from kernelmill.cluster import messages, wire
from kernelmill.cluster.keys.curve import make_pair
from kernelmill.engine.errors import KernelmillError


@pytest.fixture
def server(tmp_path):
    """A ROUTER with CURVE and nobody who answers ZAP, so every key gets in; and one that speaks NULL. Both on ipc."""
    context, keys = zmq.Context(), make_pair()
    sockets = [context.socket(zmq.ROUTER) for _ in range(2)]
    sockets[0].curve_server = 1
    sockets[0].curve_publickey, sockets[0].curve_secretkey = (text.encode() for text in keys)
    endpoints = [f"ipc://{tmp_path}/{number}" for number in range(2)]
    for one, endpoint in zip(sockets, endpoints, strict=True):
        one.maxmsgsize = 1 << 20
        one.rcvtimeo = 5000
        one.bind(endpoint)
    yield keys.public, endpoints, sockets
    context.destroy(linger=0)


def test_a_peer_with_a_key_gets_in_and_is_heard(server):
    key, endpoints, sockets = server
    with raw.RawPeer(endpoints[0], server_key=key, pair=make_pair()) as peer:
        assert peer.handshake() == "succeeded"
        assert peer.send(b"one", b"two")
        sender, *frames = sockets[0].recv_multipart()
        assert frames == [b"one", b"two"]
        sockets[0].send_multipart([sender, b"three"])
        assert peer.answer(5.0) == [b"three"]


def test_a_peer_without_a_key_or_for_another_server_does_not_get_in(server):
    _, endpoints, sockets = server
    for options in ({}, {"server_key": make_pair().public, "pair": make_pair()}):
        with raw.RawPeer(endpoints[0], **options) as peer:
            peer.send(b"x")
            assert peer.handshake(1.0) != "succeeded"
    assert not sockets[0].poll(100)


def test_a_peer_claims_a_routing_id(server):
    with raw.RawPeer(server[1][1], routing_id=b"somebody") as peer:
        assert peer.handshake() == "succeeded"
        assert peer.send(b"x")
        assert server[2][1].recv_multipart() == [b"somebody", b"x"]


def test_a_frame_that_is_too_long_cuts_its_peer_off(server):
    with raw.RawPeer(server[1][1]) as peer:
        assert peer.handshake() == "succeeded"
        peer.send(bytes(2 << 20))
        assert peer.handshake() == "disconnected"
    assert not server[2][1].poll(100)


def test_a_message_that_does_not_end_is_never_received(server):
    with raw.RawPeer(server[1][1]) as peer:
        assert peer.handshake() == "succeeded"
        peer.send_endless(bytes(1000), 500)
        assert not server[2][1].poll(300)


@pytest.mark.parametrize("name", raw.byte_streams(0))
def test_connections_below_zeromq_bring_no_message(server, name):
    # To a socket that speaks NULL, random bytes may well be a message: an old ZMTP without a greeting.
    with raw.RawBytes(server[1][0]) as connection:
        connection.send(raw.byte_streams(1)[name])
        assert not server[2][0].poll(50)


LINKS = (wire.CLIENT_TO_MASTER, wire.WORKER_TO_MASTER, wire.MASTER_TO_CLIENT, wire.MASTER_TO_WORKER)


def is_message(frame):
    for link in LINKS:
        try:
            return link.decode(frame)
        except KernelmillError:
            pass
    return None


def test_golden_frames_of_all_messages_are_there_and_can_be_readdressed():
    frames = raw.golden()
    assert {"Submit", "Hello", "Done", "Assign", "Fetch"} <= set(frames)
    envelope = (messages.PROTOCOL, b"C" * 16, 9, b"L" * 8, b"S" * 8, 5, 4)
    found = is_message(raw.readdressed(frames["Hello"], envelope))
    assert (found.cluster, found.epoch, found.session) == (b"C" * 16, 9, b"S" * 8)
    assert found.body == is_message(frames["Hello"]).body


def test_mutations_are_mostly_no_messages_and_the_same_for_a_seed():
    frame = raw.golden()["Done"]
    found = list(raw.mutations(frame, 3, 500))
    assert found == list(raw.mutations(frame, 3, 500))
    assert frame not in found
    assert sum(is_message(one) is None for one in found) > 250


def test_pickles_reach_each_field_and_are_real(tmp_path):
    blob = raw.pickle_that_marks(tmp_path / "marker")
    frames = list(raw.with_pickle_in_each_field(raw.golden()["Submit"], blob))
    assert len(frames) > 50
    assert all(blob in one for one in frames)
    assert any(is_message(one) for one in frames)  # fields that take any text or bytes take this one
    assert not (tmp_path / "marker").exists()
    pickle.loads(blob)
    assert (tmp_path / "marker").exists()
