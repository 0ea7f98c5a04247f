"""How numba puts lambdas, comprehensions and nested functions into a user's function: as Python calls them.

numba's own way drops calls, quotients and items that nobody uses, with what they raise, and takes no argument by name.
Importing this module mends both for the code that `guards` knows; other functions are numba's as before.
"""
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import inspect
from typing import Any

from numba.core import errors, inline_closurecall, ir

from kernelmill.kernels.functions.guards import is_guarded

_NEVER_RAISE = frozenset({"make_function", "build_tuple", "null", "undef"})
"""Operations that may be dropped where their value is unused; functions must be, once they are put in."""

_numba: Any = inline_closurecall
_drop_dead, _arguments_by_numba = _numba.dead_code_elimination, _numba._get_callee_args


def _drop_harmless(func_ir: Any) -> None:
    """Values that no statement uses go, and what they alone were made of; but nothing that may raise."""
    if not is_guarded(func_ir.func_id.code):
        _drop_dead(func_ir)
        return
    blocks, count = func_ir.blocks.values(), -1
    while count != sum(len(block.body) for block in blocks):
        count = sum(len(block.body) for block in blocks)
        statements = [one for block in blocks for one in block.body if not isinstance(one, ir.Del)]
        used = {var.name for one in statements for var in _read(one)}
        for block in blocks:
            block.body = [one for one in block.body if not _is_unused(one, used)]


def _read(statement: Any) -> list[Any]:
    """The variables that a statement reads."""
    if not isinstance(statement, ir.Assign):
        return list(statement.list_vars())
    value = statement.value
    return [value] if isinstance(value, ir.Var) else list(value.list_vars()) if hasattr(value, "list_vars") else []


def _is_unused(statement: Any, used: set[str]) -> bool:
    """True if a statement gives a value, or takes one away, that is not used, and cannot raise."""
    if isinstance(statement, ir.Del):
        return statement.value not in used
    if not isinstance(statement, ir.Assign) or statement.target.name in used:
        return False
    value = statement.value
    return not isinstance(value, ir.Expr | ir.Yield) or getattr(value, "op", "") in _NEVER_RAISE


def _arguments(call: Any, callee: Any, loc: Any, func_ir: Any) -> Any:
    """What each parameter of a nested function is given by a call: by place, by name or by default."""
    is_nested = isinstance(callee, ir.Expr) and callee.op == "make_function" and getattr(call, "op", "") == "call"
    if not is_nested or not is_guarded(callee.code):
        return _arguments_by_numba(call, callee, loc, func_ir)
    code = callee.code
    if call.vararg is not None or code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS):
        raise errors.UnsupportedError(f"* and ** with {code.co_name}, which is made inside a function, are {_NOT}", loc)
    names = code.co_varnames[: code.co_argcount]
    given = dict(zip(names, call.args, strict=False))
    for name, value in call.kws:
        if name in given or name not in names[code.co_posonlyargcount :]:
            raise errors.UnsupportedError(f"{code.co_name} cannot be called with {name}= here", loc)
        given[name] = value
    defaults = _defaults(callee, func_ir)
    given = {**dict(zip(names[len(names) - len(defaults) :], defaults, strict=True)), **given}
    if len(given) < len(names) or len(call.args) > len(names) or code.co_kwonlyargcount:
        raise errors.UnsupportedError(f"{code.co_name} is called with other arguments than it takes", loc)
    return [given[name] for name in names]


_NOT = "not supported in compiled functions"


def _defaults(callee: Any, func_ir: Any) -> list[Any]:
    """The values of a nested function's defaults, as they were when it was made."""
    if not callee.defaults:
        return []
    if isinstance(callee.defaults, tuple):
        return [one if isinstance(one, ir.Var) else ir.Const(one, callee.loc) for one in callee.defaults]
    made = func_ir.get_definition(callee.defaults)
    if isinstance(made, ir.Const | ir.Global | ir.FreeVar):
        return [ir.Const(one, callee.loc) for one in made.value]
    return list(made.items)


_numba.dead_code_elimination, _numba._get_callee_args = _drop_harmless, _arguments
