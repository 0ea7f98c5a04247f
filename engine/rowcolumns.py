"""Which columns of its rows a map reads, as its bytecode has it: the others may be of types that only Python knows."""

from __future__ import annotations

import dis
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

import pyarrow as pa


def columns_read(function: Callable[..., Any], schema: pa.Schema) -> pa.Schema:
    """The columns of `schema` that `function(row, ...)` reads; all of them where it does more than `row.name`."""
    names = _attributes_of_first(function.__code__) if isinstance(function, FunctionType) else None
    if names is None or not names <= set(schema.names):
        return schema
    return pa.schema([field for field in schema if field.name in names])


def _attributes_of_first(code: CodeType) -> set[str] | None:
    """The attributes that are read of the first parameter, if nothing else is done with it."""
    if not code.co_argcount:
        return None
    row = code.co_varnames[0]
    if row in code.co_cellvars:  # a function within uses it
        return None
    found: set[str] = set()
    instructions = list(dis.get_instructions(code))
    for number, instruction in enumerate(instructions):
        used = instruction.argval if isinstance(instruction.argval, tuple) else (instruction.argval,)
        is_variable = instruction.opcode in dis.haslocal
        if not is_variable or row not in used:
            continue
        then = instructions[number + 1]
        if instruction.argval != row or not instruction.opname.startswith("LOAD_FAST"):
            return None
        if then.opname not in ("LOAD_ATTR", "LOAD_METHOD"):
            return None
        found.add(str(then.argval))
    return found
