"""A canary dies where unknown keys are refused, and lives where the door is open or nobody answers."""

import time

import pytest
import zmq

from kernelmill.cluster import canary as birds
from kernelmill.cluster.canary import Canary
from kernelmill.cluster.keys.curve import make_pair
from kernelmill.cluster.sockets import Door, bind_router, new_context


@pytest.fixture
def context():
    found = new_context()
    yield found
    found.destroy(linger=0)


def outcome(canary, door=None):
    """What becomes of a canary, with the desk answering meanwhile."""
    deadline = time.monotonic() + 20
    poller = zmq.Poller()
    poller.register(canary.socket, zmq.POLLIN)
    if door is not None:
        poller.register(door.socket, zmq.POLLIN)
    while time.monotonic() < deadline:
        ready = dict(poller.poll(100))
        if door is not None and door.socket in ready:
            door.answer()
        if (found := canary.is_dead(time.monotonic())) is not None:
            canary.close()
            return found
    raise AssertionError("nothing became of it")


def test_an_unknown_key_is_refused_and_the_canary_dies(context, tmp_path):
    door, pair = Door(context, lambda domain, key, address: None), make_pair()
    endpoint = f"ipc://{tmp_path}/s"
    router = bind_router(context, pair, "workers", endpoint, message_bytes_max=1000, queued_max=10)
    assert outcome(Canary(context, endpoint, pair.public, time.monotonic()), door) is True
    router.close(0)
    door.close()


def test_a_door_that_lets_everybody_in_is_found_out(context, tmp_path):
    door, pair = Door(context, lambda domain, key, address: "anybody"), make_pair()
    endpoint = f"ipc://{tmp_path}/s"
    router = bind_router(context, pair, "workers", endpoint, message_bytes_max=1000, queued_max=10)
    assert outcome(Canary(context, endpoint, pair.public, time.monotonic()), door) is False
    router.close(0)
    door.close()


def test_a_socket_without_a_domain_is_found_out(context, tmp_path):
    pair = make_pair()
    router = context.socket(zmq.ROUTER)
    router.curve_server, router.curve_secretkey = True, pair.secret.encode()
    router.bind(f"ipc://{tmp_path}/s")
    assert outcome(Canary(context, f"ipc://{tmp_path}/s", pair.public, time.monotonic())) is False
    router.close(0)


def test_who_stood_still_gives_a_canary_the_time_back(context, tmp_path):
    door, pair = Door(context, lambda domain, key, address: None), make_pair()
    endpoint = f"ipc://{tmp_path}/s"
    router = bind_router(context, pair, "workers", endpoint, message_bytes_max=1000, queued_max=10)
    canary = Canary(context, endpoint, pair.public, 0.0)
    assert canary.socket.poll(5000), "it is connected"
    assert canary.is_dead(100.0) is None  # nobody could have refused it meanwhile
    assert canary.is_dead(101.0) is None
    for now in range(102, 110):
        assert canary.is_dead(float(now)) is None
    assert canary.is_dead(111.0) is False
    canary.close()
    router.close(0)
    door.close()


def test_a_canary_that_is_not_near_the_desk_says_nothing_of_it(context, tmp_path):
    canary = Canary(context, f"ipc://{tmp_path}/nobody", make_pair().public, 0.0)
    assert [canary.is_dead(float(now)) for now in range(1, 40)] == [None] * 39
    canary.close()


def test_a_canary_waits_while_a_flood_has_taken_all_files(context, tmp_path, monkeypatch):
    door, pair = Door(context, lambda domain, key, address: None), make_pair()
    endpoint = f"ipc://{tmp_path}/s"
    router = bind_router(context, pair, "workers", endpoint, message_bytes_max=1000, queued_max=10)
    canary = Canary(context, endpoint, pair.public, 0.0)
    assert canary.socket.poll(5000)
    monkeypatch.setattr(birds, "is_short_of_files", lambda: True)
    assert [canary.is_dead(float(now)) for now in range(1, 40)] == [None] * 39
    monkeypatch.setattr(birds, "is_short_of_files", lambda: False)
    assert [canary.is_dead(float(now)) for now in range(40, 49)] == [None] * 9
    assert canary.is_dead(49.0) is False
    canary.close()
    router.close(0)
    door.close()


def test_a_desk_that_does_not_answer_is_found_out(context, tmp_path, monkeypatch):
    monkeypatch.setattr(birds, "PATIENCE_S", 0.5)
    door, pair = Door(context, lambda domain, key, address: None), make_pair()
    endpoint = f"ipc://{tmp_path}/s"
    router = bind_router(context, pair, "workers", endpoint, message_bytes_max=1000, queued_max=10)
    assert outcome(Canary(context, endpoint, pair.public, time.monotonic())) is False  # nobody looks at the desk
    router.close(0)
    door.close()
