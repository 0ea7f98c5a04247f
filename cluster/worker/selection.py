"""Which of its rows a task takes: without those that must be left out, and in a probe only a range of them.

A row of a task that reads files or tables, or blocks without grouping them first, is named by its number in the order
of reading; a task that begins with groups leaves out whole groups, named by the hash of their key. Both are the same in
every attempt, wherever it runs. What is left out is set aside with its place and the reason (I8).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.cluster.data.store import ClusterStore
from kernelmill.cluster.fields import Origin
from kernelmill.cluster.worker.slotframes import Only
from kernelmill.engine.errors import Code
from kernelmill.engine.exec.exchange import hash_rows
from kernelmill.engine.exec.records import record_of
from kernelmill.engine.io.context import Place, Reject, RowPlace
from kernelmill.engine.plan import physical
from kernelmill.engine.plan.stages import BlockRef, EdgeKind, Task
from kernelmill.engine.shuffle.spillfile import SpillFile
from kernelmill.engine.shuffle.writer import HeldRows, OutputWriter

REASON = "it ended, or held up, the process of the function that it was given to"
_RECORD_BYTES_MAX = 64 << 10
_HASH_BYTES = 8
_ALL = slice(None)
_NOTHING = np.empty(0, np.uint64)


class RowNamed(Exception):
    """The row, or group, that a naming probe was asked for: no error, but the way out of the task."""

    def __init__(self, origin: Origin, place: RowPlace, text: str) -> None:
        super().__init__(text)
        self.origin, self.place, self.text = origin, place, text


def group_keys(pipeline: physical.Pipeline) -> tuple[str, ...]:
    """The columns of a task's blocks by which it groups their rows first; none if it does not."""
    first = pipeline.steps[0] if pipeline.source is None and pipeline.steps else None
    match first:
        case physical.MergeAggregate() | physical.MergeCombined() | physical.GatherGroups() | physical.ReduceGroups():
            return tuple(first.keys)
        case physical.Sort():  # by its keys, for the groups that a later step makes of them
            later = [step for step in pipeline.steps if isinstance(step, physical.ReduceGroups | physical.MapGroups)]
            return tuple(later[0].keys) if later else ()
        case _:
            return ()


def key_hashes(batch: pa.RecordBatch, keys: Sequence[str]) -> NDArray[np.uint64]:
    """The hash of each row's key, as partitions are chosen by."""
    return hash_rows([batch.column(key) for key in keys])


class Selection:
    """What one attempt takes and leaves out; `reject` is told of each row, or group, that is left out, once."""

    def __init__(
        self, keys: tuple[str, ...], left_out: Sequence[Origin], only: Only | None, reject: Callable[[Reject], None]
    ) -> None:
        self.keys, self._only, self._reject = keys, only, reject
        self._out, self._told = _NOTHING, set[int]()
        if left_out:
            hashes = [int.from_bytes(one.key_xxh3, "little") for one in left_out if one.key_xxh3]
            rows = [one.row for one in left_out if not one.key_xxh3]
            self._out = np.sort(np.array(hashes if keys else rows, np.uint64))

    @property
    def takes_all(self) -> bool:
        """Whether nothing is left out."""
        return self._only is None and not self._out.size

    def taken(
        self, batch: pa.RecordBatch, first: int, place: Place, label: str
    ) -> tuple[pa.RecordBatch, NDArray[np.int64] | slice]:
        """The rows of a batch that are taken, and which they are; its first one has the number `first`."""
        if self.takes_all or not batch.num_rows:
            return batch, _ALL
        if self.keys:
            numbers = key_hashes(batch, self.keys)
        else:
            numbers = np.arange(first, first + batch.num_rows, dtype=np.uint64)
        keep = np.ones(batch.num_rows, np.bool_)
        if self._only is not None:
            keep = (numbers >= np.uint64(self._only.first)) & (numbers <= np.uint64(self._only.last))
            if self._only.is_naming and keep.any():
                raise self._named(batch, int(np.argmax(keep)), numbers, place, label)
        out = np.isin(numbers, self._out)
        for row in np.flatnonzero(out & keep):
            self._set_aside(batch, int(row), int(numbers[row]), place, label)
        keep &= ~out
        if keep.all():
            return batch, _ALL
        kept: NDArray[np.int64] = np.flatnonzero(keep)
        return batch.take(kept), kept

    def is_past(self, first: int) -> bool:
        """Whether no row from number `first` on is taken."""
        return self._only is not None and not self.keys and first > self._only.last

    def _set_aside(self, batch: pa.RecordBatch, row: int, number: int, place: Place, label: str) -> None:
        if number in self._told:
            return
        self._told.add(number)
        found, data, _ = self._described(batch, row, place, label)
        code = Code.FUNCTION_CRASHED.id
        self._reject(Reject(found.file, found.offset, None, data[:_RECORD_BYTES_MAX], REASON, code, found.row))

    def _named(
        self, batch: pa.RecordBatch, row: int, numbers: NDArray[np.uint64], place: Place, label: str
    ) -> RowNamed:
        found, _, text = self._described(batch, row, place, label)
        number = int(numbers[row])
        if self.keys:
            return RowNamed(Origin(0, 0, 0, number.to_bytes(_HASH_BYTES, "little")), found, text)
        return RowNamed(Origin(0, found.offset or found.row or 0, number, b""), found, text)

    def _described(self, batch: pa.RecordBatch, row: int, place: Place, label: str) -> tuple[RowPlace, bytes, str]:
        if not self.keys:
            return record_of(batch, row, place(row))
        key = batch.select(list(self.keys)).slice(row, 1).to_pylist()[0]
        data = json.dumps(key, default=str, ensure_ascii=False).encode(errors="backslashreplace")
        return RowPlace(label), data, f"the group is {data.decode()}"


class SelectedBlocks:
    """A ClusterStore through a Selection; in a probe what is made goes nowhere. Satisfies engine's TaskBlocks."""

    def __init__(
        self, store: ClusterStore, task: Task, selection: Selection, is_probe: bool, on_rows: Callable[[int, int], None]
    ) -> None:
        self._store, self._task, self._selection, self._is_probe = store, task, selection, is_probe
        self._on_rows = on_rows
        self._first: dict[BlockRef, int] = {}

    def open(self, stage: int, task: int, schema: pa.Schema, partitions: int, *, output: int = 0) -> OutputWriter:
        """As ClusterStore's."""
        if self._is_probe:
            return self._store.open_nothing(schema, partitions)
        return self._store.open(stage, task, schema, partitions, output=output)

    def schema(self, ref: BlockRef) -> pa.Schema:
        """As ClusterStore's."""
        return self._store.schema(ref)

    def rows(self, refs: Iterator[BlockRef]) -> list[tuple[int, int]]:
        """As ClusterStore's: what is left out is counted."""
        return self._store.rows(refs)

    def spill_file(self, schema: pa.Schema) -> SpillFile:
        """As ClusterStore's."""
        return self._store.spill_file(schema)

    def read(self, ref: BlockRef) -> Iterator[pa.RecordBatch]:
        """The batches of a block without what is left out; what every task of the stage reads is whole."""
        first = self._first_rows().get(ref)
        if first is None:
            yield from self._store.read(ref)
            return
        label = f"<task {self._task.stage}.{self._task.index}>"
        for batch in self._store.read(ref):
            self._on_rows(first, batch.num_rows)
            taken, _ = self._selection.taken(batch, first, lambda row: RowPlace(label), label)
            first += batch.num_rows
            if taken.num_rows:
                yield taken

    def read_held(self, ref: BlockRef) -> Iterator[HeldRows]:
        """As `read`."""
        return self.read(ref)

    def _first_rows(self) -> dict[BlockRef, int]:
        """The number of the first row of each block that is selected from."""
        if not self._first:
            edges = [edge for edge in self._task.inputs if edge.kind is not EdgeKind.BROADCAST]
            refs = [ref for edge in edges for ref in edge.blocks()]
            counts = [rows for rows, _ in self._store.rows(iter(refs))]
            self._first = dict(zip(refs, accumulate(counts, initial=0), strict=False))
        return self._first
