"""Plan nodes of verbs that keep, number, or turn rows as they are; as frozen and as checked as those of `logical`."""

from __future__ import annotations

from functools import reduce
from typing import Any

import pyarrow as pa
from msgspec.structs import replace

from kernelmill.engine.errors import Code, error
from kernelmill.engine.plan.logical import LogicalPlan, unique_names
from kernelmill.engine.plan.valuekinds import may_be_grouped
from kernelmill.engine.promotion import common_type
from kernelmill.engine.schema import dtype_text, find


class Unique(LogicalPlan, frozen=True, eq=False):
    """Of the rows that agree in `keys` one: `keep` is first or last, in the input's order, or none of several."""

    input: LogicalPlan
    keys: tuple[str, ...]
    keep: str

    def _derive(self) -> pa.Schema:
        for key in self.keys:
            kind = find(self.input.schema, key, where=self.origin).type
            if not may_be_grouped(kind):
                what = f"unique: values of type {dtype_text(kind)}, in column {key!r}, are not compared here"
                raise error(Code.TYPE_MISMATCH, what, hint='name other columns: unique(["a", "b"])')
        return self.input.schema


class RowIndex(LogicalPlan, frozen=True, eq=False):
    """A first column `name` that numbers the rows, in the input's order, from `offset`."""

    input: LogicalPlan
    name: str
    offset: int

    def _derive(self) -> pa.Schema:
        return unique_names([pa.field(self.name, pa.int64(), nullable=False), *self.input.schema])


class EveryRow(LogicalPlan, frozen=True, eq=False):
    """Each `each`th row of the input's order, from row `offset` on."""

    input: LogicalPlan
    each: int
    offset: int

    def _derive(self) -> pa.Schema:
        return self.input.schema


class LastRows(LogicalPlan, frozen=True, eq=False):
    """The last `rows` rows of the input's order."""

    input: LogicalPlan
    rows: int

    def _derive(self) -> pa.Schema:
        return self.input.schema


class SampleRows(LogicalPlan, frozen=True, eq=False):
    """`rows` rows, or a `fraction` of them if that is None, in the input's order; which ones follows from `seed`."""

    input: LogicalPlan
    rows: int | None
    fraction: float
    seed: int

    def _derive(self) -> pa.Schema:
        return self.input.schema


class Unpivot(LogicalPlan, frozen=True, eq=False):
    """A row for each of the columns `on`: the columns `index`, then the column's name and its value."""

    input: LogicalPlan
    on: tuple[str, ...]
    index: tuple[str, ...]
    variable_name: str
    value_name: str

    def _derive(self) -> pa.Schema:
        schema = self.input.schema
        kept = [find(schema, name, where=self.origin) for name in self.index]
        turned = [find(schema, name, where=self.origin) for name in self.on]
        if not turned:
            raise error(Code.BAD_SETTING, "unpivot has no columns to turn into rows", hint='unpivot(["a", "b"])')
        meeting = reduce(_meeting, (field.type for field in turned[1:]), turned[0].type)
        if meeting is None:
            told = ", ".join(f"{field.name}: {dtype_text(field.type)}" for field in turned)
            what = f"unpivot puts values into one column, and these have no common type: {told}"
            raise error(Code.TYPE_MISMATCH, what, hint="cast them to one type first")
        is_nullable = any(field.nullable for field in turned)
        variable: pa.Field[Any] = pa.field(self.variable_name, pa.string(), nullable=False)
        return unique_names([*kept, variable, pa.field(self.value_name, meeting, nullable=is_nullable)])


class Concat(LogicalPlan, frozen=True, eq=False):
    """The rows of `frames`, which have the same columns, in the order of frames."""

    frames: tuple[LogicalPlan, ...]

    @property
    def inputs(self) -> tuple[LogicalPlan, ...]:
        """The frames."""
        return self.frames

    def over(self, inputs: tuple[LogicalPlan, ...]) -> Concat:
        """The same of other frames."""
        return replace(self, frames=inputs)

    def _derive(self) -> pa.Schema:
        first, *others = (frame.schema for frame in self.frames)
        for other in others:
            if [(field.name, field.type) for field in first] != [(field.name, field.type) for field in other]:
                raise error(Code.INTERNAL, "frames of other columns were put together")
        schemas = (first, *others)
        return pa.schema([f.with_nullable(any(s.field(at).nullable for s in schemas)) for at, f in enumerate(first)])


RowNode = Concat | Unique | RowIndex | EveryRow | LastRows | SampleRows | Unpivot


def _meeting(left: pa.DataType | None, right: pa.DataType) -> pa.DataType | None:
    return None if left is None else common_type(left, right)
