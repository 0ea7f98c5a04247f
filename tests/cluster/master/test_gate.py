"""While a list of keys cannot be read the door is closed, who is in stays, and one line says what to do."""

import os

import pytest

from kernelmill.cluster.keys import folder as keys_folder
from kernelmill.cluster.keys.bundle import read_bundle
from kernelmill.cluster.master.gate import CLIENTS, WORKERS, Gate
from kernelmill.cluster.sockets import LATER


@pytest.fixture
def keys(tmp_path):
    keys_folder.init(tmp_path / "keys", "ipc:///tmp/m")
    return tmp_path / "keys"


def add(keys, role, name):
    return read_bundle(keys_folder.add(keys, role, name), role).pair.public


def test_a_list_that_is_away_for_a_moment_lets_nobody_in_and_ends_nobodys_session(keys, caplog):
    worker, client = add(keys, "worker", "w1"), add(keys, "client", "ann")
    gate, lists = Gate(keys / "master"), keys / "master"
    assert gate.decide(WORKERS, worker, "") == worker
    os.rename(lists / "workers.allow", lists / "aside")
    assert gate.refresh() == gate.refresh() == frozenset()
    assert gate.peer(WORKERS, worker).name == "w1" and gate.peer(CLIENTS, client).name == "ann"
    assert gate.decide(WORKERS, worker, "") == gate.decide(CLIENTS, client, "") == LATER
    assert gate.decide(WORKERS, client, "") is None
    said = [record.getMessage() for record in caplog.records]
    assert len([text for text in said if "put the file back" in text and "workers.allow" in text]) == 1
    os.rename(lists / "aside", lists / "workers.allow")
    assert gate.refresh() == frozenset() and gate.decide(WORKERS, worker, "") == worker
    keys_folder.remove(keys, "w1")
    assert gate.refresh() == {worker} and gate.decide(WORKERS, worker, "") is None


def test_a_list_that_is_cut_off_while_it_is_copied_takes_nobody_off(keys):
    worker = add(keys, "worker", "w1")
    gate, path = Gate(keys / "master"), keys / "master/workers.allow"
    text = path.read_bytes()
    for length in (0, len(text) - 9, len(text) - 1):
        path.write_bytes(text[:length])
        assert gate.refresh() == frozenset() and gate.decide(WORKERS, worker, "") == LATER
    path.write_bytes(text)
    assert gate.refresh() == frozenset() and gate.decide(WORKERS, worker, "") == worker
