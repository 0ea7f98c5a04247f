"""Whether two jobs are the same: a digest of what a job would do, equal in every process that plans it.

Pickles are no help there: in them sets come in the order of the process, and objects that are one here may be two
there. A function counts by its code, its defaults, and the values that it finds outside of itself, not by its file and
line; one of an installed module counts by its name, for versions are compared elsewhere.
"""

from __future__ import annotations

import copyreg
import hashlib
import sys
from collections.abc import Iterable
from functools import partial
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
)
from typing import Any, Final

from kernelmill.cluster.jobspec.code import FIELDS, Contents, local_modules
from kernelmill.engine.errors import Code, error

_PLAIN: Final = (type(None), bool, int, float, complex, str, bytes, bytearray, type(Ellipsis), range)
_PLACES: Final = ("where",)  # fields that say where a function stands, not what it does
_METHODS: Final = (FunctionType, staticmethod, classmethod, property)


def likeness_of(contents: Contents, others: Iterable[bytes]) -> bytes:
    """The SHA-256 of the user's own objects in a job, and of its other parts. KM0107 for an odd object."""
    walk = _Walk({module.__name__ for module in local_modules()} | {"__main__"})
    for function in contents.functions:
        walk.take([getattr(function, name) for name in FIELDS if name not in _PLACES])
    walk.take(dict(contents.sources))
    for other in others:
        walk.take(other)
    return walk.digest()


def code_digest(function: FunctionType) -> bytes:
    """The SHA-256 of a function's own code and defaults, without what it finds outside of itself."""
    walk = _Walk(set())
    for part in (function.__code__, function.__defaults__, function.__kwdefaults__):
        walk.take(part)
    return walk.digest()


class _Walk:
    """Goes through a value and all that it holds; what it has met is named by its turn, so circles end."""

    def __init__(self, local: set[str]) -> None:
        self._local = local
        self._sum = hashlib.sha256()
        self._met: dict[int, tuple[int, Any]] = {}  # by id; held, so that no other object gets that id

    def digest(self) -> bytes:
        """The digest of all that was taken."""
        return self._sum.digest()

    def take(self, value: Any) -> None:
        """Take one value."""
        if isinstance(value, _PLAIN):
            self._note(type(value).__name__, repr(value))
            return
        if isinstance(value, tuple) and type(value) is tuple:
            self._take_all("tuple", value)
            return
        turn = self._met.get(id(value))
        if turn is not None:
            self._note("met", str(turn[0]))
            return
        self._met[id(value)] = len(self._met), value
        match value:
            case list():
                self._take_all("list", value)
            case dict() | MappingProxyType():
                self._take_all("dict", [each for pair in value.items() for each in pair])
            case set() | frozenset():
                self._take_all("set", sorted(map(self._alone, value)))
            case CodeType():
                self._take_code(value)
            case ModuleType():
                self._note("module", value.__name__)
            case MethodType():
                self._take_all("method", (value.__self__, value.__func__))
            case partial():
                self._take_all("partial", (value.func, value.args, value.keywords))
            case MemberDescriptorType():  # a slot
                self._note("slot", value.__name__)
            case FunctionType() | type() | BuiltinFunctionType():
                self._take_named(value)
            case staticmethod() | classmethod():
                self._take_all("function", (value.__func__,))
            case property():
                self._take_all("property", (value.fget, value.fset))
            case _:
                self._take_object(value)

    def _note(self, kind: str, text: str) -> None:
        data = text.encode("utf-8", "surrogatepass")
        self._sum.update(f"{kind} {len(data)} ".encode() + data)

    def _take_all(self, kind: str, values: Iterable[Any]) -> None:
        values = list(values)
        self._note(kind, str(len(values)))
        for value in values:
            self.take(value)

    def _alone(self, value: Any) -> bytes:
        other = _Walk(self._local)
        other.take(value)
        return other.digest()

    def _take_code(self, code: CodeType) -> None:
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        self._take_all("code", (code.co_name, code.co_code, code.co_consts, names, counts))

    def _take_named(self, value: Any) -> None:
        """A function or class: by its name if everybody has its module, else by what it is made of."""
        module, name = getattr(value, "__module__", None), value.__qualname__
        if isinstance(value, BuiltinFunctionType) and not isinstance(value.__self__, ModuleType | None):
            self._take_all("method", (value.__self__, name))
        elif module is not None and module not in self._local and _named(module, name) is value:
            self._note("named", f"{module}:{name}")
        elif isinstance(value, type):
            own = {key: part for key, part in vars(value).items() if _is_written(key, part)}
            self._take_all("class", (name, value.__bases__, own))
        elif isinstance(value, FunctionType):
            cells = tuple(_content_of(cell) for cell in value.__closure__ or ())
            outside = {key: value.__globals__[key] for key in sorted(_names_in(value.__code__) & {*value.__globals__})}
            self._take_all("function", (value.__code__, value.__defaults__, value.__kwdefaults__, cells, outside))
        else:
            self._note("named", f"{module}:{name}")

    def _take_object(self, value: Any) -> None:
        try:
            registered = copyreg.dispatch_table.get(type(value))
            made = registered(value) if registered is not None else value.__reduce_ex__(4)
        except Exception as problem:
            kind = type(value).__name__
            what = f"with job_id= jobs are compared, and a {kind} cannot be: {type(problem).__name__}: {problem}"
            hint = "make it where it is used, in the function, or run without job_id="
            raise error(Code.BAD_SETTING, what, hint=hint) from problem
        if isinstance(made, str):
            self._take_all("global", (type(value), made, getattr(value, "__wrapped__", None)))
            return
        call, arguments, *rest = made
        state, items, pairs = (*rest, None, None, None)[:3]
        self._take_all("object", (type(value), call, arguments, state))
        for each in (items, pairs):
            self._take_all("items", [] if each is None else each)


def _is_written(key: str, part: Any) -> bool:
    """Whether an attribute of a class is its author's; others are made of these, such as what dataclass() leaves."""
    return isinstance(part, _METHODS) or not (key.startswith("__") or key == "_abc_impl")


def _named(module: str, name: str) -> Any:
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _names_in(code: CodeType) -> set[str]:
    """The names that a function and those written in it may look up outside."""
    inner = (one for one in code.co_consts if isinstance(one, CodeType))
    return set(code.co_names).union(*map(_names_in, inner))


def _content_of(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # a name that has no value yet
        return None
