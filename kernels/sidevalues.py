"""Side data of users' functions: the sets, dicts, lists and arrays that they read but are not called with.

A function comes by such a value by side=, a default, its closure or a global. Its machine code knows what kind of value
it is, and where among the driver's words the addresses are: other contents need no other code. `bind` makes copies of
the function and of the helpers that lead to side data in which a SideRef stands for each value, and whose first
parameter is where the words come from. What the words are: `sidetables`. Which values are side data: `sidekinds`.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from types import CellType, FunctionType, MethodType
from typing import Any, NamedTuple

from kernelmill.kernels.globalnames import globals_read
from kernelmill.kernels.modulenames import with_module_names
from kernelmill.kernels.sidekinds import Kind, is_container, kind_of, words_of
from kernelmill.kernels.sidetables import SideTables

PARAMETER = "_kernelmill_side"
"""The first parameter of a function that `bind` made."""

_EITHER = inspect.Parameter.POSITIONAL_OR_KEYWORD
_STARRED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class SideRef:
    """Stands for a side value in the copy of a function: its kind, and the number of its first word."""

    def __init__(self, name: str, kind: Kind, number: int) -> None:
        self.name, self.kind, self.number = name, kind, number

    def __repr__(self) -> str:
        return f"SideRef({self.kind}, {self.number})"

    def __bool__(self) -> bool:
        raise TypeError("whether side data is empty is not known to its code")  # numba would prune branches by it


class RefusedSide:
    """Stands for a value that compiled code cannot read: `why`, for people."""

    def __init__(self, why: str) -> None:
        self.why = why

    def __repr__(self) -> str:
        return "RefusedSide()"

    def __bool__(self) -> bool:
        raise TypeError("whether side data is empty is not known to its code")


class Bound(NamedTuple):
    """Functions as `bind` makes them, the keywords that are still to be bound, and what the functions read."""

    functions: tuple[Any, ...]
    keywords: Mapping[str, Any]
    side: SideTables

    @property
    def function(self) -> Any:
        """The only function."""
        (function,) = self.functions
        return function


def bind(functions: Sequence[tuple[Any, int]], keywords: Mapping[str, Any]) -> Bound:
    """Put SideRefs for the side values of functions, and bind `keywords`; the functions themselves if there are none.

    What they read of modules they read as globals then: see `modulenames`.

    functions: each with the number of arguments that it is called with, which must come first; None stands for none.
    What is made of one takes where the words come from, and then these. What stands for its other parameters is in its
    `standing`, for whoever compiles it. A method is not given its object.
    """
    functions = [(_named(function), positional) for function, positional in functions]
    finder = _Finder()
    roots = [_root(function, positional, keywords) for function, positional in functions]
    places = [{name: finder.place(name, value, is_keyword=True) for name, value in given.items()} for _, given in roots]
    for function, _ in roots:
        if function is not None:
            finder.visit(function)
    unbindable = [original for (original, _), (function, _) in zip(functions, roots, strict=True) if not function]
    if (keywords and any(unbindable)) or not (finder.has_found or any(given for _, given in roots)):
        return Bound(tuple(function for function, _ in functions), keywords, SideTables(()))
    made: list[Any] = []
    for (original, _), (function, given), found in zip(functions, roots, places, strict=True):
        constants = {name: value if found[name] is None else found[name] for name, value in given.items()}
        made.append(original if function is None else finder.copies(function, constants))
    return Bound(tuple(made), {}, SideTables(finder.values))


def _named(function: Any) -> Any:
    """The function with what it reads of modules as globals."""
    if isinstance(function, MethodType) and isinstance(function.__func__, FunctionType):
        return MethodType(with_module_names(function.__func__), function.__self__)
    return with_module_names(function) if isinstance(function, FunctionType) else function


def _root(function: Any, positional: int, keywords: Mapping[str, Any]) -> tuple[FunctionType | None, dict[str, Any]]:
    """A function as Python has its code, None if there is no such, and what its other parameters are to be."""
    given: dict[str, Any] = {}
    if isinstance(function, MethodType) and isinstance(function.__func__, FunctionType):
        function, positional = function.__func__, positional + 1
        given = dict.fromkeys(function.__code__.co_varnames[:1])
    if not isinstance(function, FunctionType):
        return None, {}
    given |= _container_defaults(function, positional) | dict(keywords)
    return (None, {}) if given and _takes_any(function) else (function, given)


def takes_side(function: Any) -> bool:
    """True for a function that `bind` made, and for what numba made of it."""
    plain = getattr(function, "py_func", function)
    given = getattr(plain, "__signature__", None) if isinstance(plain, FunctionType) else None
    return isinstance(given, inspect.Signature) and PARAMETER in given.parameters


def own_signature(function: Any) -> inspect.Signature:
    """What a function takes by its own code, and side data if `bind` put that before it.

    `functools.wraps`, or a decorator's `__signature__`, may tell of the function that it wraps: calls reach its own.
    """
    plain = getattr(function, "py_func", function)
    if takes_side(plain):
        return inspect.signature(plain)
    bare = FunctionType(plain.__code__, plain.__globals__, plain.__name__, plain.__defaults__, plain.__closure__)
    bare.__kwdefaults__ = plain.__kwdefaults__
    return inspect.signature(bare)


class _Finder:
    """Collects the side values that functions read, directly or by helpers, and makes the copies."""

    def __init__(self) -> None:
        self.values: list[tuple[Kind, Any]] = []
        self._words = 0
        self._places: dict[int, SideRef | RefusedSide] = {}
        self._kept: list[Any] = []  # what `_places` knows by its address
        self._callees: dict[FunctionType, list[FunctionType]] = {}
        self._readers: set[FunctionType] = set()

    @property
    def has_found(self) -> bool:
        """True if there is side data, or what somebody took for such."""
        return bool(self.values or self._places)

    def place(self, name: str, value: Any, *, is_keyword: bool = False) -> SideRef | RefusedSide | None:
        """What stands for `value`, which a function calls `name`; None for a constant, and for what is no data."""
        if id(value) in self._places:
            return self._places[id(value)]
        kind = kind_of(value, name, is_keyword=is_keyword)
        if kind is None:
            return None
        made: SideRef | RefusedSide
        if isinstance(kind, str):
            made = RefusedSide(kind)
        else:
            made = SideRef(name, kind, self._words)
            self.values.append((kind, value))
            self._words += words_of(kind)
        if kind[0] != "scalar":  # one number may be a keyword and a constant
            self._places[id(value)] = made
            self._kept.append(value)
        return made

    def visit(self, function: FunctionType) -> None:
        """Note what `function` and its helpers read."""
        if function in self._callees:
            return
        callees = self._callees[function] = []
        for name, value in (*_closed_over(function), *_globals_read(function)):
            if isinstance(value, FunctionType):
                callees.append(value)
                self.visit(value)
            elif self.place(name, value) is not None:
                self._readers.add(function)

    def copies(self, root: FunctionType, given: Mapping[str, Any]) -> FunctionType:
        """The copy of `root`, whose keywords are `given`; it names copies of all helpers by which it comes to data."""
        names: dict[int, dict[str, Any]] = {}
        made: dict[FunctionType, FunctionType] = {}
        for one in self._leading(root):
            own = names.setdefault(id(one.__globals__), dict(one.__globals__))
            made[one] = _taking_side(one, own, given if one is root else {})
        for one, copy in made.items():  # only now, for they may call one another
            for name, value in _globals_read(one):
                copy.__globals__[name] = self._standing_for(value, made)
            own_cells = dict(zip(one.__code__.co_freevars, copy.__closure__ or (), strict=True))
            for name, value in _closed_over(one):
                own_cells[name].cell_contents = self._standing_for(value, made)
        return made[root]

    def _standing_for(self, value: Any, made: Mapping[FunctionType, FunctionType]) -> Any:
        if isinstance(value, FunctionType):
            return made.get(value, value)
        return self._places.get(id(value), value)

    def _leading(self, root: FunctionType) -> list[FunctionType]:
        """The functions by which side data is reached, `root` among them."""
        leading, before = {root, *self._readers}, 0
        while len(leading) > before:
            before = len(leading)
            leading |= {one for one, callees in self._callees.items() if leading.intersection(callees)}
        return [one for one in self._callees if one in leading]


def _taking_side(function: FunctionType, names: dict[str, Any], given: Mapping[str, Any]) -> FunctionType:
    """A copy with those globals and empty cells, before whose parameters, as numba asks, PARAMETER comes.

    Each may be given by its name, for numba mixes up those that must be; what is `given` may be left out, so it comes
    last. It stands where the defaults were too, and so is part of what the copy is.
    """
    cells = tuple(CellType() for _ in function.__closure__ or ())
    copy = FunctionType(function.__code__, names, function.__name__, function.__defaults__, cells)
    copy.__qualname__, copy.__kwdefaults__ = function.__qualname__, {**(function.__kwdefaults__ or {}), **given}
    copy.__dict__["__signature__"] = _signature_after_side(function, given)
    copy.__dict__["standing"] = given
    return copy


def _signature_after_side(function: FunctionType, given: Mapping[str, Any]) -> inspect.Signature:
    first, own = inspect.Parameter(PARAMETER, inspect.Parameter.POSITIONAL_ONLY), own_signature(function)
    if _takes_any(function):
        return own.replace(parameters=[first, *own.parameters.values()])
    parameters, has_default = [first], False
    for one in sorted(own.parameters.values(), key=lambda one: one.name in given):
        default = None if one.name in given or (has_default and one.default is one.empty) else one.default
        has_default = default is not one.empty
        parameters.append(one.replace(kind=_EITHER, default=default))
    return own.replace(parameters=parameters)


def _takes_any(function: FunctionType) -> bool:
    """True for a function of *args or **kwargs."""
    return any(one.kind in _STARRED for one in own_signature(function).parameters.values())


def _container_defaults(function: FunctionType, positional: int) -> dict[str, Any]:
    """Defaults behind the parameters that a function is called with, such as `stop=frozenset(...)`."""
    parameters = list(own_signature(function).parameters.values())[positional:]
    return {one.name: one.default for one in parameters if is_container(one.default)}


def _closed_over(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            value = cell.cell_contents
        except ValueError:  # it is still empty
            continue
        yield name, value


def _globals_read(function: FunctionType) -> Iterator[tuple[str, Any]]:
    for name in globals_read(function.__code__):
        if name in function.__globals__:
            yield name, function.__globals__[name]
