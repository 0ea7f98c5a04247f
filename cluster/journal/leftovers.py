"""Jobs that have ended and whose staging nobody may have removed, noted before the journal forgets them.

A journal is compacted when it is opened, and of ended jobs keeps how they ended. A master that is killed then, before
its storage process has removed what they left, leaves that to the next one, which may be killed as soon. So they lie in
a file until all of them are gone: 8 bytes of its xxh3, then msgpack. One that is damaged, or is lost, costs staging
that `kernelmill clean` removes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

import msgspec
import xxhash

from kernelmill.cluster.fields import JobId, Place
from kernelmill.cluster.journal.place import failed
from kernelmill.cluster.logs import cluster_log
from kernelmill.engine.durable import fsync_folder

NAME: Final = "leftovers"
JOBS_MAX: Final = 4096
"""How many are known at most; the oldest are forgotten first."""
_DIGEST_BYTES: Final = 8
_log = cluster_log()


class Leftovers:
    """The jobs of a state folder, with the places of their outputs; `live` ones are none, whatever the file says."""

    def __init__(self, folder: Path, live: Collection[str]) -> None:
        self._path = folder / NAME
        found = _read(self._path)
        self.jobs: dict[bytes, Place] = {job: place for job, place in found if job.hex() not in live}

    def add(self, ended: Mapping[bytes, Place]) -> None:
        """Note more of them, durably. Raises KM0606 where the disk is full, KM0614 for any other failure."""
        self.jobs = dict([*self.jobs.items(), *ended.items()][-JOBS_MAX:])
        data = msgspec.msgpack.encode(list(self.jobs.items()))
        new = self._path.with_suffix(".new")
        try:
            with open(new, "wb") as file:
                file.write(xxhash.xxh3_64_digest(data) + data)
                file.flush()
                os.fsync(file.fileno())
            os.rename(new, self._path)
            fsync_folder(str(self._path.parent))
        except OSError as problem:
            raise failed(self._path, "noting what ended jobs left", problem) from problem

    def removed(self, job: bytes) -> None:
        """Note that a job's staging is gone. The file goes with the last one; until then it may say too much."""
        if self.jobs.pop(job, None) is not None and not self.jobs:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._path)


def _read(path: Path) -> list[tuple[JobId, Place]]:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as problem:
        raise failed(path, "reading what ended jobs left", problem) from problem
    try:
        if xxhash.xxh3_64_digest(data[_DIGEST_BYTES:]) == data[:_DIGEST_BYTES]:
            return msgspec.msgpack.decode(data[_DIGEST_BYTES:], type=list[tuple[JobId, Place]])
    except msgspec.DecodeError:
        pass
    _log.warning("%s is damaged: staging of ended jobs may stay beside outputs; kernelmill clean removes it", path)
    return []
