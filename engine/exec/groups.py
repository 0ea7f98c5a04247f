"""Rows of one key reduced.

A reduce's values are given one by one from the rows where they lie: no list of a group is made, and a group may have
more rows than memory holds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import repeat
from operator import length_hint
from typing import Any

import numpy as np
import pyarrow as pa

from kernelmill.engine.batch import concatenated
from kernelmill.engine.errors import Code, error
from kernelmill.engine.exec.calls import EMITS_MAX, FAILURES, Calls, Record
from kernelmill.engine.exec.compiledgroups import reduced_groups
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.emits import Shape, Staging
from kernelmill.engine.exec.groupruns import GroupRuns, OpenGroup, Positions, group_runs
from kernelmill.engine.exec.pycolumns import values_of
from kernelmill.engine.io.context import RowPlace
from kernelmill.engine.lazymodules import pc
from kernelmill.engine.plan.physical import ReduceGroups
from kernelmill.engine.shuffle.spillfile import SpillFile, SpillPlace
from kernelmill.engine.userfunctions import UserFunction, shown

_WINDOW_ROWS = 8192
_COPIES = 2  # a group's rows as they came, and in one batch


class _Rows:
    """Reads rows as Python values, a window of them at a time. `stop` ends what it gave, for a cancelled task."""

    def __init__(self, batch: pa.RecordBatch, names: Sequence[str], *, is_tuple: bool) -> None:
        self._names, self._is_tuple = names, is_tuple
        self._part: list[Any] = []
        self._given: Iterator[Any] = iter(())
        self._batches = 0
        self.is_stopped = False
        self.turn_to(batch)

    def turn_to(self, batch: pa.RecordBatch) -> None:
        """Read the rows of this batch from now on."""
        self._columns = [batch.column(name) for name in self._names]
        self._window: list[Any] = []
        self._begin = 0
        self._batches += 1

    def __call__(self, start: int, stop: int) -> Iterator[Any]:
        """The values of rows [start, stop), once."""
        if not self._columns:
            self._given = repeat(None, stop - start)
            return self._given
        at = start - self._begin
        if 0 <= at < len(self._window) and stop - self._begin <= len(self._window):
            return self._of(self._window[at : stop - self._begin])
        return self._through_windows(start, stop)

    def at(self) -> tuple[int, int, int]:
        """How far whoever goes through rows is. By any thread."""
        return self._batches, self._begin, length_hint(self._given)

    def stop(self) -> None:
        """Give no more rows. By any thread."""
        self.is_stopped = True
        self._part.clear()

    def _of(self, part: list[Any]) -> Iterator[Any]:
        self._part = part
        self._given = iter(part)
        return self._given

    def _through_windows(self, start: int, stop: int) -> Iterator[Any]:
        while start < stop and not self.is_stopped:
            if not self._begin <= start < self._begin + len(self._window):
                columns = [column.slice(start, _WINDOW_ROWS) for column in self._columns]
                self._window, self._begin = values_of(columns, is_tuple=self._is_tuple), start
            part = self._window[start - self._begin : stop - self._begin]
            start += len(part)
            yield from self._of(part)


def reduce_groups(
    batches: Iterator[pa.RecordBatch], step: ReduceGroups, function: UserFunction | None, context: TaskContext
) -> Iterator[pa.RecordBatch]:
    """What is made of each key's values, whose rows stand side by side, in one batch or in several."""
    called = None if step.kind in ("first", "list") else function or _builtin(step)
    runs = group_runs(batches, step.keys)
    for run in runs:
        yield from _whole_groups(run.whole(), step, called, context)
        while run.goes_on:
            group = OpenGroup(run, runs)
            yield from _open_group(group, step, called, context)
            run = group.skip()
            yield from _whole_groups(run.whole(), step, called, context)


def _whole_groups(
    runs: GroupRuns | None, step: ReduceGroups, function: UserFunction | None, context: TaskContext
) -> Iterator[pa.RecordBatch]:
    if runs is None:
        return
    keys = [_canonical(column) for column in _taken(runs.batch, step.keys, runs.starts)]
    firsts = pa.RecordBatch.from_arrays(keys, names=list(step.keys))
    if function is None:
        yield _arranged(runs.batch, step, firsts, runs.starts)
        return
    bounds = np.stack([runs.starts, runs.ends])

    def as_python(group: int) -> Iterator[pa.RecordBatch]:
        start, end = bounds[:, group].tolist()
        part, zero = runs.batch.slice(start, end - start), np.array([[0], [end - start]], np.int64)
        return _called(part, step, function, firsts.slice(group, 1), zero, context)

    made = None
    if step.kind == "function":
        values = runs.batch.select(list(step.values))
        made = reduced_groups(step, function, firsts, values, bounds, context, as_python)
    yield from made if made is not None else _called(runs.batch, step, function, firsts, bounds, context)


def _open_group(
    group: OpenGroup, step: ReduceGroups, function: UserFunction | None, context: TaskContext
) -> Iterator[pa.RecordBatch]:
    """What is made of one group that goes on in later batches."""
    keys = [_canonical(group.head.column(key)) for key in step.keys]
    firsts = pa.RecordBatch.from_arrays(keys, names=list(step.keys))
    if function is not None:
        yield from _called_once(group, step, function, firsts, context)
        return
    batch = group.head if step.kind == "first" else _in_one(group, step, firsts, context)
    yield _arranged(batch, step, firsts, np.zeros(1, np.int64))


def _in_one(group: OpenGroup, step: ReduceGroups, keys: pa.RecordBatch, context: TaskContext) -> pa.RecordBatch:
    """The values of a group in one batch. Raises KM0401, naming the key, where they do not fit."""
    key = shown(next(_Rows(keys, step.keys, is_tuple=step.key_is_tuple)(0, 1)))
    return gathered(group, list(step.values), f"a list of the values of {key}", "reduce by a function", context)


def gathered(group: OpenGroup, columns: list[str], what: str, instead: str, context: TaskContext) -> pa.RecordBatch:
    """These columns of a whole group in one batch. Raises KM0401, saying `what` does not fit, where it does not."""
    held: list[pa.RecordBatch] = []
    size = 0
    for part in group.parts():
        context.check_cancelled()
        held.append(part.select(columns))
        size += held[-1].nbytes
        if size * _COPIES > context.memory_bytes_max:
            what = f"{what}, more than {size:,} bytes, does not fit the memory of this job"
            raise error(Code.MEMORY_LIMIT, what, hint=f"{instead}, or raise memory=")
    try:
        return concatenated(held)
    except pa.ArrowInvalid as problem:  # int32 offsets end at 2 GiB
        what = f"{what}, {group.rows:,} rows, holds more than 2 GiB of text"
        raise error(Code.MEMORY_LIMIT, what, hint=instead) from problem


def _arranged(batch: pa.RecordBatch, step: ReduceGroups, keys: pa.RecordBatch, starts: Positions) -> pa.RecordBatch:
    columns = list(keys.columns)
    if step.kind == "first":
        columns += _taken(batch, step.values, starts)
    else:
        offsets: Any = pa.array(np.append(starts, batch.num_rows).astype(np.int32))
        for name in step.values:
            lists: Any = pa.ListArray.from_arrays(offsets, batch.column(name))
            columns.append(lists)
    typed = [c if c.type == f.type else c.cast(f.type) for c, f in zip(columns, step.schema, strict=True)]
    return pa.RecordBatch.from_arrays(typed, schema=step.schema)


def _called(
    batch: pa.RecordBatch,
    step: ReduceGroups,
    function: UserFunction,
    keys: pa.RecordBatch,
    bounds: Positions,
    context: TaskContext,
) -> Iterator[pa.RecordBatch]:
    calls, staged, call = _staged_calls(step, function, context)
    key_of = _Rows(keys, step.keys, is_tuple=step.key_is_tuple)
    values_at = _Rows(batch, step.values, is_tuple=step.value_is_tuple)

    def described(begin: int, number: int) -> Record:
        group = begin + number
        return _described(next(key_of(group, group + 1)), int(bounds[1, group] - bounds[0, group]), context)

    begin = 0
    for first in range(0, bounds.shape[1], _WINDOW_ROWS):
        context.check_cancelled()
        window = bounds[:, first : first + _WINDOW_ROWS]
        found = key_of(first, first + window.shape[1])
        with context.watched(lambda: (len(staged.ends), values_at.at()), values_at.stop):
            for group, (key, start, end) in enumerate(zip(found, window[0].tolist(), window[1].tolist(), strict=True)):
                staged.group_key[0] = key
                try:
                    call(key, values_at(start, end), staged.emit)
                except FAILURES as problem:
                    calls.failed(problem, partial(described, begin))
                else:
                    calls.kept()
                if values_at.is_stopped:
                    context.check_cancelled()
                if len(staged.keys) >= EMITS_MAX:
                    yield calls.flush(partial(described, begin))[0]
                    begin = first + group + 1
    yield calls.flush(partial(described, begin))[0]


def _called_once(
    group: OpenGroup, step: ReduceGroups, function: UserFunction, keys: pa.RecordBatch, context: TaskContext
) -> Iterator[pa.RecordBatch]:
    """What a function makes of a group that goes on: a batch of its values at a time is in memory, and of its emits.

    Emits wait on disk for the call to end, for until then the group may be rejected.
    """
    calls, staged, call = _staged_calls(step, function, context)
    waiting = _Waiting(context, step.schema)
    staged.group_key[0] = key = next(_Rows(keys, step.keys, is_tuple=step.key_is_tuple)(0, 1))
    values_at = _Rows(group.head, step.values, is_tuple=step.value_is_tuple)
    is_over = False

    def values() -> Iterator[Any]:
        for part in group.parts():
            values_at.turn_to(part)
            yield from values_at(0, part.num_rows)
            if is_over or values_at.is_stopped:
                break
            if len(staged.keys) >= _WINDOW_ROWS and (rows := calls.part()) is not None:
                waiting.add(rows)
        if is_over:
            raise ValueError("these values are gone: use them before the reduce returns")

    failure: BaseException | None = None
    with context.watched(values_at.at, values_at.stop):
        try:
            call(key, values(), staged.emit)
        except FAILURES as problem:
            failure = problem
    context.check_cancelled()
    is_over = True
    group.skip()

    def described(_: int) -> Record:
        return _described(key, group.rows, context)

    if failure is None:
        calls.kept()
    else:
        calls.failed(failure, described)
    rejects = len(context.rejects)
    last, _ = calls.flush(described)
    if len(context.rejects) == rejects:
        yield from waiting.rows()
        yield last


class _Waiting:
    """Rows that a call made which is not over, in a file."""

    def __init__(self, context: TaskContext, schema: pa.Schema) -> None:
        self._context, self._schema = context, schema
        self._file: SpillFile | None = None
        self._places: list[SpillPlace] = []

    def add(self, batch: pa.RecordBatch) -> None:
        self._file = self._file or self._context.spill_file(self._schema)
        self._places.append(self._file.append([batch]))

    def rows(self) -> Iterator[pa.RecordBatch]:
        for place in self._places:
            assert self._file is not None
            yield from self._file.read(place)
        if self._file is not None:
            self._file.close()


def _staged_calls(
    step: ReduceGroups, function: UserFunction, context: TaskContext
) -> tuple[Calls, Staging, Callable[..., Any]]:
    staged = Staging("group")
    forms = {"key_is_tuple": step.key_is_tuple, "value_is_tuple": step.made_is_tuple}
    calls = Calls(function, staged, Shape(step.schema, len(step.keys), **forms), context)
    return calls, staged, function.call


def _described(key: Any, values: int, context: TaskContext) -> Record:
    data = json.dumps({"key": key, "values": values}, default=str, ensure_ascii=False)
    text = f"the key is {shown(key)}, with {values:,} values"
    return Record(RowPlace(context.origin), data.encode(errors="backslashreplace"), text)


def _builtin(step: ReduceGroups) -> UserFunction:
    """The reduces that have a name and no kernel. Nulls are left out of min and max, as in aggregates."""
    least: Callable[..., Any] = min if step.kind == "min" else max

    def extreme(_: Any, values: Iterator[Any], emit: Callable[..., None]) -> None:
        emit(least((value for value in values if value is not None), default=None))

    def unique(_: Any, values: Iterator[Any], emit: Callable[..., None]) -> None:
        seen: dict[Any, Any] = {}
        for value in values:
            seen.setdefault(_identity(value), value)
        emit(list(seen.values()))

    call = unique if step.kind == "unique" else extreme
    return UserFunction(call, "reduce", step.kind, "")


def _identity(value: Any) -> Any:
    return "NaN" if isinstance(value, float) and value != value else (type(value), value)


def _taken(batch: pa.RecordBatch, names: Sequence[str], rows: Positions) -> list[pa.Array[Any]]:
    indices: Any = pa.array(rows)
    return [batch.column(name).take(indices) for name in names]


def _canonical(column: pa.Array[Any]) -> pa.Array[Any]:
    """Keys as aggregates give them: 0.0 for -0.0."""
    if pa.types.is_floating(column.type) and not pa.types.is_float16(column.type):
        zero: Any = pa.scalar(0.0, column.type)
        made: pa.Array[Any] = pc.add(column, zero)
        return made
    return column
