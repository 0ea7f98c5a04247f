"""BlockStore: where shuffle blocks live between stages: in memory as Arrow arrays, or on disk.

A map attempt's output is put as a whole and becomes visible as a whole. Memory decides only where it lives: what would
pass the budget is written to one data file and one index file per map attempt (`block`), never one file per (map,
partition).
"""

from __future__ import annotations

import fcntl
import os
import secrets
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, NamedTuple

import pyarrow as pa

from kernelmill.engine.batch import batch_bytes
from kernelmill.engine.durable import output_error
from kernelmill.engine.errors import Code, CorruptBlockError, KernelmillError, error
from kernelmill.engine.plan.stages import BlockRef
from kernelmill.engine.shuffle.block import Place, decode_block, decode_index, encode_block, encode_index
from kernelmill.engine.shuffle.spillfile import SpillFile

Partitions = Sequence[Sequence[pa.RecordBatch]]
"""The batches of each partition, in order."""

_PREFIX, _LOCK = "kernelmill-spill-", "lock"


class LostBlockError(CorruptBlockError):
    """KM0605 for the block `ref`: running its map task again mends it."""

    def __init__(self, problem: str, ref: BlockRef, where: str) -> None:
        super().__init__(Code.CORRUPT_BLOCK, problem, where=where, hint="check the disk of spill_dir, then run again")
        self.ref = ref


class PutResult(NamedTuple):
    """What a put came to: rows, bytes in memory form, and the bytes written to disk (0: it stayed in memory)."""

    rows: int
    bytes: int
    spilled_bytes: int


class _InMemory(NamedTuple):
    schema: pa.Schema
    partitions: list[list[pa.RecordBatch]]
    sizes: list[int]
    bytes: int


class _OnDisk(NamedTuple):
    stem: Path
    schema: pa.Schema
    places: list[Place]


_Key = tuple[int, int, int]
"""Stage, map task, and which of its outputs."""


class BlockStore:
    """Blocks of one job, by (stage, map task, output, partition). Safe for many threads.

    memory_bytes_max: what may stay in memory; 0 writes everything to disk. Close it, or use it in a `with`.
    """

    def __init__(
        self, *, memory_bytes_max: int, spill_dir: str, spill_bytes_max: int, keep: Path | None = None
    ) -> None:
        self._memory_bytes_max, self._spill_dir, self._spill_bytes_max = memory_bytes_max, spill_dir, spill_bytes_max
        self._outputs: dict[_Key, _InMemory | _OnDisk] = {}
        self._lock = threading.Lock()
        self._folder = keep
        self._kept = keep is not None
        self._folder_lock: IO[bytes] | None = None
        self._memory_bytes = self._spilled_bytes = self._task_bytes = 0
        self._numbers = iter(range(1 << 62))
        if keep is None:
            clear_dead_spills(spill_dir)  # here, not at the first spill: this job may have none

    def __enter__(self) -> BlockStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def memory_bytes(self) -> int:
        """Bytes of blocks that are in memory now."""
        return self._memory_bytes

    @property
    def spilled_bytes(self) -> int:
        """Bytes of blocks written to disk so far."""
        return self._spilled_bytes

    @property
    def task_bytes(self) -> int:
        """Bytes that tasks hold in spill files now."""
        return self._task_bytes

    def put(self, stage: int, task: int, schema: pa.Schema, partitions: Partitions, *, output: int = 0) -> PutResult:
        """Keep an output of a map task; what another attempt put there is replaced. Raises KM0402.

        A task with several outputs puts them from 0 on.
        """
        place = stage, task, output
        kept = [[batch for batch in batches if batch.num_rows] for batches in partitions]
        rows = sum(batch.num_rows for batches in kept for batch in batches)
        sizes = [sum(batch_bytes(batch) for batch in batches) for batches in kept]
        size = sum(sizes)
        with self._lock:
            fits = self._memory_bytes + size <= self._memory_bytes_max
            if fits:
                self._memory_bytes += size
        if fits:
            self._place(place, _InMemory(schema, kept, sizes, size))
            return PutResult(rows, size, 0)
        written = self._write(place, schema, kept, sizes)
        self._place(place, written)
        return PutResult(rows, size, sum(place[1] for place in written.places))

    def spill(self) -> None:
        """Write what is in memory to disk, and keep nothing more there. Raises KM0402."""
        with self._lock:
            self._memory_bytes_max = 0
            held = [(place, output) for place, output in self._outputs.items() if isinstance(output, _InMemory)]
        for place, output in held:
            self._place(place, self._write(place, output.schema, output.partitions, output.sizes))

    def schema(self, ref: BlockRef) -> pa.Schema:
        """The columns of a map task's rows, also where it made none."""
        return self._find(ref).schema

    def rows(self, refs: Iterator[BlockRef]) -> list[tuple[int, int]]:
        """Rows and bytes in memory form of each block, without reading it: the same wherever it lies."""
        found = []
        for ref in refs:
            output = self._find(ref)
            if isinstance(output, _OnDisk):
                found.append(output.places[ref.partition][2:])
            else:
                rows = sum(batch.num_rows for batch in output.partitions[ref.partition])
                found.append((rows, output.sizes[ref.partition]))
        return found

    def read(self, ref: BlockRef) -> list[pa.RecordBatch]:
        """The record batches of a block. Raises KM0605 if its bytes are not what was written."""
        output = self._find(ref)
        if isinstance(output, _InMemory):
            return output.partitions[ref.partition]
        offset, length, _, _ = output.places[ref.partition]
        if not length:
            return []
        path = output.stem.with_suffix(".data")
        try:
            with pa.OSFile(os.fsencode(path), "rb") as file:  # type: ignore[arg-type]  # a name need not be UTF-8
                file.seek(offset)
                data = file.read_buffer(length)
            return decode_block(data, output.schema, where=f"{path}, byte {offset}")
        except CorruptBlockError as problem:
            raise LostBlockError(problem.what, ref, problem.where) from problem
        except (OSError, pa.ArrowException) as problem:
            raise LostBlockError(f"a shuffle block cannot be read: {problem}", ref, str(path)) from problem

    def spill_file(self, schema: pa.Schema) -> SpillFile:
        """A file for rows that a task cannot hold; it counts against the same limit as blocks. Raises KM0402."""
        return SpillFile(self._open_folder(), schema, self._charge_task)

    def drop(self, stage: int, task: int) -> None:
        """Forget the outputs of a map task and free what they used."""
        output = 0
        while self._drop((stage, task, output)):
            output += 1

    def _drop(self, place: _Key) -> bool:
        with self._lock:
            output = self._outputs.pop(place, None)
            if isinstance(output, _InMemory):
                self._memory_bytes -= output.bytes
        if isinstance(output, _OnDisk) and not self._kept:
            _remove(output.stem.with_suffix(".data"), output.stem.with_suffix(".index"))
        return output is not None

    def close(self) -> None:
        """Forget all blocks and remove the spill folder."""
        with self._lock:
            self._outputs.clear()
            folder, self._folder = self._folder, None
            self._memory_bytes = 0
        if folder is not None and not self._kept:
            with suppress(OSError):  # what resists is the next job's to clear
                _remove_folder(folder)
        if self._folder_lock is not None:
            self._folder_lock.close()

    def _place(self, place: _Key, output: _InMemory | _OnDisk) -> None:
        self._drop(place)
        with self._lock:
            self._outputs[place] = output

    def _find(self, ref: BlockRef) -> _InMemory | _OnDisk:
        place = ref.stage, ref.task, ref.output
        output = self._outputs.get(place)
        if output is None and self._kept and self._folder is not None:
            output = self._outputs[place] = _opened(self._folder / _name_of(place), ref)
        if output is None:
            raise LostBlockError(f"no output of task {ref.stage}.{ref.task} is here", ref, str(self._folder or ""))
        return output

    def _write(self, place: _Key, schema: pa.Schema, partitions: Partitions, sizes: Sequence[int]) -> _OnDisk:
        folder = self._open_folder()
        name = _name_of(place) if self._kept else f"{_name_of(place)}-{next(self._numbers)}"
        stem = folder / name
        unfinished = stem.with_name(f"{name}-{secrets.token_hex(8)}")  # another attempt may write as well
        data, index = unfinished.with_suffix(".data.new"), unfinished.with_suffix(".index.new")
        places: list[Place] = []
        at = 0
        try:
            with open(data, "wb", buffering=1 << 20) as file:
                for batches, size in zip(partitions, sizes, strict=True):
                    began = at
                    for piece in encode_block(batches):
                        self._charge(len(piece))
                        at += file.write(piece)
                    places.append((began, at - began, sum(batch.num_rows for batch in batches), size))
            index.write_bytes(encode_index(schema, places))
            os.replace(data, stem.with_suffix(".data"))
            os.replace(index, stem.with_suffix(".index"))
        except KernelmillError:  # before OSError, which the one for a full disk is as well
            _remove(data, index)
            raise
        except OSError as problem:
            _remove(data, index)
            raise output_error(problem, "spilling shuffle blocks", str(stem)) from problem
        return _OnDisk(stem, schema, places)

    def _charge(self, size: int) -> None:
        with self._lock:
            self._spilled_bytes += size
        self._check_limit()

    def _charge_task(self, size: int) -> None:
        with self._lock:
            self._task_bytes += size
        if size > 0:
            self._check_limit()

    def _check_limit(self) -> None:
        if self._spilled_bytes + self._task_bytes > self._spill_bytes_max:
            what = f"more than {self._spill_bytes_max:,} bytes would be spilled"
            hint = "raise spill_limit= or memory=, or point spill_dir= to a larger disk"
            raise error(Code.DISK_FULL, what, where=self._spill_dir, hint=hint)

    def _open_folder(self) -> Path:
        with self._lock:
            if self._folder is None:
                try:
                    os.makedirs(self._spill_dir, exist_ok=True)
                    self._folder, self._folder_lock = _locked_folder(self._spill_dir)
                except OSError as problem:
                    raise output_error(problem, "spilling shuffle blocks", self._spill_dir) from problem
            return self._folder


def _name_of(place: _Key) -> str:
    stage, task, output = place
    return f"{stage}-{task}-o{output}" if output else f"{stage}-{task}"


def _locked_folder(spill_dir: str) -> tuple[Path, IO[bytes]]:
    """Make a spill folder and hold its lock; again, if another job took it for a dead one's before it was locked."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=spill_dir))
        try:
            lock = open(folder / _LOCK, "wb")  # noqa: SIM115 - held while the job lives
        except FileNotFoundError:
            continue
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock.fileno()).st_nlink:
            return folder, lock
        lock.close()


def clear_dead_spills(spill_dir: str) -> list[str]:
    """Remove the spill folders of processes that died: those whose lock nobody holds. Returns their paths.

    An empty folder without a lock goes too: its maker died before it had one, or will make another.
    """
    removed = []
    for folder in sorted(Path(spill_dir).glob(f"{_PREFIX}*")):
        try:
            with open(folder / _LOCK, "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove_folder(folder)
        except FileNotFoundError:
            with suppress(OSError):  # somebody else's, or gone meanwhile
                folder.rmdir()
                removed.append(str(folder))
        except OSError:  # alive, or somebody else's: not ours to remove
            continue
        else:
            removed.append(str(folder))
    return removed


def _remove_folder(folder: Path) -> None:
    """Remove a spill folder whose lock is held, the lock last: a kill before that leaves what the next job clears."""
    for file in folder.iterdir():
        if file.name != _LOCK:
            file.unlink(missing_ok=True)
    (folder / _LOCK).unlink(missing_ok=True)
    folder.rmdir()


def _opened(stem: Path, ref: BlockRef) -> _OnDisk:
    """The output that another store, or another process, left at `stem`."""
    path = stem.with_suffix(".index")
    try:
        schema, places = decode_index(path.read_bytes(), where=str(path))
    except CorruptBlockError as problem:
        raise LostBlockError(problem.what, ref, problem.where) from problem
    except (OSError, pa.ArrowException) as problem:
        raise LostBlockError(f"an index of shuffle blocks cannot be read: {problem}", ref, str(path)) from problem
    return _OnDisk(stem, schema, places)


def _remove(*files: Path) -> None:
    for file in files:
        file.unlink(missing_ok=True)
