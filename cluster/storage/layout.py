"""Where a job's files lie until they are published, and the files that attempts leave there beside their parts.

<parent>/.<name>.km-<job>/          made by the client before it submits; nobody else ever makes it or `attempts`,
                                    so what a zombie writes after the job's end finds no place
    attempts/<epoch>-<number>/      made by the slot: the part of that attempt, or a folder `parts` and what tells of
                                    the files in it, `parts.list`; and `rejects`
    final/                          the output folder in the making
    manifest.json                   the manifest, once it is known, and its xxh3-128: what publishing goes by when it is
                                    done again
    single.parquet, rejects.parquet of an output that is one file: second names of what was published
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from typing import Annotated

import msgspec
import xxhash
from msgspec import Meta

from kernelmill.cluster.fields import AttemptKey, Bounded, OutputFile
from kernelmill.cluster.openfiles import open_file
from kernelmill.engine.commit import PlacedFile
from kernelmill.engine.durable import fsync_folder, fsync_folders, output_errors
from kernelmill.engine.errors import Code, error
from kernelmill.engine.io.context import Reject

ATTEMPTS, FINAL, MANIFEST = "attempts", "final", "manifest.json"
REJECTS_NAME = "rejects"
"""The file of an attempt's rejected records, in order: MessagePack, see `write_rejects`."""
PARTS_FOLDER, PARTS_NAME = "parts", "parts.list"
"""The folder of an attempt with several part files, and the file that says what they are: see `write_parts`."""
TAIL_BYTES = 64 << 10
_PART_NAME = re.compile(rf"{PARTS_FOLDER}/[0-9]{{1,18}}\.parquet")


class PlacedOutput(Bounded, frozen=True):
    """One of the part files of an attempt, and the folder below the output where it belongs: "" or "year=2020"."""

    file: OutputFile
    folder: Annotated[str, Meta(max_length=4096)]


_REJECTS = msgspec.msgpack.Decoder(list[Reject])
_PARTS = msgspec.msgpack.Decoder(list[PlacedOutput])


def staging_of(target: str, job: bytes) -> str:
    """Name the staging folder of a job with the output `target`: a hidden sibling, thus on the same file system."""
    return os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.km-{job.hex()}")


def trash_of(staging: str) -> str:
    """Name what a staging folder is called while it is deleted."""
    parent, name = os.path.split(staging)
    return os.path.join(parent, name.replace(".km-", ".km-trash-"))


def attempt_folder(target: str, job: bytes, attempt: AttemptKey) -> str:
    """Name the folder of one attempt; the slot makes it with os.mkdir, which fails once the job is over."""
    return os.path.join(staging_of(target, job), ATTEMPTS, str(attempt))


def make_staging(target: str, job: bytes, *, may_be_there: bool = False) -> bool:
    """Make the staging of a job; tell whether it was not there. Raises KM0502 or KM0402 where that cannot be."""
    staging = staging_of(target, job)
    with output_errors("making a staging folder", staging):
        is_new = _make_folder(staging, may_be_there)
        _make_folder(os.path.join(staging, ATTEMPTS), may_be_there)
        fsync_folders(staging, os.path.dirname(target))
    return is_new


def drop_untouched(target: str, job: bytes) -> None:
    """Remove the staging of a job that ended without output, if nobody put anything there; else it is the master's.

    That is where the master and workers have another folder under the root's name: they would never find it.
    """
    staging = staging_of(target, job)
    with contextlib.suppress(OSError):  # it is gone, or in use
        os.rmdir(os.path.join(staging, ATTEMPTS))
        os.rmdir(staging)


def _make_folder(path: str, may_be_there: bool) -> bool:
    try:
        os.mkdir(path)
    except FileExistsError:
        if not may_be_there:
            raise
        return False
    return True


def describe_file(folder: str, name: str, rows: int) -> OutputFile:
    """Read a closed file of an attempt for its record: size, checksum of all of it and of its tail. Raises OSError."""
    whole, tail, size = xxhash.xxh3_128(), b"", 0
    with open(os.path.join(folder, name), "rb") as file:
        while data := file.read(1 << 20):
            whole.update(data)
            size += len(data)
            tail = (tail + data)[-TAIL_BYTES:]
    return OutputFile(name, rows, size, whole.digest(), xxhash.xxh3_128_digest(tail))


def tail_of(path: str) -> tuple[int, bytes]:
    """A file's size and the xxh3-128 of its last 64 KiB, for comparing it with its record. Raises OSError."""
    with open(open_file(path), "rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - TAIL_BYTES))
        return size, xxhash.xxh3_128_digest(file.read())


def write_rejects(folder: str, records: Sequence[Reject]) -> OutputFile:
    """Write an attempt's rejected records into its folder, durably; the file for its record. Raises KM0402, KM0502."""
    return _write_list(folder, REJECTS_NAME, list(records), len(records))


def read_rejects(path: str, expected: OutputFile) -> list[Reject]:
    """Read such a file back. Raises KM0605 if its bytes are not those of its record, OSError if it is not there."""
    return _REJECTS.decode(_read_list(path, expected))


def write_parts(folder: str, parts: Sequence[PlacedFile]) -> OutputFile:
    """Say in an attempt's folder, durably, what its part files are; the file for its record. Raises KM0402, KM0502."""
    placed = []
    for part in parts:
        size, tail = tail_of(os.path.join(folder, part.name))
        made = OutputFile(part.name, part.rows, size, bytes.fromhex(part.checksum), tail)
        placed.append(PlacedOutput(made, part.folder))
    with output_errors("making the attempt's files durable", folder):
        fsync_folder(os.path.join(folder, PARTS_FOLDER))
    return _write_list(folder, PARTS_NAME, placed, sum(part.rows for part in parts))


def read_parts(path: str, expected: OutputFile) -> list[PlacedOutput]:
    """Read such a file back: files in the attempt's folder of parts, for folders called `column=value`.

    Raises KM0605 if its bytes are not those of its record or say something else, OSError if it is not there.
    """
    parts = _PARTS.decode(_read_list(path, expected))
    for one in parts:
        if not _PART_NAME.fullmatch(one.file.name) or (one.folder and not all("=" in f for f in one.folder.split("/"))):
            raise error(Code.CORRUPT_BLOCK, f"no part file is {one.file.name!r} for {one.folder!r}", where=path)
    return parts


def _write_list(folder: str, name: str, records: Sequence[object], rows: int) -> OutputFile:
    path = os.path.join(folder, name)
    data = msgspec.msgpack.encode(records)
    with output_errors("writing what an attempt made", path), open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return OutputFile(name, rows, len(data), xxhash.xxh3_128_digest(data), xxhash.xxh3_128_digest(data[-TAIL_BYTES:]))


def _read_list(path: str, expected: OutputFile) -> bytes:
    with open(open_file(path), "rb") as file:
        is_whole = os.fstat(file.fileno()).st_size == expected.size_bytes  # known before so much is asked for
        data = file.read() if is_whole else b""
    if len(data) != expected.size_bytes or xxhash.xxh3_128_digest(data) != expected.xxh3:
        raise error(Code.CORRUPT_BLOCK, f"{expected.name} is not as it was written", where=path)
    return data
