"""Side data in numba: functions that `sidevalues.bind` made are compiled with side data read from the driver's words.

numba compiles a function from its intermediate form. There, before types are inferred, each SideRef becomes an
attribute of the function's first parameter, and each call of a helper that takes the words is given that parameter.
This is done by a rewrite that numba applies to all it compiles: it touches functions with SideRefs only.
"""
# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from numba.core import errors, ir, ir_utils
from numba.core.registry import cpu_target
from numba.core.rewrites.registry import Rewrite, register_rewrite

from kernelmill.kernels.functions import sideiteration, sideoperations, sidetypes
from kernelmill.kernels.sidevalues import PARAMETER, RefusedSide, SideRef, takes_side
from kernelmill.kernels.text.jitting import as_argument

SIDE, side_of = sidetypes.SIDE, sidetypes.side_of
OPERATIONS = sideoperations, sideiteration
"""The modules that tell numba what may be done with side data."""


def side_text(function: Any) -> str:
    """What comes before the arguments in a driver's call of a function; the driver calls side_of's result `side`."""
    return "side, " if takes_side(function) else ""


def with_side_and_defaults(function: Any, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
    """The types of all parameters of a function that is called with `arguments`, after side data if it reads such."""
    given = (SIDE, *arguments) if takes_side(function) else arguments
    left_out = list(inspect.signature(function).parameters.values())[len(given) :]
    return (*given, *(as_argument(cpu_target.typing_context.resolve_value_type(one.default)) for one in left_out))


@register_rewrite("before-inference")
class _ReadSide(Rewrite):
    """Applies what this module is for."""

    def match(self, func_ir, block, typemap, calltypes):
        self._func_ir, self._block = func_ir, block
        return _is_waiting(func_ir, block)

    def apply(self):
        return _with_side(self._func_ir, self._block)


def _is_waiting(func_ir: Any, block: Any) -> bool:
    if not takes_side(func_ir.func_id.func):
        return False
    return any(_has_standing(func_ir, one) or _call_without_side(func_ir, one) for one in block.find_insts(ir.Assign))


def _has_standing(func_ir: Any, statement: Any) -> bool:
    """True if a statement loads a value for which something else stands."""
    value = statement.value
    if isinstance(value, ir.Arg):
        return value.name in _standing(func_ir)
    return isinstance(value, ir.Global | ir.FreeVar) and isinstance(value.value, SideRef | RefusedSide)


def _standing(func_ir: Any) -> Mapping[str, Any]:
    """What stands for parameters of a function."""
    return getattr(func_ir.func_id.func, "standing", {})


def _call_without_side(func_ir: Any, statement: Any) -> bool:
    """True for the call of a helper that takes the words, if it is not given them yet."""
    value = statement.value
    if not isinstance(value, ir.Expr) or value.op != "call":
        return False
    if value.args and value.args[0].name == PARAMETER:
        return False
    callee = ir_utils.guard(ir_utils.get_definition, func_ir, value.func)
    return isinstance(callee, ir.Global | ir.FreeVar) and takes_side(callee.value)


def _with_side(func_ir: Any, block: Any) -> Any:
    _load_parameter(func_ir)
    made = ir.Block(block.scope, block.loc)
    for statement in block.body:
        if isinstance(statement, ir.Assign) and _has_standing(func_ir, statement):
            value = _value(func_ir, block, statement)
            known = func_ir._definitions[statement.target.name]
            known[:] = [value if one is statement.value else one for one in known]
            made.append(ir.Assign(value, statement.target, statement.loc))
            continue
        if isinstance(statement, ir.Assign) and _call_without_side(func_ir, statement):
            call: Any = statement.value
            call.args = [_side(block, statement.loc), *call.args]
        made.append(statement)
    return made


def _value(func_ir: Any, block: Any, statement: Any) -> Any:
    """What is loaded in place of what a statement loads."""
    loaded, loc = statement.value, statement.loc
    found = _standing(func_ir)[loaded.name] if isinstance(loaded, ir.Arg) else loaded.value
    if isinstance(found, RefusedSide):
        raise errors.TypingError(found.why, loc=loc)
    if isinstance(found, SideRef):
        return ir.Expr.getattr(_side(block, loc), sidetypes.attribute_of(found), loc)
    return ir.Global(loaded.name, found, loc)


def _load_parameter(func_ir: Any) -> None:
    """See to it that the first parameter is loaded: numba has dropped that where nothing used it yet."""
    first = func_ir.blocks[min(func_ir.blocks)]
    loads = (one.value for one in first.find_insts(ir.Assign))
    if not any(isinstance(one, ir.Arg) and one.name == PARAMETER for one in loads):
        argument = ir.Arg(PARAMETER, 0, first.loc)
        first.prepend(ir.Assign(argument, _side(first, first.loc), first.loc))
        func_ir._definitions[PARAMETER] = [argument]


def _side(block: Any, loc: Any) -> Any:
    """The function's first parameter."""
    return ir.Var(block.scope, PARAMETER, loc)
