"""map(record, emit) as machine code: batches of records in, batches of what is emitted out.

A record that raises, is rejected, or does not fit is called again as plain Python: so errors, rejects and values beyond
int64 are what Python makes of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache, partial
from typing import Any

import numpy as np
import pyarrow as pa

from kernelmill.engine.compiling import compiled_form, emitted_types
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.draining import Draining
from kernelmill.engine.exec.drivercolumns import driver_columns
from kernelmill.engine.exec.keys import Repeated, StagedText
from kernelmill.engine.exec.namedstages import NamedStages, ToSide
from kernelmill.engine.exec.stages import Stage, staged_batch, staged_column
from kernelmill.engine.io.context import Place, RowPlace
from kernelmill.engine.io.linesinplace import LinesInPlace
from kernelmill.engine.plan.physical import MapRecords
from kernelmill.engine.userfunctions import UserFunction
from kernelmill.kernels import usermaps
from kernelmill.kernels.usermaps import CompiledMap

Mapped = Iterator[tuple[Any, Place]]
"""Rows of step.schema, as a RecordBatch or a StagedBatch, and where each row's record comes from."""
Records = pa.RecordBatch | LinesInPlace
FAILED_MIN, FAILED_EVERY, IN_PYTHON_MIN = 16, 50, 4096
"""Once so many records failed in compiled code, of each so many at least one, so many are called as plain Python."""
MapRunner = Callable[[Any, Place], Mapped]
"""Maps one batch of Records, whose places are given. Counters and rejects go to the task's context."""


class StagedBatch:
    """Staged rows as a table wants them: nothing is copied, so it is valid until the driver goes on.

    Those are left out that the driver has drained itself, by `draining`.
    """

    def __init__(
        self, stage: Stage, form: CompiledMap, rows: int, step: MapRecords, key: str, draining: Draining
    ) -> None:
        self._stage, self._form, self._names, self._key = stage, form, step.schema.names, key
        self._made: dict[str, Any] = {}
        self._first, self._known = draining.taken(stage)
        self._draining = draining
        self.num_rows = rows - self._first

    def column(self, name: str) -> Any:
        """The key column as StagedText, one with the same number in every row as Repeated, any other as an array."""
        if name not in self._made:  # several aggregates may read one column
            self._made[name] = self._column(name)
        return self._made[name]

    def _column(self, name: str) -> Any:
        number = self._names.index(name)
        if name == self._key:
            last, place = self._first + self.num_rows, self._form.places[number]
            addresses, sizes = (self._stage.words(place, part, last)[self._first :] for part in (0, 1))
            drains_to = partial(self._draining.to, form=self._form)
            return StagedText(self._stage.rows.view(np.uint8), addresses, sizes, self._known, drains_to)
        constant = self._form.outputs[number].constant
        if constant is not None:
            return Repeated(constant, self.num_rows)
        rows = self._first + self.num_rows
        return staged_column(self._stage, self._form, number, rows, copied=False).slice(self._first)


def compiled_map(
    step: MapRecords,
    function: UserFunction,
    context: TaskContext,
    as_python: MapRunner,
    staged_key: str | None = None,
    to_side: ToSide | None = None,
) -> MapRunner:
    """A runner of machine code where the function has such for a batch's types, else of plain Python.

    With `staged_key`, a text column, rows come as StagedBatch for a table to take at once. What is emitted to named
    outputs goes to `to_side`.
    """

    draining = Draining()

    @lru_cache(maxsize=4)
    def form_of(schema: pa.Schema) -> CompiledMap | None:
        form = compiled_form(function, schema)
        return form if form is not None and emits_as(form, step) else None

    def rows(batch: Records, place: Place) -> Mapped:
        form = form_of(batch.schema)
        if form is None:
            return as_python(batch.batch() if isinstance(batch, LinesInPlace) else batch, place)
        if step.flows:
            return _named_rows(batch, place, step, form, context, as_python)
        return _rows(batch, place, step, form, context, as_python, staged_key, to_side, draining)

    return rows


def emits_as(form: CompiledMap, step: MapRecords) -> bool:
    """True if what the code stages is, type by type, what the step's schema has: Python decides about all else.

    What never calls emit fits any schema, and what it emits to named outputs is not looked at.
    """
    sides = [(step.keys, step.key_is_tuple), (step.values, step.value_is_tuple)]
    shape = tuple(len(names) if is_tuple else -1 for names, is_tuple in sides if names)
    return not form.outputs or (form.shape == shape and emitted_types(form) == step.schema.types)


def _rows(
    batch: Records,
    place: Place,
    step: MapRecords,
    form: CompiledMap,
    context: TaskContext,
    as_python: MapRunner,
    staged_key: str | None,
    to_side: ToSide | None,
    draining: Draining,
) -> Mapped:
    def call_again(first: int, count: int) -> Mapped:
        return as_python(batch.slice(first, count), _shifted(place, first))

    named = NamedStages(form, step, to_side)
    arguments = _arguments(batch, form)
    begin = None
    if staged_key is not None and form.outputs and not form.named:
        begin = partial(draining.begin, form=form, names=step.schema.names, key=staged_key)
    with context.scratch.lend(Stage) as stage:
        for rows, made in drive(arguments, batch.num_rows, form, stage, context, call_again, named, begin):
            if rows and staged_key is not None:
                yield StagedBatch(stage, form, rows, step, staged_key, draining), partial(_somewhere, place)
            elif rows:
                yield staged_batch(stage, form, rows, step.schema), partial(_somewhere, place)
            yield from made


def _arguments(batch: Records, form: CompiledMap) -> list[Any]:
    return batch.arguments if isinstance(batch, LinesInPlace) else driver_columns(map(batch.column, form.columns))


def _named_rows(
    batch: Records,
    place: Place,
    step: MapRecords,
    form: CompiledMap,
    context: TaskContext,
    as_python: MapRunner,
) -> Mapped:
    """The rows of the named output that goes on from step to step; those of the main one are forgotten."""
    found: list[pa.RecordBatch] = []

    def to_side(output: int, rows: pa.RecordBatch) -> None:
        found.append(rows)

    def call_again(first: int, count: int) -> Mapped:
        return as_python(batch.slice(first, count), _shifted(place, first))

    named, arguments = NamedStages(form, step, to_side, step.flows), _arguments(batch, form)
    with context.scratch.lend(Stage) as stage:
        for _, made in drive(arguments, batch.num_rows, form, stage, context, call_again, named):
            for rows in found:
                yield rows, partial(_somewhere, place)
            found.clear()
            yield from made


def drive(
    arguments: list[Any],
    last: int,
    form: CompiledMap,
    stage: Stage,
    context: TaskContext,
    call_again: Callable[[int, int], Mapped],
    named: NamedStages | None = None,
    begin: Callable[[Stage], None] | None = None,
    cursor: Any = None,
) -> Iterator[tuple[int, Iterable[tuple[Any, Place]]]]:
    """Run the driver over `last` records, or groups, in its `arguments`.

    Yields how many rows are staged now, and what records gave then as plain Python, of which `call_again` makes some in
    a row; also after each time that `named` handed on rows. Whoever takes these goes on after the last of them.
    `begin` is called before each call of the driver. `cursor`: see `userreduces`.
    A record that gives no rows as Python, most often a rejected one, leaves the staged rows where they are: handing on
    a few rows at a time would cost more than calling it. Where many records fail, those that follow are called as
    Python together, for a while: one alone costs as much as a hundred.
    """
    stage.begin(form)
    if named is not None:
        named.begin(stage)
    state, arena = stage.state, stage.arena
    row, kept = 0, 0
    began, failed, in_python = 0, 0, IN_PYTHON_MIN
    with context.watched(*_hold_of(stage, cursor)):
        while row < last:
            context.check_cancelled()
            if failed >= FAILED_MIN and failed * FAILED_EVERY >= row - began:
                count = min(in_python, last - row)
                yield kept, call_again(row, count)
                row, kept, failed, in_python = row + count, 0, 0, 2 * in_python
                began = row
                continue
            stage.clear(kept)
            if begin is not None:
                begin(stage)
            record: int | None = None
            try:
                row = form.drive(*arguments, row, last, arena, stage.rows, state)
                rows, is_done = int(state[usermaps.COUNT]), not state[usermaps.REJECTED]
                if not is_done:
                    record, rows = row, int(state[usermaps.MARK])
            except Exception:  # whatever it is, Python says it better
                row, rows, is_done = int(state[usermaps.ROW]), int(state[usermaps.MARK]), False
                if not (state[usermaps.OVERFULL] or arena[usermaps.ARENA_WANTED]):
                    record = row
            if record is not None:
                context.check_cancelled()  # it may be that which ended the driver
            wants_rows, wants_bytes = bool(state[usermaps.OVERFULL]), int(arena[usermaps.ARENA_WANTED])
            # before Python has the record, for that emits to the same outputs
            drained = named.drain(stage, without_last=not is_done) if named is not None else 0
            made = [] if record is None else list(call_again(record, 1))
            kept = rows if record is not None and not made else 0
            if made or drained or (rows and not kept):
                yield (0 if kept else rows), made
            if record is not None:
                row, failed = record + 1, failed + 1
            elif not rows and not drained and wants_rows:
                stage.grow_full()
            elif not rows and not drained and wants_bytes:
                stage.grow_arena(2 * int(arena[1]) + wants_bytes)
    if kept:
        yield kept, []
    for number, name in enumerate(form.counters):
        n = int(state[usermaps.COUNTERS + 2 * number])
        if n:
            context.count(name, n)


def _hold_of(stage: Stage, cursor: Any) -> tuple[Callable[[], object], Callable[[], None]]:
    """How far the driver is, from its own words, and what ends it: it looks after each record whether to go on.

    That is after each group of a reduce: a look at each value would keep LLVM from adding up several at once.
    """
    state = stage.state

    def at() -> tuple[int, int]:
        return int(state[usermaps.ROW]), 0 if cursor is None else int(cursor[0])

    def stop() -> None:
        state[usermaps.REJECTED] = 1

    return at, stop


def _shifted(place: Place, first: int) -> Place:
    return lambda row: place(first + row)


def _somewhere(place: Place, _: int) -> RowPlace:
    """Which record a row comes from is not kept: only the file is known."""
    return RowPlace(place(0).file)
