"""`kernelmill worker` as a process, with a master that the test plays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import deque

import pytest
import zmq

from kernelmill.cluster import messages
from kernelmill.cluster.addresses import for_workers
from kernelmill.cluster.cli.worker import worker
from kernelmill.cluster.keys import folder as keys_folder
from kernelmill.cluster.keys.bundle import read_bundle, read_master_key
from kernelmill.cluster.keys.curve import KeyPair
from kernelmill.cluster.messages import PROTOCOL, Envelope
from kernelmill.cluster.sockets import Door, bind_router, new_context
from kernelmill.cluster.wire import WORKER_TO_MASTER, encode
from kernelmill.engine.errors import Code, KernelmillError

SECONDS = 20.0
CLUSTER = b"c" * 16


class PlayedMaster:
    """Hears one worker and says what the test wants."""

    def __init__(self, keys, address, epoch=1):
        key = read_master_key(keys / "master" / "master.key")
        allowed = read_bundle(keys_folder.bundle_of(keys, "worker", "w1"), "worker").public_key
        self.epoch, self.session, self.peer = epoch, b"", b""
        self.heard = deque()
        self.context = new_context()
        self.door = Door(self.context, lambda domain, found, place: "w1" if found == allowed else None)
        self.router = bind_router(
            self.context,
            KeyPair(key.public_key, key.secret_key),
            "workers",
            for_workers(address),
            message_bytes_max=1 << 20,
            queued_max=1000,
        )

    def hear(self, kind):
        """The next message of this kind."""
        deadline = time.monotonic() + SECONDS
        poller = zmq.Poller()
        for socket in (self.router, self.door.socket):
            poller.register(socket, zmq.POLLIN)
        while time.monotonic() < deadline:
            while self.heard:
                body = self.heard.popleft()
                if isinstance(body, kind):
                    return body
            ready = dict(poller.poll(200))
            if self.door.socket in ready:
                self.door.answer()
            if self.router in ready:
                self.peer, *frames = self.router.recv_multipart()
                self.heard.extend(WORKER_TO_MASTER.decode(frame).body for frame in frames)
        raise AssertionError(f"no {kind.__name__} came")

    def say(self, body):
        life = bytes([self.epoch]) * 8
        frame = encode(Envelope(PROTOCOL, CLUSTER, self.epoch, life, self.session, 1, 0, body))
        self.router.send_multipart([self.peer, frame])

    def welcome(self, session=b"S" * 8):
        hello = self.hear(messages.Hello)
        self.session = session
        self.say(messages.Welcome(hello.count, 0, 1, (), (), ()))
        return hello

    def close(self):
        self.router.close(0)
        self.door.close()
        self.context.destroy(linger=0)


@pytest.fixture
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("w")
    address = f"ipc://{folder}/s"
    keys_folder.init(folder / "keys", address)
    keys_folder.add(folder / "keys", "worker", "w1")
    return folder, address


@pytest.fixture
def start(place):
    folder, _ = place
    started = []

    def start_worker():
        command = [sys.executable, "-m", "kernelmill", "worker", "--slots", "1", "--memory", "256MiB"]
        command += ["--bundle", str(keys_folder.bundle_of(folder / "keys", "worker", "w1"))]
        command += ["--scratch", str(folder / "scratch"), "--root", f"files={folder}"]
        started.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start_worker
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def master(place):
    folder, address = place
    played = PlayedMaster(folder / "keys", address)
    yield played
    played.close()


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(each) for each in file.read().split()]


def slots_of(pid):
    """The slots of a worker: children of its nursery."""
    return [slot for nursery in children_of(pid) for slot in children_of(nursery)]


def wait_until(seen):
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        if found := seen():
            return found
        time.sleep(0.01)
    raise AssertionError("it did not happen")


def is_gone(pid):
    return not os.path.exists(f"/proc/{pid}")


def test_a_worker_registers_beats_and_goes_when_it_is_free(start, master, place):
    process = start()
    hello = master.welcome()
    assert (hello.slots, hello.memory_bytes, hello.running, hello.done) == (1, 256 << 20, (), ())
    assert hello.disk_free_bytes > 0  # or a waiting job would be paused until the first BEAT
    beat = master.hear(messages.Beat)
    assert beat.rss_bytes > 1 << 20 and beat.disk_free_bytes > 0
    slot = wait_until(lambda: slots_of(process.pid))[0]
    process.send_signal(signal.SIGTERM)
    master.hear(messages.WantDrain)
    master.say(messages.Drain(True))
    master.hear(messages.Bye)
    assert process.wait(SECONDS) == 0
    assert "drained" in process.stderr.read()
    assert is_gone(slot)
    assert list((place[0] / "scratch").iterdir()) == [], "it leaves nothing on the disk"


def test_a_second_signal_does_not_wait_for_the_master(start, master):
    process = start()
    master.welcome()
    master.hear(messages.Beat)
    process.send_signal(signal.SIGTERM)
    master.hear(messages.WantDrain)
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0


def test_slots_die_with_a_supervisor_that_is_killed(start, master):
    process = start()
    master.welcome()
    slot = wait_until(lambda: slots_of(process.pid))[0]
    process.kill()
    process.wait(SECONDS)
    wait_until(lambda: is_gone(slot))


def test_a_worker_whose_slots_cannot_be_started_any_more_starts_them_by_another_process(start, master):
    process = start()
    master.welcome()
    slot = wait_until(lambda: slots_of(process.pid))[0]
    (nursery,) = children_of(process.pid)
    os.kill(nursery, signal.SIGKILL)
    wait_until(lambda: is_gone(slot))
    assert wait_until(lambda: slots_of(process.pid)) != [slot]
    master.hear(messages.Beat)


def test_a_master_that_was_restarted_gets_a_new_hello(start, master, place):
    start()
    first = master.welcome()
    master.hear(messages.Beat)
    master.close()
    folder, address = place
    again = PlayedMaster(folder / "keys", address, epoch=2)
    try:
        since = time.monotonic()
        hello = again.welcome(b"T" * 8)
        assert (hello.nonce, hello.epoch_seen) == (first.nonce, 1) and hello.count > first.count
        assert time.monotonic() - since < 3.0
        again.hear(messages.Beat)
    finally:
        again.close()
        master.context = new_context()  # closed by the fixture once more
        master.router, master.door = master.context.socket(zmq.ROUTER), Door(master.context, lambda *_: None)


def test_a_worker_that_is_refused_for_good_says_why_and_ends(start, master):
    process = start()
    master.hear(messages.Hello)
    master.say(messages.Refused(b"", "VERSION", "this master has kernelmill 9, w1 has 0", ""))
    assert process.wait(SECONDS) == 1
    assert "this master has kernelmill 9" in process.stderr.read()


def test_a_supervisor_loads_nothing_that_unpickles():
    code = "import sys, kernelmill.cluster.cli.worker; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "zmq" in loaded and not loaded & {"pyarrow", "numba", "numpy", "cloudpickle"}


def test_a_worker_needs_linux_and_enough_memory(place, monkeypatch):
    folder, _ = place
    bundle = str(keys_folder.bundle_of(folder / "keys", "worker", "w1"))
    command = ["worker", "--bundle", bundle, "--scratch", str(folder / "scratch")]
    few = subprocess.run(
        [sys.executable, "-m", "kernelmill", *command, "--slots", "8", "--memory", "64MiB"],
        capture_output=True,
        text=True,
    )
    assert few.returncode == 3 and "KM0107" in few.stderr
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(KernelmillError) as caught:
        worker.main(command[1:], standalone_mode=False)
    assert caught.value.code is Code.VERSION
