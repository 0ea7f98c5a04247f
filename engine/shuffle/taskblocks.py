"""What a task asks of the place where blocks are: a job's BlockStore, or a cluster's, which also fetches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import pyarrow as pa

from kernelmill.engine.plan.stages import BlockRef
from kernelmill.engine.shuffle.spillfile import SpillFile
from kernelmill.engine.shuffle.writer import HeldRows, OutputWriter


class TaskBlocks(Protocol):
    """Give one to `run_task`. Used by the thread of one task; what each method raises is as in BlockStore."""

    def open(self, stage: int, task: int, schema: pa.Schema, partitions: int, *, output: int = 0) -> OutputWriter:
        """Take an output of a map task as it is made; a task with several outputs closes them from 0 on."""

    def schema(self, ref: BlockRef) -> pa.Schema:
        """The columns of a map task's rows, also where it made none."""

    def rows(self, refs: Iterator[BlockRef]) -> list[tuple[int, int]]:
        """Rows and bytes in memory form of each block: the same wherever it lies."""

    def read(self, ref: BlockRef) -> Iterator[pa.RecordBatch]:
        """The record batches of a block, in order."""

    def read_held(self, ref: BlockRef) -> Iterator[HeldRows]:
        """The same as it is held: for who need not have the rows of a batch brought together first."""

    def spill_file(self, schema: pa.Schema) -> SpillFile:
        """A file for rows that a task cannot hold."""
