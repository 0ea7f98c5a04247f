"""map(record, emit) as machine code: batches of records in, batches of what is emitted out.

A record that raises, is rejected, or does not fit is called again as plain Python: so errors, rejects and values beyond
int64 are what Python makes of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.batch import array_of_strings, buffer_of, validity_buffer
from kernelmill.engine.compiling import compiled_form, emitted_types
from kernelmill.engine.errors import Code, error
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.drivercolumns import ARENA_BYTES, ARENA_BYTES_MAX, driver_columns
from kernelmill.engine.exec.keys import Repeated, StagedText
from kernelmill.engine.io.context import Place, RowPlace
from kernelmill.engine.plan.physical import MapRecords
from kernelmill.engine.userfunctions import UserFunction
from kernelmill.kernels import staged, usermaps
from kernelmill.kernels.usermaps import CompiledMap

Mapped = Iterator[tuple[Any, Place]]
"""Rows of step.schema, as a RecordBatch or a StagedBatch, and where each row's record comes from."""
MapRunner = Callable[[pa.RecordBatch, Place], Mapped]
"""Maps one batch of records, whose places are given. Counters and rejects go to the task's context."""

STAGE_WORDS = 1 << 16
"""The stage's first size, 512 KiB: it stays in a core's own cache."""
STAGE_BYTES_MAX = 1 << 30
Words = NDArray[np.int64]


class Stage:
    """What a driver writes to: staged rows, the texts it made, its state. One a thread; grows for a large record."""

    def __init__(self) -> None:
        self.columns = -1
        self.state: Words = np.zeros(usermaps.STATE_SIZE, np.int64)
        self.rows: Words = np.empty(0, np.int64)
        self.arena: Words = np.zeros(4, np.int64)
        self.grow_arena(ARENA_BYTES)

    def begin(self, form: CompiledMap) -> None:
        """Make room for the rows of `form`; nothing is staged or counted."""
        columns = form.staged
        if columns != self.columns:
            self.columns = columns
            self.grow(STAGE_WORDS // (2 * max(1, columns)))
        self.state[:] = 0
        self.state[usermaps.COUNTERS_END] = usermaps.COUNTERS + 2 * len(form.counters)
        self.state[usermaps.CAPACITY] = self.rows.size // (2 * max(1, columns))
        self.state[usermaps.SIDE] = form.side.address

    def grow(self, rows: int) -> None:
        """Make room for `rows`; what is staged is lost."""
        if 16 * rows * max(1, self.columns) > STAGE_BYTES_MAX:
            raise error(Code.MEMORY_LIMIT, f"one record emits more than {rows // 2:,} rows", hint="emit less a record")
        self.rows = np.empty(2 * rows * max(1, self.columns), np.int64)
        self.state[usermaps.CAPACITY] = rows

    def grow_arena(self, size: int) -> None:
        """Make room for `size` bytes of new texts; those that were made are lost."""
        if size > ARENA_BYTES_MAX:
            raise error(Code.MEMORY_LIMIT, "one record makes more than 1 GiB of text", hint="make less a record")
        self._bytes: NDArray[np.uint8] = np.empty(size + 8, np.uint8)
        self.arena[:] = (self._bytes.ctypes.data + 7 & -8, size, 0, 0)

    def words(self, column: int, part: int, rows: int) -> Words:
        """Word `part` of the first `rows` staged rows' column, as a view."""
        start = (2 * column + part) * int(self.state[usermaps.CAPACITY])
        return self.rows[start : start + rows]

    def clear(self, kept: int = 0) -> None:
        """Forget what is staged after the first `kept` rows, and what an unfinished record counted."""
        self.state[usermaps.COUNT] = kept
        self.state[usermaps.REJECTED] = self.state[usermaps.OVERFULL] = 0
        self.state[usermaps.COUNTERS + 1 :: 2] = 0
        self.arena[usermaps.ARENA_WANTED] = 0
        if not kept:
            self.arena[usermaps.ARENA_USED] = 0


class StagedBatch:
    """Staged rows as a table wants them: nothing is copied, so it is valid until the driver goes on."""

    def __init__(self, stage: Stage, form: CompiledMap, rows: int, step: MapRecords, key: str) -> None:
        self._stage, self._form, self._names, self._key = stage, form, step.schema.names, key
        self._made: dict[str, Any] = {}
        self.num_rows = rows

    def column(self, name: str) -> Any:
        """The key column as StagedText, one with the same number in every row as Repeated, any other as an array."""
        if name not in self._made:  # several aggregates may read one column
            self._made[name] = self._column(name)
        return self._made[name]

    def _column(self, name: str) -> Any:
        number = self._names.index(name)
        if name == self._key:
            words = (self._stage.words(self._form.places[number], part, self.num_rows) for part in (0, 1))
            return StagedText(self._stage.rows.view(np.uint8), *words)
        constant = self._form.outputs[number].constant
        if constant is not None:
            return Repeated(constant, self.num_rows)
        return _column(self._stage, self._form, number, self.num_rows, copied=False)


def compiled_map(
    step: MapRecords, function: UserFunction, context: TaskContext, as_python: MapRunner, staged_key: str | None = None
) -> MapRunner:
    """A runner of machine code where the function has such for a batch's types, else of plain Python.

    With `staged_key`, a text column, rows come as StagedBatch for a table to take at once.
    """

    def rows(batch: pa.RecordBatch, place: Place) -> Mapped:
        form = compiled_form(function, batch.schema)
        if form is None or not emits_as(form, step):
            return as_python(batch, place)
        return _rows(batch, place, step, form, context, as_python, staged_key)

    return rows


def emits_as(form: CompiledMap, step: MapRecords) -> bool:
    """True if what the code stages is, type by type, what the step's schema has: Python decides about all else."""
    sides = [(step.keys, step.key_is_tuple), (step.values, step.value_is_tuple)]
    shape = tuple(len(names) if is_tuple else -1 for names, is_tuple in sides if names)
    return form.shape == shape and emitted_types(form) == step.schema.types


def _rows(
    batch: pa.RecordBatch,
    place: Place,
    step: MapRecords,
    form: CompiledMap,
    context: TaskContext,
    as_python: MapRunner,
    staged_key: str | None,
) -> Mapped:
    def call_again(record: int) -> Mapped:
        return as_python(batch.slice(record, 1), _shifted(place, record))

    with context.scratch.lend(Stage) as stage:
        for rows, made in drive(driver_columns(batch.columns), batch.num_rows, form, stage, context, call_again):
            if rows and staged_key is not None:
                yield StagedBatch(stage, form, rows, step, staged_key), partial(_somewhere, place)
            elif rows:
                yield staged_batch(stage, form, rows, step.schema), partial(_somewhere, place)
            yield from made


def drive(
    arguments: list[Any],
    last: int,
    form: CompiledMap,
    stage: Stage,
    context: TaskContext,
    call_again: Callable[[int], Mapped],
) -> Iterator[tuple[int, list[tuple[Any, Place]]]]:
    """Run the driver over `last` records, or groups, in its `arguments`.

    Yields how many rows are staged now, and what a record gave then as plain Python.
    A record that gives no rows as Python, most often a rejected one, leaves the staged rows where they are: handing on
    a few rows at a time would cost more than calling it.
    """
    stage.begin(form)
    state, arena = stage.state, stage.arena
    row, kept = 0, 0
    while row < last:
        context.check_cancelled()
        stage.clear(kept)
        record: int | None = None
        try:
            row = form.drive(*arguments, row, last, arena, stage.rows, state)
            rows = int(state[usermaps.COUNT])
            if state[usermaps.REJECTED]:
                record, rows = row, int(state[usermaps.MARK])
        except Exception:  # whatever it is, Python says it better
            row, rows = int(state[usermaps.ROW]), int(state[usermaps.MARK])
            if not (state[usermaps.OVERFULL] or arena[usermaps.ARENA_WANTED]):
                record = row
        wants_rows, wants_bytes = bool(state[usermaps.OVERFULL]), int(arena[usermaps.ARENA_WANTED])
        made = [] if record is None else list(call_again(record))
        kept = rows if record is not None and not made else 0
        if made or (rows and not kept):
            yield rows, made
        if record is not None:
            row = record + 1
        elif not rows and wants_rows:
            stage.grow(2 * int(state[usermaps.CAPACITY]))
        elif not rows and wants_bytes:
            stage.grow_arena(2 * int(arena[1]) + wants_bytes)
    if kept:
        yield kept, []
    for number, name in enumerate(form.counters):
        n = int(state[usermaps.COUNTERS + 2 * number])
        if n:
            context.count(name, n)


def staged_batch(stage: Stage, form: CompiledMap, rows: int, schema: pa.Schema) -> pa.RecordBatch:
    """The first staged rows as a batch of their own."""
    columns = [_column(stage, form, number, rows) for number in range(len(form.outputs))]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _column(stage: Stage, form: CompiledMap, number: int, rows: int, copied: bool = True) -> pa.Array[Any]:
    kind, nullable, constant = form.outputs[number]
    if constant is not None:
        return Repeated(constant, rows).array()
    place = form.places[number]
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


def _shifted(place: Place, first: int) -> Place:
    return lambda row: place(first + row)


def _somewhere(place: Place, _: int) -> RowPlace:
    """Which record a row comes from is not kept: only the file is known."""
    return RowPlace(place(0).file)
