"""Allow lists: which keys may come, under which names. One peer a line, four columns:

    NAME  KEY  admin|-  HOST|-

Lines that begin with # and empty lines say nothing. HOST is where a worker's data socket is, if not where the worker
is seen to come from. The name is a peer's only authority, so names and keys are in the lists once. A list that is
missing, damaged or open to others lets nobody in, and takes nobody's right either: the last ones hold for who is in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from kernelmill.cluster.fields import PEER_NAME_PATTERN
from kernelmill.cluster.keys.curve import is_key
from kernelmill.cluster.keys.files import check_folder, damaged, read_list
from kernelmill.engine.errors import Code, KernelmillError, error

WORKERS, CLIENTS = "workers.allow", "clients.allow"
PEERS_MAX = 1024
"""Peers of a list, as many as a message names."""

_NAME = re.compile(PEER_NAME_PATTERN)
_HOST = re.compile(r"[A-Za-z0-9][A-Za-z0-9.:-]{0,252}")
_HEAD = "# name, public key, admin or -, host or -; written by kernelmill keys, read again every 2 seconds\n"


@dataclass(frozen=True, slots=True)
class AllowedPeer:
    """One line of a list."""

    name: str
    key: str
    is_admin: bool = False
    host: str = ""


def check_name(name: str) -> str:
    """Return a peer's name, or raise KM0107: names are parts of file names and messages."""
    if not _NAME.match(name):
        hint = "use 1 to 64 of a-z 0-9 . _ -, the first one a letter or digit"
        raise error(Code.BAD_SETTING, f"a name cannot be {name!r}", hint=hint)
    return name


def check_host(host: str) -> str:
    """Return a host's name or address, or raise KM0107."""
    if not _HOST.fullmatch(host):
        raise error(Code.BAD_SETTING, f"a host cannot be {host!r}", hint="give a name or an address, without a port")
    return host


def parse_list(data: bytes, path: Path) -> dict[str, AllowedPeer]:
    """Read a list: its peers by public key. Raises KM0615, which names the line, if any of it is not understood.

    What is empty or ends within a line is being written, or its end is lost: a list without peers has the first line.
    """
    if not data.endswith(b"\n"):
        raise damaged(path, "the list ends within a line" if data else "the list is empty, without a first line")
    peers: dict[str, AllowedPeer] = {}
    names: set[str] = set()
    try:
        lines = data.decode("ascii").split("\n")
    except UnicodeDecodeError as problem:
        raise damaged(path, f"byte {problem.start} of the list is not ASCII") from problem
    for number, line in enumerate(lines, 1):
        if not line.strip(" \t") or line.startswith("#"):
            continue
        try:
            peer = _peer(line.split())
        except ValueError as problem:
            raise damaged(path, f"line {number}: {problem}") from problem
        if peer.name in names or peer.key in peers:
            raise damaged(path, f"line {number}: the name or key of {peer.name} is in the list already")
        names.add(peer.name)
        peers[peer.key] = peer
    if len(peers) > PEERS_MAX:
        raise damaged(path, f"{len(peers)} peers; {PEERS_MAX} are allowed")
    return peers


def _peer(columns: list[str]) -> AllowedPeer:
    if len(columns) != 4:
        raise ValueError(f"{len(columns)} columns, not 4")
    name, key, admin, host = columns
    if not _NAME.match(name):
        raise ValueError(f"a name cannot be {name!r}")
    if not is_key(key):
        raise ValueError(f"the key of {name} is not 40 characters of Z85")
    if admin not in ("admin", "-"):
        raise ValueError(f"the third column is {admin!r}, not admin or -")
    if host != "-" and not _HOST.fullmatch(host):
        raise ValueError(f"a host cannot be {host!r}")
    return AllowedPeer(name, key, admin == "admin", "" if host == "-" else host)


def list_text(peers: Iterable[AllowedPeer]) -> bytes:
    """The text of a list."""
    lines = [f"{one.name} {one.key} {'admin' if one.is_admin else '-'} {one.host or '-'}\n" for one in peers]
    return (_HEAD + "".join(lines)).encode()


def read_lists(folder: Path) -> tuple[dict[str, AllowedPeer], dict[str, AllowedPeer]]:
    """The workers and the clients of a folder, by public key. Raises KM0615, also if a key or name is in both lists."""
    check_folder(folder)
    workers = parse_list(read_list(folder / WORKERS), folder / WORKERS)
    clients = parse_list(read_list(folder / CLIENTS), folder / CLIENTS)
    admins = [one.name for one in workers.values() if one.is_admin]
    if admins:
        raise damaged(folder / WORKERS, f"{admins[0]} is a worker and cannot be admin")
    for key, client in clients.items():
        if key in workers or client.name in {one.name for one in workers.values()}:
            raise damaged(folder / CLIENTS, f"the name or key of {client.name} is a worker's, too")
    return workers, clients


@dataclass
class Allowed:
    """Who is allowed by the last lists that were whole. `refresh` every 2 seconds; what it returns has lost its rights.

    While `problem` is set the lists cannot be read: nobody may come in, and who is in stays.
    """

    folder: Path
    workers: dict[str, AllowedPeer] = field(default_factory=dict)
    clients: dict[str, AllowedPeer] = field(default_factory=dict)
    problem: KernelmillError | None = None

    def refresh(self) -> frozenset[str]:
        """Read both lists again, whole (times of files miss what changes within their tick); never raises KM0615.

        Returns the public keys that were allowed before and are not now, or not in the same way; none while the lists
        cannot be read.
        """
        before = [self.workers, self.clients]
        try:
            self.workers, self.clients = read_lists(self.folder)
            self.problem = None
        except KernelmillError as problem:
            self.problem = problem
        lost = [old.items() - new.items() for old, new in zip(before, (self.workers, self.clients), strict=True)]
        return frozenset(key for gone in lost for key, _ in gone)
