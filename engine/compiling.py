"""Which user functions are compiled: asked while a job is planned and while it runs, answered once for each input."""

from __future__ import annotations

import functools
import importlib
import threading
import types
import warnings
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import pyarrow as pa
from msgspec.structs import replace

from kernelmill.engine.errors import Code, error
from kernelmill.engine.origin import users_frame
from kernelmill.engine.rowcolumns import columns_read
from kernelmill.engine.userfunctions import UserFunction

if TYPE_CHECKING:
    from kernelmill.kernels.sidevalues import Bound
    from kernelmill.kernels.usercode import Output
    from kernelmill.kernels.userfolds import CompiledFold
    from kernelmill.kernels.usermaps import CompiledMap, NamedRows
    from kernelmill.kernels.userpartitions import CompiledPartition

_TYPES: dict[str, pa.DataType] = {
    "text": pa.string(),
    "int64": pa.int64(),
    "float64": pa.float64(),
    "boolean": pa.bool_(),
}
_COMPILED = {"map": 2, "combine": 2, "partition": 2, "reduce": 3}
"""The roles of functions that are compiled, and how many arguments these are called with."""
_WITH_CODE = (types.FunctionType, types.MethodType, types.BuiltinFunctionType, type)
_LOCK = threading.Lock()
_ANSWERS: weakref.WeakKeyDictionary[UserFunction, dict[str, Any]] = weakref.WeakKeyDictionary()
_BOUND: weakref.WeakKeyDictionary[UserFunction, Bound] = weakref.WeakKeyDictionary()
F = TypeVar("F")


class InterpretedFunctionWarning(UserWarning):
    """KM0302: a user's function cannot be compiled and runs as plain Python, which gives the same rows more slowly."""


def compiled_form(function: UserFunction, schema: pa.Schema, *, ends_job: bool = False) -> CompiledMap | None:
    """The map as machine code for records of `schema`; None where it runs as plain Python.

    Why not is said once, as an InterpretedFunctionWarning; with compile="require" it is KM0302. Columns that it does
    not read may be of any type. `ends_job`: no warning, for the job is refused then, with the reason.
    """

    def compile_(kernels: Any) -> CompiledMap:
        is_row = len(schema) > 1
        read = columns_read(function.given, schema) if is_row else schema
        if not len(read):  # a driver counts its records by a column
            read = pa.schema([next((field for field in schema if _kind_of(field.type)), schema.field(0))])
        inputs = inputs_of(read)
        made: CompiledMap = kernels("usermaps").compiled_map(_bound(function), inputs, {}, is_row=is_row)
        return made

    return _answer(function, schema.to_string(show_schema_metadata=False), compile_, is_silent=ends_job)


def compiled_partition(
    function: UserFunction, keys: pa.Schema, is_tuple: bool, *, nullable: bool, at_run: bool = False
) -> CompiledPartition | None:
    """The partitioner as machine code for such keys; None where it runs as plain Python, as for `compiled_form`.

    `at_run`: what cannot be compiled is not said, for it was when the job was planned; or it is for nulls alone.
    """
    keys = _with_nulls(keys, nullable)

    def compile_(kernels: Any) -> CompiledPartition:
        made: CompiledPartition = kernels("userpartitions").compiled_partition(
            _bound(function), inputs_of(keys), is_tuple=is_tuple
        )
        return made

    return _answer(function, f"{is_tuple} {keys.to_string(show_schema_metadata=False)}", compile_, at_run)


def compiled_fold(
    function: UserFunction, part: str, values: pa.Schema, is_tuple: bool, *, nullable: bool, at_run: bool = False
) -> CompiledFold | None:
    """A part of a combine as machine code for such values: step, merge or finish; None and `at_run` as above."""
    values = _with_nulls(values, nullable)

    def compile_(kernels: Any) -> CompiledFold:
        userfolds = kernels("userfolds")
        made: CompiledFold = userfolds.compiled_fold(_bound(function), part, inputs_of(values), is_tuple=is_tuple)
        return made

    asked = f"{part} {is_tuple} {values.to_string(show_schema_metadata=False)}"
    return _answer(function, asked, compile_, at_run)


def compiled_reduce(
    function: UserFunction,
    keys: pa.Schema,
    values: pa.Schema,
    key_is_tuple: bool,
    value_is_tuple: bool,
    *,
    nullable: bool,
    at_run: bool = False,
) -> CompiledMap | None:
    """The reduce as machine code for such keys and values; None and `at_run` as above."""
    keys, values = _with_nulls(keys, nullable), _with_nulls(values, nullable)

    def compile_(kernels: Any) -> CompiledMap:
        forms = {"key_is_tuple": key_is_tuple, "value_is_tuple": value_is_tuple}
        userreduces = kernels("userreduces")
        made: CompiledMap = userreduces.compiled_reduce(_bound(function), inputs_of(keys), inputs_of(values), **forms)
        return made

    schemas = (schema.to_string(show_schema_metadata=False) for schema in (keys, values))
    return _answer(function, f"{key_is_tuple} {value_is_tuple} {' | '.join(schemas)}", compile_, at_run)


def _answer(
    function: UserFunction, asked: str, compile_: Callable[[Any], F], at_run: bool = False, *, is_silent: bool = False
) -> F | None:
    if function.compile == "never":
        return None
    with _LOCK:
        answers = _ANSWERS.setdefault(function, {})
        if asked not in answers:
            answers[asked] = _compiled_or_known(function, asked, compile_, at_run or is_silent)
        answer = answers[asked]
    if not isinstance(answer, str):
        made: F = answer
        return made
    if function.compile == "require" and not at_run:
        raise error(Code.INTERPRETED, answer, where=function.where, hint='compile="auto" runs it as plain Python')
    return None


def for_run(function: UserFunction) -> UserFunction:
    """The function as one plan or one run of it sees it: constants and side data are what they are now."""
    return replace(function)


def why_interpreted(function: UserFunction) -> str:
    """Why it was not compiled for what was asked last, with the line; nothing where it was."""
    if function.compile == "never":
        return f'compile="never" runs {function.title} as plain Python'
    return list(function.failures.values())[-1] if function.failures else ""


def side_bytes(functions: Iterable[UserFunction]) -> int:
    """Memory that the side data of compiled functions takes beside what Python holds; it is made now."""
    with _LOCK:
        compiled = [one for one in functions if one.role in _COMPILED and one.compile != "never" and not one.failures]
        return sum(_bound(one).side.nbytes for one in compiled)


def _compiled_or_known(function: UserFunction, asked: str, compile_: Callable[[Any], Any], at_run: bool) -> Any:
    """What is compiled, or why nothing: that is found out and said once, for each kind of side data."""
    asked = f"{asked} {_bound(function).side.kinds}"
    failure = function.failures.get(asked)
    if failure is not None:
        return failure
    answer = _compile(function, compile_)
    if isinstance(answer, str):
        function.failures[asked] = answer
        if function.compile != "require" and not at_run:
            _warn(f"[{Code.INTERPRETED.id}] {answer}; it runs as plain Python")
    else:
        function.compiled.add(asked)
    return answer


def _bound(function: UserFunction) -> Bound:
    """The function with its side data, one for all its forms."""
    found = _BOUND.get(function)
    if found is None:
        found = _BOUND[function] = _bind(function)
    return found


def _bind(function: UserFunction) -> Bound:
    bound: Bound
    if function.role == "combine":
        userfolds = _kernels("userfolds")
        folding = userfolds.Folding(*(function.parts or (None, function.given, function.given, None)))
        bound = userfolds.bound_folding(folding, function.keywords)
    else:
        keywords = {**_plain_defaults(function.given), **function.keywords}
        bound = _kernels("sidevalues").bind([(function.given, _COMPILED[function.role])], keywords)
    return bound


def _plain_defaults(given: Any) -> dict[str, Any]:
    """Defaults of keyword-only arguments: numba knows these arguments only where they are given."""
    defaults = getattr(given, "__kwdefaults__", None) or {}
    return {name: value for name, value in defaults.items() if type(value) in (bool, int, float, str)}


def _warn(text: str) -> None:
    """Warn at the user's line, as `warnings.warn` would if kernelmill lay not between."""
    frame = users_frame()
    if frame is None:
        warnings.warn(text, InterpretedFunctionWarning, stacklevel=1)
        return
    module, registry = frame.f_globals.get("__name__"), frame.f_globals.setdefault("__warningregistry__", {})
    warnings.warn_explicit(text, InterpretedFunctionWarning, frame.f_code.co_filename, frame.f_lineno, module, registry)


def emitted_types(form: CompiledMap | NamedRows) -> list[pa.DataType]:
    """The types of the columns that a compiled map emits, to its main output or to a named one."""
    return types_of(form.outputs)


def types_of(outputs: Iterable[Output]) -> list[pa.DataType]:
    """The types of columns that compiled code makes."""
    return [_TYPES[output.kind] for output in outputs]


def _compile(function: UserFunction, compile_: Callable[[Any], F]) -> F | str:
    usercode, jit = _kernels("usercode"), _kernels("_jit")
    if jit.JIT_DISABLED or jit.BOUNDS_CHECKED:
        return f"{function.title}: compiling is switched off in the environment"
    refused = _no_plain_function(function)
    if refused:
        return f"{function.where}: {function.title} cannot be compiled: {refused}"
    try:
        return compile_(_kernels)
    except _UnknownTypeError as problem:
        return f"{function.where}: {function.title} cannot be compiled: {problem}"
    except usercode.CannotCompileError as problem:
        return f"{function.line(problem.line, problem.path)}: {function.title} cannot be compiled: {problem}"


def _no_plain_function(function: UserFunction) -> str:
    """Why the object that was given as a function has no code to compile; nothing where it has."""
    for one in (function.given, *function.parts):
        if isinstance(one, functools.partial):
            return (
                "a functools.partial is compiled if it binds keywords alone, and these are no arrays: side= takes such"
            )
        if one is not None and not isinstance(one, _WITH_CODE):
            return f"it is an object of {type(one).__name__}, and plain functions are compiled"
    return ""


def _kernels(name: str) -> Any:
    """A module of kernels: they come with the first execution, not with the import of this."""
    return importlib.import_module(f"kernelmill.kernels.{name}")


class _UnknownTypeError(Exception):
    """A column's type has no compiled form."""


def inputs_of(schema: pa.Schema) -> list[Any]:
    """Columns as compiled functions know them."""
    inputs = []
    for field in schema:
        kind = _kind_of(field.type)
        if kind is None:
            raise _UnknownTypeError(f"values of type {field.type} ({field.name!r}) are known to Python functions only")
        inputs.append(_kernels("usercode").Input(field.name, kind, field.nullable))
    return inputs


def _with_nulls(schema: pa.Schema, nullable: bool) -> pa.Schema:
    return pa.schema([field.with_nullable(nullable) for field in schema])


def _kind_of(kind: pa.DataType) -> str | None:
    if pa.types.is_string(kind):
        return "text"
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_integer(kind) and not pa.types.is_uint64(kind):
        return "int64"
    return "float64" if pa.types.is_float64(kind) or pa.types.is_float32(kind) else None
