"""A user's function as plans know it: its name, its line, how it is called, and what is said when it fails."""

from __future__ import annotations

import dis
import functools
import inspect
import itertools
import os
import re
import types
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import xxhash

from kernelmill.engine.errors import Code, KernelmillError, MemoryLimitError, error
from kernelmill.engine.origin import short_path
from kernelmill.engine.sidedata import bound_side

HASH_SEED = 0x6B65726E656C6D69
"""The seed of the partition hash: `hash(text)` in a user's function is the same XXH64 in every process."""

_can_be_interrupted = True
_SHOWN_CHARACTERS_MAX = 120
_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_OF_AN_ITERATOR = re.compile(
    r"(generator|iterator|'map'|'zip').*(has no len\(\)|is not subscriptable|is not reversible)"
)
_OF_NOTHING = re.compile(r"\(\) (arg is an empty sequence|iterable argument is empty)")
_CALLED_WITH = {
    "map": "(record, emit)",
    "combine": "(a, b)",
    "init of combine": "()",
    "step of combine": "(state, value)",
    "merge of combine": "(a, b)",
    "finish of combine": "(state)",
    "reduce": "(key, values, emit)",
    "partition": "(key, n)",
    "map_batches": "(batch)",
    "map_groups": "(group)",
}


class UserFunction(msgspec.Struct, frozen=True, eq=False, weakref=True, dict=True):
    """`given` is the function, `role` what it serves as, `where` its "file.py:12", `keywords` what side= binds.

    `compile` is auto, require or never; `failures`: why it cannot be compiled, by what for; `compiled`: for what it
    was. `parts` are the functions of a Combiner, whose step is then `given`.

    role: map, combine, reduce, partition, map_batches or map_groups.
    """

    given: Callable[..., Any]
    role: str
    name: str
    where: str
    keywords: Mapping[str, Any] = msgspec.field(default_factory=dict)
    compile: str = "auto"
    parts: tuple[Callable[..., Any] | None, ...] = ()
    failures: dict[str, str] = msgspec.field(default_factory=dict)
    compiled: set[str] = msgspec.field(default_factory=set)

    def is_same_as(self, other: UserFunction) -> bool:
        """Whether both are one function of the user's, perhaps as two plans see it: such copies know the same of it."""
        return self.failures is other.failures

    @property
    def is_compiled(self) -> bool | None:
        """Whether it runs as machine code, if only for some of its input; None while nobody asked."""
        if self.compiled:
            return True
        return False if self.failures or self.compile == "never" else None

    @functools.cached_property
    def folding(self) -> tuple[Any, ...]:
        """init, step, merge and finish of a combine as they are called; init and finish are None for combine(a, b)."""
        if not self.parts:
            return None, self.call, self.call, None
        return tuple(None if one is None else with_stable_hash(one) for one in self.parts)

    @functools.cached_property
    def call(self) -> Callable[..., Any]:
        """The function to call: keywords bound, and with a `hash` that is not salted per process."""
        stable = with_stable_hash(self.given)
        return functools.partial(stable, **self.keywords) if self.keywords else stable

    @property
    def title(self) -> str:
        """What messages call it."""
        return f"{self.role} function {self.name!r}"

    def line(self, number: int | None, path: str | None = None) -> str:
        """Line `number` of a file, the function's own without `path`; its first line where the number is not known."""
        file = self.where.rpartition(":")[0] if path is None else short_path(path)
        return self.where if number is None else f"{file}:{number}"

    def failed(self, problem: BaseException, record: str, place: str) -> KernelmillError:
        """KM0301 for what the function raised: its own innermost line, the record and where that came from.

        KM0401 for a MemoryError, which no record is set aside for: another run might have had the memory. A
        KeyboardInterrupt is raised again, as far as `is_interrupt` says that it is not the function's.
        """
        if is_interrupt(problem) or isinstance(problem, MemoryLimitError):
            raise problem
        line = _innermost_line(problem, self.given) or self.where
        kind = type(problem).__name__
        what = f"{self.title} raised {told(problem)}" + (f" [{line}]" if line else "")
        if isinstance(problem, MemoryError):
            hint = f"{record}; on_bad= sets no record aside for this: another run might have had the memory"
            made = error(Code.MEMORY_LIMIT, what, where=place, hint=hint)
            made.__cause__ = problem
            return made
        hint = f'{record}; test for it and call emit.reject("why"), or on_bad="reject" sets such records aside'
        if self.role not in ("map", "reduce"):
            hint = record
        elif self.role == "reduce" and isinstance(problem, TypeError) and _OF_AN_ITERATOR.search(str(problem)):
            hint = f"values come one by one: values = list(values) has them all; {record}"
        elif self.role == "reduce" and isinstance(problem, ValueError) and _OF_NOTHING.search(str(problem)):
            hint = f"values come once, and are used up after that: values = list(values) keeps them; {record}"
        # it becomes part of the output, which is the same whatever folder the job was run from (I1)
        reason = f"{self.title} raised {kind}" + (f" [{os.path.basename(line)}]" if line else "")
        made = error(Code.FUNCTION_FAILED, what, where=place, hint=hint, reason=reason)
        made.__cause__ = problem
        return made


def method_failed(whose: str, method: str, problem: BaseException, place: str) -> KernelmillError:
    """KM0301 for what a method of a user's source or sink raised, whatever that is: an error of ours is its own, too.

    Such as a full disk that it met, which is no worker's. KM0401 for a MemoryError. A KeyboardInterrupt is raised
    again, as far as `is_interrupt` says that it is not the method's. `whose`: "source Shelf".
    """
    if is_interrupt(problem):
        raise problem
    code = Code.MEMORY_LIMIT if isinstance(problem, MemoryError) else Code.FUNCTION_FAILED
    made = error(code, f"{whose}: {method} raised {told(problem)}", where=place, hint="mend it there")
    made.__cause__ = problem
    return made


class Partitioning(msgspec.Struct, frozen=True, eq=False):
    """How rows are given to partitions: by `function(key, n)` or by hash; `count` of them, None: from the input's size.

    `is_tuple`: the function gets the key as a tuple. `by_range`: in order of keys over all partitions, no function.
    """

    function: UserFunction | None = None
    is_tuple: bool = False
    count: int | None = None
    by_range: bool = False


def side_of(call: Any, positional: int, side: Mapping[str, Any] | None) -> dict[str, Any]:
    """What of side= a function takes: what it names behind the arguments that it is called with.

    Where side= is not known yet, None for all that the function cannot do without.
    """
    try:
        parameters = list(inspect.signature(call).parameters.values())[positional:]
    except (TypeError, ValueError):  # no function, or a builtin, which has no signature
        return {}
    if side is None:
        return {one.name: None for one in parameters if one.kind is one.KEYWORD_ONLY and one.default is one.empty}
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return dict(side)
    return {one.name: side[one.name] for one in parameters if one.name in side}


def user_function(
    call: Any, role: str, *, positional: int, keywords: Mapping[str, Any] | None = None, compile: str = "auto"
) -> UserFunction:
    """Check that `call` can be called with so many positional arguments, and `keywords`.

    Raises KM0107 with the function's line for one that cannot.
    """
    if not callable(call):
        hint = f"a {role} function is called with {_CALLED_WITH[role]}"
        raise error(Code.BAD_SETTING, f"{role}= takes a function, not {call!r}", hint=hint)
    where = _defined_at(call)
    if inspect.isgeneratorfunction(call) or inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call):
        hint = f"a {role} function is called with {_CALLED_WITH[role]}, and does its work then: call emit, do not yield"
        raise error(Code.BAD_SETTING, f"{role}= cannot be a generator or an async function", where=where, hint=hint)
    if role in ("map", "reduce") and _returns_and_never_emits(call, positional):
        hint = f"a {role} function calls emit, what it returns is not looked at: emit(...) instead of return"
        raise error(Code.BAD_SETTING, f"{role}= never uses emit, and returns something", where=where, hint=hint)
    name = _name_of(call)
    if role in ("map", "reduce") and _is_pythons_own(call):
        hint = f"a {role} function is called with {_CALLED_WITH[role]}: def {role}(...): ... emit({name}(...))"
        raise error(Code.BAD_SETTING, f"{role}={name} is Python's own, which never calls emit", hint=hint)
    try:
        inspect.signature(call).bind(*range(positional), **(keywords or {}))
    except TypeError as problem:
        hint = f"a {role} function is called with {_CALLED_WITH[role]}"
        if keywords:
            hint += ", and what side= names as keywords: " + ", ".join(keywords)
        if role == "map" and _wants_key_and_value(call):
            hint += '; for the file\'s name km.scan_text(..., include_file_paths="path") gives row.path beside row.line'
        raise error(Code.BAD_SETTING, f"{name}: {problem}", where=where, hint=hint) from problem
    except ValueError:  # a builtin has no signature to check
        pass
    bound = {name: bound_side(name, value) for name, value in (keywords or {}).items()}
    if isinstance(call, functools.partial) and not call.args and all(map(_is_same_if_bound, call.keywords.items())):
        call, bound = call.func, {**call.keywords, **bound}  # so it can be compiled
    return UserFunction(call, role, name, where, bound, compile)


def stable_hash(value: Any) -> int:
    """`hash` as user functions see it: XXH64 for text and bytes, the same in every process; tuples by their items."""
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogatepass")
    if isinstance(value, bytes):
        hashed = xxhash.xxh64_intdigest(value, seed=HASH_SEED)
        return hashed - (1 << 64) if hashed >> 63 else hashed
    if isinstance(value, tuple):
        return hash(tuple(map(_Hashed, value)))
    return 0 if value is None or value != value else hash(value)  # Python hashes those two by their address


class _Hashed:
    """An item of a tuple: hashing an int anew would bend it below 2^61, and compiled code does not."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def __hash__(self) -> int:
        return stable_hash(self._value)


def with_stable_hash(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function`, or a copy of it whose `hash` is `stable_hash` if it or a function beside it in its module uses that.

    The copy sees the module's names as they are now.
    """
    if not isinstance(function, types.FunctionType):
        return function
    names = function.__globals__
    beside = [value for value in names.values() if _is_of(value, names)]
    if "hash" in names or not any(_mentions_hash(one.__code__) for one in (function, *beside)):
        return function
    copied = {**names, "hash": stable_hash}
    for name, value in names.items():
        if _is_of(value, names):
            copied[name] = _rebound(value, copied)
    return _rebound(function, copied)


def never_interrupted() -> None:
    """Take each KeyboardInterrupt for the function's own from now on: for processes that nobody's Ctrl-C reaches."""
    global _can_be_interrupted
    _can_be_interrupted = False


def is_interrupt(problem: BaseException) -> bool:
    """Whether somebody wants this process to stop, rather than that a function failed."""
    return _can_be_interrupted and isinstance(problem, KeyboardInterrupt)


def told(problem: BaseException) -> str:
    """An exception of a user's code for a message: its type and text, if its class can make one."""
    kind = type(problem).__name__
    try:
        return f"{kind}: {text}" if (text := str(problem)) else kind
    except Exception as another:
        return f"{kind}, whose text cannot be made: {type(another).__name__}"


def shown(value: Any) -> str:
    """A value for a message: its repr, cut where it is long; its type where a class of the user's has none to give."""
    try:
        text = repr(value)
    except Exception as problem:
        text = f"<{type(value).__name__}, whose repr raised {type(problem).__name__}>"
    return text if len(text) <= _SHOWN_CHARACTERS_MAX else f"{text[: _SHOWN_CHARACTERS_MAX - 3]}..."


def _is_of(value: Any, names: Mapping[str, Any]) -> bool:
    return isinstance(value, types.FunctionType) and value.__globals__ is names


def _mentions_hash(code: types.CodeType) -> bool:
    inner = (const for const in code.co_consts if isinstance(const, types.CodeType))
    return "hash" in code.co_names or any(map(_mentions_hash, inner))


def _rebound(function: types.FunctionType, names: dict[str, Any]) -> types.FunctionType:
    made = types.FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    made.__kwdefaults__ = function.__kwdefaults__
    functools.update_wrapper(made, function)
    return made


def _name_of(call: Any) -> str:
    if isinstance(call, functools.partial):
        return _name_of(call.func)
    name: str = getattr(call, "__qualname__", type(call).__qualname__)
    return name.replace("<locals>.", "")


def _is_same_if_bound(item: tuple[str, Any]) -> bool:
    """Whether a partial's keyword would be the same value if side= bound it, which reads Arrow data like lists."""
    try:
        return bound_side(*item) is item[1]
    except KernelmillError:
        return False


def _returns_and_never_emits(call: Any, positional: int) -> bool:
    """True for a plain function that does not look at its last argument and returns another value than None."""
    if not isinstance(call, types.FunctionType) or call.__code__.co_argcount < positional:
        return False
    code = call.__code__
    emit = code.co_varnames[positional - 1]
    steps = list(dis.get_instructions(code))
    if emit in code.co_cellvars or any(emit in _names_of(step) for step in steps):
        return False
    values = [
        step.argval if step.opname == "RETURN_CONST" else before.argval if before.opname == "LOAD_CONST" else ...
        for before, step in itertools.pairwise(steps)
        if step.opname in ("RETURN_CONST", "RETURN_VALUE")
    ]
    return any(value is not None for value in values)


def _is_pythons_own(call: Any) -> bool:
    """True for print, int, str.split and the like, which know no emit."""
    if isinstance(call, type):
        return call.__module__ == "builtins"
    if isinstance(call, types.MethodDescriptorType):
        return call.__objclass__.__module__ == "builtins"
    return isinstance(call, types.BuiltinFunctionType) and call.__module__ == "builtins"


def _names_of(step: dis.Instruction) -> tuple[Any, ...]:
    return step.argval if isinstance(step.argval, tuple) else (step.argval,)


def _wants_key_and_value(call: Any) -> bool:
    """True for map(key, value, emit), as the paper writes it."""
    parameters = inspect.signature(call).parameters.values()
    return sum(one.default is one.empty and one.kind in _BY_POSITION for one in parameters) == 3


def _defined_at(call: Any) -> str:
    code = _code_of(call)
    return f"{short_path(code.co_filename)}:{code.co_firstlineno}" if code is not None else ""


def _code_of(call: Any) -> types.CodeType | None:
    plain = inspect.unwrap(call)
    if isinstance(plain, functools.partial):
        return _code_of(plain.func)
    found = getattr(plain, "__code__", None)
    if found is None and not isinstance(plain, type):
        found = getattr(vars(type(plain)).get("__call__"), "__code__", None)
    return found if isinstance(found, types.CodeType) else None


def _innermost_line(problem: BaseException, call: Callable[..., Any]) -> str:
    """The last line of the user's own file on the way to `problem`."""
    code = _code_of(call)
    found, frame = "", problem.__traceback__
    while frame is not None and code is not None:
        if frame.tb_frame.f_code.co_filename == code.co_filename:
            found = f"{short_path(code.co_filename)}:{frame.tb_lineno}"
        frame = frame.tb_next
    return found
