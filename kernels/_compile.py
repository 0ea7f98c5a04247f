"""Kernels to machine code: the only use of numba's decorators, imported only when something must be compiled.

numba compiles a copy of the kernel whose globals name compiled helpers and machine twins (`kernels/_instructions.py`)
where the module's own name plain functions. What is kept is an object file with one entry point beside numba's code:

    int64 entry(const word *frame, word *result)

The frame has 8 bytes for each argument: a number, or the address of a numpy array's header. The entry point takes from
there what numba's code wants of an array. It returns 0; or k if argument k, counted from 1, is not an array as
declared; or -1 if the code itself failed. Kernels compile without numba's runtime: those that would allocate do not
compile, they take scratch arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import CellType, CodeType, FunctionType
from typing import Any

from llvmlite import binding as llvm
from llvmlite import ir
from numba import njit, types
from numba.core import compiler
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.np.arrayobj import populate_array

from kernelmill.kernels import _instructions
from kernelmill.kernels._loader import (
    ALIGNED,
    CONTIGUOUS,
    HEADER_DATA,
    HEADER_DIMENSIONS,
    HEADER_FLAGS,
    HEADER_SHAPE,
    WRITEABLE,
)
from kernelmill.kernels._signature import Array, Scalar, Signature
from kernelmill.kernels.intrinsics import INSTRUCTIONS

_OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
_UNWRAPPED: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
_WORD, _BYTE, _INT = ir.IntType(64), ir.IntType(8), ir.IntType(32)
_POINTER = _BYTE.as_pointer()
_FAILED = -1


class Compiler:
    """Compiles kernels that call `helpers`: plain functions, and whether each is put into its callers untyped."""

    def __init__(self, helpers: dict[Callable[..., Any], bool]) -> None:
        self._helpers = helpers
        self._made: dict[FunctionType, Any] = {}

    def object_code(self, function: Callable[..., Any], signature: Signature, symbol: str) -> tuple[bytes, list[str]]:
        """Compile to an object file whose entry point is `symbol`; returns it and the names it leaves to the linker."""
        with global_compiler_lock:
            module = self._module(function, signature, symbol)
            calls = [one.name for one in module.functions if one.is_declaration and not one.name.startswith("llvm.")]
            return _target_machine().emit_object(module), sorted(calls)

    def assembly(self, function: Callable[..., Any], signature: Signature, symbol: str) -> str:
        """What `object_code` compiles, as text."""
        with global_compiler_lock:
            return str(_target_machine().emit_assembly(self._module(function, signature, symbol)))

    def dispatcher(self, function: Callable[..., Any], signature: Signature) -> Any:
        """Compile as numba's users do, with its runtime: exceptions keep their kinds, and code may allocate."""
        arguments, returns = _numba_types(signature)
        made = njit(**_OPTIONS)(self._linked(function))
        made.compile(returns(*arguments))
        made.disable_compile()  # other types raise TypeError instead of adding an overload
        return made

    def _module(self, function: Callable[..., Any], signature: Signature, symbol: str) -> Any:
        """numba's optimized code for the kernel and, the only name that can be linked to, its entry point."""
        flags: Any = compiler.Flags()  # type: ignore[no-untyped-call]
        cpu_target.options.parse_as_flags(flags, _OPTIONS | _UNWRAPPED | {"nopython": True})  # type: ignore[no-untyped-call]
        flags.nrt, flags.no_compile = False, True
        arguments, returns = _numba_types(signature)
        typing, target = cpu_target.typing_context, cpu_target.target_context
        library = _Optimized(target.codegen(), symbol)  # type: ignore[no-untyped-call]
        made = compiler.compile_extra(typing, target, self._linked(function), arguments, returns, flags, {}, library)  # type: ignore[no-untyped-call]
        library.entry = lambda: llvm.parse_assembly(_entry(target, made.fndesc, symbol))
        library.finalize()  # type: ignore[no-untyped-call]
        return library._final_module

    def _linked(self, function: Any) -> FunctionType:
        """A copy of the function that names compiled functions where it names plain ones."""
        copy = _copied(function)
        self._link(copy)
        return copy

    def _link(self, copy: FunctionType) -> None:
        for name in _names_in(copy.__code__):
            if name in copy.__globals__:
                copy.__globals__[name] = self._compiled(copy.__globals__[name])
        for cell in copy.__closure__ or ():
            cell.cell_contents = self._compiled(cell.cell_contents)

    def _compiled(self, value: Any) -> Any:
        """What compiled code names where Python code names `value`."""
        if not isinstance(value, FunctionType):
            return value
        if value in INSTRUCTIONS and value not in self._made:
            name, parameters = INSTRUCTIONS[value]
            twin = getattr(_instructions, name)
            self._made[value] = twin(*parameters) if parameters else twin
        elif value in self._helpers and value not in self._made:
            copy = _copied(value)
            inline: dict[str, Any] = {"inline": "always"} if self._helpers[value] else {}
            self._made[value] = njit(**_OPTIONS, **_UNWRAPPED, **inline)(copy)
            self._link(copy)  # only now: it may call itself
        return self._made.get(value, value)


class _Optimized(JITCodeLibrary):
    """Code that is optimised with all that it calls, and then taken from here: not loaded into numba's own linker."""

    entry: Callable[[], Any]

    def _optimize_final_module(self) -> None:
        """Optimise with the entry point, the only name that can be linked to: what has one caller goes into it."""
        module = self._final_module
        module.link_in(self.entry())
        for one in (*module.functions, *module.global_variables):
            if not one.is_declaration and one.name != self.name:
                one.linkage = "internal"
        super()._optimize_final_module()  # type: ignore[no-untyped-call]

    def _finalize_final_module(self) -> None:
        self._verify_declare_only_symbols()  # type: ignore[no-untyped-call]
        self._finalized = True


def _copied(function: FunctionType) -> FunctionType:
    """A copy with globals and cells of its own."""
    cells = tuple(CellType(cell.cell_contents) for cell in function.__closure__ or ())
    names = dict(function.__globals__)
    copy = FunctionType(function.__code__, names, function.__name__, function.__defaults__, cells)
    copy.__qualname__ = function.__qualname__
    return copy


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names_in(constant)


def _target_machine() -> Any:
    return cpu_target.target_context.codegen()._tm


def _numba_type(kind: Scalar | Array) -> Any:
    if isinstance(kind, Scalar):
        return getattr(types, kind.name)
    return types.Array(_numba_type(kind.element), kind.dimensions, "C", readonly=kind.readonly)


def _numba_types(signature: Signature) -> tuple[tuple[Any, ...], Any]:
    return tuple(_numba_type(kind) for kind in signature.arguments), _numba_type(signature.returns)


def _entry(target: Any, callee: Any, symbol: str) -> str:
    """The entry point for numba's function `callee`, as LLVM assembly."""
    module = target.create_module(symbol)
    entry = ir.Function(module, ir.FunctionType(_WORD, [_POINTER, _POINTER]), symbol)
    builder = ir.IRBuilder(entry.append_basic_block())
    frame, result = entry.args
    arguments = []
    for number, kind in enumerate(callee.argtypes):
        if isinstance(kind, types.Array):
            header = _read(builder, frame, 8 * number, _POINTER)
            _check(builder, header, kind, number + 1)
            arguments.append(_array(target, builder, header, kind))
        else:
            place = _place(builder, frame, 8 * number, target.get_data_type(kind))
            arguments.append(target.unpack_value(builder, kind, place))
    function = target.declare_function(module, callee)
    status, value = target.call_conv.call_function(builder, function, callee.restype, callee.argtypes, arguments)
    with builder.if_then(status.is_error, likely=False):
        builder.ret(ir.Constant(_WORD, _FAILED))
    if callee.restype != types.void:
        target.pack_value(
            builder, callee.restype, value, _place(builder, result, 0, target.get_data_type(callee.restype))
        )
    builder.ret(ir.Constant(_WORD, 0))
    return str(module)


def _place(builder: Any, base: Any, offset: int, element: Any) -> Any:
    return builder.bitcast(builder.gep(base, [ir.Constant(_WORD, offset)]), element.as_pointer())


def _read(builder: Any, base: Any, offset: int, element: Any) -> Any:
    return builder.load(_place(builder, base, offset, element))


def _check(builder: Any, header: Any, kind: Any, number: int) -> None:
    """Return `number` from the entry point unless the array has the dimensions and flags declared."""
    wanted = ir.Constant(_INT, CONTIGUOUS | ALIGNED | (WRITEABLE if kind.mutable else 0))
    flags = builder.and_(_read(builder, header, HEADER_FLAGS, _INT), wanted)
    dimensions = _read(builder, header, HEADER_DIMENSIONS, _INT)
    unfit = builder.or_(
        builder.icmp_unsigned("!=", flags, wanted),
        builder.icmp_unsigned("!=", dimensions, ir.Constant(_INT, kind.ndim)),
    )
    with builder.if_then(unfit, likely=False):
        builder.ret(ir.Constant(_WORD, number))


def _array(target: Any, builder: Any, header: Any, kind: Any) -> Any:
    """numba's value for a borrowed array; its strides follow from its shape, for it is contiguous."""
    array = target.make_array(kind)(target, builder)
    element = target.get_data_type(kind.dtype)
    sizes = _read(builder, header, HEADER_SHAPE, _POINTER)
    shape = [_read(builder, sizes, 8 * axis, _WORD) for axis in range(kind.ndim)]
    itemsize = ir.Constant(_WORD, target.get_abi_sizeof(element))
    strides = [itemsize]
    for size in reversed(shape[1:]):
        strides.insert(0, builder.mul(strides[0], size))
    data = _read(builder, header, HEADER_DATA, element.as_pointer())
    populate_array(array, data, shape, strides, itemsize, meminfo=None)  # type: ignore[no-untyped-call]
    return array._getvalue()
