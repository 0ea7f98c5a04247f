"""Where and why a function is not compiled, of what numba's insides raise without a word: read from their frames."""
# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numba
from numba.core import ir, ir_utils

from kernelmill.kernels.functions.titles import items_title

_NOT = "not supported in compiled functions"
_NOT_USERS = (str(Path(__file__).parents[2]), str(Path(numba.__file__).parent))
_COMPARING = ("list_eq", "list_ne", "list_lt", "list_le", "list_gt", "list_ge")


def place_of(problem: BaseException) -> tuple[str, int] | None:
    """The file and line of the user's statement that numba was at, as the innermost frames know it; None for none."""
    found = None
    for frame in _frames(problem):
        for holder in (frame.f_locals.get("inst"), frame.f_locals.get("self")):
            found = _users_place(holder) or found
    return found


def _users_place(holder: Any) -> tuple[str, int] | None:
    """The file and line of what has a place in numba's form of the user's code; None for others."""
    loc = getattr(holder, "loc", None)
    path, line = getattr(loc, "filename", None), getattr(loc, "line", None)
    if not isinstance(path, str) or not isinstance(line, int) or line <= 0:
        return None
    return None if path.startswith((*_NOT_USERS, "<driver of", "unknown")) else (path, line)


def words_of(problem: BaseException) -> str:
    """Words for it: what was compared, called or made one type."""
    for frame in reversed(list(_frames(problem))):
        name, known = frame.f_code.co_name, frame.f_locals
        if frame.f_code.co_filename.endswith("tupleobj.py"):
            return "comparing tuples that hold texts is not supported: compare their items, one by one"
        if name in _COMPARING:
            return f"comparing lists that hold different things is {_NOT}: compare their items, one by one"
        if name == "list_to_list":
            given, wanted = items_title(known["fromty"].dtype), items_title(known["toty"].dtype)
            return f"a list of {given} stands where a list of {wanted} does, which is {_NOT}"
        if name == "apply" and known.get("kws") and hasattr(known.get("self"), "key"):
            called = _name_of(known["self"].key)
            return f"{called}() with {', '.join(f'{one}=' for one in known['kws'])} is not supported for such values"
        if "fnty" in known and _users_place(known.get("self")):
            key = getattr(known["fnty"], "typing_key", None)
            return f"{_name_of(key[-1] if isinstance(key, tuple) else key)}() is not supported for such values"
        if name == "lower_inst" and _users_place(known.get("inst")):
            called = _called_by(known["self"], known.get("inst"))
            if called:
                return f"{called}() is not supported for such values"
    return f"what is done here is {_NOT}"


def _called_by(lower: Any, statement: Any) -> str:
    """The name of the method or builtin that a statement calls; "" for other statements."""
    value = getattr(statement, "value", None)
    if not isinstance(value, ir.Expr) or value.op != "call":
        return ""
    function = ir_utils.guard(ir_utils.get_definition, lower.func_ir, value.func)
    if isinstance(function, ir.Expr) and function.op == "getattr":
        return str(function.attr)
    return _name_of(function.value) if isinstance(function, ir.Global | ir.FreeVar) else ""


def _name_of(function: Any) -> str:
    return str(getattr(function, "__name__", function)).rpartition(".")[2].removeprefix("user_")


def _frames(problem: BaseException) -> Iterator[FrameType]:
    """The frames that it went through, the outermost first."""
    trace = problem.__traceback__
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next
