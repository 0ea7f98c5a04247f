"""A job as the paper's pseudo-code, in plain Python and one thread: what `trial` runs and `verify` compares with.

It shares nothing with the engine but the conversion of emitted values to the types of schema=.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce
from typing import Any

import msgspec
import pyarrow as pa
from msgspec.structs import replace

from kernelmill.engine.errors import Code, error
from kernelmill.engine.exec.pycolumns import NOT_FITTING, columns_of, values_of
from kernelmill.engine.exec.records import row_maker
from kernelmill.engine.io.context import Reject
from kernelmill.engine.io.rejects import reject_table
from kernelmill.engine.plan.userlogical import Pairs
from kernelmill.engine.userfunctions import UserFunction, shown

_NOTHING: Any = object()
Names = tuple[tuple[str, ...], bool]


class Recipe(msgspec.Struct, frozen=True):
    """A job without a plan: its functions and names; `pairs` and `made` are its types, None where they are not given.

    `reduce`: a function of role reduce or combine, a name, or None. `named`: the same of each named output.
    `has_values`: False once it is known, where there are no types, that map emits keys alone.
    """

    map: UserFunction
    reduce: UserFunction | str | None
    combine: UserFunction | str | None
    key: Names
    value: Names
    order: str | None
    pairs: Pairs | None
    made: pa.Schema | None
    named: Mapping[str, Recipe] = msgspec.field(default_factory=dict)
    has_values: bool = True


class NaiveRun(msgspec.Struct):
    """What came of it: rows in order, counters, and rejects as (number of the record, reason, code).

    `named` has the same of each named output; what the map counts and rejects is with the main one.
    """

    recipe: Recipe
    rows: list[tuple[Any, ...]] = msgspec.field(default_factory=list)
    counters: dict[str, int] = msgspec.field(default_factory=dict)
    rejects: list[tuple[int, str, Code]] = msgspec.field(default_factory=list)
    named: dict[str, NaiveRun] = msgspec.field(default_factory=dict)

    @property
    def all_counters(self) -> dict[str, int]:
        """What all functions counted, those of the named outputs too."""
        counters = dict(self.counters)
        for one in self.named.values():
            counters |= {name: counters.get(name, 0) + n for name, n in one.counters.items()}
        return counters

    def note_keys_alone(self, pairs: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
        """The emitted pairs, None for values that are missing; without types, if all are, the job has keys alone."""
        if pairs and self.recipe.pairs is None and all(value is _NOTHING for _, value in pairs):
            self.recipe = replace(self.recipe, has_values=False)
        return [(key, None if value is _NOTHING else value) for key, value in pairs]

    def table(self) -> pa.Table:
        """The rows as a table of the job's columns; without schema= the types are those of the values."""
        columns = list(zip(*self.rows, strict=True))
        if self.recipe.made is not None:
            fields = list(self.recipe.made)
            arrays = [columns_of(column, [f], is_tuple=False)[0] for column, f in zip(columns, fields, strict=False)]
            arrays = arrays or [pa.array([], f.type) for f in fields]
            return pa.Table.from_arrays(arrays, schema=self.recipe.made)
        is_bare = self.recipe.reduce is None and not self.recipe.has_values
        names = [*self.recipe.key[0], *(() if is_bare else self.recipe.value[0])]
        return pa.table({name: pa.array(column) for name, column in zip(names, columns, strict=False)})

    def rejects_table(self) -> pa.Table | None:
        """The rejects as a table, `row` being the number of the record; None if there are none."""
        records = [Reject("<records>", None, None, b"", why, code.id, number) for number, why, code in self.rejects]
        return reject_table(records) if records else None


class _UnknownOutputError(LookupError):
    """A map emits to an output that the job does not have."""


class _Emit:
    """Collects what one call emits, counts and rejects."""

    def __init__(self, key: Any = _NOTHING, outputs: tuple[str, ...] = ()) -> None:
        self.pairs: list[tuple[Any, Any]] = []
        self.counts: list[tuple[str, int]] = []
        self.why: str | None = None
        self.side: dict[str, list[tuple[Any, Any]]] = {}
        self._key, self._outputs = key, outputs

    def __call__(self, key: Any, value: Any = _NOTHING) -> None:
        if value is _NOTHING and self._key is not _NOTHING:
            key, value = self._key, key
        self.pairs.append((key, value))

    def to(self, name: str, key: Any, value: Any = _NOTHING) -> None:
        if name not in self._outputs:
            known = ", ".join(map(repr, self._outputs)) or "none"
            raise _UnknownOutputError(f"emit.to({name!r}): outputs= names {known}")
        self.side.setdefault(name, []).append((key, value))

    def count(self, name: str, n: int = 1) -> None:
        self.counts.append((name, n))

    def reject(self, why: str = "rejected") -> None:
        self.why = str(why) if self.why is None else self.why


def run_naively(recipe: Recipe, records: Iterable[Any], *, rejecting: bool = False) -> NaiveRun:
    """Run over `records`. What a function raises comes out as it is; where `rejecting`, it sets the record aside."""
    run = NaiveRun(recipe, named={name: NaiveRun(one) for name, one in recipe.named.items()})
    pairs: dict[str, list[tuple[Any, Any]]] = {name: [] for name in ("", *run.named)}
    for number, record in enumerate(records):
        for name, some in _mapped(run, number, record, rejecting).items():
            pairs[name] += some
    _finish(run, pairs[""], rejecting)
    for name, one in run.named.items():
        _finish(one, pairs[name], rejecting)
    return run


def _finish(run: NaiveRun, pairs: list[tuple[Any, Any]], rejecting: bool) -> None:
    """Reduce and order what was emitted to one output."""
    pairs = run.note_keys_alone(pairs)
    recipe = run.recipe
    if recipe.reduce is None:
        ordered = sorted(pairs, key=_by(recipe)) if recipe.order else pairs
        run.rows = [_flat(recipe, key, value, recipe.value[1]) for key, value in ordered]
        return
    groups: dict[Any, tuple[Any, list[Any]]] = {}
    for key, value in pairs:
        groups.setdefault(identity(key), (key, []))[1].append(value)
    found = sorted(groups.values(), key=lambda group: sort_key(group[0])) if recipe.order else groups.values()
    for number, (key, values) in enumerate(found):
        if recipe.order == "value":
            values.sort(key=sort_key)
        run.rows += _reduced(run, number, _positive_zero(key), values, rejecting)
    if recipe.order == "value" and isinstance(recipe.reduce, str):
        run.rows.sort(key=sort_key)


Emits = tuple[dict[str, list[tuple[Any, Any]]], list[tuple[str, int]], str | None]
"""Pairs by the name of the output, "" for the main one; counts; why the record is rejected."""


def emits_of(recipe: Recipe, record: Any) -> Emits:
    """What map emits, counts and why it rejects, for one record."""
    emit = _Emit(outputs=tuple(recipe.named))
    try:
        recipe.map.call(_record(record), emit)
    except Exception as problem:
        if emit.why is None:
            if isinstance(problem, _UnknownOutputError):
                told = LookupError(str(problem)).with_traceback(problem.__traceback__)
                raise recipe.map.failed(told, f"the record is {shown(record)}", "") from problem
            if isinstance(problem, AttributeError) and problem.obj is record and type(record) is tuple:
                problem.add_note(f"a tuple has no names: give dicts as records, job.trial([{{{problem.name!r}: ...}}])")
            raise
    return {"": emit.pairs, **emit.side}, emit.counts, emit.why


def identity(value: Any) -> Any:
    """Equal for values that are one key: NaN is one, 0.0 and -0.0 are too."""
    if isinstance(value, tuple):
        return tuple(map(identity, value))
    return ("NaN",) if isinstance(value, float) and math.isnan(value) else value


def sort_key(value: Any) -> Any:
    """Orders values as the engine does: None first, NaN last."""
    if isinstance(value, tuple):
        return tuple(map(sort_key, value))
    if value is None:
        return (0, 0)
    return (2, 0) if isinstance(value, float) and math.isnan(value) else (1, value)


def _mapped(run: NaiveRun, number: int, record: Any, rejecting: bool) -> dict[str, list[tuple[Any, Any]]]:
    """The pairs of one record for each output, none of a rejected one."""
    try:
        pairs, counts, why = emits_of(run.recipe, record)
    except Exception as problem:
        if not rejecting:
            raise
        run.rejects.append((number, type(problem).__name__, Code.FUNCTION_FAILED))
        return {}
    if why is not None:
        run.rejects.append((number, why, Code.FUNCTION_FAILED))
        return {}
    recipes = {"": run.recipe, **run.recipe.named}
    try:
        typed = {name: _typed(recipes[name].pairs, some) for name, some in pairs.items()}
    except NOT_FITTING as problem:
        if not rejecting:
            what = f"{run.recipe.map.title} emitted what does not fit schema=: {problem}"
            hint = f"the record is {shown(record)}"
            raise error(Code.CAST, what, where=f"record {number}", hint=hint) from problem
        run.rejects.append((number, "what it emitted does not fit", Code.CAST))
        return {}
    _count(run, counts)
    return typed


def _typed(shape: Pairs | None, pairs: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Pairs as they are once they have been columns of the job's types."""
    if shape is None or not pairs:
        return pairs
    fields = list(shape.schema)
    keys = columns_of([key for key, _ in pairs], fields[: len(shape.keys)], is_tuple=shape.key_is_tuple)
    made: Sequence[Any] = [None] * len(pairs)
    if shape.values:
        for _, value in pairs:
            if value is _NOTHING:
                raise TypeError("emit() missing a value")
        values = columns_of([value for _, value in pairs], fields[len(keys) :], is_tuple=shape.value_is_tuple)
        made = values_of(values, is_tuple=shape.value_is_tuple)
    elif any(value is not _NOTHING for _, value in pairs):
        raise TypeError("emit() got a value, and schema= names none")
    return list(zip(values_of(keys, is_tuple=shape.key_is_tuple), made, strict=True))


def _reduced(run: NaiveRun, number: int, key: Any, values: list[Any], rejecting: bool) -> list[tuple[Any, ...]]:
    recipe = run.recipe
    if isinstance(recipe.reduce, str):
        return [_flat(recipe, key, _named(recipe, values), recipe.value[1])]
    assert recipe.reduce is not None
    if recipe.reduce.role == "combine":
        return [_flat(recipe, key, combined(recipe.reduce, values), True)]
    emit = _Emit(key)
    try:
        recipe.reduce.call(key, iter(values), emit)
    except Exception as problem:
        if not rejecting and emit.why is None:
            raise
        run.rejects.append((number, emit.why or type(problem).__name__, Code.FUNCTION_FAILED))
        return []
    if emit.why is not None:
        run.rejects.append((number, emit.why, Code.FUNCTION_FAILED))
        return []
    _count(run, emit.counts)
    made = recipe.made
    is_tuple = recipe.value[1] if made is None else len(made) - len(recipe.key[0]) > 1
    is_tuple = is_tuple or (
        made is not None and recipe.pairs is not None and made == recipe.pairs.schema and recipe.value[1]
    )
    return [_flat(recipe, made_key, value, is_tuple) for made_key, value in emit.pairs]


def combined(function: UserFunction, values: Sequence[Any]) -> Any:
    """What a combine makes of all values, one after the other."""
    init, step, _, finish = function.folding
    state = reduce(step, values) if init is None else reduce(step, values, init())
    return state if finish is None else finish(state)


def _named(recipe: Recipe, values: list[Any]) -> Any:
    """The value of a reduce that has a name; of tuples, item by item."""
    kind = str(recipe.reduce)
    if not recipe.has_values or (recipe.pairs is not None and not recipe.pairs.values):
        return len(values) if kind == "count" else None
    if not recipe.value[1]:
        return _REDUCES[kind](values)
    if kind == "unique":
        return (_REDUCES[kind]([value[0] for value in values]),)
    return tuple(_REDUCES[kind](list(column)) for column in zip(*values, strict=True))


def _there(values: list[Any]) -> list[Any]:
    return [value for value in values if value is not None]


def _extreme(choose: Callable[..., Any]) -> Callable[[list[Any]], Any]:
    def extreme(values: list[Any]) -> Any:
        numbers = [value for value in _there(values) if value == value]
        return choose(numbers, default=None)

    return extreme


def _mean(values: list[Any]) -> float | None:
    there = _there(values)
    return sum(map(float, there)) / len(there) if there else None


def _unique(values: list[Any]) -> list[Any]:
    """Each value once, in the order in which they were first seen."""
    found: dict[Any, Any] = {}
    for value in values:
        found.setdefault(identity(value), value)
    return list(found.values())


_REDUCES: Mapping[str, Callable[[list[Any]], Any]] = {
    "sum": lambda values: sum(_there(values)),
    "count": lambda values: len(_there(values)),
    "min": _extreme(min),
    "max": _extreme(max),
    "mean": _mean,
    "first": lambda values: values[0],
    "list": list,
    "unique": _unique,
}


def _flat(recipe: Recipe, key: Any, value: Any, value_is_tuple: bool) -> tuple[Any, ...]:
    keys = tuple(key) if recipe.key[1] else (key,)
    is_bare = recipe.reduce is None and not recipe.has_values
    if is_bare or (recipe.made is not None and len(recipe.made) == len(keys)):
        return keys
    return (*keys, *value) if value_is_tuple and isinstance(value, tuple) else (*keys, value)


def _by(recipe: Recipe) -> Callable[[tuple[Any, Any]], Any]:
    return sort_key if recipe.order == "value" else lambda pair: sort_key(pair[0])


def _positive_zero(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(map(_positive_zero, value))
    return value + 0.0 if isinstance(value, float) else value


def _count(run: NaiveRun, counts: list[tuple[str, int]]) -> None:
    for name, n in counts:
        run.counters[name] = run.counters.get(name, 0) + n


def _record(record: Any) -> Any:
    return row_maker(tuple(record))(tuple(record.values())) if isinstance(record, Mapping) else record
