"""What becomes of what a map emits: pairs combined, brought together by key, reduced, in order. One lane an output."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from kernelmill.engine.compiling import (
    compiled_fold,
    compiled_partition,
    compiled_reduce,
    for_run,
    types_of,
    why_interpreted,
)
from kernelmill.engine.errors import Code, error
from kernelmill.engine.mapreduce.columns import (
    KERNEL_REDUCES,
    REDUCES,
    made_columns,
    named_columns,
    names_of,
    pairs_of,
    read_schema,
    reduced_columns,
    schema_required,
)
from kernelmill.engine.mapreduce.combiner import combiner_function, is_combiner
from kernelmill.engine.mapreduce.inference import count_mismatch, emits_to, infer_types, never_emits
from kernelmill.engine.options import one_of, whole_number
from kernelmill.engine.plan.logical import Aggregate, LogicalPlan
from kernelmill.engine.plan.physical import AggSpec
from kernelmill.engine.plan.userlogical import (
    COMBINABLE,
    CombineByKey,
    CombineRows,
    GatherGroups,
    Pairs,
    Partition,
    ReduceGroups,
    SortPartitions,
)
from kernelmill.engine.settings import PARTITIONS_MAX
from kernelmill.engine.userfunctions import Partitioning, UserFunction, side_of, user_function

_ORDERS = ("key", "value")
_TEXT_EXTREMES = ("min", "max")


class Lane:
    """The steps after a map for one of its outputs; arguments as those of MapReduce, KM0107 for bad ones.

    Where `side` is None it will be given later.
    """

    def __init__(
        self,
        reduce: str | Callable[..., Any] | None,
        combine: Any,
        partition: str | Callable[..., Any] | None,
        key: str | tuple[str, ...],
        value: str | tuple[str, ...],
        schema: Any,
        order: str | None,
        partitions: int | None,
        compiling: str = "auto",
        side: Mapping[str, Any] | None = None,
    ) -> None:
        self.reduce = _named_or_function(reduce, "reduce", 3, REDUCES, compiling, side)
        names = (*COMBINABLE, "count", "mean") if reduce is None else COMBINABLE
        if is_combiner(combine):
            self.combine: str | UserFunction | None = combiner_function(combine, compiling)
        else:
            self.combine = _named_or_function(combine, "combine", 2, names, compiling, side)
        self._check_combine()
        self.key, self.value = names_of("key", key), names_of("value", value)
        self.types = read_schema(schema)
        self.order = None if order is None else one_of("order", order, _ORDERS, or_none=True)
        count = None if partitions is None else whole_number("partitions", partitions, 1, PARTITIONS_MAX)
        by_range = isinstance(partition, str) and one_of("partition", partition, ("range",)) == "range"
        if by_range and order is None:
            what = 'partition="range" puts all part files in order of keys, order=None asks for none'
            raise error(Code.BAD_SETTING, what, hint='leave order= out, or order="value"')
        function = None if by_range or partition is None else _function(partition, "partition", 2, compiling, side)
        self._partitioning = Partitioning(function, self.key[1], count, by_range)

    @property
    def functions(self) -> list[UserFunction]:
        """The user's functions of these steps."""
        given = (self.reduce, self.combine, self._partitioning.function)
        return [one for one in given if isinstance(one, UserFunction)]

    def pairs(self, function: UserFunction, schema: pa.Schema | None, to: str = "") -> Pairs:
        """The columns that the map `function` emits here, to the output named `to`, for records of `schema`.

        As schema= says, or else as the compiler knows. KM0104 where neither does.
        """
        # Asked though schema= is given: what cannot be compiled is said here, in the user's thread.
        types = None
        if schema is not None:
            types = infer_types(function, schema, self.key, self.value, to, is_needed=self.types is None)
        if self.types is not None:
            types = self.types[0]
        if types is None:
            is_reduced = isinstance(self.reduce, UserFunction)
            mismatch = None
            if schema is not None:
                mismatch = count_mismatch(function, schema, self.key, self.value, to, is_reduced=is_reduced)
            if mismatch is not None:
                raise mismatch
            is_silent = schema is not None and never_emits(function, schema, to)
            why = why_interpreted(function)
            others = emits_to(function, schema) if is_silent and schema is not None and not to else ()
            names = self.key[0], self.value[0]
            raise schema_required(function, to, *names, is_silent=is_silent, others=others, why=why)
        return pairs_of(self.key, self.value, types)

    def above(self, plan: LogicalPlan, pairs: Pairs, origin: str) -> LogicalPlan:
        """The plan of this output over `plan`, which gives the pairs that the map emits."""
        if self._partitioning.function is not None:
            keys = pa.schema([pairs.schema.field(key) for key in pairs.keys])
            compiled_partition(self._partitioning.function, keys, pairs.key_is_tuple, nullable=False)
        # constants may have changed since the last plan
        reduce = for_run(self.reduce) if isinstance(self.reduce, UserFunction) else self.reduce
        combine = for_run(self.combine) if isinstance(self.combine, UserFunction) else self.combine
        if reduce is None and combine is None:
            return self._unreduced(plan, pairs, origin)
        if isinstance(combine, UserFunction):
            _needs_values(pairs, "combine")
            values = pa.schema([pairs.schema.field(name) for name in pairs.values])
            if reduce is None:
                return self._combined(plan, pairs, combine, values, origin)
            compiled_fold(combine, "step", values, pairs.value_is_tuple, nullable=False)
            plan = CombineRows(plan, pairs, combine, origin=origin)
        kind = reduce if reduce is not None else combine
        if isinstance(kind, str) and self._is_kernels(kind, pairs):
            aggs = _aggregates(kind, pairs, self.value[0])
            plan = Aggregate(plan, pairs.keys, aggs, self._partitioning, origin=origin)
            by = plan.schema.names if self.order == "value" else pairs.keys
            return plan if self.order is None else SortPartitions(plan, tuple(by), origin=origin)
        if isinstance(combine, str) and isinstance(reduce, UserFunction):
            _needs_values(pairs, "combine")
            plan = CombineRows(plan, pairs, None, combine, origin=origin)
        return self._reduced(self._arranged(plan, pairs, origin), pairs, kind, origin)

    def _unreduced(self, plan: LogicalPlan, pairs: Pairs, origin: str) -> LogicalPlan:
        how = self._partitioning
        if self.order is None and how.function is None and how.count is None:
            return plan  # nothing asks for pairs to change places
        placed = Partition(plan, pairs.keys, how, origin=origin)
        by = (*pairs.keys, *pairs.values) if self.order == "value" else pairs.keys
        return placed if self.order is None else SortPartitions(placed, by, origin=origin)

    def _arranged(self, plan: LogicalPlan, pairs: Pairs, origin: str) -> LogicalPlan:
        """Rows of one key side by side, in order."""
        placed = Partition(plan, pairs.keys, self._partitioning, origin=origin)
        if self.order is None:
            return GatherGroups(placed, pairs.keys, origin=origin)
        by = (*pairs.keys, *pairs.values) if self.order == "value" else pairs.keys
        return SortPartitions(placed, by, origin=origin)

    def _reduced(self, plan: LogicalPlan, pairs: Pairs, kind: str | UserFunction | None, origin: str) -> LogicalPlan:
        if isinstance(kind, str):
            columns = named_columns(pairs, kind)
            return ReduceGroups(plan, pairs, kind, None, columns, pairs.value_is_tuple, origin=origin)
        assert kind is not None
        columns, is_tuple = self._emitted(pairs, kind)
        return ReduceGroups(plan, pairs, "function", kind, columns, is_tuple, origin=origin)

    def _emitted(self, pairs: Pairs, reduce: UserFunction) -> tuple[pa.Schema, bool]:
        """The columns that a reduce emits, by schema= or by the compiler, and whether the value is a tuple."""
        keys, values = (pa.schema([pairs.schema.field(n) for n in names]) for names in (pairs.keys, pairs.values))
        forms = pairs.key_is_tuple, pairs.value_is_tuple
        form = compiled_reduce(reduce, keys, values, *forms, nullable=False)
        given = self.types[1] if self.types else None
        if given is not None or form is None or self.types is not None:
            return reduced_columns(pairs, given)
        count = len(form.outputs) - (form.shape[1] if form.shape[1] > 0 else 1)
        types = types_of(form.outputs)
        if types[:count] != keys.types or form.shape[0] != (count if pairs.key_is_tuple else -1):
            what = f"{reduce.title} emits other keys than map does"
            hint = "give a pair, the second for what reduce emits: schema=({...}, {...})"
            raise error(Code.SCHEMA_REQUIRED, what, where=reduce.where, hint=hint)
        return made_columns(pairs, None, (types[count:], form.shape[1] > 0), reduce)

    def _combined(
        self, plan: LogicalPlan, pairs: Pairs, combine: UserFunction, values: pa.Schema, origin: str
    ) -> LogicalPlan:
        """One row a key, its values combined by a function."""
        parts = ["step", "merge", "finish"] if combine.parts else ["step"]
        if combine.parts and combine.parts[3] is None:
            parts.remove("finish")
        forms = [compiled_fold(combine, one, values, pairs.value_is_tuple, nullable=False) for one in parts]
        form = forms[0] if all(forms) else None
        keys = [pairs.schema.field(key) for key in pairs.keys]
        if not combine.parts:
            states, state, state_is_tuple = list(values), "value", pairs.value_is_tuple
            columns, is_tuple = pairs.schema, pairs.value_is_tuple
        else:
            names = tuple(f"{pairs.values[0]}.state{n}" for n in range(1 if form is None else len(form.states)))
            types = [pa.binary()] if form is None else types_of(form.states)
            states = [pa.field(name, dtype) for name, dtype in zip(names, types, strict=True)]
            state, state_is_tuple = ("encoded", False) if form is None else ("columns", form.state_is_tuple)
            made = None if form is None else (types_of(form.results), form.result_is_tuple)
            columns, is_tuple = made_columns(pairs, self.types[1] if self.types else None, made, combine)
        plan = CombineByKey(
            plan, pairs, combine, self._partitioning, pa.schema([*keys, *states]), state, state_is_tuple, columns,
            is_tuple, origin=origin,
        )  # fmt: skip
        by = plan.schema.names if self.order == "value" else pairs.keys
        return plan if self.order is None else SortPartitions(plan, tuple(by), origin=origin)

    def _is_kernels(self, kind: str, pairs: Pairs) -> bool:
        """Whether an Aggregate does the reduce: not for the extremes of texts, or what asks for values in order."""
        value_types = [pairs.schema.field(name).type for name in pairs.values]
        if kind == "list":
            return bool(value_types) and self.order != "value"
        texts = any(pa.types.is_string(dtype) or pa.types.is_binary(dtype) for dtype in value_types)
        return kind in KERNEL_REDUCES and not (kind in _TEXT_EXTREMES and texts)

    def _check_combine(self) -> None:
        reduce, combine = self.reduce, self.combine
        if isinstance(combine, UserFunction) and combine.parts and reduce is not None:
            what = f"combine={combine.name} has a state of its own, which no reduce knows"
            raise error(Code.BAD_SETTING, what, hint="leave reduce= out: its finish gives the value")
        if combine is None or reduce is None or isinstance(reduce, UserFunction):
            return
        if isinstance(combine, str) and combine != reduce:
            what = f"combine={combine!r} changes what reduce={reduce!r} would see"
            raise error(Code.BAD_SETTING, what, hint="leave combine= out: such a reduce combines by itself")
        if reduce not in COMBINABLE:
            what = f"reduce={reduce!r} asks for every value, and combine= leaves one of many"
            raise error(Code.BAD_SETTING, what, hint="leave combine= out")


def _named_or_function(
    given: Any, role: str, positional: int, names: tuple[str, ...], compiling: str, side: Mapping[str, Any] | None
) -> str | UserFunction | None:
    if given is None:
        return None
    if isinstance(given, str):
        return one_of(role, given, names)
    return _function(given, role, positional, compiling, side)


def _function(given: Any, role: str, positional: int, compiling: str, side: Mapping[str, Any] | None) -> UserFunction:
    keywords = side_of(given, positional, side)
    return user_function(given, role, positional=positional, keywords=keywords, compile=compiling)


def _aggregates(kind: str, pairs: Pairs, names: tuple[str, ...]) -> tuple[AggSpec, ...]:
    if not pairs.values:
        if kind != "count":
            raise error(Code.BAD_SETTING, f"reduce={kind!r} takes values, map emits keys alone", hint="reduce='count'")
        return (AggSpec(names[0], "len", None),)
    return tuple(AggSpec(name, kind, name) for name in pairs.values)


def _needs_values(pairs: Pairs, role: str) -> None:
    if not pairs.values:
        hint = "name the value in schema=, or leave combine= out"
        raise error(Code.BAD_SETTING, f"{role} takes values, schema= names none", hint=hint)
