"""Users' functions, sources and sinks as bytes: in the client. `unpickling.py` has the way back."""

from __future__ import annotations

import contextlib
import importlib
import linecache
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

from kernelmill.engine.errors import Code, error
from kernelmill.engine.sinks import HeldSink
from kernelmill.engine.sources import HeldSource
from kernelmill.engine.userfunctions import UserFunction

_SOURCE_BYTES_MAX = 1 << 20
FIELDS = ("given", "role", "name", "where", "keywords", "compile", "parts")
"""What travels of a UserFunction: not what is known of it by now, which is of this process."""


class Contents(NamedTuple):
    """What a job has of the user's own."""

    functions: tuple[UserFunction, ...]
    sources: Mapping[str, HeldSource]
    sink: HeldSink | None

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing: the job then has no part for it."""
        return not self.functions and not self.sources and self.sink is None


def pack_code(contents: Contents) -> bytes:
    """Pickle the user's objects, those of modules that workers lack by value. Raises KM0107 for what cannot travel."""
    cloudpickle = importlib.import_module("cloudpickle")
    functions = tuple(tuple(getattr(one, name) for name in FIELDS) for one in contents.functions)
    sources = _sources_of(contents.functions)
    with _by_value(cloudpickle, local_modules()):
        for one, fields in zip(contents.functions, functions, strict=True):
            _try_to_pickle(cloudpickle, fields, one.title, one.where)
        for source in contents.sources.values():
            _try_to_pickle(cloudpickle, source, f"source {source.label}")
        if contents.sink is not None:
            _try_to_pickle(cloudpickle, contents.sink, f"sink {contents.sink.label}")
        data: bytes = cloudpickle.dumps((functions, dict(contents.sources), contents.sink, sources), protocol=5)
    return data


def _try_to_pickle(cloudpickle: Any, value: Any, title: str, where: str = "") -> None:
    """Raise KM0107 naming what cannot be pickled; by itself, for in a pickle of all nobody could tell which it is."""
    try:
        cloudpickle.dumps(value, protocol=5)
    except Exception as problem:
        what = f"{title} cannot be sent to workers: {type(problem).__name__}: {problem}"
        hint = (
            "it holds something of this process, such as an open file, a lock or a connection: make that where it runs"
        )
        raise error(Code.BAD_SETTING, what, where=where, hint=hint) from problem


@contextlib.contextmanager
def _by_value(cloudpickle: Any, modules: Sequence[ModuleType]) -> Iterator[None]:
    """Pickle what these modules define as it is, not by the modules' names."""
    already = set(cloudpickle.list_registry_pickle_by_value())
    added = [module for module in modules if module.__name__ not in already]
    for module in added:
        cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        for module in added:
            cloudpickle.unregister_pickle_by_value(module)


def local_modules() -> list[ModuleType]:
    """Loaded modules that lie beside the user's program: workers need not have them, nor in this version."""
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    try:
        folders = {os.path.realpath(os.getcwd())}
    except OSError:  # it was removed
        folders = set()
    if main:
        folders.add(os.path.dirname(os.path.realpath(main)))
    return [module for module in list(sys.modules.values()) if _is_local(module, folders)]


def _is_local(module: Any, folders: set[str]) -> bool:
    name, path = getattr(module, "__name__", None), getattr(module, "__file__", None)
    if not isinstance(module, ModuleType) or not isinstance(path, str) or sys.modules.get(str(name)) is not module:
        return False
    if str(name).partition(".")[0] in {"kernelmill", "__main__"} or not path.endswith(".py"):
        return False
    real = _real(path)
    if "site-packages" in real or real.startswith((_real(sys.prefix), _real(sys.base_prefix))):
        return False
    return any(real.startswith(folder.rstrip(os.sep) + os.sep) for folder in folders)


@lru_cache(maxsize=1 << 14)
def _real(path: str) -> str:
    """A module's place without links: looked for once, for there are a thousand modules, and it is 13 ms a job."""
    return os.path.realpath(path)


def _sources_of(functions: Sequence[UserFunction]) -> dict[str, str]:
    """The text of files in which the functions were written, by the path that their code names."""
    found: dict[str, str] = {}
    for function in functions:
        for one in (function.given, *function.parts):
            path = _path_of(one)
            text = "" if path is None or path in found else "".join(linecache.getlines(path))
            if path is not None and text and len(text) <= _SOURCE_BYTES_MAX:
                found[path] = text
    return found


def _path_of(call: Callable[..., Any] | None) -> str | None:
    plain = getattr(call, "func", call)
    code = plain.__code__ if isinstance(plain, FunctionType) else None
    return code.co_filename if isinstance(code, CodeType) else None
