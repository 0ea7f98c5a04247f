"""Bundles and the other files that hold secrets: JSON with fixed fields, each checked when it is read.

code.key                 signs jobs: for clients and workers, never for the master
master/master.key        the master's key pair and address
workers/NAME.bundle      all that one worker needs; clients/NAME.bundle for a client
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from kernelmill.cluster.fields import PeerName
from kernelmill.cluster.keys.curve import KeyPair, is_key, public_of
from kernelmill.cluster.keys.files import damaged, read_secret
from kernelmill.engine.errors import Code, error

ADDRESS = "tcp://127.0.0.1:7440"
"""Where a cluster on one machine listens: for clients; workers and job parts take the next two ports."""

_TCP = re.compile(r"tcp://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9][A-Za-z0-9.-]{0,252}):(\d{1,5})")
_IPC_PATH_BYTES_MAX = 100  # 107 for the system, less a suffix for each socket


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: Literal[1]

    def __repr__(self) -> str:
        return f"<{type(self).__name__}, secret>"  # logs and tracebacks must not hold secrets


class CodeKey(_File, frozen=True):
    """The key that signs jobs, as 64 hexadecimal digits."""

    code_key: str


class MasterKey(_File, frozen=True):
    """The master's own key pair."""

    address: str
    public_key: str
    secret_key: str


class Bundle(_File, frozen=True):
    """What a worker or client needs to take part: its pair, the master's public key and address, the code key."""

    role: Literal["worker", "client"]
    name: PeerName
    address: str
    public_key: str
    secret_key: str
    master_key: str
    code_key: str

    @property
    def pair(self) -> KeyPair:
        """The peer's own keys."""
        return KeyPair(self.public_key, self.secret_key)


_Kind = TypeVar("_Kind", CodeKey, MasterKey, Bundle)


def to_bytes(content: CodeKey | MasterKey | Bundle) -> bytes:
    """The text of a key file."""
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"


def read_bundle(path: Path, role: Literal["worker", "client"]) -> Bundle:
    """Read the bundle of a worker or client. Raises KM0615 if it is not one, or open to others."""
    bundle = _read(path, Bundle)
    if bundle.role != role:
        what = f"this is the bundle of the {bundle.role} {bundle.name}, a {role} needs one of its own"
        raise error(Code.KEYS, what, where=str(path), hint=f"kernelmill keys add-{role} NAME makes one")
    _check_pair(path, bundle.public_key, bundle.secret_key)
    _check_address(path, bundle.address)
    _check_code_key(path, bundle.code_key)
    if not is_key(bundle.master_key):
        raise damaged(path, "the master's key in it is not 40 characters of Z85")
    return bundle


def read_master_key(path: Path) -> MasterKey:
    """Read the master's key. Raises KM0615 if the file is not one, or open to others."""
    key = _read(path, MasterKey)
    _check_pair(path, key.public_key, key.secret_key)
    _check_address(path, key.address)
    return key


def read_code_key(path: Path) -> CodeKey:
    """Read the code key. Raises KM0615 if the file is not one, or open to others."""
    key = _read(path, CodeKey)
    _check_code_key(path, key.code_key)
    return key


def is_address(text: str) -> bool:
    """Tell whether a text is an address that a cluster may have."""
    if text.startswith("ipc:///"):
        return len(text.removeprefix("ipc://").encode()) <= _IPC_PATH_BYTES_MAX and "\0" not in text
    found = _TCP.fullmatch(text)
    return found is not None and 1 <= int(found[2]) <= 65533


def check_address(text: str) -> str:
    """Return an address, or raise KM0107."""
    if not is_address(text):
        hint = f"give tcp://HOST:PORT, as {ADDRESS}; the port is below 65534, for the next two are taken too"
        raise error(Code.BAD_SETTING, f"an address cannot be {text!r}", hint=hint)
    return text


def _read(path: Path, kind: type[_Kind]) -> _Kind:
    data = read_secret(path)
    try:
        return msgspec.json.decode(data, type=kind)
    except ValueError as problem:
        raise damaged(path, f"this file does not hold what it should: {problem}") from problem


def _check_pair(path: Path, public: str, secret: str) -> None:
    try:
        if public_of(secret) == public:
            return
    except ValueError:
        raise damaged(path, "the secret key in it is damaged") from None
    raise damaged(path, "the two keys in it do not belong together")


def _check_code_key(path: Path, text: str) -> None:
    if not re.fullmatch(r"[0-9a-f]{64}", text):
        raise damaged(path, "the code key in it is not 64 hexadecimal digits")


def _check_address(path: Path, text: str) -> None:
    if not is_address(text):
        raise damaged(path, f"an address cannot be {text!r}")
