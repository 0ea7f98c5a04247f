"""Messages to frames and back. A frame that is too long, of another protocol or of the wrong shape is KM0607.

The first element of a frame is the protocol's number in every version, so that another version is named as such.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

import msgspec

from kernelmill.cluster.messages import (
    PROTOCOL,
    ClientToMaster,
    Envelope,
    HolderToReader,
    MasterToClient,
    MasterToWorker,
    Message,
    ReaderToHolder,
    WorkerToMaster,
)
from kernelmill.engine.errors import Code, KernelmillError, error

FRAME_BYTES_MAX = 1 << 20
"""Bytes of a control message. Bodies of Chunks are frames of their own, with a bound of their own."""

_Body = TypeVar("_Body", bound=Message)


class _Head(msgspec.Struct, array_like=True):
    """The start of a frame of any version; what follows is not looked at."""

    proto: int


_ENCODER = msgspec.msgpack.Encoder()
_HEAD_DECODER = msgspec.msgpack.Decoder(_Head)


class Link(Generic[_Body]):
    """One direction between two roles, with the messages that may travel in it."""

    def __init__(self, name: str, messages: Any) -> None:
        self.name = name
        self._decoder: msgspec.msgpack.Decoder[Envelope[_Body]] = msgspec.msgpack.Decoder(Envelope[messages])

    def decode(self, frame: bytes | memoryview) -> Envelope[_Body]:
        """Read one frame. Raises KM0607, and nothing else, whatever the bytes are; it says what is wrong with them."""
        if len(frame) > FRAME_BYTES_MAX:
            raise _protocol_error(self.name, f"a message of {len(frame)} bytes; {FRAME_BYTES_MAX} are allowed")
        try:
            envelope = self._decoder.decode(frame)
        except Exception as problem:  # the border to bytes of anybody's: nothing of theirs may end a process
            raise _protocol_error(self.name, _what_is_wrong(frame, problem)) from problem
        if envelope.proto != PROTOCOL:
            raise _protocol_error(self.name, _other_version(envelope.proto))
        return envelope


CLIENT_TO_MASTER: Link[ClientToMaster] = Link("client to master", ClientToMaster)
MASTER_TO_CLIENT: Link[MasterToClient] = Link("master to client", MasterToClient)
WORKER_TO_MASTER: Link[WorkerToMaster] = Link("worker to master", WorkerToMaster)
MASTER_TO_WORKER: Link[MasterToWorker] = Link("master to worker", MasterToWorker)
READER_TO_HOLDER: Link[ReaderToHolder] = Link("reader to holder", ReaderToHolder)
HOLDER_TO_READER: Link[HolderToReader] = Link("holder to reader", HolderToReader)


def encode(envelope: Envelope[Any]) -> bytes:
    """Make the frame of a message. Raises KM0607 if it is longer than a frame may be: a bug of the sender."""
    frame = _ENCODER.encode(envelope)
    if len(frame) > FRAME_BYTES_MAX:
        what = f"a {type(envelope.body).__name__} of {len(frame)} bytes; {FRAME_BYTES_MAX} are allowed"
        raise error(Code.PROTOCOL, what, hint="send it in pages")
    return frame


def _what_is_wrong(frame: bytes | memoryview, problem: Exception) -> str:
    try:
        proto = _HEAD_DECODER.decode(frame).proto
    except Exception:  # not even a frame of another version: say what was found first
        return f"not a message: {problem}"
    return _other_version(proto) if proto != PROTOCOL else f"not a message: {problem}"


def _other_version(proto: int) -> str:
    return f"the peer speaks protocol {proto}, this process protocol {PROTOCOL}"


def _protocol_error(link: str, what: str) -> KernelmillError:
    hint = "use the same version of kernelmill on all sides; if they are the same, the peer is not what it claims to be"
    return error(Code.PROTOCOL, what, where=f"a message from {link}", hint=hint)
