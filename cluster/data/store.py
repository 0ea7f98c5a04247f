"""ClusterStore: what `run_task` takes a block store for in a slot of a cluster.

Outputs are written to this worker's folder. Blocks are read where they lie if that is on this host, else from the file
into which the supervisor fetched them. One store serves one attempt.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import pyarrow as pa

from kernelmill.cluster.data.attemptfiles import (
    ELSEWHERE,
    AttemptFile,
    Block,
    block_in_pack,
    block_in_place,
    block_of_stream,
)
from kernelmill.cluster.data.blockdesk import BlockDesk, Holding
from kernelmill.cluster.data.blockindex import OutputId, attempt_folder, job_folder, output_stem
from kernelmill.cluster.data.packs import Packed, PackReader, PackWriter
from kernelmill.cluster.fields import AttemptKey, TaskKey
from kernelmill.cluster.worker.slotframes import BlockHere
from kernelmill.engine.durable import output_errors
from kernelmill.engine.errors import ClusterError, Code, CorruptBlockError
from kernelmill.engine.exec.rowsums import RowSums
from kernelmill.engine.plan.stages import BlockRef, Task
from kernelmill.engine.shuffle.room import Room
from kernelmill.engine.shuffle.spillfile import SpillFile
from kernelmill.engine.shuffle.writer import HeldRows, OnDisk, OutputWriter

_UNLIMITED = 1 << 62
CORRUPT = "CORRUPT_BLOCK"


class BlockGoneError(ClusterError):
    """KM0605: an attempt cannot go on, for a block of which it has used rows already is gone. Not the task's fault."""

    def __init__(self, failure: str, what: str, where: str) -> None:
        super().__init__(Code.CORRUPT_BLOCK, what, where=where, hint="the map task is run again, then this one")
        self.failure = failure


class ScratchPlace(NamedTuple):
    """The scratch folder of this host, and the name of this worker in it."""

    scratch: str
    worker: str


class Consumed(NamedTuple):
    """What an attempt read over one edge: from how many map tasks, and the checksums of the rows."""

    maps: int
    sums: RowSums


class Watch(Protocol):
    """Who is told of a task's reading: a slot's Whereabouts."""

    def phase(self, name: str) -> None:
        """What the task does from now on."""

    def batch(self, rows: int, size_bytes: int) -> None:
        """So many rows come next; so many bytes were read."""


class _Here(NamedTuple):
    """A block on this host: whose it is, and where in a pack it is, None for files of its own."""

    held: Holding
    packed: Packed | None


class _Unwatched:
    def phase(self, name: str) -> None:
        pass

    def batch(self, rows: int, size_bytes: int) -> None:
        pass


class _Nothing:
    bytes = 0

    def write(self, partition: int, batches: Sequence[pa.RecordBatch]) -> None:
        pass

    def finish(self) -> OnDisk:
        return ELSEWHERE

    def discard(self) -> None:
        pass


class _AttemptFolder:
    """The folder of an attempt's own files, made when the first of them is, once."""

    def __init__(self, job_folder: str, attempt: AttemptKey) -> None:
        self._job_folder, self._attempt = job_folder, attempt
        self._is_made = False

    def make(self) -> None:
        """Make it with a plain mkdir: what was there before is another's."""
        if self._is_made:
            return
        folder = os.path.join(self._job_folder, str(self._attempt))
        with output_errors("making a folder for blocks", folder):
            try:
                os.mkdir(folder)
            except FileNotFoundError:  # the first output of the job here
                os.makedirs(self._job_folder, exist_ok=True)
                os.mkdir(folder)
        self._is_made = True


class ClusterStore:
    """The blocks of one attempt: those it makes and those it reads. Satisfies engine's TaskBlocks.

    schema_of: the columns that the plan says a block has; one with others is taken for damaged. pack: where small
    outputs go, else they have files of their own. packs: who reads those of others, kept from task to task.
    """

    def __init__(
        self,
        place: ScratchPlace,
        key: TaskKey,
        attempt: AttemptKey,
        task: Task,
        desk: BlockDesk,
        watch: Watch | None = None,
        schema_of: Callable[[BlockRef], pa.Schema] | None = None,
        *,
        pack: PackWriter | None = None,
        packs: PackReader | None = None,
    ) -> None:
        self._place, self._key, self._attempt, self._task, self._desk = place, key, attempt, task, desk
        self._watch: Watch = watch or _Unwatched()
        self._schema_of, self._pack = schema_of, pack
        self._packs = packs if packs is not None else PackReader()
        self._own: dict[str, bool] = {}  # by holder: whether its folder is here, and nobody else can write to it
        self._read_bytes = 0
        self._folder = job_folder(place.scratch, place.worker, key.job)
        self._own_folder = _AttemptFolder(self._folder, attempt)
        self._room = Room(memory_bytes_max=0, spill_bytes_max=_UNLIMITED, spill_dir=self._folder)
        self._files: list[AttemptFile] = []
        self._here: dict[BlockRef, _Here] = {}
        self._found: dict[BlockRef, Block] = {}
        self._coming: set[BlockRef] = set()  # those found of which only the index is here
        self._counted: dict[BlockRef, tuple[int, int]] = {}  # rows and bytes of copies that were dropped
        self._used: set[BlockRef] = set()
        # What comes later does not count for this attempt: all that it does must speak of the same outputs.
        self._without_rows = {edge.source: desk.without_rows(edge.source) for edge in task.inputs}

    def prefetch(self) -> None:
        """Ask for the blocks of the task that are not on this host, before it reads the first."""
        refs = (ref for edge in self._task.inputs for ref in edge.blocks())
        self._desk.want([ref for ref in refs if self._has_rows(ref) and self._look(ref) is None])

    # What the task makes ---------------------------------------------------------------------------------------------

    def open(self, stage: int, task: int, schema: pa.Schema, partitions: int, *, output: int = 0) -> OutputWriter:
        """Take an output of the task as it is made; a task with several closes them from 0 on."""
        if self._pack is None:
            self._own_folder.make()
        stem = output_stem(self._place.scratch, self._place.worker, self._key.job, self._attempt, output)
        id_ = OutputId(self._key.job, stage, self._key.gen, task, output, self._attempt)
        charge, make_folder = self._room.charge, self._own_folder.make
        file = AttemptFile(stem, id_, schema, partitions, charge, pack=self._pack, make_folder=make_folder)
        self._files.append(file)
        return OutputWriter(schema, partitions, self._room, lambda: file, lambda _: None, is_shared=True)

    def open_nothing(self, schema: pa.Schema, partitions: int) -> OutputWriter:
        """A writer whose rows go nowhere, for tasks that are run to see whether they end."""
        return OutputWriter(schema, partitions, self._room, _Nothing, lambda _: None, is_shared=True)

    def spill_file(self, schema: pa.Schema) -> SpillFile:
        """A file for rows that the task cannot hold."""
        with output_errors("making a folder for spilled rows", self._folder):
            os.makedirs(self._folder, exist_ok=True)
        return SpillFile(Path(self._folder), schema, self._room.charge_task)

    def made(self) -> tuple[int, bytes]:
        """Length of all data files, and the packed vectors of all outputs' partitions, in order."""
        return sum(file.bytes for file in self._files), b"".join(file.vectors() for file in self._files)

    # What it reads ---------------------------------------------------------------------------------------------------

    def schema(self, ref: BlockRef) -> pa.Schema:
        """The columns of a map task's rows, also where it made none."""
        return self._find(ref).schema if self._schema_of is None else self._schema_of(ref)

    def rows(self, refs: Iterator[BlockRef]) -> list[tuple[int, int]]:
        """Rows and bytes in memory form of each block. Waits for their indexes, not for what is in them."""
        return [_count_of(self._find(ref)) if self._has_rows(ref) else (0, 0) for ref in refs]

    def read(self, ref: BlockRef) -> Iterator[pa.RecordBatch]:
        """The batches of a block, in order; waits for one that is not here.

        Raises BlockGoneError where it turns out to be damaged after rows of it were given.
        """
        while self._has_rows(ref):
            block = self._whole(ref)
            try:
                for batch in block.batches():
                    self._used.add(ref)
                    self._read_bytes += batch.get_total_buffer_size()
                    self._watch.batch(batch.num_rows, self._read_bytes)
                    yield batch
                return
            except CorruptBlockError as problem:
                self._give_up(ref, problem)

    def read_held(self, ref: BlockRef) -> Iterator[HeldRows]:
        """As `read`: here all rows were brought together to be written."""
        return self.read(ref)

    def consumed(self) -> list[Consumed]:
        """What the task read over each of its edges, by the indexes of the blocks that it read."""
        found = []
        for edge in self._task.inputs:
            rows = total = xor = 0
            for ref in filter(self._has_rows, edge.blocks()):
                for piece in self._find(ref).pieces:
                    rows, total, xor = rows + piece.rows, total + piece.sum, xor ^ piece.xor
            found.append(Consumed(edge.last_task - edge.first_task, RowSums(rows, total % (1 << 64), xor)))
        return found

    def _has_rows(self, ref: BlockRef) -> bool:
        return ref.task not in self._without_rows[ref.stage]

    def _look(self, ref: BlockRef) -> _Here | None:
        """Where a block is that a worker of this host has. A folder that others may have put there says nothing."""
        held, known = self._desk.holding(ref), self._here.get(ref)
        if known is not None and known.held is held:
            return known
        is_own = self._own.get(held.holder)
        if is_own is None:
            is_own = self._own[held.holder] = _is_own(os.path.join(self._place.scratch, held.holder))
        if not is_own:
            return None
        folder = job_folder(self._place.scratch, held.holder, self._key.job)
        packed = self._packs.find(folder, held.attempt, ref.output)
        if packed is None and not os.path.isdir(
            attempt_folder(self._place.scratch, held.holder, self._key.job, held.attempt)
        ):
            return None
        here = _Here(held, packed)
        if packed is not None:  # a folder may go
            self._here[ref] = here
        return here

    def _id_of(self, ref: BlockRef, held: Holding) -> OutputId:
        return OutputId(self._key.job, ref.stage, held.gen, ref.task, ref.output, held.attempt)

    def _find(self, ref: BlockRef) -> Block:
        block = self._found.get(ref)
        code = ""
        while block is None:
            path, here = "", None if code else self._look(ref)
            if here is None:
                self._watch.phase("fetch")
                answer = self._usable(self._desk.wait_for(ref, code, whole=False), ref)
                path, code = answer.path, ""
                here = None if path else self._look(ref)
                if not path and here is None:
                    continue  # it is on another host than before
                if not answer.is_whole:
                    self._coming.add(ref)
            try:
                block = self._open(ref, path, here)
            except (CorruptBlockError, FileNotFoundError):  # its folder is here, and it is not in it
                self._coming.discard(ref)
                code = CORRUPT
        if ref in self._counted and self._counted[ref] != _count_of(block):
            what = f"the output of task {ref.stage}.{ref.task} was made again, in another size"
            raise BlockGoneError(CORRUPT, what, block.path)
        self._found[ref] = block
        return block

    def _whole(self, ref: BlockRef) -> Block:
        """A block all of which is here."""
        while True:
            block = self._find(ref)
            if ref not in self._coming:
                return block
            self._coming.discard(ref)
            self._watch.phase("fetch")
            if self._usable(self._desk.wait_for(ref), ref).path != block.path:
                self._drop(ref)  # it is another copy, here or elsewhere

    def _drop(self, ref: BlockRef) -> None:
        """Look for another copy of a block the next time; it must be as large, for what was planned by that."""
        self._here.pop(ref, None)
        self._counted[ref] = _count_of(self._found.pop(ref))

    def _usable(self, answer: BlockHere, ref: BlockRef) -> BlockHere:
        if answer.code:
            what = f"the output of task {ref.stage}.{ref.task} cannot be read"
            raise BlockGoneError(answer.code, what, answer.holder)
        return answer

    def _open(self, ref: BlockRef, path: str, here: _Here | None) -> Block:
        """The block in a file that was fetched, or where it is here."""
        if here is None:
            block = block_of_stream(path, self._id_of(ref, self._desk.holding(ref)), ref.partition)
        elif here.packed is not None:
            block = block_in_pack(self._packs, here.packed, self._id_of(ref, here.held), ref.partition)
        else:
            held = here.held
            stem = output_stem(self._place.scratch, held.holder, self._key.job, held.attempt, ref.output)
            block = block_in_place(stem, self._id_of(ref, held), ref.partition)
        if self._schema_of is not None and not block.schema.equals(self._schema_of(ref)):
            what = "a shuffle block has other columns than the plan says"
            raise CorruptBlockError(Code.CORRUPT_BLOCK, what, where=block.path)
        return block

    def _give_up(self, ref: BlockRef, problem: CorruptBlockError) -> None:
        """Have a damaged block made again: wait for the new one, or end the attempt if rows of the old one are used."""
        self._drop(ref)
        if ref in self._used:
            self._desk.report(ref, CORRUPT)
            raise BlockGoneError(CORRUPT, problem.what, problem.where) from problem
        self._watch.phase("fetch")
        self._desk.wait_for(ref, CORRUPT)


def _count_of(block: Block) -> tuple[int, int]:
    """Rows of a block, and their bytes in memory form."""
    return sum(piece.rows for piece in block.pieces), sum(piece.bytes for piece in block.pieces)


def _is_own(folder: str) -> bool:
    """Whether only this user can have put anything there: the scratch folder above it may be open to all."""
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022
