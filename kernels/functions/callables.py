"""What users give as functions, as plain functions that numba takes: builtins, methods, and those already such."""

# mypy: allow-untyped-calls

from __future__ import annotations

from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from kernelmill.kernels.functions.helpers import compiled_helpers
from kernelmill.kernels.text.jitting import user_function
from kernelmill.kernels.usercode import CannotCompileError


def plain_function(given: Callable[..., Any], positional: int) -> Callable[..., Any]:
    """A function of so many arguments that numba compiles, its helpers compiled along. Raises CannotCompileError.

    A method must do without its object: it is given None for it.
    """
    match given:
        case FunctionType():
            return compiled_helpers(given, {})
        case BuiltinFunctionType():
            return _calling(given, positional)
        case MethodType(__func__=FunctionType() as function):
            return _calling(compiled_helpers(function, {}), positional, "None, ")
    raise CannotCompileError(f"a {type(given).__name__} is no plain function")


def _calling(function: Any, positional: int, first: str = "") -> Callable[..., Any]:
    given = ", ".join(f"a{number}" for number in range(positional))
    namespace: dict[str, Any] = {"inner": function}
    exec(f"def called({given}):\n    return inner({first}{given})\n", namespace)
    made: Callable[..., Any] = user_function(namespace["called"])
    return made
