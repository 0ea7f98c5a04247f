"""Which user functions are compiled: asked while a job is planned and while it runs, answered once for each input."""

from __future__ import annotations

import importlib
import threading
import warnings
import weakref
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from kernelmill.engine.errors import Code, error
from kernelmill.engine.origin import users_frame
from kernelmill.engine.userfunctions import UserFunction

if TYPE_CHECKING:
    from kernelmill.kernels.usermaps import CompiledMap

_TYPES: dict[str, pa.DataType] = {
    "text": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "boolean": pa.bool_(),
}
_LOCK = threading.Lock()
_ANSWERS: weakref.WeakKeyDictionary[UserFunction, dict[str, CompiledMap | str]] = weakref.WeakKeyDictionary()


class InterpretedFunctionWarning(UserWarning):
    """KM0302: a user's function cannot be compiled and runs as plain Python, which gives the same rows more slowly."""


def compiled_form(function: UserFunction, schema: pa.Schema) -> CompiledMap | None:
    """The map as machine code for records of `schema`; None where it runs as plain Python.

    Why not is said once, as an InterpretedFunctionWarning; with compile="require" it is KM0302.
    """
    if function.compile == "never":
        return None
    asked = schema.to_string(show_schema_metadata=False)
    with _LOCK:
        answers = _ANSWERS.setdefault(function, {})
        if asked not in answers:
            answers[asked] = _compile(function, schema)
            if isinstance(answer := answers[asked], str) and function.compile != "require":
                _warn(f"[{Code.INTERPRETED.id}] {answer}; it runs as plain Python")
        answer = answers[asked]
    if not isinstance(answer, str):
        return answer
    if function.compile == "require":
        raise error(Code.INTERPRETED, answer, where=function.where, hint='compile="auto" runs it as plain Python')
    return None


def _warn(text: str) -> None:
    """Warn at the user's line, as `warnings.warn` would if kernelmill lay not between."""
    frame = users_frame()
    if frame is None:
        warnings.warn(text, InterpretedFunctionWarning, stacklevel=1)
        return
    module, registry = frame.f_globals.get("__name__"), frame.f_globals.setdefault("__warningregistry__", {})
    warnings.warn_explicit(text, InterpretedFunctionWarning, frame.f_code.co_filename, frame.f_lineno, module, registry)


def emitted_types(form: CompiledMap) -> list[pa.DataType]:
    """The types of the columns that a compiled map emits."""
    return [_TYPES[output.kind] for output in form.outputs]


def _compile(function: UserFunction, schema: pa.Schema) -> CompiledMap | str:
    usercode: Any = importlib.import_module("kernelmill.kernels.usercode")  # kernels come with the first execution
    usermaps: Any = importlib.import_module("kernelmill.kernels.usermaps")
    jit: Any = importlib.import_module("kernelmill.kernels._jit")
    if jit.JIT_DISABLED or jit.BOUNDS_CHECKED:
        return f"{function.title}: compiling is switched off in the environment"
    inputs = []
    for field in schema:
        kind = _kind_of(field.type)
        if kind is None:
            return f"{function.title}: values of type {field.type} ({field.name!r}) are known to Python functions only"
        inputs.append(usercode.Input(field.name, kind, field.nullable))
    try:
        form: CompiledMap = usermaps.compiled_map(function.given, inputs, function.keywords)
    except usercode.CannotCompileError as problem:
        return f"{function.line(problem.line)}: {function.title} cannot be compiled: {problem}"
    return form


def _kind_of(kind: pa.DataType) -> str | None:
    if pa.types.is_string(kind):
        return "text"
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind) and not pa.types.is_uint64(kind):
        return "int64"
    return "float64" if pa.types.is_float64(kind) or pa.types.is_float32(kind) else None
