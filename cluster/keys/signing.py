"""Seals, tickets and signatures: proofs by HMAC-SHA256, each under a tag of its own. Pure; the caller has the clock.

    seal       the master gave this attempt of this task to this worker; under the journal's secret
    ticket     this reader may have this partition of this stage; under the holder's ticket key
    signature  a holder of the code key submitted this spec, until then; under the code key

Numbers are packed at fixed widths and the one text of variable length comes last, so no two inputs share their bytes.
"""

from __future__ import annotations

import hashlib
import hmac
import struct

from kernelmill.cluster.fields import AttemptKey, TaskKey
from kernelmill.engine.errors import Code, error

SEAL_BYTES = TICKET_BYTES = 16
EXPIRY_S = 7 * 24 * 3600
"""How long a signature lasts."""
CLOCK_SKEW_S = 3600
"""How far clocks of a cluster may differ."""

_SEAL = struct.Struct("<IQ16sHII")
_TICKET = struct.Struct("<16sHIHH")
_SIGNATURE = struct.Struct("<32sQ")


def seal(secret: bytes, attempt: AttemptKey, task: TaskKey, worker: str) -> bytes:
    """The seal of an assignment to the worker of this name."""
    packed = _SEAL.pack(attempt.epoch, attempt.number, task.job, task.stage, task.gen, task.index)
    return _mac(secret, b"seal", packed + worker.encode())[:SEAL_BYTES]


def is_sealed(given: bytes, secret: bytes, attempt: AttemptKey, task: TaskKey, worker: str) -> bool:
    """Tell whether a seal is that of this assignment to this worker."""
    return hmac.compare_digest(given, seal(secret, attempt, task, worker))


def ticket(key: bytes, job: bytes, stage: int, gen: int, output: int, partition: int, reader: str) -> bytes:
    """The right of a reader to one partition of an output of a stage, at the holder that has this ticket key."""
    return _mac(key, b"ticket", _TICKET.pack(job, stage, gen, output, partition) + reader.encode())[:TICKET_BYTES]


def is_ticket(
    given: bytes, key: bytes, job: bytes, stage: int, gen: int, output: int, partition: int, reader: str
) -> bool:
    """Tell whether a ticket lets this reader have this partition."""
    return hmac.compare_digest(given, ticket(key, job, stage, gen, output, partition, reader))


def sign_spec(code_key: bytes, digest: bytes, expires_s: int) -> bytes:
    """Sign a job: `digest` is the SHA-256 of its whole spec, `expires_s` counts from 1970."""
    return _mac(code_key, b"spec", _SIGNATURE.pack(digest, expires_s))


def check_signature(signature: bytes, code_key: bytes, digest: bytes, expires_s: int, now_s: float) -> None:
    """Raise KM0609 unless a holder of the code key signed exactly this spec, and not too long ago.

    Nothing of a job may be unpickled before this has returned.
    """
    if len(digest) != 32 or not 0 <= expires_s < 1 << 63:
        raise error(Code.CODE_REFUSED, "the job's digest or expiry is malformed", hint=_HINT)
    if not hmac.compare_digest(signature, sign_spec(code_key, digest, expires_s)):
        raise error(Code.CODE_REFUSED, "the job's signature does not match its spec", hint=_HINT)
    if now_s > expires_s + CLOCK_SKEW_S:
        what = f"the job's signature expired {(now_s - expires_s) / 3600:.0f} hours ago"
        raise error(Code.CODE_REFUSED, what, hint="submit the job again; check the clocks if it is new")


_HINT = "submit with a bundle of this cluster: its code key and that of the workers must be the same"


def _mac(key: bytes, tag: bytes, data: bytes) -> bytes:
    if len(key) != 32:
        raise ValueError(f"a key of {len(key)} bytes, not 32")
    return hmac.digest(key, b"kernelmill " + tag + b" 1\0" + data, hashlib.sha256)
