"""What a task is given beside its value and its blocks, and what it hands back: the two ends of `run_task`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol, TypeVar

import pyarrow as pa

from kernelmill.engine.background import cancelled
from kernelmill.engine.commit import PartFile, PlacedFile
from kernelmill.engine.errors import Code, error
from kernelmill.engine.exec.lifesigns import Watched
from kernelmill.engine.ids import AttemptId
from kernelmill.engine.io.context import Place, Reject, RowPlace
from kernelmill.engine.io.rejects import RejectList
from kernelmill.engine.shuffle.spillfile import SpillFile
from kernelmill.engine.shuffle.taskblocks import TaskBlocks
from kernelmill.engine.sinks import HeldSink, Receipt

T = TypeVar("T")


class Scratch:
    """Buffers and tables that a worker thread uses again from task to task: first touch of memory costs as much."""

    def __init__(self) -> None:
        self._buffers: dict[str, bytearray] = {}
        self._idle: dict[Callable[[], Any], list[Any]] = {}

    def buffer(self, name: str, size_bytes: int) -> bytearray:
        """The buffer called `name`, at least `size_bytes` long; contents undefined."""
        found = self._buffers.get(name)
        if found is None or len(found) < size_bytes:
            found = self._buffers[name] = bytearray(size_bytes)
        return found

    def clear(self) -> None:
        """Give all of it back."""
        self._buffers.clear()
        self._idle.clear()

    @contextmanager
    def lend(self, make: Callable[[], T]) -> Iterator[T]:
        """Lend an object that `make` makes, one used before if there is one; two steps of a task never share one."""
        idle = self._idle.setdefault(make, [])
        lent = idle.pop() if idle else make()
        try:
            yield lent
        finally:
            idle.append(lent)


class Builds(Protocol):
    """Build sides of joins that all tasks of a stage in this process read: see `exec/buildside.SharedBuilds`."""

    def get(self, stage: int, number: int, make: Callable[[], T]) -> T:
        """What a stage's step made, or `make()` if there is none yet."""

    def make_if_nobody_does(self, stage: int, number: int, make: Callable[[], object]) -> None:
        """Have it made, if there is none yet and no other task is making it; never wait."""

    def get_part(self, stage: int, number: int, part: int, make: Callable[[], Any]) -> Any:
        """The same for a partition that several tasks join."""


class TaskContext:
    """One attempt's surroundings; satisfies `io.context.ReadContext`. Used by the one thread that runs the attempt.

    on_bad: error, or reject: rows whose values do not fit are set aside; part_path: where a sink task writes its file;
    max_rejects: more rejects than this end the attempt with KM0503; on_progress: told the input bytes done so far;
    memory_bytes_max: what a step that holds rows may hold before it spills. `origin` says for people what the task
    reads, `store` is where spilled rows go, `sink` what a task gives its rows to that writes no file, `builds` holds
    what tasks of a stage make once for all of them, if they may. `sync_later` takes over a file that a task wrote,
    without it the file is durable when the attempt is over.
    """

    def __init__(
        self,
        attempt: AttemptId,
        *,
        scratch: Scratch | None = None,
        part_path: str | None = None,
        is_cancelled: Callable[[], bool] = lambda: False,
        on_progress: Callable[[int], None] = lambda _: None,
        on_bad: str = "error",
        max_rejects: int = 1000,
        memory_bytes_max: int = 1 << 62,
        sink: HeldSink | None = None,
        sync_later: Callable[[int, str], None] | None = None,
        builds: Builds | None = None,
    ) -> None:
        self.attempt, self.scratch, self.part_path = attempt, scratch or Scratch(), part_path
        self.sink, self.sync_later, self.builds = sink, sync_later, builds
        self._is_cancelled, self._on_progress = is_cancelled, on_progress
        self.on_bad, self.memory_bytes_max = on_bad, memory_bytes_max
        self._rejects = RejectList(max_rejects)
        self.counters: dict[str, int] = {}
        self.origin = ""
        self.store: TaskBlocks | None = None
        self._spills: list[SpillFile] = []
        self._place: Place | None = None

    def check_cancelled(self) -> None:
        """Raise KM0701 if the job is cancelled."""
        if self._is_cancelled():
            raise cancelled()

    def watched(self, at: Callable[[], object], stop: Callable[[], object]) -> Watched:
        """A loop over records to be looked at from outside; afterwards, if it was stopped, `check_cancelled` raises."""
        return Watched(at, stop, self.live, self._is_cancelled)

    def live(self) -> None:
        """Hear that a watched loop is further. By any thread."""

    def progress(self, bytes_done: int) -> None:
        """Report input bytes done so far."""
        self._on_progress(bytes_done)

    def reject(self, record: Reject) -> None:
        """Set a record aside. Raises KM0503 where there are more than max_rejects in this task alone."""
        self._rejects.add(record)

    def rows_from(self, place: Place | None) -> None:
        """Say where the rows of the batch come from that is handed on next; None: a sort or a shuffle made them."""
        self._place = place

    def selected(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """The rows of a task's split that it is to take: all of them here."""
        return batches

    def take_place(self) -> Place:
        """Where the rows of the batch just handed over come from: the task's `origin` if nobody said more."""
        place, self._place, origin = self._place, None, self.origin
        return place or (lambda _: RowPlace(origin))

    @property
    def rejects(self) -> list[Reject]:
        """The records set aside so far."""
        return self._rejects.records

    def count(self, name: str, n: int) -> None:
        """Add to a counter."""
        self.counters[name] = self.counters.get(name, 0) + n

    def spill_file(self, schema: pa.Schema) -> SpillFile:
        """A file for rows that do not fit memory_bytes_max; `close_spills` closes it at the latest."""
        if self.store is None:
            raise error(Code.INTERNAL, "a task without a block store has nowhere to spill to")
        self._spills.append(self.store.spill_file(schema))
        return self._spills[-1]

    @property
    def spilled_bytes(self) -> int:
        """Bytes written to spill files so far."""
        return sum(spill.bytes for spill in self._spills)

    def close_spills(self) -> None:
        """The attempt is over, however it ended: give back the disk that it used."""
        for spill in self._spills:
            spill.close()

    def buffer(self, name: str, size_bytes: int) -> bytearray:
        """A reused buffer of the thread; see ReadContext."""
        return self.scratch.buffer(name, size_bytes)


class TaskResult(NamedTuple):
    """What an attempt came to. `part` is the file of a task that wrote one, `parts` those of one that wrote several.

    `receipt` is what a sink said of its part.

    Other tasks left blocks in the store.
    """

    rows: int
    bytes: int
    spilled_bytes: int
    part: PartFile | None
    counters: dict[str, int]
    rejects: list[Reject]
    receipt: Receipt = b""
    parts: tuple[PlacedFile, ...] = ()
