"""What a job's columns are called and hold: from key=, value= and schema= to what map emits and what comes out."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.options import column_name
from kernelmill.engine.plan.userlogical import Pairs
from kernelmill.engine.schema import dtype_text, parse_dtype
from kernelmill.engine.userfunctions import UserFunction

KERNEL_REDUCES = ("sum", "count", "min", "max", "mean")
"""They become an Aggregate; the others have steps of their own."""
REDUCES = (*KERNEL_REDUCES, "first", "list", "unique")


def names_of(option: str, given: Any) -> tuple[tuple[str, ...], bool]:
    """The names that key= or value= gives, and whether map emits a tuple of so many; KM0107 for what is no name."""
    if isinstance(given, tuple):
        if not given:
            raise error(Code.BAD_SETTING, f"{option} names no column", hint=f'give a name, or a tuple: {option}=("a",)')
        return tuple(column_name(name) for name in given), True
    return (column_name(given),), False


def read_schema(given: Any) -> tuple[dict[str, pa.DataType], dict[str, pa.DataType] | None] | None:
    """What schema= says of what map emits, and of what reduce emits if it is a pair; KM0107 for anything else."""
    if given is None:
        return None
    if isinstance(given, tuple) and len(given) == 2:
        return _types(given[0]), _types(given[1])
    return _types(given), None


def pairs_of(
    key: tuple[tuple[str, ...], bool],
    value: tuple[tuple[str, ...], bool],
    types: Mapping[str, pa.DataType],
) -> Pairs:
    """The columns that map emits: the keys, then the values; without any value in `types` it emits keys alone."""
    (keys, key_is_tuple), (values, value_is_tuple) = key, value
    named = [*keys, *values]
    if not any(name in types for name in values):
        values, value_is_tuple = (), False
    missing = [name for name in (*keys, *values) if name not in types]
    unused = [name for name in types if name not in named]
    if missing or unused:
        what = f"schema= names {', '.join(types) or 'nothing'}; key= and value= name {', '.join(named)}"
        raise error(Code.BAD_SETTING, what, hint=_renaming_hint(list(types)))
    twice = [name for name in values if name in keys]
    if twice:
        raise error(Code.DUPLICATE_COLUMN, f"{twice[0]!r} is a key and a value", hint='rename one: value="n"')
    schema = pa.schema([pa.field(name, types[name]) for name in (*keys, *values)])
    return Pairs(keys, values, key_is_tuple, value_is_tuple, schema)


def reduced_columns(pairs: Pairs, made: Mapping[str, pa.DataType] | None) -> tuple[pa.Schema, bool]:
    """The columns that a reduce function emits, and whether it emits its values as a tuple."""
    if made is None:
        if not pairs.values:
            what = "the reduce emits values, and schema= names none"
            hint = f"give a pair, the second for what reduce emits: schema=({_dict_text(pairs)}, {{'n': 'int64'}})"
            raise error(Code.SCHEMA_REQUIRED, what, hint=hint)
        return pairs.schema, pairs.value_is_tuple
    types = {key: made.get(key, pairs.schema.field(key).type) for key in pairs.keys}
    values = {name: dtype for name, dtype in made.items() if name not in types}
    if not values:
        hint = "name at least one column beside the keys"
        raise error(Code.BAD_SETTING, "the second schema= names no value that reduce emits", hint=hint)
    schema = pa.schema([pa.field(name, dtype) for name, dtype in (types | values).items()])
    return schema, len(values) > 1


def made_columns(
    pairs: Pairs,
    given: Mapping[str, pa.DataType] | None,
    inferred: tuple[Sequence[pa.DataType], bool] | None,
    function: UserFunction,
) -> tuple[pa.Schema, bool]:
    """The columns that a function makes of a key's values, as schema= says, or else as the compiler knows.

    `inferred`: their types, and whether they come as a tuple. What value= names are their names, if it names as many.
    """
    if given is not None or inferred is None:
        return reduced_columns(pairs, given)
    types, is_tuple = inferred
    names = pairs.values
    if len(types) != len(names) or (is_tuple and not pairs.value_is_tuple):
        verb = "emits" if function.role == "reduce" else "gives"
        counted = f"{len(types)} values" if len(types) != 1 else "1 value"
        counted = f"a tuple of {len(types)}" if is_tuple and len(types) == len(names) else counted
        what = f"{function.title} {verb} {counted}, value= names {len(names)}"
        named = [*names, *(f"{(names or ('value',))[-1]}{n}" for n in range(2, len(types) + 2))][: len(types)]
        second = ", ".join(f"{name!r}: {dtype_text(dtype)!r}" for name, dtype in zip(named, types, strict=True))
        hint = f"give a pair, the second for what it {verb}: schema=({_dict_text(pairs)}, {{{second}}})"
        raise error(Code.SCHEMA_REQUIRED, what, where=function.where, hint=hint)
    fields = [pairs.schema.field(key) for key in pairs.keys]
    return pa.schema([*fields, *(pa.field(name, dtype) for name, dtype in zip(names, types, strict=True))]), is_tuple


def named_columns(pairs: Pairs, kind: str) -> pa.Schema:
    """The columns that the reduce `kind` gives where no kernel does it: first, list, unique, min or max."""
    if kind == "unique" and len(pairs.values) != 1:
        what = f"reduce='unique' takes one value, map emits {len(pairs.values)}"
        raise error(Code.BAD_SETTING, what, hint="write a reduce(key, values, emit)")
    if kind == "list" and not pairs.values:
        raise error(Code.BAD_SETTING, "reduce='list' takes values, map emits keys alone", hint="reduce='count'")
    schema = pairs.schema
    if kind in ("list", "unique"):
        for name in pairs.values:
            index = schema.get_field_index(name)
            schema = schema.set(index, pa.field(name, pa.list_(schema.field(name).type), nullable=False))
    return schema


def schema_required(
    function: UserFunction,
    to: str,
    key: tuple[str, ...],
    value: tuple[str, ...],
    *,
    is_silent: bool,
    others: tuple[str, ...] = (),
    why: str,
) -> KernelmillError:
    """KM0104: what a map emits, to the output named `to`, is not known, with the dict to write.

    `is_silent`: for it emits nothing; `others`: to which other outputs it emits then. `why`: the compiler's reason,
    or "".
    """
    types = ", ".join([f'"{name}": "string"' for name in key] + [f'"{name}": "int64"' for name in value])
    what = f"what {function.title} emits{f' to {to!r}' if to else ''} cannot be known without running it"
    what += f": {why}" if why else ""
    hint = f"give its types, such as schema={{{types}}}"
    if _MISTAKE.search(why):
        hint = "mend that line: as plain Python it would raise, too"
    if is_silent:
        call = f"emit.to({to!r}, ...)" if to else "emit"
        hint = f"it never calls {call}; call it, or {hint}"
    if is_silent and others:
        named = " and ".join(map(repr, others))
        hint = (
            f"it emits to {named} alone, and a job has a main output too: call emit for one of them; or {hint}, which"
        )
        hint += " makes an empty main output"
    return error(Code.SCHEMA_REQUIRED, what, where=function.where, hint=hint)


_MISTAKE = re.compile(
    r": \w+ is not defined(: did you mean .*)?$"
    r"|: \w+( \w+)? has no (column )?'\w+'"
    r"|: module '[\w.]+' has no attribute"
    r"|: emit takes a key and a value, or a key alone$"
    r"|: a value is called that is no function$"
    r"|: \w+\(\) is called wrongly: "
    r"|: columns are attributes of a row"
    r"|: a record of one column is its value"
    r"| raises, in Python too$"
)
"""Reasons of the compiler's for what Python would not run either."""


def wrong_count(
    function: UserFunction,
    to: str,
    shape: tuple[int, ...],
    types: Sequence[pa.DataType],
    named: tuple[tuple[tuple[str, ...], bool], tuple[tuple[str, ...], bool]],
    *,
    may_be_reduces: bool = False,
) -> KernelmillError:
    """KM0104: a map emits another number of keys or values than key= and value= name; with names for all it emits.

    shape: as that of a CompiledMap; `types` of all that it emits, the keys' first; `named`: what key= and value= say.
    `may_be_reduces`: a reduce function follows, so value= may have been meant for what that emits.
    """
    found, hints, whats, at = [], [], [], 0
    meant: tuple[str, ...] = ()
    for option, length, (names, is_tuple) in zip(("key", "value"), shape, named, strict=False):
        count = max(length, 1)
        its, at = types[at : at + count], at + count
        given = ", ".join(map(dtype_text, its))
        if length == (len(names) if is_tuple else -1):
            found += list(zip(names, its, strict=True))
            continue
        emitted = f"a tuple of {length} ({given})" if length > 0 else f"one {option}, no tuple ({given})"
        said = f"names {len(names)}" if is_tuple else "names 1, no tuple"
        whats.append(f"emits {emitted} as {option}, and {option}= {said}")
        made = [*names, *(f"{names[-1]}{n}" for n in range(2, count + 2))][:count]
        found += list(zip(made, its, strict=True))
        text = "(" + ", ".join(f'"{name}"' for name in made) + ("," if count == 1 else "") + ")"
        hints.append(f"{option}={text}" if length > 0 else f'{option}="{made[0]}"')
        meant = names if option == "value" and is_tuple and may_be_reduces else meant
    what = f"{function.title}{f', to {to!r},' if to else ''} {', and '.join(whats)}"
    schema = ", ".join(f'"{name}": "{dtype_text(dtype)}"' for name, dtype in found)
    hint = f"name what it emits: {', '.join(hints)}; its types are schema={{{schema}}}"
    if meant:
        second = ", ".join(f'"{name}": ...' for name in meant)
        hint += f". If the reduce emits {' and '.join(meant)}, give a pair: schema=({{{schema}}}, {{{second}}})"
    return error(Code.SCHEMA_REQUIRED, what, where=function.where, hint=hint)


def _types(given: Any) -> dict[str, pa.DataType]:
    if isinstance(given, pa.Schema):
        return {field.name: field.type for field in given}
    if isinstance(given, Mapping):
        return {column_name(name): parse_dtype(dtype) for name, dtype in given.items()}
    hint = 'give {"word": "string", "n": "int64"}, or a pair of such: what map emits, what reduce emits'
    raise error(Code.BAD_SETTING, f"schema cannot be {given!r}", hint=hint)


def _renaming_hint(names: list[str]) -> str:
    if len(names) == 2:
        return f'name the columns of schema=: key="{names[0]}", value="{names[1]}"'
    return 'key= and value= name the columns of schema=, tuples of names where map emits tuples: key=("a", "b")'


def _dict_text(pairs: Pairs) -> str:
    return "{" + ", ".join(f"{field.name!r}: {str(field.type)!r}" for field in pairs.schema) + "}"
