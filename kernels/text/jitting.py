"""How functions of this package are compiled: once per argument types, to be merged into the user functions that call
them.

`njit` would optimise each helper and make machine code of it that nobody runs, and once more for every integer literal
that it is called with: of the compile time of a map that calls ten methods this was four fifths. So helpers become
LLVM's intermediate code only, which is optimised once, as part of the function that calls them. They do without numba's
runtime, arrays among their arguments being borrowed, unless they are given a list.

numba takes some 20 ms a helper even so. `keep` lets what it made be kept, so that this happens once for a machine.
"""
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import hashlib
import inspect
import pickle
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias, TypeVar

from llvmlite import binding as llvm
from numba import types
from numba.core import compiler, serialize
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_lock import global_compiler_lock, require_global_compiler_lock
from numba.core.registry import cpu_target
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

from kernelmill.kernels.text.growing import bounded_types
from kernelmill.kernels.text.texttype import TEXT, utf8_of

Function = TypeVar("Function", bound=Callable[..., Any])


class _Unfinished(JITCodeLibrary):
    """Code to be linked into other libraries: neither optimised nor loaded by itself."""

    def __init__(self, codegen, name):
        super().__init__(codegen, name)
        self.called: list[Key] = []
        """The helpers that it calls, which are to be linked beside it."""

    def _optimize_functions(self, ll_module):
        ll_module.data_layout = self._codegen._data_layout

    def finalize(self):
        """Link what numba itself compiled into it."""
        require_global_compiler_lock()
        self._raise_if_finalized()
        for library in dict.fromkeys(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True


class _Helper(NamedTuple):
    """A function compiled for some types, and all the libraries that a caller must link, callers before callees."""

    descriptor: Any
    signature: Any
    libraries: tuple[Any, ...]


_PACKAGE = "kernelmill.kernels."

Key: TypeAlias = tuple[str, tuple[Any, ...]]
"""A helper's name, with its module, and the numba types of its arguments."""

Read: TypeAlias = Callable[[str], bytes | None]
Write: TypeAlias = Callable[[str, bytes], None]

_COMPILED: dict[Key, _Helper] = {}
_FUNCTIONS: dict[str, Any] = {}
_NAMES: dict[Any, str] = {}
_ATTRIBUTES: dict[Any, tuple[str, ...]] = {}
_USERS: set[Any] = set()
_COMPILING: list[Any] = []
_ARGUMENTS: list[tuple[Any, ...]] = []
"""The types of the arguments of what is compiled, beside _COMPILING."""
_MEETINGS: list[Callable[[Any, Any], Any]] = []
_MAKERS: dict[Any, Callable[[], Any]] = {}
_KEPT: list[tuple[Read, Write]] = []


def keep(read: Read, write: Write) -> None:
    """Keep the code of helpers from now on: `write` gets a name and bytes, `read` gives the same bytes or None.

    The names tell one helper from another, not one version of it from the next: that is up to whoever keeps them, who
    must let go of them when the sources of this package, numba, llvmlite, numpy or Python change.
    """
    _KEPT[:] = [(read, write)]


def _compiled(key: Key) -> _Helper:
    found = _COMPILED.get(key)
    if found is None:
        with global_compiler_lock:
            found = _COMPILED[key] = _read(key) or _compile(key)
    return found


def _compile(key: Key) -> _Helper:
    name, arg_types = key
    function = _FUNCTIONS[name]
    source = _MAKERS[function]() if function in _MAKERS else function
    source.__qualname__ = function.__qualname__  # symbols are made of it: kept code and fresh must not share any
    target = cpu_target.target_context
    library = _Unfinished(target.codegen(), function.__name__)
    flags: Any = compiler.Flags()
    flags.no_compile, flags.no_cpython_wrapper, flags.no_cfunc_wrapper = True, True, True
    flags.error_model = "python"
    # Code that allocates nothing is the same with the runtime; what helpers borrow must not be counted, though.
    flags.nrt = function in _USERS or any(isinstance(one, types.List) for one in arg_types)
    flags.boundscheck = function in _USERS
    typing = cpu_target.typing_context
    _COMPILING.append(function)
    _ARGUMENTS.append(arg_types)
    try:
        with bounded_types(typing, _types_users_code, _met):
            made = compiler.compile_internal(typing, target, library, source, arg_types, None, flags, {})
    finally:
        _COMPILING.pop()
        _ARGUMENTS.pop()
    library._ensure_finalized()
    for attribute in _ATTRIBUTES.get(function, ()):
        library.get_function(made.fndesc.mangled_name).add_function_attribute(attribute)
    found = _joined(key, made.fndesc, made.signature, library, library.called)
    kind = made.signature.return_type
    if isinstance(kind, types.Generator):
        # numba knows its own library alone, and would load what goes on with it, as list() does, without those it calls
        target.insert_generator(kind, target.get_generator_desc(kind), found.libraries)
    _write(key, found, library)
    return found


def _joined(key: Key, descriptor: Any, made_signature: Any, library: _Unfinished, called: list[Key]) -> _Helper:
    """The helper with the libraries of those it calls."""
    library.called = called = list(dict.fromkeys(called))
    libraries = [library, *(one for callee in called for one in _compiled(callee).libraries)]
    return _Helper(descriptor, made_signature, tuple(_last_of_each(libraries)))


def _last_of_each(libraries: Iterable[Any]) -> list[Any]:
    """The libraries once each, those that are called behind all that call them.

    LLVM links a function of a library only if something before it calls that: of one that comes too early it takes
    nothing, and the name is missing. A helper's libraries are in that order, and complete; so is the last of each in a
    row of several such lists.
    """
    return list(dict.fromkeys(reversed(list(libraries))))[::-1]


# What is kept of a helper: its key, descriptor, signature, keys and symbols of those it calls, and its code -----------


def _file_of(key: Key) -> str:
    return f"text-{hashlib.sha256(repr((key[0], list(map(str, key[1])))).encode()).hexdigest()[:32]}"


def _may_be_kept(key: Key) -> bool:
    """True for helpers of this package whose arguments bring no code of a user's along."""
    return key[0].startswith(_PACKAGE) and not any(getattr(one, "is_used_up", False) for one in key[1])


def _write(key: Key, made: _Helper, library: _Unfinished) -> None:
    if _KEPT and _may_be_kept(key):
        made.descriptor.typemap = made.descriptor.calltypes = None  # not needed any more, and without end
        symbols = [_compiled(callee).descriptor.mangled_name for callee in library.called]
        parts = key, made.descriptor, made.signature, library.called, symbols, library._final_module.as_bitcode()
        _KEPT[0][1](_file_of(key), serialize.dumps(parts))


def _read(key: Key) -> _Helper | None:
    data = _KEPT[0][0](_file_of(key)) if _KEPT and _may_be_kept(key) else None
    if data is None:
        return None
    kept_key, descriptor, made_signature, called, symbols, bitcode = pickle.loads(data)
    if kept_key != key or symbols != [_compiled(callee).descriptor.mangled_name for callee in called]:
        return None  # what it calls was compiled anew, and has another symbol
    library = _Unfinished(cpu_target.target_context.codegen(), key[0])
    library._final_module = llvm.parse_bitcode(bitcode)
    library._final_module.name = key[0]
    library._finalized = True
    return _joined(key, descriptor, made_signature, library, called)


def result_type(function: Any, arg_types: tuple[Any, ...]) -> Any:
    """The numba type that a helper returns for arguments of these types; compiles it."""
    return _compiled((_NAMES[function], arg_types)).signature.return_type


def call(context: Any, builder: Any, function: Any, arg_types: Any, values: Any) -> Any:
    """Code that calls a helper with values of these types."""
    key = _NAMES[function], tuple(arg_types)
    made = _compiled(key)
    library = context.active_code_library
    if isinstance(library, _Unfinished):
        library.called.append(key)
    else:
        context.add_linking_libs(made.libraries)
        library._linking_libraries[:] = _last_of_each(library._linking_libraries)
    return context.call_internal(builder, made.descriptor, made.signature, values)


def helper(function: Function) -> Function:
    """A function that compiled code calls; compiled once for each set of argument types."""
    name = f"{function.__module__}.{function.__qualname__}"
    assert name not in _FUNCTIONS, name
    return _registered(function, name)


def _registered(function: Function, name: str) -> Function:
    pysig = inspect.signature(function)
    _FUNCTIONS[name], _NAMES[function] = function, name

    class Template(AbstractTemplate):
        key = function

        def generic(self, args, kws):
            try:
                bound = pysig.bind(*args, **kws).arguments
            except TypeError as problem:
                raise TypeError(f"{function.__name__}() is called wrongly: {problem}") from None
            passed = tuple(
                as_argument(bound[name] if name in bound else self.context.resolve_value_type(parameter.default))
                for name, parameter in pysig.parameters.items()
            )
            return signature(result_type(function, passed), *passed).replace(pysig=pysig)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return call(context, builder, function, sig.args, args)

    infer_global(function, types.Function(Template))
    lower_builtin(function, types.VarArg(types.Any))(lower)
    return function


def as_argument(given: Any) -> Any:
    """The type that an argument of type `given` is passed as: one for all literals of a kind, Text for those of str."""
    if isinstance(given, types.UniTuple | types.Tuple):
        return types.BaseTuple.from_types(tuple(as_argument(one) for one in given.types))
    return TEXT if utf8_of(given) is not None else types.unliteral(given)


def merged(function: Function) -> Function:
    """As `helper`, its code put into every caller: for short paths that run for each word."""
    _ATTRIBUTES[function] = ("alwaysinline",)
    return helper(function)


def apart(function: Function) -> Function:
    """As `helper`, its code never put into callers: for long paths that are seldom taken."""
    _ATTRIBUTES[function] = ("noinline",)
    return helper(function)


def user_function(function: Function) -> Function:
    """A function of the user's as a `helper`, its array accesses checked; it may make lists and strings.

    A third of the compile time of `njit`, which would optimise and load it by itself before its caller. It must not
    call itself, be it through others.
    """
    _USERS.add(function)
    return _registered(function, f"{function.__qualname__} {len(_FUNCTIONS)}")  # users may give two functions one name


def compiles_users_function() -> bool:
    """True while a user's function is compiled, and not a helper that it calls."""
    return bool(_COMPILING) and _COMPILING[-1] in _USERS


def has_arena() -> bool:
    """True while a user's function is compiled that has a Text, or an emit, among its arguments: `arena_at_hand`."""
    return compiles_users_function() and any(map(_brings_arena, _ARGUMENTS[-1]))


def _brings_arena(kind: Any) -> bool:
    if isinstance(kind, types.BaseTuple):
        return any(map(_brings_arena, kind))  # type: ignore[call-overload]
    if isinstance(kind, types.Optional):
        return _brings_arena(kind.type)
    return kind == TEXT or bool(getattr(kind, "has_arena", False))


def meeting(of: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Let `of(first, second)` say which type serves two that meet in a user's variable; None where it does not know."""
    _MEETINGS.append(of)
    return of


def _met(first: Any, second: Any) -> Any:
    return next((found for found in (of(first, second) for of in _MEETINGS) if found is not None), None)


def _types_users_code() -> bool:
    """True while numba looks for the types of a user's function itself, and not of what numba has for its calls."""
    frames = cpu_target.typing_context.callstack
    return compiles_users_function() and len(frames) > 0 and frames[0].func_id.code is _COMPILING[-1].__code__


def made_when_called(function: Function) -> Callable[[Callable[[], Any]], Function]:
    """Replace the body of `function` by the function that the decorated maker returns, when it is first compiled.

    For functions that take tables along, which are not to be made by an import.
    """

    def replace(maker: Callable[[], Any]) -> Function:
        _MAKERS[function] = maker
        return function

    return replace
