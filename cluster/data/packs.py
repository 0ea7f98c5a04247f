"""Packs: small outputs of many attempts in one file of the slot that made them, not a folder and files for each.

    <scratch>/<worker>/<job>/packs/<name>.pack    for each output its index (blockindex), then its pieces
    <scratch>/<worker>/<job>/packs/<name>.list    one entry an output, written after it: where it lies

An entry, all numbers little-endian:

    0       4    epoch of the attempt, u32
    4       4    output, u32
    8       8    number of the attempt, u64
    16      8    offset of the index in the pack, u64
    24      4    length of the index, u32
    28      4    0, u32
    32      8    xxh3-64 of the 32 bytes before, u64

A file is written by one process, in whole entries, and ends with it; a list's tail that is cut off or damaged is an
output that is not there. A pack goes with its job: what does not count in it is never asked for. Making a folder and
two files took two fifths of a task that has nothing else to do.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import struct
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import xxhash

from kernelmill.cluster.data.blockindex import INDEX_BYTES_MAX, BlockIndex, corrupt_index, decode_index
from kernelmill.cluster.fields import AttemptKey
from kernelmill.cluster.openfiles import open_file, read_range, size_of
from kernelmill.engine.durable import output_errors

PACKED_BYTES_MAX = 64 << 10
"""Bytes of an output that goes into a pack, its index not counted."""
PACKS = "packs"
_PACK, _LIST = ".pack", ".list"
_ENTRY = struct.Struct("<IIQQII")
_SUM = struct.Struct("<Q")
_ENTRY_BYTES = _ENTRY.size + _SUM.size
_FILES_MAX, _JOBS_MAX = 32, 16
_LIST_BYTES_MAX = 64 << 20
"""Bytes of a list that are read at a time: those of more than a million outputs."""
_DOING = "writing shuffle blocks"


class Packed(NamedTuple):
    """Where an output lies: its index begins at `offset` of the file `path`, its pieces follow that."""

    path: str
    offset: int
    index_bytes: int

    @property
    def base(self) -> int:
        """Where its pieces begin, which their offsets are counted from."""
        return self.offset + self.index_bytes


class PackWriter:
    """The pack of one process for one job, made with the first output."""

    def __init__(self, job_folder: str) -> None:
        self._stem = os.path.join(job_folder, PACKS, f"{os.getpid()}-{secrets.token_hex(8)}")
        self._pack = self._list = -1
        self._end = self._entries_end = 0

    def add(self, attempt: AttemptKey, output: int, index: bytes, pieces: Sequence[Any]) -> str:
        """Put an output there, whole, its pieces as bytes or buffers; returns the file's path.

        Raises KM0402 or KM0502 if the disk does not take it.
        """
        path = self._stem + _PACK
        with output_errors(_DOING, path):
            if self._list < 0:
                self._open(path)
            entry = _ENTRY.pack(attempt.epoch, output, attempt.number, self._end, len(index), 0)
            self._end = _append(self._pack, b"".join((index, *pieces)), self._end)
            data = entry + _SUM.pack(xxhash.xxh3_64_intdigest(entry))
            self._entries_end = _append(self._list, data, self._entries_end)
        return path

    def close(self) -> None:
        """Close the files; what was added stays."""
        for handle in (self._pack, self._list):
            if handle >= 0:
                os.close(handle)
        self._pack = self._list = -1

    def __del__(self) -> None:
        self.close()

    def _open(self, path: str) -> None:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        if self._pack < 0:
            self._pack = os.open(path, flags, 0o666)
        self._list = os.open(self._stem + _LIST, flags, 0o666)


def _append(handle: int, data: bytes, end: int) -> int:
    """Write at the end, whole or not at all; return the new end."""
    written = 0
    try:
        while written < len(data):  # a disk that is nearly full takes a part
            written += os.pwrite(handle, data[written:], end + written)
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(handle, end)
        raise
    return end + len(data)


class _Listed:
    """What was read so far of one folder of packs."""

    def __init__(self) -> None:
        self.read_bytes: dict[str, int] = {}  # by path of a list
        self.found: dict[tuple[AttemptKey, int], Packed] = {}


class PackReader:
    """Finds and reads what lies in packs; used by one thread. Lists are read on as they grow."""

    def __init__(self) -> None:
        self._folders: OrderedDict[str, _Listed] = OrderedDict()
        self._files: OrderedDict[str, int] = OrderedDict()

    def find(self, job_folder: str, attempt: AttemptKey, output: int) -> Packed | None:
        """Where an output lies; None if no pack of this folder has it."""
        listed = self._folders.get(job_folder)
        if listed is None:
            listed = self._folders[job_folder] = _Listed()
            if len(self._folders) > _JOBS_MAX:
                self._folders.popitem(last=False)
        key = attempt, output
        if key not in listed.found:
            _read_lists(os.path.join(job_folder, PACKS), listed)
        return listed.found.get(key)

    def index(self, packed: Packed) -> BlockIndex:
        """The index of an output. Raises KM0605 if it is damaged, OSError if it cannot be read."""
        where = f"{packed.path}, byte {packed.offset}"
        if packed.index_bytes > INDEX_BYTES_MAX:
            raise corrupt_index(where)
        return decode_index(read_range(self.handle(packed.path), packed.offset, packed.index_bytes), where=where)

    def handle(self, path: str) -> int:
        """A descriptor of a pack, which stays this reader's. Raises OSError."""
        handle = self._files.get(path)
        if handle is None:
            handle = self._files[path] = open_file(path)
            if len(self._files) > _FILES_MAX:
                os.close(self._files.popitem(last=False)[1])
        self._files.move_to_end(path)
        return handle

    def forget(self, job_folder: str) -> None:
        """A job is over: close its files, or the disk would not get them back."""
        self._folders.pop(job_folder, None)
        for path in [path for path in self._files if path.startswith(os.path.join(job_folder, PACKS))]:
            os.close(self._files.pop(path))

    def close(self) -> None:
        """Close the files and forget what was read."""
        while self._files:
            os.close(self._files.popitem()[1])
        self._folders.clear()

    def __del__(self) -> None:
        self.close()


def _read_lists(folder: str, listed: _Listed) -> None:
    """Read what has come to the lists of a folder; nothing if it is not there."""
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        path = os.path.join(folder, name)
        if not name.endswith(_LIST):
            continue
        try:
            handle = open_file(path)
            try:
                begin = listed.read_bytes.get(path, 0)
                data = read_range(handle, begin, min(_LIST_BYTES_MAX, max(0, size_of(handle) - begin)))
            finally:
                os.close(handle)
        except OSError:
            continue  # it goes with its job, or is none
        listed.read_bytes[path] = begin + _take_entries(data, path.removesuffix(_LIST) + _PACK, listed)


def _take_entries(data: bytes, pack: str, listed: _Listed) -> int:
    """Take what is whole of a list's bytes; return how many were looked at. The last may still be on its way."""
    at = 0
    while at + _ENTRY_BYTES <= len(data):
        entry = data[at : at + _ENTRY.size]
        if _SUM.unpack_from(data, at + _ENTRY.size)[0] == xxhash.xxh3_64_intdigest(entry):
            epoch, output, number, offset, index_bytes, _ = _ENTRY.unpack(entry)
            listed.found[AttemptKey(epoch, number), output] = Packed(pack, offset, index_bytes)
        elif at + 2 * _ENTRY_BYTES > len(data):
            break
        at += _ENTRY_BYTES
    return at
