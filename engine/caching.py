"""Rows that were computed once: record batches of a finished plan, for the plans of this process that come after it.

They are cut as the tasks that made them were, and count as much input as there was to make them of. So a plan over
them has the tasks and partitions that it would have without, and gives the same bytes.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence

import pyarrow as pa

from kernelmill.engine.errors import Code, CorruptBlockError, error
from kernelmill.engine.plan.stages import BlockRef
from kernelmill.engine.shuffle.store import BlockStore
from kernelmill.engine.splits import SourceSplit

MEMORY_SHARE = 4
"""All cached rows of a process together hold at most one part in so many of `memory`; the others are on disk."""

_living: weakref.WeakSet[CachedRows] = weakref.WeakSet()
_guard = threading.Lock()


class CachedRows:
    """The rows of a finished plan, by the task that made them. Satisfies `sources.HeldSource`.

    memory_bytes_max: what stays in memory, the rest is spilled. Freed by `close`, or when nothing holds it any more.
    """

    def __init__(
        self, schema: pa.Schema, input_bytes: int, *, memory_bytes_max: int, spill_dir: str, spill_bytes_max: int
    ) -> None:
        self.label, self.input_bytes, self._schema = "<cached>", input_bytes, schema
        self.rows = 0
        self.is_reduced = False
        self.counters: Mapping[str, int] = {}
        self.rejects: pa.Table | None = None
        self._sizes: list[int] = []
        self._store = BlockStore(
            memory_bytes_max=memory_bytes_max, spill_dir=spill_dir, spill_bytes_max=spill_bytes_max
        )
        self._close = weakref.finalize(self, self._store.close)
        with _guard:
            _living.add(self)

    @property
    def sized_splits(self) -> Sequence[tuple[bytes, int]]:
        """A split for each task that made rows."""
        return [(str(number).encode(), size) for number, size in enumerate(self._sizes)]

    @property
    def memory_bytes(self) -> int:
        """Bytes of rows that are in memory now."""
        return self._store.memory_bytes

    @property
    def spilled_bytes(self) -> int:
        """Bytes of rows that were written to disk."""
        return self._store.spilled_bytes

    @property
    def is_closed(self) -> bool:
        """True once the rows are gone."""
        return not self._close.alive

    def add(self, batches: Iterable[pa.RecordBatch]) -> int:
        """Take the rows of the next task; their bytes. Raises KM0402 if they must be spilled and the disk is full."""
        put = self._store.put(0, len(self._sizes), self._schema, [batches])
        self._sizes.append(put.bytes)
        self.rows += put.rows
        return put.bytes

    def split_name(self, split: SourceSplit) -> str:
        """The rows of the task that made them, for people."""
        return f"<cached rows of task {split.number}>"

    def read(self, split: SourceSplit) -> Iterator[pa.RecordBatch]:
        """The rows of a task. Raises KM0107 after `close`, KM0605 for spilled rows whose bytes have changed."""
        try:
            yield from self._store.read(BlockRef(0, split.number, 0))
        except CorruptBlockError as problem:
            if self.is_closed:
                raise error(
                    Code.BAD_SETTING, "this cached frame is closed", hint="close it after its last use"
                ) from None
            # Not the job's own block: none of its tasks can make it again.
            hint = "check the disk of spill_dir, then cache() again"
            raise error(Code.CORRUPT_BLOCK, f"cached rows: {problem.what}", where=problem.where, hint=hint) from problem

    def spill(self) -> None:
        """Write what is in memory to disk: a job needs the room."""
        self._store.spill()

    def close(self) -> None:
        """Free the rows. A plan over them fails from now on."""
        self._close()


def cached_bytes() -> int:
    """Bytes that the cached rows of this process hold in memory."""
    with _guard:
        return sum(rows.memory_bytes for rows in _living)


def spill_cached() -> None:
    """Write all cached rows of this process to disk."""
    with _guard:
        living = list(_living)
    for rows in living:
        rows.spill()
