"""A master whose files are all taken by connections of strangers, or whose lists of keys are away for a moment."""

import os
import resource
import socket
import threading
from contextlib import closing, contextmanager

import pytest
from masters import MasterProcess, free_address, submission, submit, until
from raw import hello, worker_session

from kernelmill.cluster import addresses
from kernelmill.cluster import messages as m
from kernelmill.cluster.keys import folder as keys_folder

FILES_MAX = 200
BEAT = m.Beat((), (), 0, 1 << 40)


@pytest.fixture
def master():
    found = MasterProcess()
    yield found
    found.close()


def registered(master, bundle):
    worker = master.worker(bundle)
    worker.say(hello(ticket_key=b"t" * 32))
    assert isinstance(worker.hear(m.Welcome, m.Refused, wait_s=15), m.Welcome)
    return worker


@contextmanager
def flood(endpoint, connections=400):
    """So many idle connections to the workers' socket; those that are closed are made again."""
    is_over, full = threading.Event(), threading.Event()
    host, _, port = addresses.for_workers(endpoint).removeprefix("tcp://").partition(":")

    def run():
        open_ones = []
        while not is_over.wait(0.02):
            for each in open_ones[:]:
                try:
                    is_closed = not each.recv(4096)
                except OSError as problem:
                    is_closed = not isinstance(problem, BlockingIOError)
                if is_closed:
                    open_ones.remove(each)
                    each.close()
            for _ in range(connections - len(open_ones)):
                each = socket.socket(socket.AF_INET)
                each.setblocking(False)
                each.connect_ex((host, int(port)))
                open_ones.append(each)
            if len(open_ones) >= connections:
                full.set()
        for each in open_ones:
            each.close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        assert full.wait(10)
        yield
    finally:
        is_over.set()
        thread.join()


def files_of(process):
    return len(os.listdir(f"/proc/{process.pid}/fd"))


@pytest.fixture
def on_tcp():
    found = MasterProcess(free_address())
    yield found
    found.close()


def test_a_flood_that_takes_all_files_ends_no_session_and_a_key_that_is_removed_meanwhile_loses_its_own(on_tcp):
    master = on_tcp
    first, second = master.add("worker", "w1"), master.add("worker", "w2")
    ann = master.add("client", "ann")
    master.start(files_max=FILES_MAX)
    one, two, client = registered(master, first), registered(master, second), master.client(ann)
    soft = resource.prlimit(master.process.pid, resource.RLIMIT_NOFILE)[0]
    assert soft < FILES_MAX, "some files are kept back"
    with flood(master.address):
        until(lambda: files_of(master.process) >= soft)
        for _ in range(3):
            for each in (one, two):
                each.say(BEAT)
                assert each.hear(m.Heard, m.Refused) == m.Heard()
            assert one.hear(m.Refused, wait_s=0.9) is None  # the lists are read every 2 s
        keys_folder.remove(master.keys, "w2")
        assert two.hear(m.Refused, wait_s=5.0).code == "AUTH"
        one.say(BEAT)
        assert one.hear(m.Heard, m.Refused) == m.Heard()
    assert isinstance(submit(client, submission(bytes(16))), m.Accepted)
    assert master.process.poll() is None and "cannot be read" not in master.said()


def test_lists_that_are_away_for_a_moment_end_no_session_and_let_nobody_in(master):
    bundle, later = master.add("worker", "w1"), master.add("worker", "w2")
    master.start()
    worker = registered(master, bundle)
    lists = master.keys / "master"
    os.rename(lists / "workers.allow", lists / "aside")
    until(lambda: "cannot be read" in master.said())
    worker.say(BEAT)
    assert worker.hear(m.Heard, m.Refused) == m.Heard()
    with closing(worker_session(master.address, later).peer) as peer:
        assert peer.handshake(1.0) not in ("succeeded", "refused"), "it is told nothing, and comes again"
    os.rename(lists / "aside", lists / "workers.allow")
    registered(master, later)
    assert master.said().count("cannot be read") == 1
    keys_folder.remove(master.keys, "w1")
    assert worker.hear(m.Refused).code == "AUTH"
