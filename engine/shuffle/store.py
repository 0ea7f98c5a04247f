"""BlockStore: where shuffle blocks live between stages: in memory as Arrow arrays, or on disk.

An output of a map attempt is taken as it is made and becomes visible as a whole. Memory decides only where it lives:
what would pass the budget is written to one data file and one index file per map attempt (`block`), never one file per
(map, partition).
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

import pyarrow as pa

from kernelmill.engine.durable import output_error
from kernelmill.engine.errors import Code, CorruptBlockError
from kernelmill.engine.plan.stages import BlockRef
from kernelmill.engine.shuffle.block import decode_index, decode_piece
from kernelmill.engine.shuffle.folder import clear_dead_spills, locked_folder, remove_folder
from kernelmill.engine.shuffle.room import Room
from kernelmill.engine.shuffle.spillfile import SpillFile
from kernelmill.engine.shuffle.writer import BlockFile, HeldRows, InMemory, OnDisk, OutputWriter, PutResult, gathered


class LostBlockError(CorruptBlockError):
    """KM0605 for the block `ref`: running its map task again mends it."""

    def __init__(self, problem: str, ref: BlockRef, where: str) -> None:
        super().__init__(Code.CORRUPT_BLOCK, problem, where=where, hint="check the disk of spill_dir, then run again")
        self.ref = ref


_Key = tuple[int, int, int]
"""Stage, map task, and which of its outputs."""


class BlockStore:
    """Blocks of one job, by (stage, map task, output, partition). Safe for many threads.

    memory_bytes_max: what may stay in memory; 0 writes everything to disk. keep: a folder that other processes read as
    well, so all is written there, and stays. Close it, or use it in a `with`.
    """

    def __init__(
        self, *, memory_bytes_max: int, spill_dir: str, spill_bytes_max: int, keep: Path | None = None
    ) -> None:
        self._spill_dir = spill_dir
        self._room = Room(memory_bytes_max=memory_bytes_max, spill_bytes_max=spill_bytes_max, spill_dir=spill_dir)
        self._outputs: dict[_Key, InMemory | OnDisk] = {}
        self._lock = threading.Lock()
        self._folder = keep
        self._kept = keep is not None
        self._folder_lock: IO[bytes] | None = None
        self._numbers = iter(range(1 << 62))
        if keep is None:
            clear_dead_spills(spill_dir)  # here, not at the first spill: this job may have none

    def __enter__(self) -> BlockStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def memory_bytes(self) -> int:
        """Bytes of blocks that are in memory now, those of running tasks among them."""
        return self._room.memory_bytes

    @property
    def spilled_bytes(self) -> int:
        """Bytes of blocks written to disk so far."""
        return self._room.spilled_bytes

    @property
    def task_bytes(self) -> int:
        """Bytes that tasks hold in spill files now."""
        return self._room.task_bytes

    def open(self, stage: int, task: int, schema: pa.Schema, partitions: int, *, output: int = 0) -> OutputWriter:
        """Take an output of a map task as it is made; once closed, it replaces what another attempt left there.

        A task with several outputs closes them from 0 on.
        """
        place = stage, task, output

        def new_file() -> BlockFile:
            return self._new_file(place, schema, partitions)

        def keep(made: InMemory | OnDisk) -> None:
            self._place(place, made)

        return OutputWriter(schema, partitions, self._room, new_file, keep, is_shared=self._kept)

    def put(
        self,
        stage: int,
        task: int,
        schema: pa.Schema,
        partitions: Sequence[Iterable[pa.RecordBatch]],
        *,
        output: int = 0,
    ) -> PutResult:
        """Keep an output of which all is at hand: the batches of each partition, in order. Raises KM0402."""
        with self.open(stage, task, schema, len(partitions), output=output) as out:
            for partition, batches in enumerate(partitions):
                for batch in batches:
                    out.add(partition, batch)
            return out.close()

    def spill(self) -> None:
        """Write what is in memory to disk, and keep nothing more there. Raises KM0402."""
        self._room.close_memory()
        with self._lock:
            held = [(place, output) for place, output in self._outputs.items() if isinstance(output, InMemory)]
        for place, output in held:
            with self._new_file(place, output.schema, len(output.partitions)) as file:
                for partition, batches in enumerate(output.partitions):
                    file.write(partition, [gathered(batch) for batch in batches])
                self._place(place, file.finish())

    def schema(self, ref: BlockRef) -> pa.Schema:
        """The columns of a map task's rows, also where it made none."""
        return self._find(ref).schema

    def rows(self, refs: Iterator[BlockRef]) -> list[tuple[int, int]]:
        """Rows and bytes in memory form of each block, without reading it: the same wherever it lies."""
        found = []
        for ref in refs:
            output = self._find(ref)
            if isinstance(output, OnDisk):
                places = output.blocks[ref.partition]
                found.append((sum(place.rows for place in places), sum(place.bytes for place in places)))
            else:
                rows = sum(batch.num_rows for batch in output.partitions[ref.partition])
                found.append((rows, output.sizes[ref.partition]))
        return found

    def read(self, ref: BlockRef) -> Iterator[pa.RecordBatch]:
        """The record batches of a block, a piece of it at a time.

        Raises KM0605 if there is no such block, and in the place of rows whose bytes are not what was written.
        """
        return map(gathered, self.read_held(ref))

    def read_held(self, ref: BlockRef) -> Iterator[HeldRows]:
        """The same as it is held: for who need not have the rows of a batch brought together first."""
        output = self._find(ref)
        return iter(output.partitions[ref.partition]) if isinstance(output, InMemory) else _pieces(output, ref)

    def spill_file(self, schema: pa.Schema) -> SpillFile:
        """A file for rows that a task cannot hold; it counts against the same limit as blocks. Raises KM0402."""
        return SpillFile(self._open_folder(), schema, self._room.charge_task)

    def drop(self, stage: int, task: int) -> None:
        """Forget the outputs of a map task and free what they used."""
        output = 0
        while self._drop((stage, task, output)):
            output += 1

    def _drop(self, place: _Key) -> bool:
        with self._lock:
            output = self._outputs.pop(place, None)
        if isinstance(output, InMemory):
            self._room.give_memory(sum(output.sizes))
        elif output is not None and not self._kept:
            for suffix in (".data", ".index"):
                output.stem.with_suffix(suffix).unlink(missing_ok=True)
        return output is not None

    def close(self) -> None:
        """Forget all blocks and remove the spill folder."""
        with self._lock:
            held = sum(sum(output.sizes) for output in self._outputs.values() if isinstance(output, InMemory))
            self._outputs.clear()
            folder, self._folder = self._folder, None
        self._room.give_memory(held)
        if folder is not None and not self._kept:
            with suppress(OSError):  # what resists is the next job's to clear
                remove_folder(folder)
        if self._folder_lock is not None:
            self._folder_lock.close()

    def _place(self, place: _Key, output: InMemory | OnDisk) -> None:
        self._drop(place)
        with self._lock:
            self._outputs[place] = output

    def _find(self, ref: BlockRef) -> InMemory | OnDisk:
        place = ref.stage, ref.task, ref.output
        output = self._outputs.get(place)
        if output is None and self._kept and self._folder is not None:
            output = self._outputs[place] = _opened(self._folder / _name_of(place), ref)
        if output is None:
            raise LostBlockError(f"no output of task {ref.stage}.{ref.task} is here", ref, str(self._folder or ""))
        return output

    def _new_file(self, place: _Key, schema: pa.Schema, partitions: int) -> BlockFile:
        folder = self._open_folder()
        name = _name_of(place) if self._kept else f"{_name_of(place)}-{next(self._numbers)}"
        return BlockFile(folder / name, schema, partitions, self._room.charge)

    def _open_folder(self) -> Path:
        with self._lock:
            if self._folder is None:
                try:
                    os.makedirs(self._spill_dir, exist_ok=True)
                    self._folder, self._folder_lock = locked_folder(self._spill_dir)
                except OSError as problem:
                    raise output_error(problem, "spilling shuffle blocks", self._spill_dir) from problem
            return self._folder


def _name_of(place: _Key) -> str:
    stage, task, output = place
    return f"{stage}-{task}-o{output}" if output else f"{stage}-{task}"


def _opened(stem: Path, ref: BlockRef) -> OnDisk:
    """The output that another store, or another process, left at `stem`."""
    path = stem.with_suffix(".index")
    try:
        schema, blocks = decode_index(path.read_bytes(), where=str(path))
    except CorruptBlockError as problem:
        raise LostBlockError(problem.what, ref, problem.where) from problem
    except (OSError, pa.ArrowException) as problem:
        raise LostBlockError(f"an index of shuffle blocks cannot be read: {problem}", ref, str(path)) from problem
    return OnDisk(stem, schema, blocks)


def _pieces(output: OnDisk, ref: BlockRef) -> Iterator[pa.RecordBatch]:
    """The batches of a block on disk; each piece is checked as a whole before any row of it is given."""
    path, places = output.stem.with_suffix(".data"), output.blocks[ref.partition]
    if not places:
        return
    try:
        with pa.OSFile(os.fsencode(path), "rb") as file:  # type: ignore[arg-type]  # a name need not be UTF-8
            for place in places:
                file.seek(place.offset)
                data = file.read_buffer(place.length)
                yield from decode_piece(data, output.schema, where=f"{path}, byte {place.offset}")
    except CorruptBlockError as problem:
        raise LostBlockError(problem.what, ref, problem.where) from problem
    except (OSError, pa.ArrowException) as problem:
        raise LostBlockError(f"a shuffle block cannot be read: {problem}", ref, str(path)) from problem
