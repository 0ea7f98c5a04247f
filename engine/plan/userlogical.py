"""Plan nodes that call users' functions, and those that bring rows of one key together for them.

No filter, limit or column moves through a node that calls a function: what it does with its rows is not known.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa

from kernelmill.engine.errors import Code, error
from kernelmill.engine.plan.logical import LogicalPlan, check_aggregate
from kernelmill.engine.plan.partial import partial_schema
from kernelmill.engine.plan.physical import AggSpec
from kernelmill.engine.plan.valuekinds import may_be_key
from kernelmill.engine.schema import dtype_text, find
from kernelmill.engine.userfunctions import Partitioning, UserFunction

COMBINABLE = ("sum", "min", "max")
"""Aggregates whose partial result is a value like those that they take."""


class Pairs(msgspec.Struct, frozen=True):
    """What a map emits: columns of the key and of the value; `schema` has them in this order."""

    keys: tuple[str, ...]
    values: tuple[str, ...]
    key_is_tuple: bool
    value_is_tuple: bool
    schema: pa.Schema


class MapRecords(LogicalPlan, frozen=True, eq=False):
    """The keys and values that map(record, emit) emits for each row; `title` is the job's name.

    `named` is what it emits by emit.to, for each named output.
    """

    input: LogicalPlan
    function: UserFunction
    pairs: Pairs
    title: str = ""
    named: tuple[tuple[str, Pairs], ...] = ()

    def _derive(self) -> pa.Schema:
        for pairs in (self.pairs, *(pairs for _, pairs in self.named)):
            for key in pairs.keys:
                kind = find(pairs.schema, key).type
                if not may_be_key(kind):
                    what = f"values of type {dtype_text(kind)} cannot be a key, and {key!r} is one"
                    raise error(Code.TYPE_MISMATCH, what, hint="emit its parts as a tuple, or emit it as text")
        return self.pairs.schema


class MapOutput(LogicalPlan, frozen=True, eq=False):
    """What a map with several outputs emits to one of them: 0 is the main one, n the nth named one."""

    input: MapRecords
    number: int

    @property
    def name(self) -> str:
        """What emit.to calls it; "" for the main one."""
        return self.input.named[self.number - 1][0] if self.number else ""

    def _derive(self) -> pa.Schema:
        return self.input.named[self.number - 1][1].schema if self.number else self.input.pairs.schema


class CombineRows(LogicalPlan, frozen=True, eq=False):
    """Rows with one key in one task combined: by combine(a, b), or by the aggregate `kind`: sum, min or max."""

    input: LogicalPlan
    pairs: Pairs
    function: UserFunction | None
    kind: str = ""

    @property
    def aggs(self) -> tuple[AggSpec, ...]:
        """The aggregates that do it, where no function does."""
        return tuple(AggSpec(name, self.kind, name) for name in self.pairs.values) if self.function is None else ()

    def _derive(self) -> pa.Schema:
        schema = self.input.schema
        for agg in self.aggs:
            check_aggregate(agg, schema.field(agg.name).type)
        return partial_schema(self.pairs.keys, self.aggs, schema) if self.function is None else schema


class CombineByKey(LogicalPlan, frozen=True, eq=False):
    """One row a key, its values combined by a function: `columns`. `states` are the columns of what travels.

    state, state_is_tuple, made_is_tuple: see the physical steps.
    """

    input: LogicalPlan
    pairs: Pairs
    function: UserFunction
    partitioning: Partitioning
    states: pa.Schema
    state: str
    state_is_tuple: bool
    columns: pa.Schema
    made_is_tuple: bool

    def _derive(self) -> pa.Schema:
        return self.columns


class Partition(LogicalPlan, frozen=True, eq=False):
    """The same rows, those of one key in one task."""

    input: LogicalPlan
    keys: tuple[str, ...]
    partitioning: Partitioning

    def _derive(self) -> pa.Schema:
        return self.input.schema


class SortPartitions(LogicalPlan, frozen=True, eq=False):
    """The rows of each task in order of `keys`, all ascending, nulls first."""

    input: LogicalPlan
    keys: tuple[str, ...]

    def _derive(self) -> pa.Schema:
        for key in self.keys:
            kind = find(self.input.schema, key).type
            if not may_be_key(kind):
                what = f"values of type {dtype_text(kind)} have no order here, and {key!r} is one"
                raise error(Code.TYPE_MISMATCH, what, hint='order="key" sorts by keys alone')
        return self.input.schema


class GatherGroups(LogicalPlan, frozen=True, eq=False):
    """The rows of each task, those of one key side by side, in first-seen order."""

    input: LogicalPlan
    keys: tuple[str, ...]

    def _derive(self) -> pa.Schema:
        return self.input.schema


class ReduceGroups(LogicalPlan, frozen=True, eq=False):
    """What is made of each key's values, which stand side by side: see the physical step; `columns` come out."""

    input: LogicalPlan
    pairs: Pairs
    kind: str
    function: UserFunction | None
    columns: pa.Schema
    made_is_tuple: bool = False

    def _derive(self) -> pa.Schema:
        return self.columns


class MapBatches(LogicalPlan, frozen=True, eq=False):
    """What a function makes of each record batch: `columns`."""

    input: LogicalPlan
    function: UserFunction
    columns: pa.Schema

    def _derive(self) -> pa.Schema:
        return self.columns


class MapColumn(LogicalPlan, frozen=True, eq=False):
    """The same rows with one more column, the last: what a function makes of the values of `column`."""

    input: LogicalPlan
    function: UserFunction
    column: str
    made: pa.Field[Any]

    def _derive(self) -> pa.Schema:
        return self.input.schema.append(self.made)


class MapGroups(LogicalPlan, frozen=True, eq=False):
    """What a function makes of a table of each key's rows, which stand side by side: `columns`."""

    input: LogicalPlan
    function: UserFunction
    keys: tuple[str, ...]
    columns: pa.Schema

    def _derive(self) -> pa.Schema:
        return self.columns
