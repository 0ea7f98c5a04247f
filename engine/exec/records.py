"""map(record, emit) over batches of records, as plain Python or by a compiled runner: both give the same rows."""

from __future__ import annotations

import json
from collections import namedtuple
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from operator import length_hint
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.exec.calls import EMITS_MAX, FAILURES, Calls, Describe, Record
from kernelmill.engine.exec.compiled import Mapped, MapRunner, compiled_map
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.emits import Shape, Side, Staging
from kernelmill.engine.exec.namedstages import ToSide
from kernelmill.engine.exec.pycolumns import pieces
from kernelmill.engine.io.context import Place, RowPlace
from kernelmill.engine.plan.physical import MapRecords, NamedPairs
from kernelmill.engine.userfunctions import UserFunction, shown

_RECORDS = 8192  # as Python objects at a time
_FIRST = 1024
_PYTHON_SHARE = 50
"""A task in which more than one of so many records are left to Python by machine code goes on as Python.

Measured on 10^6 lines: 2.8 s either way where it is one in 50, 0.5 s against 2.9 s where it is one in 1000.
"""


def map_records(
    batches: Iterator[pa.RecordBatch],
    step: MapRecords,
    function: UserFunction,
    context: TaskContext,
    staged_key: str | None = None,
    to_side: ToSide | None = None,
) -> Iterator[Any]:
    """The rows that the function emits, in the order of records and emits; see `compiled_map` for `staged_key`.

    What it emits to named outputs goes to `to_side`.
    """
    as_python = _InterpretedMap(step, function, context, to_side)
    run: MapRunner = compiled_map(step, function, context, as_python.rows, staged_key, to_side)
    seen = 0
    for batch in batches:
        context.check_cancelled()
        place = context.take_place()
        for first, part in _first_some(batch) if step.named else [(0, batch)]:
            for made, place_of_row in run(part, partial(_later, place, first)):
                context.rows_from(place_of_row)
                yield made
            seen += part.num_rows
            if step.named and as_python.records * _PYTHON_SHARE > seen:
                run = as_python.rows  # calling it record by record from machine code would cost more


def _first_some(batch: pa.RecordBatch) -> list[tuple[int, pa.RecordBatch]]:
    """A batch in two: a few rows tell how many records emit to named outputs. Each with the number of its first row."""
    return [(0, batch.slice(0, _FIRST)), (_FIRST, batch.slice(_FIRST))] if batch.num_rows > _FIRST else [(0, batch)]


def _later(place: Place, first: int, row: int) -> RowPlace:
    return place(first + row)


def row_maker(columns: Sequence[str]) -> Callable[[Sequence[Any]], Any]:
    """Makes a record of several columns: a named tuple; a column whose name is no Python name goes by its number."""
    row: Any = namedtuple("Row", columns, rename=True)  # type: ignore[misc]  # the names are known when it runs
    make: Callable[[Sequence[Any]], Any] = row._make
    return make


class _InterpretedMap:
    """Calls the function record by record; `records` says how many it was called with."""

    def __init__(self, step: MapRecords, function: UserFunction, context: TaskContext, to_side: ToSide | None) -> None:
        self._flows, self._to_side, self._context, self.records = step.flows, to_side, context, 0
        self._staged = Staging("pair" if step.values else "key", [_side(pairs) for pairs in step.named])
        forms = {"key_is_tuple": step.key_is_tuple, "value_is_tuple": step.value_is_tuple}
        self._calls = Calls(function, self._staged, Shape(step.schema, len(step.keys), **forms), context)
        self._call = function.call
        self._make_row = row_maker(step.columns) if len(step.columns) > 1 else None

    def rows(self, batch: pa.RecordBatch, place: Place) -> Mapped:
        """See `compiled.MapRunner`."""
        self.records += batch.num_rows
        for first, part in pieces(batch, _RECORDS):
            yield from self._rows_of(part, first, place)

    def _rows_of(self, batch: pa.RecordBatch, first: int, place: Place) -> Mapped:
        """The rows that the records of `batch` give; record 0 is row `first` for `place`."""
        calls, staged, call, emit = self._calls, self._staged, self._call, self._staged.emit
        keys, notes, add_end = staged.keys, staged.notes, staged.ends.append
        begin, describe = 0, partial(self._described, batch, first, place, 0)  # from record `begin` on all are staged
        columns = [column.to_pylist() for column in batch.columns]
        records = iter(columns[0])
        found = records if self._make_row is None else map(self._make_row, zip(records, *columns[1:], strict=False))
        with self._context.watched(partial(length_hint, records), columns[0].clear):  # then `records` finds no more
            for row, record in enumerate(found):
                try:
                    call(record, emit)
                except FAILURES as problem:
                    calls.failed(problem, describe)
                else:
                    if notes:
                        calls.kept()
                    else:
                        add_end(len(keys))
                if len(keys) >= EMITS_MAX or staged.side_emits >= EMITS_MAX:
                    yield from self._flush(describe, first + begin, place)
                    begin, describe = row + 1, partial(self._described, batch, first, place, row + 1)
        self._context.check_cancelled()
        yield from self._flush(describe, first + begin, place)

    def _flush(self, describe: Describe, begin: int, place: Place) -> Mapped:
        made, ends = self._calls.flush(describe)
        if self._to_side is not None:
            for number, batch in enumerate(self._calls.side_batches, 1):
                self._to_side(number, batch)
        if self._flows:
            batch = self._calls.side_batches[self._flows - 1]
            if batch.num_rows:
                yield batch, partial(_file_of, place, begin)
        elif made.num_rows:
            yield made, partial(_place_of_emit, place, begin, ends)

    def _described(self, batch: pa.RecordBatch, first: int, place: Place, begin: int, number: int) -> Record:
        return record_of(batch, begin + number, place(first + begin + number))


def record_of(batch: pa.RecordBatch, row: int, found: RowPlace) -> Record:
    """Describe the record in this row of a batch, which comes from `found`."""
    values = batch.slice(row, 1).to_pylist()[0]
    value = next(iter(values.values()))
    if len(values) == 1 and found.offset is not None and isinstance(value, str | bytes):  # a line of text
        data = value.encode() if isinstance(value, str) else value
    else:
        data = json.dumps(values, default=str, ensure_ascii=False).encode(errors="backslashreplace")
    return Record(found, data, f"the record is {shown(value if len(values) == 1 else values)}")


def _side(pairs: NamedPairs) -> Side:
    forms = {"key_is_tuple": pairs.key_is_tuple, "value_is_tuple": pairs.value_is_tuple}
    return Side(pairs.name, bool(pairs.values), Shape(pairs.schema, len(pairs.keys), pairs.name, **forms))


def _file_of(place: Place, record: int, _: int) -> RowPlace:
    """Which record a row comes from is not kept for a named output: only the file is known."""
    return RowPlace(place(record).file)


def _place_of_emit(place: Place, begin: int, ends: NDArray[np.int64], row: int) -> RowPlace:
    return place(begin + int(np.searchsorted(ends, row, side="right")))
