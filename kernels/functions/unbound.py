"""Variables that may have no value where a function reads them: Python raises there, machine code would read anything.

Definite assignment, by a forward data flow over the bytecode (Aho, Lam, Sethi and Ullman, Compilers, 9.2): a variable
has a value at a place if it was assigned on every way to it. What only an exception leads to is not looked at, for
compiled functions go back to Python there.
"""

from __future__ import annotations

import dis
from collections.abc import Iterator
from types import CodeType

_ENDS = ("RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE")
_ALWAYS = ("JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT", "JUMP_ABSOLUTE")
_STORES = ("STORE_FAST", "STORE_DEREF")
_DELETES = ("DELETE_FAST", "DELETE_DEREF", "LOAD_FAST_AND_CLEAR")
_LOADS = ("LOAD_FAST", "LOAD_DEREF", "LOAD_CLOSURE")


def unbound_reads(code: CodeType) -> Iterator[tuple[str, int]]:
    """The variables that may have no value where they are read, with the line."""
    steps = list(dis.get_instructions(code))
    number_of = {step.offset: number for number, step in enumerate(steps)}
    parameters = code.co_argcount + code.co_kwonlyargcount
    parameters += bool(code.co_flags & 4) + bool(code.co_flags & 8)  # *args and **kwargs
    known: list[frozenset[str] | None] = [None] * len(steps)
    waiting = [(0, frozenset(code.co_varnames[:parameters]) | frozenset(code.co_freevars))]
    while waiting:
        number, assigned = waiting.pop()
        before = known[number] if number < len(steps) else assigned
        if number >= len(steps) or (before is not None and before <= assigned):
            continue
        assigned = assigned if before is None else assigned & before
        known[number] = assigned
        step = steps[number]
        after = _after(step, assigned)
        if step.opcode in dis.hasjrel or step.opcode in dis.hasjabs:
            waiting.append((number_of[step.argval], after))
        if step.opname not in _ENDS and step.opname not in _ALWAYS:
            waiting.append((number + 1, after))
    line = code.co_firstlineno
    for step, assigned_here in zip(steps, known, strict=True):
        line = (step.positions.lineno if step.positions else None) or line
        if assigned_here is not None and step.opname.startswith(_LOADS) and step.opname not in _DELETES:
            names = step.argval if isinstance(step.argval, tuple) else (step.argval,)
            yield from ((str(name), line) for name in names if name not in assigned_here)


def _after(step: dis.Instruction, assigned: frozenset[str]) -> frozenset[str]:
    """The variables with a value after the instruction; 3.13 has some that do two things at once."""
    names = step.argval if isinstance(step.argval, tuple) else (step.argval,)
    if step.opname in _DELETES:
        return assigned - set(names)
    if step.opname == "STORE_FAST_LOAD_FAST":
        return assigned | {names[0]}
    return assigned | set(names) if step.opname.startswith(_STORES) else assigned
