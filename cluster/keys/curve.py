"""CURVE key pairs, as ZeroMQ makes and writes them: 40 characters of Z85. Of these modules only this one loads zmq."""

from __future__ import annotations

import re
from typing import NamedTuple

from kernelmill.engine.errors import Code, error

_Z85 = re.compile(r"[0-9a-zA-Z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")


class KeyPair(NamedTuple):
    """A public and a secret key, as text."""

    public: str
    secret: str

    def __repr__(self) -> str:
        return f"KeyPair(public={self.public!r})"  # logs and tracebacks must not hold secrets


def make_pair() -> KeyPair:
    """Make a new pair. Raises KM0603 if this ZeroMQ cannot be trusted with it."""
    require_curve()
    import zmq

    public, secret = zmq.curve_keypair()
    return KeyPair(public.decode(), secret.decode())


def public_of(secret: str) -> str:
    """The public key that belongs to a secret one. Raises ValueError if that is none."""
    require_curve()
    import zmq

    if not is_key(secret):
        raise ValueError("not a key of 40 characters in Z85")
    try:
        return zmq.curve_public(secret.encode()).decode()
    except zmq.ZMQError as problem:  # five characters may say more than four bytes hold
        raise ValueError("not a key in Z85") from problem


def is_key(text: str) -> bool:
    """Tell whether a text has the form of a key."""
    return _Z85.fullmatch(text) is not None


def require_curve() -> None:
    """Raise KM0603 unless pyzmq and libzmq are new enough and made with CURVE.

    Older ones: CVE-2019-6250, CVE-2019-13132, CVE-2020-15166.
    """
    import zmq

    if zmq.zmq_version_info() < (4, 3, 5) or zmq.pyzmq_version_info() < (26, 0) or not zmq.has("curve"):
        found = (
            f"pyzmq {zmq.__version__} with libzmq {zmq.zmq_version()}{'' if zmq.has('curve') else ', without CURVE'}"
        )
        what, hint = f"a cluster cannot be made safe with {found}", "install pyzmq 26 or later from a wheel"
        raise error(Code.VERSION, what, where="pyzmq", hint=hint)
