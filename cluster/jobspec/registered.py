"""Functions that travel as names, for workers that run only what their settings list: nothing is pickled or unpickled.

The client names a function `module:function` and says what its code is, by a digest; the task process takes the name if
its worker lists it, imports the module, and goes on if the function there has that digest. What side= binds travels as
values: numbers, texts, bytes, and lists, tuples, sets and dicts of them.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Collection
from types import FunctionType
from typing import Any, Final

import msgspec

from kernelmill.cluster.jobspec.code import Contents
from kernelmill.cluster.jobspec.likeness import code_digest
from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.userfunctions import UserFunction

VERSION: Final = 1
_HOLDERS: Final[dict[str, type]] = {"list": list, "tuple": tuple, "set": set, "frozenset": frozenset, "dict": dict}
_PLAIN: Final = (type(None), bool, int, float, str, bytes)


class _Named(msgspec.Struct, frozen=True, array_like=True):
    name: str
    sha256: bytes


class _Function(msgspec.Struct, frozen=True, array_like=True):
    given: _Named
    role: str
    name: str
    where: str
    keywords: dict[str, Any]
    compile: str
    parts: tuple[_Named | None, ...]


class _Registered(msgspec.Struct, frozen=True, array_like=True):
    version: int
    functions: tuple[_Function, ...]


_decoder = msgspec.msgpack.Decoder(_Registered)


def pack_registered(contents: Contents) -> bytes:
    """Name the functions of a job. Raises KM0609 for what has no name that workers could list."""
    for source in contents.sources.values():
        raise _unnamed(f"source {source.label}", "is an object", "")
    if contents.sink is not None:
        raise _unnamed(f"sink {contents.sink.label}", "is an object", "")
    return msgspec.msgpack.encode(_Registered(VERSION, tuple(map(_function, contents.functions))))


def open_registered(data: bytes, listed: Collection[str]) -> Contents:
    """The functions behind `data`, of those that this worker lists. In a task process: it imports their modules.

    Raises KM0609 for a function that is not listed, not there, or another one; KM0607 for what is no such part.
    """
    try:
        told = _decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise error(Code.PROTOCOL, f"a job's part is no list of functions: {problem}") from problem
    if told.version != VERSION:
        raise error(Code.PROTOCOL, f"a job's list of functions has version {told.version}, not {VERSION}")
    return Contents(tuple(_opened(one, listed) for one in told.functions), {}, None)


def _function(function: UserFunction) -> _Function:
    def named(given: Any) -> _Named:
        return _name_of(given, function.title, function.where)

    return _Function(
        named(function.given),
        function.role,
        function.name,
        function.where,
        {
            key: _packed(value, f"{key}= of {function.title}", function.where)
            for key, value in function.keywords.items()
        },
        function.compile,
        tuple(None if part is None else named(part) for part in function.parts),
    )


def _name_of(given: Any, title: str, where: str) -> _Named:
    if not isinstance(given, FunctionType):
        raise _unnamed(title, f"is a {type(given).__name__}", where)
    module, name = given.__module__, given.__qualname__
    if module == "__main__":
        raise _unnamed(title, "is written in the program itself", where)
    found: Any = getattr(sys.modules.get(module), name, None)
    if found is not given:
        raise _unnamed(title, "is written in another function or class, or is a lambda", where)
    return _Named(f"{module}:{name}", code_digest(given))


def _unnamed(title: str, why: str, where: str) -> KernelmillError:
    hint = "put a function into a module that the workers have, and list it there: kernelmill worker --registered"
    return error(
        Code.CODE_REFUSED, f"{title} {why}, and only functions of modules are sent by name", where=where, hint=hint
    )


def _packed(value: Any, title: str, where: str) -> Any:
    if type(value) in _PLAIN and not (type(value) is int and not -(1 << 63) <= value < 1 << 64):
        return value
    kind: str = type(value).__name__
    held: Any = value
    if _HOLDERS.get(kind) is not type(value):
        hint = "bind numbers, texts, and lists, tuples, sets or dicts of them"
        raise error(Code.CODE_REFUSED, f"{title} holds a {kind}, which is not sent by value", where=where, hint=hint)
    if isinstance(value, dict):
        return [kind, [[_packed(key, title, where), _packed(each, title, where)] for key, each in value.items()]]
    return [kind, [_packed(each, title, where) for each in held]]


def _unpacked(value: Any) -> Any:
    if not isinstance(value, list):
        return value
    match value:
        case ["dict", list() as pairs] if all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
            return {_unpacked(key): _unpacked(each) for key, each in pairs}
        case ["list" | "tuple" | "set" | "frozenset" as kind, list() as values]:
            return _HOLDERS[kind](map(_unpacked, values))
    raise error(Code.PROTOCOL, "a value of side= that is none")


def _opened(one: _Function, listed: Collection[str]) -> UserFunction:
    try:
        keywords = {key: _unpacked(value) for key, value in one.keywords.items()}
    except (TypeError, RecursionError) as problem:  # a list as a key
        raise error(Code.PROTOCOL, f"values of side= that are none: {problem}") from problem
    parts = tuple(None if part is None else _found(part, listed) for part in one.parts)
    return UserFunction(_found(one.given, listed), one.role, one.name, one.where, keywords, one.compile, parts)


def _found(named: _Named, listed: Collection[str]) -> Callable[..., Any]:
    if named.name not in listed:
        hint = f"start the worker with --registered {named.name}, or use one of: {', '.join(sorted(listed)) or 'none'}"
        raise error(Code.CODE_REFUSED, f"this worker does not list the function {named.name}", hint=hint)
    module, _, name = named.name.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except Exception as problem:
        what = f"{named.name} is listed and cannot be had here: {type(problem).__name__}: {problem}"
        hint = "install its module where the worker runs"
        raise error(Code.CODE_REFUSED, what, hint=hint) from problem
    if not isinstance(function, FunctionType) or code_digest(function) != named.sha256:
        what = f"{named.name} is another function here than where the job comes from"
        hint = "install the same version of its module on clients and workers"
        raise error(Code.CODE_REFUSED, what, hint=hint)
    return function
