"""What a Fetch is answered with: bytes of partitions' streams from a worker's disk, or of job parts from a master's.

No sockets: `Served` is what the shell sends. Paths are made of ids alone, a reader is who its key says it is, and no
reader gets a partition without a ticket for it.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Callable
from typing import IO, NamedTuple, Protocol

from kernelmill.cluster.data.blockindex import (
    DATA,
    INDEX,
    BlockIndex,
    OutputId,
    Piece,
    job_folder,
    output_stem,
    read_index,
    stream_ranges,
)
from kernelmill.cluster.data.packs import Packed, PackReader
from kernelmill.cluster.fields import PART_BYTES_MAX
from kernelmill.cluster.filelimit import reserve
from kernelmill.cluster.keys.signing import is_ticket
from kernelmill.cluster.messages import FETCH_BYTES_MAX, BlockRange, Fetch, PartRange
from kernelmill.cluster.openfiles import open_file, read_range
from kernelmill.engine.errors import CorruptBlockError

INDEXES_MAX = 256
_READ_BYTES = 1 << 20


class Served(NamedTuple):
    """An answer: a status of Chunk, the length of the whole stream or part, and the bytes."""

    status: str
    total: int = 0
    body: bytes = b""


class Holder(Protocol):
    """Who answers Fetches."""

    def answer(self, fetch: Fetch, reader: str) -> Served:
        """Answer a Fetch of the peer whose key is called `reader`; never raises."""


DENIED, GONE, CORRUPT = Served("DENIED"), Served("GONE"), Served("CORRUPT")


class BlockFiles:
    """The blocks of one worker, for readers with tickets under `ticket_key`."""

    def __init__(self, scratch: str, worker: str, ticket_key: bytes) -> None:
        self._scratch, self._worker, self._ticket_key = scratch, worker, ticket_key
        self._indexes: OrderedDict[str, tuple[BlockIndex, str, int]] = OrderedDict()
        self._packs = PackReader()

    def answer(self, fetch: Fetch, reader: str) -> Served:
        """Read the ranges from disk; a single range of length 0 checks its whole stream instead."""
        if sum(one.length for one in fetch.ranges) > FETCH_BYTES_MAX:
            return DENIED
        bodies, total = [], 0
        for one in fetch.ranges:
            if not isinstance(one, BlockRange) or not self._may_read(one, fetch.ticket, reader):
                return DENIED
            try:
                index, path, base = self._index(one)
                pieces = index.pieces(one.partition)
                head = index.stream_head(one.partition)
                total = len(head) + sum(piece.length for piece in pieces)
                if one.length:
                    bodies.append(_read(path, base, head, pieces, one.offset, one.length))
                else:
                    _check(path, base, pieces)
            except (FileNotFoundError, IndexError):
                return GONE
            except (CorruptBlockError, OSError):  # an unreadable disk is as good as a damaged one
                return CORRUPT
        return Served("OK", total, b"".join(bodies))

    def _may_read(self, one: BlockRange, given: bytes, reader: str) -> bool:
        place = one.job, one.stage, one.gen, one.output, one.partition
        return is_ticket(given, self._ticket_key, *place, reader)

    def forget(self, job: bytes) -> None:
        """A job is over: close its packs."""
        self._packs.forget(job_folder(self._scratch, self._worker, job))

    def _index(self, one: BlockRange) -> tuple[BlockIndex, str, int]:
        """The index, read before or now, and in which file and from where on its pieces lie.

        Raises FileNotFoundError also where the name fits and the ids do not.
        """
        stem = output_stem(self._scratch, self._worker, one.job, one.attempt, one.output)
        found = self._indexes.get(stem)
        if found is None:
            folder = job_folder(self._scratch, self._worker, one.job)
            packed: Packed | None = self._packs.find(folder, one.attempt, one.output)
            if packed is not None:
                found = self._packs.index(packed), packed.path, packed.base
            else:
                found = read_index(stem + INDEX), stem + DATA, 0
            self._indexes[stem] = found
            if len(self._indexes) > INDEXES_MAX:
                self._indexes.popitem(last=False)
        self._indexes.move_to_end(stem)
        if found[0].id != OutputId(one.job, one.stage, one.gen, one.map_task, one.output, one.attempt):
            raise FileNotFoundError(stem)
        return found


class PartFiles:
    """The job parts in a folder, each under its SHA-256 in hex, for peers that may have them."""

    def __init__(self, folder: str, may_have: Callable[[str, bytes], bool]) -> None:
        self._folder, self._may_have = folder, may_have

    def answer(self, fetch: Fetch, reader: str) -> Served:
        """Read the ranges from disk; a single range of length 0 checks its whole part instead."""
        if sum(one.length for one in fetch.ranges) > FETCH_BYTES_MAX:
            return DENIED
        bodies, total = [], 0
        for one in fetch.ranges:
            if not isinstance(one, PartRange) or not self._may_have(reader, one.sha256):
                return DENIED
            try:
                with reserve():
                    handle = os.open(os.path.join(self._folder, one.sha256.hex()), os.O_RDONLY | os.O_CLOEXEC)
                with open(handle, "rb") as file:
                    total = os.fstat(file.fileno()).st_size
                    if not one.length and len(fetch.ranges) == 1 and _sha256_of(file) != one.sha256:
                        return CORRUPT
                    bodies.append(os.pread(file.fileno(), one.length, min(one.offset, PART_BYTES_MAX)))
            except FileNotFoundError:
                return GONE
            except OSError:
                return CORRUPT
        return Served("OK", total, b"".join(bodies))


def _read(path: str, base: int, head: bytes, pieces: list[Piece], offset: int, length: int) -> bytes:
    if not pieces:  # then there may be no data file
        return head[offset : offset + length]
    handle = open_file(path)
    try:
        found = [
            one if isinstance(one, bytes) else read_range(handle, base + one[0], one[1])
            for one in stream_ranges(head, pieces, offset, length)
        ]
    finally:
        os.close(handle)
    return b"".join(found)


def _sha256_of(file: IO[bytes]) -> bytes:
    """The checksum of a file, if it is no longer than a part can be."""
    digest = hashlib.sha256()
    for _ in range(0, PART_BYTES_MAX + 1, _READ_BYTES):
        digest.update(file.read(_READ_BYTES))
    return digest.digest()


def _check(path: str, base: int, pieces: list[Piece]) -> None:
    if not pieces:
        return
    handle = open_file(path)
    try:
        for piece in pieces:
            piece.check_at(handle, base + piece.offset, where=path)
    finally:
        os.close(handle)
