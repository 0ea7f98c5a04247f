"""Where the sockets of a cluster are, from the one address in its bundles. Pure.

tcp://HOST:PORT   clients; workers at PORT + 1, job parts at PORT + 2, a worker's data at its host and own port, on
                  the loopback interface alone if HOST is there
ipc:///PATH       clients; PATH-w workers, PATH-p job parts, PATH-?????? a worker's data, by a digest of its name
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import ipaddress


def for_workers(address: str) -> str:
    """The master's socket for workers."""
    return _beside(address, 1, "-w")


def for_parts(address: str) -> str:
    """The master's socket for parts of jobs."""
    return _beside(address, 2, "-p")


def for_data(address: str, worker: str, host: str, port: int) -> str:
    """The data socket of a worker; host and port are not used for ipc."""
    if is_ipc(address):
        digest = hashlib.sha256(worker.encode()).digest()[:4]
        return f"{address}-{base64.b32encode(digest).decode().lower()[:6]}"
    return f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"


def data_host(address: str) -> str:
    """Where a worker whose master has this address listens: on this machine alone if the master is, or "*"."""
    host = address.removeprefix("tcp://").rpartition(":")[0].strip("[]").removesuffix(".")
    if host == "localhost" or host.endswith(".localhost"):
        return "127.0.0.1"
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(host).is_loopback:
            return host
    return "*"


def is_ipc(address: str) -> bool:
    """Tell whether all of the cluster is on this machine."""
    return address.startswith("ipc://")


def _beside(address: str, ports: int, suffix: str) -> str:
    if is_ipc(address):
        return address + suffix
    host, _, port = address.rpartition(":")
    return f"{host}:{int(port) + ports}"
