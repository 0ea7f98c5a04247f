"""A user's combine in the key table: a state a group, into which rows are folded in their order.

States are numbers in arrays, where the function is machine code, else Python values in a list. A row for which machine
code raises is folded by Python: so errors are Python's, and rows come out the same either way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from operator import length_hint
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.batch import validity_buffer
from kernelmill.engine.compiling import compiled_fold, types_of
from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.exec.aggregate import combine_in_table, merge_in_table
from kernelmill.engine.exec.calls import FAILURES
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.dense import Column, Dense
from kernelmill.engine.exec.drivercolumns import Arena, driver_columns
from kernelmill.engine.exec.exchange import Placed
from kernelmill.engine.exec.groupstates import KeyOf
from kernelmill.engine.exec.plainstates import decoded, encoded
from kernelmill.engine.exec.pycolumns import NOT_FITTING, columns_of, values_of
from kernelmill.engine.exec.states import FoldCall, State
from kernelmill.engine.plan.physical import CombineRows, MergeCombined
from kernelmill.engine.schema import dtype_text
from kernelmill.engine.userfunctions import UserFunction, shown
from kernelmill.kernels import userfolds
from kernelmill.kernels.keytable import CHUNK_ROWS
from kernelmill.kernels.table import NO_MASK, Groups
from kernelmill.kernels.userfolds import CompiledFold

if TYPE_CHECKING:
    from kernelmill.engine.exec.draining import StagedWords

_NOTHING: Any = object()
_SPARE_GROUPS = 4 * CHUNK_ROWS
"""How many groups a driver may add before it comes back for more room; a chunk may be looked up beyond the limit."""
Fields = list[Any]


def combine_rows(
    batches: Iterator[Any],
    step: CombineRows,
    input_schema: pa.Schema,
    function: UserFunction,
    context: TaskContext,
    partitions: int,
) -> Iterator[pa.RecordBatch | Placed]:
    """One row a key of the task, with its state: at the end and at each flush, as `partial_aggregate` gives them."""
    values = pa.schema([input_schema.field(name) for name in step.values])

    def states(key_of: KeyOf) -> list[State]:
        return [_Fold("step", step, values, [], False, function, key_of, context)]

    schema = pa.schema(list(step.schema))
    return combine_in_table(batches, step.keys, [list(step.values)], states, schema, context, partitions)


def merge_combined(
    blocks: Iterator[pa.RecordBatch],
    rows: int,
    size: int,
    step: MergeCombined,
    function: UserFunction,
    context: TaskContext,
) -> Iterator[pa.RecordBatch]:
    """Merge the states of a partition in block order: yields finished rows, keys in first-seen order."""
    combined = step.combined
    made = list(step.schema)[len(combined.keys) :]
    width = len(combined.schema) - len(combined.keys)

    def states(key_of: KeyOf) -> list[State]:
        return [_Fold("merge", combined, step.values, made, step.made_is_tuple, function, key_of, context)]

    return merge_in_table(blocks, rows, size, combined.keys, [width], states, step.schema, context)


class _Fold:
    """The states of all groups: `part` says whether rows are values (step) or states (merge). A `State`."""

    def __init__(
        self,
        part: str,
        step: CombineRows,
        values: pa.Schema,
        made: Fields,
        made_is_tuple: bool,
        function: UserFunction,
        key_of: KeyOf,
        context: TaskContext,
    ) -> None:
        self._part, self._step, self._values, self._function = part, step, values, function
        self._made, self._made_is_tuple = made, made_is_tuple
        self._key_of, self._context = key_of, context
        self._fields: Fields = list(step.schema)[len(step.keys) :]
        self._init, self._call, merge, self._finish = function.folding
        if part == "merge":
            self._init, self._call = None, merge
        self._input_is_tuple = step.value_is_tuple if part == "step" else step.state_is_tuple
        self._has_nulls = False
        self._forms: dict[tuple[str, bool], CompiledFold | None] = {}
        form = self._form(part, nullable=False)
        self._numbers = None if form is None else _Numbers(self._fields)
        self._arena: Arena | None = None
        self._drained: list[Any] = []
        self._objects: list[Any] = []
        self._columns: list[pa.Array[Any]] = []
        self._arguments: list[Any] = []

    # As a State -------------------------------------------------------------------------------------------------------

    def view(self, columns: list[pa.Array[Any]]) -> list[Column]:
        self._columns = columns
        self._has_nulls = self._has_nulls or any(column.null_count for column in columns)
        if self._numbers is not None:
            self._arguments = driver_columns(columns)
        return [(np.arange(len(columns[0])), NO_MASK)]  # a slice of it tells which rows `add` is about

    def add(self, groups: Groups, used: int, columns: list[Column]) -> None:
        first, last = int(columns[0][0][0]), int(columns[0][0][-1]) + 1
        if self._numbers is not None:
            self._numbers.cover(used)
            form = self._form(self._part, nullable=self._has_nulls)
            if form is not None and self._reads_nulls(form):
                self._drive(form, self._numbers, groups, first, last)
                return
        else:
            self._objects += [_NOTHING] * (used - len(self._objects))
        self._fold(groups, first, last)

    def folding_call(self, staged: StagedWords, groups: Groups, used: int) -> FoldCall | None:
        """See `Folds`: where states are numbers, and what is staged are numbers without nulls."""
        form = self._form("step", nullable=self._has_nulls) if self._numbers is not None else None
        drive: Any = None if form is None else form.drive
        columns = [staged.numbers(name) for name in self._step.values]
        if form is None or self._numbers is None or not hasattr(drive, "address") or any(c is None for c in columns):
            return None
        self._arena = self._arena or Arena()
        self._numbers.cover(used + _SPARE_GROUPS)
        seen, state = self._numbers.seen.values, np.zeros(userfolds.STATE_SIZE, np.int64)
        state[userfolds.SIDE] = form.side.address
        drained: list[Any] = [part for values in columns for part in (values, NO_MASK)]
        last = len(drained) + 3
        drained += [0, groups, 0, 0, self._arena.state, seen, *self._numbers.arrays(), state]
        self._drained = drained  # the frame has their addresses
        call = drive.address, np.frombuffer(drive.frame_of(*drained), np.uint64).copy()
        return FoldCall(call, last, seen.size - CHUNK_ROWS, state)

    def partial(self, first: int, last: int) -> list[pa.Array[Any]]:
        if self._numbers is not None:
            return self._numbers.columns(first, last)
        found = self._objects[first:last]
        if self._step.state == "encoded":
            return [pa.array([self._bytes_of(state, first + n) for n, state in enumerate(found)], pa.binary())]
        return self._typed(found, self._fields, self._step.state_is_tuple, first)

    def finished(self, first: int, last: int) -> list[pa.Array[Any]]:
        if self._finish is None:
            if self._numbers is not None:
                return self._numbers.columns(first, last)
            return self._typed(self._objects[first:last], self._made, self._made_is_tuple, first)
        if self._numbers is not None:
            form = self._form("finish", nullable=False)
            if form is not None and types_of(form.results) == [field.type for field in self._made]:
                return self._finish_all(form, self._numbers, first, last)
        made: list[Any] = []
        groups = list(range(first, last))
        with self._context.watched(lambda: len(made), groups.clear):  # then there are no more
            for group in groups:
                made.append(self._finished(group))
        self._context.check_cancelled()
        return self._typed(made, self._made, self._made_is_tuple, first)

    def clear(self, groups: int) -> None:
        self._objects.clear()
        if self._numbers is not None:
            self._numbers.clear(groups)

    # Machine code -----------------------------------------------------------------------------------------------------

    def _form(self, part: str, *, nullable: bool) -> CompiledFold | None:
        """The code of a part, if its states lie as the plan says; merging of combine(a, b) is its step."""
        found = self._forms.get((part, nullable), _NOTHING)
        if found is _NOTHING:  # what asks for it makes text of schemas: 0.1 ms, too much for each batch
            found = self._forms[part, nullable] = self._find_form(part, nullable)
        form: CompiledFold | None = found
        return form

    def _find_form(self, part: str, nullable: bool) -> CompiledFold | None:
        if part == "merge" and not self._function.parts:
            part = "step"
        if self._step.state == "encoded":
            return None
        is_tuple = self._step.value_is_tuple
        form = compiled_fold(self._function, part, self._values, is_tuple, nullable=nullable, at_run=True)
        fits = form is not None and types_of(form.states) == [field.type for field in self._fields]
        return form if fits else None

    def _reads_nulls(self, form: CompiledFold) -> bool:
        """Whether the code knows of None wherever these rows have it."""
        if self._part == "step" or not self._function.parts:
            return True  # it was made for values with nulls
        return all(one.nullable or not c.null_count for one, c in zip(form.states, self._columns, strict=True))

    def _drive(self, form: CompiledFold, numbers: _Numbers, groups: Groups, first: int, last: int) -> None:
        state = np.zeros(userfolds.STATE_SIZE, np.int64)
        state[userfolds.SIDE] = form.side.address
        row, held = first, numbers.arrays()
        with self._context.scratch.lend(Arena) as arena:
            while row < last:
                try:
                    with self._context.watched(lambda: int(state[userfolds.ROW]), lambda: None):
                        row = form.drive(
                            *self._arguments, first, groups, row, last, arena.state, numbers.seen.values, *held, state
                        )
                except Exception:  # whatever it is, Python says it better
                    row = int(state[userfolds.ROW])
                    if arena.grows():
                        continue
                if row < last:
                    self._fold(groups[row - first : row - first + 1], row, row + 1)
                    row += 1

    def _finish_all(self, form: CompiledFold, numbers: _Numbers, first: int, last: int) -> list[pa.Array[Any]]:
        results = _Numbers(self._made)
        results.cover(last - first)
        state = np.zeros(userfolds.STATE_SIZE, np.int64)
        state[userfolds.SIDE] = form.side.address
        group = first
        with self._context.scratch.lend(Arena) as arena:
            while group < last:
                held, made = numbers.arrays(), results.arrays(group - first)
                try:
                    group = form.drive(group, last, arena.state, *held, *made, state)
                except Exception:  # whatever it is, Python says it better
                    group = int(state[userfolds.ROW])
                    if arena.grows():
                        continue
                    value = self._typed([self._finished(group)], self._made, self._made_is_tuple, group)
                    results.put(group - first, value)
                    group += 1
        return results.columns(0, last - first)

    # Plain Python -----------------------------------------------------------------------------------------------------

    def _fold(self, groups: Groups, first: int, last: int) -> None:
        values = self._rows(first, last)
        assert len(values) == groups.size
        pairs = zip(groups.tolist(), each := iter(values), strict=False)
        with self._context.watched(partial(length_hint, each), values.clear):  # then there are no more
            self._fold_each(pairs)
        self._context.check_cancelled()

    def _fold_each(self, pairs: Iterable[tuple[int, Any]]) -> None:
        call, init = self._call, self._init
        if self._numbers is not None:
            for group, value in pairs:
                held = self._state(group)
                self._numbers.put(group, self._typed([self._folded(group, held, value)], *self._state_form(), group))
                is_none = self._numbers.is_none(group)
                self._numbers.seen.values[group] = 2 if is_none else 1
                self._has_nulls = self._has_nulls or is_none
            return
        objects = self._objects
        for group, value in pairs:
            held = objects[group]
            if held is _NOTHING and init is None:
                objects[group] = value
                continue
            try:
                objects[group] = call(init() if held is _NOTHING else held, value)
            except FAILURES as problem:
                raise self._failed(problem, group, held, value) from problem

    def _folded(self, group: int, held: Any, value: Any) -> Any:
        if held is _NOTHING and self._init is None:
            return value
        try:
            return self._call(self._init() if held is _NOTHING else held, value)
        except FAILURES as problem:
            raise self._failed(problem, group, held, value) from problem

    def _finished(self, group: int) -> Any:
        held = self._state(group)
        try:
            return self._finish(held)
        except FAILURES as problem:
            text = f"the key is {shown(self._key(group))}, the state is {shown(held)}"
            raise self._function.failed(problem, text, self._context.origin) from problem

    def _rows(self, first: int, last: int) -> list[Any]:
        """These rows of the input, as Python values."""
        columns = [column.slice(first, last - first) for column in self._columns]
        if self._part == "merge" and self._step.state == "encoded":
            return [decoded(data) for data in columns[0].to_pylist() if data is not None]
        return values_of(columns, is_tuple=self._input_is_tuple)

    def _state(self, group: int) -> Any:
        if self._numbers is None:
            return self._objects[group]
        if not self._numbers.seen.values[group]:
            return _NOTHING
        return values_of(self._numbers.columns(group, group + 1), is_tuple=self._step.state_is_tuple)[0]

    def _state_form(self) -> tuple[Fields, bool]:
        return self._fields, self._step.state_is_tuple

    # Errors -----------------------------------------------------------------------------------------------------------

    def _key(self, group: int) -> Any:
        return values_of(self._key_of(group), is_tuple=self._step.key_is_tuple)[0]

    def _failed(self, problem: BaseException, group: int, held: Any, value: Any) -> KernelmillError:
        values = "the value is" if held is _NOTHING else f"the values are {shown(held)} and"
        text = f"the key is {shown(self._key(group))}, {values} {shown(value)}"
        return self._function.failed(problem, text, self._context.origin)

    def _typed(self, values: Sequence[Any], fields: Fields, is_tuple: bool, group: int) -> list[pa.Array[Any]]:
        """Values of groups from `group` on as columns. Raises KM0207 naming the first key whose value does not fit."""
        try:
            return columns_of(values, fields, is_tuple=is_tuple)
        except NOT_FITTING as problem:
            if isinstance(problem, KernelmillError):
                raise
            for number, value in enumerate(values):
                try:
                    columns_of([value], fields, is_tuple=is_tuple)
                except NOT_FITTING:
                    raise self._unfit(value, fields, group + number) from problem
            raise

    def _unfit(self, value: Any, fields: Fields, group: int) -> KernelmillError:
        kinds = ", ".join(f"{field.name}: {dtype_text(field.type)}" for field in fields)
        what = f"{self._function.title} gave {shown(value)}, which is no ({kinds})"
        hint = f"the key is {shown(self._key(group))}; convert the value, or change schema="
        return error(Code.CAST, what, where=self._function.where, hint=hint)

    def _bytes_of(self, state: Any, group: int) -> bytes:
        try:
            return encoded(state)
        except (TypeError, ValueError, OverflowError) as problem:
            what = f"{self._function.title} keeps {shown(state)} for {shown(self._key(group))}: {problem}"
            raise error(Code.CAST, what, where=self._function.where, hint="make it of plain values") from problem


class _Numbers:
    """States, or results, as the arrays of a driver: for each column its values and bytes, 1 where it is None."""

    def __init__(self, fields: Fields) -> None:
        self._types = [field.type for field in fields]
        self._columns = [(Dense(_NUMPY[str(field.type)]), Dense(np.uint8)) for field in fields]
        self.seen = Dense(np.uint8)

    def cover(self, groups: int) -> None:
        """Have room for so many groups."""
        for one in (self.seen, *(dense for pair in self._columns for dense in pair)):
            one.cover(groups)

    def arrays(self, first: int = 0) -> list[NDArray[Any]]:
        """What a driver takes, from group `first` on."""
        return [dense.values[first:] for pair in self._columns for dense in pair]

    def put(self, group: int, columns: Sequence[pa.Array[Any]]) -> None:
        """Store the one row of `columns`."""
        for (values, none), column in zip(self._columns, columns, strict=True):
            value = column[0].as_py()
            none.values[group] = value is None
            values.values[group] = 0 if value is None else value

    def is_none(self, group: int) -> bool:
        """Whether a part of the state is None."""
        return any(none.values[group] for _, none in self._columns)

    def columns(self, first: int, last: int) -> list[pa.Array[Any]]:
        """Groups [first, last) as columns."""
        made: list[pa.Array[Any]] = []
        for (values, none), dtype in zip(self._columns, self._types, strict=True):
            held, missing = values.values[first:last], none.values[first:last]
            nulls = int(np.count_nonzero(missing))
            bits = validity_buffer((missing == 0).view(np.uint8), nulls)
            data = np.packbits(held, bitorder="little") if pa.types.is_boolean(dtype) else held.copy()
            made.append(pa.Array.from_buffers(dtype, last - first, [bits, pa.py_buffer(data.data)], nulls))
        return made

    def clear(self, groups: int) -> None:
        """Forget `groups` groups."""
        self.seen.clear(groups)
        for values, none in self._columns:
            values.clear(groups)
            none.clear(groups)


_NUMPY: dict[str, Any] = {"int64": np.int64, "double": np.float64, "bool": np.uint8}
