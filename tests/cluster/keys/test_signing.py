"""Seals, tickets and signatures hold for exactly what they were made for."""

import hashlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelmill.cluster.fields import AttemptKey, TaskKey
from kernelmill.cluster.keys import signing
from kernelmill.engine.errors import Code, KernelmillError

KEY, OTHER = b"k" * 32, b"K" * 32
ATTEMPT, TASK = AttemptKey(3, 77), TaskKey(b"j" * 16, 2, 1, 9)
DIGEST, NOW_S = hashlib.sha256(b"spec").digest(), 1_800_000_000


def refused(signature, key=KEY, digest=DIGEST, expires_s=NOW_S, now_s=NOW_S):
    with pytest.raises(KernelmillError) as caught:
        signing.check_signature(signature, key, digest, expires_s, now_s)
    assert caught.value.code is Code.CODE_REFUSED and isinstance(caught.value, PermissionError)
    return caught.value.what


def test_a_seal_is_that_of_one_attempt_of_one_task_by_one_worker():
    made = signing.seal(KEY, ATTEMPT, TASK, "w1")
    assert len(made) == signing.SEAL_BYTES and signing.is_sealed(made, KEY, ATTEMPT, TASK, "w1")
    others = [
        (OTHER, ATTEMPT, TASK, "w1"),
        (KEY, ATTEMPT, TASK, "w2"),
        *[(KEY, msgspec.structs.replace(ATTEMPT, **{name: 4}), TASK, "w1") for name in ("epoch", "number")],
        *[(KEY, ATTEMPT, msgspec.structs.replace(TASK, **{name: 4}), "w1") for name in ("stage", "gen", "index")],
        (KEY, ATTEMPT, msgspec.structs.replace(TASK, job=b"J" * 16), "w1"),
    ]
    assert len({signing.seal(*other) for other in others} | {made}) == len(others) + 1
    assert not any(signing.is_sealed(made, *other) for other in others)
    for wrong in (b"", made[:-1], made + b"\0", bytes(16)):
        assert not signing.is_sealed(wrong, KEY, ATTEMPT, TASK, "w1")


def test_a_ticket_is_for_one_partition_and_one_reader():
    base = {"key": KEY, "job": b"j" * 16, "stage": 2, "gen": 1, "output": 0, "partition": 5, "reader": "w1"}
    made = signing.ticket(**base)
    assert len(made) == signing.TICKET_BYTES and signing.is_ticket(made, **base)
    changes = {"key": OTHER, "job": b"J" * 16, "stage": 3, "gen": 2, "output": 1, "partition": 6, "reader": "w2"}
    assert not any(signing.is_ticket(made, **{**base, name: value}) for name, value in changes.items())


@given(st.integers(0, 255), st.integers(0, 7))
def test_no_bit_of_a_proof_may_be_wrong(at, bit):
    signature = bytearray(signing.sign_spec(KEY, DIGEST, NOW_S))
    signing.check_signature(bytes(signature), KEY, DIGEST, NOW_S, NOW_S)
    signature[at % 32] ^= 1 << bit
    refused(bytes(signature))


def test_a_signature_is_for_one_spec_one_expiry_and_one_key():
    made = signing.sign_spec(KEY, DIGEST, NOW_S)
    assert "does not match" in refused(made, key=OTHER)
    refused(made, digest=hashlib.sha256(b"another").digest())
    refused(made, expires_s=NOW_S + 1)
    refused(b"")
    refused(made, digest=DIGEST[:31])
    refused(made, expires_s=-1)
    refused(made, expires_s=2**64)


def test_a_signature_ends_and_says_so():
    made = signing.sign_spec(KEY, DIGEST, NOW_S)
    signing.check_signature(made, KEY, DIGEST, NOW_S, NOW_S + signing.CLOCK_SKEW_S)
    signing.check_signature(made, KEY, DIGEST, NOW_S, NOW_S - signing.EXPIRY_S)
    assert "expired 24 hours ago" in refused(made, now_s=NOW_S + 24 * 3600)


def test_proofs_of_one_kind_are_none_of_another_and_their_bytes_are_frozen():
    assert signing.seal(KEY, ATTEMPT, TASK, "w1").hex() == "9efb47f7624c9f69f02c970cbebe8145"
    assert signing.ticket(KEY, b"j" * 16, 2, 1, 0, 5, "w1").hex() == "24f5af024da169229d27c6f710f792e2"
    assert (
        signing.sign_spec(KEY, DIGEST, NOW_S).hex()
        == "a0220038962b9bd5c49c2a15e6375524d11954e5cda32a9d835455a9978dbbd9"
    )


@pytest.mark.parametrize("key", [b"", b"k" * 31, b"k" * 33])
def test_a_key_of_another_length_is_a_bug(key):
    with pytest.raises(ValueError, match="not 32"):
        signing.sign_spec(key, DIGEST, NOW_S)
