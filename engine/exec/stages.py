"""What the driver of a compiled map or reduce writes to: staged rows, new texts, its state; how rows become columns."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.batch import array_of_strings, buffer_of, validity_buffer
from kernelmill.engine.errors import Code, error
from kernelmill.engine.exec.drivercolumns import ARENA_BYTES, ARENA_BYTES_MAX
from kernelmill.engine.exec.keys import Repeated
from kernelmill.kernels import staged, usermaps
from kernelmill.kernels.usercode import Output
from kernelmill.kernels.usermaps import CompiledMap

STAGE_WORDS = 1 << 17
"""The stage's first size, 1 MiB: most of it stays in a core's own cache, and threads seldom wait for Python."""
STAGE_BYTES_MAX = 1 << 30
Words = NDArray[np.int64]


class Columns(Protocol):
    """What is known of staged columns: a CompiledMap's own, or those of one of its named outputs."""

    @property
    def outputs(self) -> tuple[Output, ...]: ...
    @property
    def places(self) -> tuple[int, ...]: ...
    @property
    def staged(self) -> int: ...


class StagedRows:
    """Room for the rows that are staged for one output; it grows for a large record."""

    def __init__(self) -> None:
        self.columns = -1
        self.capacity = 0
        self.rows: Words = np.empty(0, np.int64)

    def fit(self, columns: Columns) -> None:
        """Make room for rows of such columns, as much in every thread; what is staged is lost.

        A stage that grew for a large record gets its first size back, though not the memory: where batches of staged
        rows end decides where a table is flushed, and so the last digit of a sum of floats (I1).
        """
        room = STAGE_WORDS // (2 * max(1, columns.staged))
        if columns.staged != self.columns or self.capacity != room:
            self.columns = columns.staged
            self.grow(room)

    def grow(self, rows: int) -> None:
        """Make room for `rows`; what is staged is lost."""
        if 16 * rows * max(1, self.columns) > STAGE_BYTES_MAX:
            raise error(Code.MEMORY_LIMIT, f"one record emits more than {rows // 2:,} rows", hint="emit less a record")
        words = 2 * rows * max(1, self.columns)
        if self.rows.size < words:
            self.rows = np.empty(words, np.int64)
        self.capacity = rows

    def words(self, column: int, part: int, rows: int) -> Words:
        """Word `part` of the first `rows` staged rows' column, as a view."""
        start = (2 * column + part) * self.capacity
        return self.rows[start : start + rows]


class Stage(StagedRows):
    """The main output's rows, those of the named ones, new texts, the state. One a thread."""

    def __init__(self) -> None:
        super().__init__()
        self.state: Words = np.zeros(usermaps.STATE_SIZE, np.int64)
        self.named: list[StagedRows] = []
        self.arena: Words = np.zeros(4, np.int64)
        self._bytes: NDArray[np.uint8] = np.empty(0, np.uint8)
        self.grow_arena(ARENA_BYTES)

    def begin(self, form: CompiledMap) -> None:
        """Make room for the rows of `form`; nothing is staged or counted. There is none for named outputs."""
        self.fit(form)
        self.grow_arena(ARENA_BYTES)  # its first size again, see fit
        self.state[:] = 0
        self.state[usermaps.COUNTERS_END] = usermaps.COUNTERS + 2 * len(form.counters)
        self.state[usermaps.CAPACITY] = self.state[usermaps.FULL_AT] = self.capacity
        self.state[usermaps.SIDE] = form.side.address
        self.state[usermaps.NAMED + usermaps.TO_CAPACITY :: usermaps.NAMED_WORDS] = -1

    def begin_named(self, number: int, columns: Columns) -> None:
        """Make room for rows of a named output, by its number in the state."""
        while len(self.named) <= number:
            self.named.append(StagedRows())
        self.named[number].fit(columns)
        self._place_named(number)

    def grow_full(self) -> None:
        """Make twice the room where one record emitted more than fits; what is staged there is lost."""
        number = int(self.state[usermaps.OVERFULL]) - 2
        rows = self if number < 0 else self.named[number]
        rows.grow(2 * rows.capacity)
        if number < 0:
            self.state[usermaps.CAPACITY] = self.state[usermaps.FULL_AT] = rows.capacity
        else:
            self._place_named(number)

    def grow_arena(self, size: int) -> None:
        """Make room for `size` bytes of new texts; those that were made are lost."""
        if size > ARENA_BYTES_MAX:
            raise error(Code.MEMORY_LIMIT, "one record makes more than 1 GiB of text", hint="make less a record")
        if self._bytes.size < size + 8:
            self._bytes = np.empty(size + 8, np.uint8)
        self.arena[:] = (self._bytes.ctypes.data + 7 & -8, size, 0, 0)

    def clear(self, kept: int = 0) -> None:
        """Forget what is staged after the first `kept` rows, and what an unfinished record counted."""
        self.state[usermaps.COUNT] = kept
        self.state[usermaps.REJECTED] = self.state[usermaps.OVERFULL] = 0
        self.state[usermaps.DRAINED] = self.state[usermaps.FOLDED] = 0
        self.state[usermaps.COUNTERS + 1 : usermaps.NAMED : 2] = 0
        self.state[usermaps.NAMED + usermaps.TO_COUNT :: usermaps.NAMED_WORDS] = 0
        self.arena[usermaps.ARENA_WANTED] = 0
        if not kept:
            self.arena[usermaps.ARENA_USED] = 0

    def _place_named(self, number: int) -> None:
        rows, at = self.named[number], usermaps.NAMED + usermaps.NAMED_WORDS * number
        self.state[at + usermaps.TO_ADDRESS] = rows.rows.ctypes.data
        self.state[at + usermaps.TO_CAPACITY] = rows.capacity


def staged_batch(stage: StagedRows, columns: Columns, rows: int, schema: pa.Schema) -> pa.RecordBatch:
    """The first staged rows as a batch of their own."""
    arrays = [staged_column(stage, columns, number, rows) for number in range(len(columns.outputs))]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def staged_column(stage: StagedRows, columns: Columns, number: int, rows: int, *, copied: bool = True) -> pa.Array[Any]:
    """A column of the first staged rows; numbers not `copied` are valid until the driver goes on."""
    kind, nullable, constant = columns.outputs[number]
    if constant is not None:
        return Repeated(constant, rows).array()
    place = columns.places[number]
    first, second = stage.words(place, 0, rows), stage.words(place, 1, rows)
    if kind == "text":
        offsets, validity = np.empty(rows + 1, np.int32), np.empty(rows, np.uint8)
        nulls = staged.staged_offsets(second, offsets, validity)
        data = np.empty(int(offsets[-1]) + staged.SLACK_BYTES, np.uint8)
        staged.copy_staged(stage.rows.view(np.uint8), stage.rows.ctypes.data, first, second, offsets, data)
        return array_of_strings(data, offsets, validity, nulls, pa.string())
    nulls = int(np.count_nonzero(second)) if nullable else 0
    bits = validity_buffer((second == 0).view(np.uint8), nulls) if nulls else None
    if kind == "boolean":
        booleans: pa.Array[Any] = pa.array(first != 0, mask=(second != 0) if nulls else None)
        return booleans
    dtype = pa.int64() if kind == "int64" else pa.float64()
    return pa.Array.from_buffers(dtype, rows, [bits, buffer_of(first.copy() if copied else first)], nulls)
