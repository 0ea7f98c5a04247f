"""Where the sockets of a cluster are."""

import pytest

from kernelmill.cluster import addresses


def test_workers_and_parts_take_the_next_two_ports():
    assert addresses.for_workers("tcp://10.0.0.1:7440") == "tcp://10.0.0.1:7441"
    assert addresses.for_parts("tcp://[::1]:7440") == "tcp://[::1]:7442"


@pytest.mark.parametrize(
    ("host", "endpoint"),
    [("10.0.0.2", "tcp://10.0.0.2:9"), ("::1", "tcp://[::1]:9"), ("w.example", "tcp://w.example:9")],
)
def test_a_workers_data_is_at_its_own_host_and_port(host, endpoint):
    assert addresses.for_data("tcp://10.0.0.1:7440", "w", host, 9) == endpoint


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("tcp://127.0.0.1:7440", "127.0.0.1"),
        ("tcp://127.9.0.3:7440", "127.9.0.3"),
        ("tcp://[::1]:7440", "::1"),
        ("tcp://localhost:7440", "127.0.0.1"),
        ("tcp://10.0.0.1:7440", "*"),
        ("tcp://[fe80::1]:7440", "*"),
        ("tcp://localhost.example:7440", "*"),
        ("tcp://127.0.0.1.example:7440", "*"),
    ],
)
def test_a_worker_listens_on_this_machine_alone_if_its_master_does(address, host):
    assert addresses.data_host(address) == host


def test_on_ipc_all_sockets_have_names_of_their_own_that_fit_the_system():
    address = "ipc:///" + "a" * 99
    found = {
        addresses.for_workers(address),
        addresses.for_parts(address),
        addresses.for_data(address, "w" * 64, "", 0),
        addresses.for_data(address, "v" * 64, "", 0),
        address,
    }
    assert len(found) == 5
    assert all(len(one.removeprefix("ipc://")) <= 107 for one in found)
