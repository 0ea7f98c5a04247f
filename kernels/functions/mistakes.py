"""What users' functions do wrong with their record, emit, methods and names, as numba's words give it away."""

from __future__ import annotations

import builtins
import difflib
import dis
import re
import sys
from collections.abc import Iterable, Sequence
from types import CodeType, FunctionType
from typing import Any

from kernelmill.kernels.functions.titles import class_of


def mistake_in(text: str, function: Any, arguments: Sequence[Any]) -> str:
    """What is wrong with the use of a record, of emit, a method or a name, if that is what numba's `text` speaks of."""
    code = getattr(function, "__code__", None)
    record = (*getattr(code, "co_varnames", ()), "record")[0]
    columns = getattr(arguments[0], "fields", None) if arguments else None
    undefined = re.search(r"NameError: name '(\w+)' is not defined", text)
    if undefined:
        return f"{undefined[1]} is not defined" + _meant(undefined[1], _names_at_hand(function))
    missing = re.search(r"module '([\w.]+)' has no attribute '(\w+)'", text)
    if missing:
        return f"{missing[0]}" + _meant(missing[2], dir(sys.modules.get(missing[1])))
    found = re.search(r"Unknown attribute '(\w+)' of type (.*)", text)
    if found and re.match(r"\w*Emit\b", found[2]):
        return f"emit has no {found[1]!r}: it has count, reject and to"
    if found and columns is not None and found[2].startswith("Row("):
        return f"{record} has no column {found[1]!r}: it has {', '.join(columns)}"
    is_only_column = found and arguments and found[2] == str(arguments[0]) and not hasattr(str, found[1])
    if found and is_only_column and not _is_called(code, found[1]):
        return f"a record of one column is its value: write {record}, not {record}.{found[1]}"
    if found:
        return _of_attribute(found[1], found[2])
    subscript = re.search(r"getitem\(Row\(.*\), Literal\[str\]\((\w+)\)\)", text)
    return f"columns are attributes of a row: write {record}.{subscript[1]}" if subscript else ""


def _of_attribute(name: str, kind: str) -> str:
    """That a value of numba's type `kind` has no such attribute in Python either, and which was meant; else ""."""
    known = class_of(kind)
    if known is None:
        return ""
    if hasattr(known[0], name):
        what = "the method" if callable(getattr(known[0], name)) else "the attribute"
        return f"{what} {name} of {known[1]} is not supported in compiled functions"
    return f"{known[1]} has no {name!r}" + _meant(name, dir(known[0]))


def _meant(name: str, names: Iterable[str]) -> str:
    """The question which of these names was meant, if one is near."""
    near = difflib.get_close_matches(name, [one for one in names if not one.startswith("_")], 1, 0.7)
    return f": did you mean {near[0]}?" if near else ""


def _names_at_hand(function: Any) -> list[str]:
    """The names that a function could have meant: its own, its module's and Python's."""
    if not isinstance(function, FunctionType):
        return dir(builtins)
    code = function.__code__
    return [*code.co_varnames, *code.co_cellvars, *code.co_freevars, *function.__globals__, *dir(builtins)]


def _is_called(code: CodeType | None, name: str) -> bool:
    """Whether code calls a method of this name."""
    steps = dis.get_instructions(code) if code else ()
    return any(step.opname == "LOAD_METHOD" and step.argval == name for step in steps) or any(
        step.opname == "LOAD_ATTR" and step.argval == name and "NULL" in step.argrepr for step in steps
    )
