"""Whether two jobs are the same: a digest of what a job would do, equal in every process that plans it.

Pickles are no help there: in them sets come in the order of the process, and objects that are one here may be two
there. A function counts by its code, its defaults, and the values that it finds outside of itself, not by its file and
line; one of an installed module counts by its name, for versions are compared elsewhere. What travels by value counts
by value: modules beside the program with all that is in them, attributes of functions, metaclasses, and of an instance
its exact type and its state, also where it is a text or a list besides.
"""

from __future__ import annotations

import copyreg
import hashlib
import sys
from collections.abc import Iterable
from types import (
    BuiltinFunctionType,
    CodeType,
    FunctionType,
    GetSetDescriptorType,
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
_OF_PYTHON: Final = frozenset(
    ("__module__", "__dict__", "__weakref__", "__doc__", "__qualname__", "__firstlineno__", "__static_attributes__")
    + ("__abstractmethods__", "_abc_impl", "__annotations_cache__")
)
"""Attributes of classes that follow from the others, or say where a class stands."""
_OF_IMPORT: Final = frozenset(
    ("__name__", "__loader__", "__spec__", "__file__", "__cached__", "__path__", "__package__", "__builtins__")
)
"""Names in a module that say where it was found."""
_WRITTEN_IN_PYTHON: Final = 1 << 9
"""In the flags of a class: it was made while the program runs (Py_TPFLAGS_HEAPTYPE); others are the interpreter's."""
_SETS: Final = (set.__reduce__, frozenset.__reduce__)


def likeness_of(contents: Contents, others: Iterable[bytes]) -> bytes:
    """The SHA-256 of the user's own objects in a job, and of its other parts. KM0107 for an odd object."""
    walk = _Walk(_names_by_value())
    try:
        for function in contents.functions:
            walk.take([getattr(function, name) for name in FIELDS if name not in _PLACES])
        walk.take(dict(contents.sources))
    except RecursionError as problem:
        what = "with job_id= jobs are compared, and what a function of this one sees is nested too deep, or has no end"
        raise error(Code.BAD_SETTING, what, hint="bind plainer values, or run without job_id=") from problem
    for other in others:
        walk.take(other)
    return walk.digest()


def code_digest(function: FunctionType) -> bytes:
    """The SHA-256 of a function's own code, defaults and attributes, without what it finds outside of itself.

    Of a function around another one, as functools.wraps() leaves it, both count.
    """
    walk = _Walk(frozenset())
    met: list[Any] = []
    one: Any = function
    while isinstance(one, FunctionType) and one not in met:
        met.append(one)
        own = {key: value for key, value in vars(one).items() if key != "__wrapped__"}
        for part in (one.__code__, one.__defaults__, one.__kwdefaults__, own):
            walk.take(part)
        one = getattr(one, "__wrapped__", None)
    return walk.digest()


def _names_by_value() -> frozenset[str]:
    """The modules whose contents travel: local ones, and those that the program registered with cloudpickle."""
    pickling = sys.modules.get("cloudpickle")
    registered = pickling.list_registry_pickle_by_value() if pickling is not None else ()
    return frozenset((*(module.__name__ for module in local_modules()), *registered, "__main__"))


class _Walk:
    """Goes through a value and all that it holds; what it has met is named by its turn, so circles end."""

    def __init__(self, by_value: frozenset[str]) -> None:
        self._by_value = by_value
        self._sum = hashlib.sha256()
        self._met: dict[int, tuple[int, Any]] = {}  # by id; held, so that no other object gets that id

    def digest(self) -> bytes:
        """The digest of all that was taken."""
        return self._sum.digest()

    def take(self, value: Any) -> None:
        """Take one value."""
        kind = type(value)
        if kind in _PLAIN:
            self._note(kind.__name__, repr(value))
            return
        if kind is tuple:
            self._take_all("tuple", value)
            return
        turn = self._met.get(id(value))
        if turn is not None:
            self._note("met", str(turn[0]))
            return
        self._met[id(value)] = len(self._met), value
        if kind in (list, dict, set, frozenset, MappingProxyType):
            self._take_holder(value)
            return
        match value:
            case CodeType():
                self._take_code(value)
            case ModuleType():
                self._take_module(value)
            case MethodType():
                self._take_all("method", (value.__self__, value.__func__))
            case MemberDescriptorType() | GetSetDescriptorType():  # a slot, or a field of what is written in C
                self._note("slot", value.__name__)
            case FunctionType() | type() | BuiltinFunctionType():
                self._take_named(value)
            case staticmethod() | classmethod():
                self._take_all("function", (kind, value.__func__))
            case property() if kind is property:
                self._take_all("property", (value.fget, value.fset, value.fdel))
            case _:
                self._take_object(value)

    def _take_holder(self, value: Any) -> None:
        """A list, dict or set, and of no kind derived from it: those have state and methods of their own."""
        match value:
            case list():
                self._take_all("list", value)
            case set() | frozenset():
                self._take_all(type(value).__name__, sorted(map(self._alone, value)))
            case _:
                self._take_all(type(value).__name__, [each for pair in value.items() for each in pair])

    def _note(self, kind: str, text: str) -> None:
        data = text.encode("utf-8", "surrogatepass")
        self._sum.update(f"{kind} {len(data)} ".encode() + data)

    def _take_all(self, kind: str, values: Iterable[Any]) -> None:
        values = list(values)
        self._note(kind, str(len(values)))
        for value in values:
            self.take(value)

    def _alone(self, value: Any) -> bytes:
        other = _Walk(self._by_value)
        other.take(value)
        return other.digest()

    def _take_code(self, code: CodeType) -> None:
        names = (code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars)
        counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
        own = (code.co_name, code.co_code, code.co_consts, code.co_exceptiontable)  # the last one: where a try begins
        self._take_all("code", (*own, names, counts))

    def _take_module(self, module: ModuleType) -> None:
        """A module by its name if workers have it, else with all that is in it."""
        name = module.__name__
        self._note("module", name)
        if name == "__main__":  # its functions travel, the module itself is the task process's own
            return
        if sys.modules.get(name) is not module or self._travels(name):
            self.take({key: value for key, value in vars(module).items() if key not in _OF_IMPORT})
        elif getattr(module, "__file__", None) is None:  # a folder of modules, perhaps with local ones
            inner = sorted(one for one in self._by_value if one.startswith(name + "."))
            self._take_all("modules", [sys.modules[one] for one in inner if one in sys.modules])

    def _travels(self, module: str) -> bool:
        """Whether what a module defines is pickled by value, as it is if that holds for a package around it."""
        parts = module.split(".")
        return any(".".join(parts[:count]) in self._by_value for count in range(1, len(parts) + 1))

    def _take_named(self, value: Any) -> None:
        """A function or class: by its name if everybody has its module, else by what it is made of."""
        module, name = getattr(value, "__module__", None), value.__qualname__
        if isinstance(value, BuiltinFunctionType) and not isinstance(value.__self__, ModuleType | None):
            self._take_all("method", (value.__self__, name))
        elif module is not None and not self._travels(module) and _named(module, name) is value:
            self._note("named", f"{module}:{name}")
        elif isinstance(value, type) and value.__flags__ & _WRITTEN_IN_PYTHON:
            own = {key: part for key, part in vars(value).items() if key not in _OF_PYTHON}
            self._take_all("class", (name, type(value), value.__bases__, own))
        elif isinstance(value, FunctionType):
            cells = tuple(_content_of(cell) for cell in value.__closure__ or ())
            outside = {key: value.__globals__[key] for key in sorted(_names_in(value.__code__) & {*value.__globals__})}
            made_of = (value.__code__, value.__defaults__, value.__kwdefaults__, vars(value))
            self._take_all("function", (*made_of, cells, outside))
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
        if isinstance(value, set | frozenset) and type(value).__reduce__ in _SETS:
            arguments = frozenset(value)  # the list there is in the order of this process
        state, items, pairs = (*rest, None, None, None)[:3]
        self._take_all("object", (type(value), call, arguments, state))
        for each in (items, pairs):
            self._take_all("items", [] if each is None else each)


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
