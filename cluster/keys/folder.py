"""The administrator's folder of keys, and what may be done with it.

    KEYS/code.key               stays here; each bundle has a copy
    KEYS/master/                for the master's host: master.key, workers.allow, clients.allow
    KEYS/workers/NAME.bundle    for that worker's host
    KEYS/clients/NAME.bundle    for that client

A peer's right is its line in an allow list: taking that away is what removing means, the bundle goes after it. The
folder is made under another name and renamed, so it is there whole or not at all; flock on it keeps two commands apart.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from kernelmill.cluster.keys.allow import CLIENTS, WORKERS, AllowedPeer, check_host, check_name, list_text, read_lists
from kernelmill.cluster.keys.bundle import (
    Bundle,
    CodeKey,
    MasterKey,
    check_address,
    read_code_key,
    read_master_key,
    to_bytes,
)
from kernelmill.cluster.keys.curve import make_pair
from kernelmill.cluster.keys.files import check_folder, key_error, replace, write_new
from kernelmill.engine.durable import fsync_folder
from kernelmill.engine.errors import Code, error

Role = Literal["worker", "client"]


class KnownPeer(NamedTuple):
    """A peer of the folder, and whether its bundle is still there."""

    role: Role
    peer: AllowedPeer
    has_bundle: bool


def init(folder: Path, address: str) -> None:
    """Make a folder of keys for a cluster at this address. Raises KM0615 if there is something there already."""
    check_address(address)
    if folder.is_symlink() or (folder.exists() and (not folder.is_dir() or any(folder.iterdir()))):
        hint = "keys are never overwritten: name another folder with --keys, or remove this one by hand"
        raise error(Code.KEYS, "there is something here already", where=str(folder), hint=hint)
    pair = make_pair()
    new = folder.with_name(f".{folder.name}.{secrets.token_hex(8)}")
    try:
        if not folder.parent.is_dir():
            hint = "make it, or name another place with --keys"
            raise error(Code.KEYS, "there is no folder to make the keys in", where=str(folder.parent), hint=hint)
        new.mkdir(mode=0o700)
        for name in ("master", "workers", "clients"):
            (new / name).mkdir(mode=0o700)
        write_new(new / "code.key", to_bytes(CodeKey(1, secrets.token_hex(32))))
        write_new(new / "master" / "master.key", to_bytes(MasterKey(1, address, pair.public, pair.secret)))
        for name in (WORKERS, CLIENTS):
            write_new(new / "master" / name, list_text([]))
        fsync_folder(str(new))
        os.rename(new, folder)  # onto an empty folder, or none: anything else fails
        fsync_folder(str(folder.parent))
    except OSError as problem:
        raise key_error(folder, "making the folder of keys", problem) from problem
    finally:
        shutil.rmtree(new, ignore_errors=True)


def add(folder: Path, role: Role, name: str, *, is_admin: bool = False, host: str = "") -> Path:
    """Make the keys of a worker or client, allow it, and return the path of its bundle.

    Raises KM0107 for a name or host that cannot be, KM0615 if the name is taken.
    """
    check_name(name)
    if host:
        check_host(host)
    with _locked(folder):
        master, code = read_master_key(folder / "master" / "master.key"), read_code_key(folder / "code.key")
        workers, clients = read_lists(folder / "master")
        bundle_path = bundle_of(folder, role, name)
        taken = [one.name for one in (*workers.values(), *clients.values())]
        if name in taken or any(os.path.lexists(bundle_of(folder, one, name)) for one in _ROLES):
            hint = f"choose another name, or kernelmill keys remove {name} first"
            raise error(Code.KEYS, f"there is a peer {name} already", where=str(folder), hint=hint)
        pair = make_pair()
        bundle = Bundle(1, role, name, master.address, pair.public, pair.secret, master.public_key, code.code_key)
        peers = workers if role == "worker" else clients
        peers[pair.public] = AllowedPeer(name, pair.public, is_admin, host)
        write_new(bundle_path, to_bytes(bundle))
        replace(folder / "master" / _LIST_OF[role], list_text(peers.values()))
    return bundle_path


def remove(folder: Path, name: str) -> Role:
    """Take a peer's right away, remove its bundle here, and return what it was. Raises KM0615 if there is none."""
    check_name(name)
    with _locked(folder):
        lists = dict(zip(_ROLES, read_lists(folder / "master"), strict=True))
        for role, peers in lists.items():
            bundle_path = bundle_of(folder, role, name)
            left = [one for one in peers.values() if one.name != name]
            is_allowed, has_bundle = len(left) < len(peers), os.path.lexists(bundle_path)
            if is_allowed:
                replace(folder / "master" / _LIST_OF[role], list_text(left))
            if has_bundle:
                try:
                    os.unlink(bundle_path)
                    fsync_folder(str(bundle_path.parent))
                except OSError as problem:
                    raise key_error(bundle_path, "removing the bundle", problem) from problem
            if is_allowed or has_bundle:
                return role
    names = ", ".join(one.name for peers in lists.values() for one in peers.values()) or "none"
    raise error(Code.KEYS, f"there is no peer {name}", where=str(folder), hint=f"the peers are: {names}")


def peers_of(folder: Path) -> list[KnownPeer]:
    """All peers, workers first, in the order in which they were added. Raises KM0615 if the lists cannot be trusted."""
    _check_folders(folder)
    lists = zip(_ROLES, read_lists(folder / "master"), strict=True)
    return [
        KnownPeer(role, one, bundle_of(folder, role, one.name).is_file())
        for role, peers in lists
        for one in peers.values()
    ]


def bundle_of(folder: Path, role: Role, name: str) -> Path:
    """Where the bundle of a peer is."""
    return folder / f"{role}s" / f"{name}.bundle"


_ROLES: tuple[Role, Role] = ("worker", "client")
_LIST_OF: dict[Role, str] = {"worker": WORKERS, "client": CLIENTS}


def _check_folders(folder: Path) -> None:
    for path in (folder, folder / "master", folder / "workers", folder / "clients"):
        check_folder(path)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Check the folder and keep other commands out of it."""
    _check_folders(folder)
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as problem:
        raise key_error(folder, "opening the folder of keys", problem) from problem
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
