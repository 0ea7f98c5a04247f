"""Object code to Python functions, by LLVM's linker alone: a process whose kernels are all cached imports no compiler.

What `kernels/_compile.py` makes is called with a frame of 8 bytes an argument: numbers as they are, arrays as the
address of their header, whose layout is the part of numpy's ABI that every extension module has compiled in. The types
of arrays are checked here, their shape and flags by the entry point itself: so an array costs a call 0.1 us.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import numpy as np

from kernelmill.kernels import _runtime
from kernelmill.kernels._llvm import llvm
from kernelmill.kernels._signature import Array, Scalar, Signature, void

HEADER_DATA = object.__basicsize__
"""Where an array's header has the address of its elements; what follows it counts from there."""
HEADER_DIMENSIONS, HEADER_SHAPE, HEADER_FLAGS = HEADER_DATA + 8, HEADER_DATA + 16, HEADER_DATA + 48
CONTIGUOUS, ALIGNED, WRITEABLE = 0x1, 0x100, 0x400

_PACKED = {"int64": "q", "uint64": "Q", "uint32": "I4x", "float64": "d", "boolean": "?7x"}
_RESULTS: dict[str, Any] = {
    "int64": ctypes.c_int64,
    "uint64": ctypes.c_uint64,
    "uint32": ctypes.c_uint32,
    "float64": ctypes.c_double,
    "boolean": ctypes.c_bool,
    "void": ctypes.c_int64,
}


def can_run(calls: Iterable[str]) -> bool:
    """True if code that calls these names can be linked and called here."""
    return headers_are_known() and not missing_names(calls)


def missing_names(calls: Iterable[str]) -> list[str]:
    """Those of the names that are nowhere in this process: LLVM would abort it at code that calls one."""
    missing = [name for name in calls if llvm().address_of_symbol(name) is None]
    if missing:
        _runtime.provide(missing)
    return [name for name in missing if llvm().address_of_symbol(name) is None]


def bind(code: bytes, symbol: str, name: str, signature: Signature) -> Callable[..., Any] | None:
    """Link an object file; returns the function at `symbol` for calls from Python, None if that is not in it.

    Other machine code may call its `address` with the address of what its `frame_of(*arguments)` gives, as long as the
    arguments live, and that of a word for the result; the code returns 0 unless it fails.

    The function raises TypeError where an argument is not as the signature says, and RuntimeError if the code reports
    failure.
    """
    address = llvm().link(code, symbol)
    if not address:
        return None
    result_of, returns = _RESULTS[signature.returns.name], signature.returns != void
    prototype = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_char_p, ctypes.POINTER(result_of))  # releases the GIL
    entry = prototype(address)
    kinds, array_type = signature.arguments, np.ndarray
    arrays = [(number, _dtype(kind)) for number, kind in enumerate(kinds) if isinstance(kind, Array)]
    pack = struct.Struct("=" + "".join("Q" if isinstance(kind, Array) else _PACKED[kind.name] for kind in kinds)).pack
    count = len(kinds)

    def frame_of(*arguments: Any) -> bytes:
        if len(arguments) != count:
            raise TypeError(f"kernel {name} takes {count} arguments, not {len(arguments)}")
        words = list(arguments)
        for number, dtype in arrays:
            one = words[number]
            # A type by another name, or an array of a subclass, takes the longer way.
            if (type(one) is array_type and one.dtype is dtype) or _is_of(dtype, one):
                words[number] = id(one)
            else:
                raise _unfit(name, kinds, arguments)
        try:
            return pack(*words)
        except (TypeError, ValueError, struct.error) as problem:
            raise _unfit(name, kinds, arguments) from problem

    def call(*arguments: Any) -> Any:
        result = result_of()
        failed = entry(frame_of(*arguments), result)
        if failed:
            raise _unfit(name, kinds, arguments) if failed > 0 else RuntimeError(f"kernel {name} failed")
        return result.value if returns else None

    call.address, call.frame_of = address, frame_of  # type: ignore[attr-defined]
    return call


@cache
def headers_are_known() -> bool:
    """True if numpy's arrays are laid out as the entry points read them."""
    sample = np.zeros((3, 5), np.uint16)
    sample.flags.writeable = False
    at = id(sample)
    data = ctypes.c_void_p.from_address(at + HEADER_DATA).value
    shape = ctypes.c_void_p.from_address(at + HEADER_SHAPE).value or 0
    found = (
        ctypes.c_int.from_address(at + HEADER_DIMENSIONS).value,
        ctypes.c_int.from_address(at + HEADER_FLAGS).value & (CONTIGUOUS | ALIGNED | WRITEABLE),
    )
    known = data == sample.__array_interface__["data"][0] and found == (2, CONTIGUOUS | ALIGNED)
    return known and tuple((ctypes.c_ssize_t * 2).from_address(shape)) == sample.shape


def _dtype(kind: Array) -> np.dtype[Any]:
    return np.dtype(kind.element.name)


def _is_of(dtype: np.dtype[Any], one: Any) -> bool:
    return isinstance(one, np.ndarray) and one.dtype == dtype


def _unfit(name: str, kinds: tuple[Scalar | Array, ...], arguments: tuple[Any, ...]) -> TypeError:
    """Which argument is not as declared, and how."""
    for number, (kind, one) in enumerate(zip(kinds, arguments, strict=True), 1):
        found = _misfit(kind, one)
        if found is not None:
            return TypeError(f"kernel {name}, argument {number}: want {kind}, got {found}")
    return TypeError(f"kernel {name}: an argument is not as declared")


def _misfit(kind: Scalar | Array, one: Any) -> str | None:
    if isinstance(kind, Scalar):
        try:
            struct.pack("=" + _PACKED[kind.name], one)
        except (TypeError, ValueError, struct.error):
            return f"{type(one).__name__} {one!r:.40}"
        return None
    if not isinstance(one, np.ndarray):
        return type(one).__name__
    fits = one.dtype == _dtype(kind) and one.ndim == kind.dimensions and one.flags.c_contiguous and one.flags.aligned
    if fits and (kind.readonly or one.flags.writeable):
        return None
    order = "" if one.flags.c_contiguous else "strided "
    access = "" if one.flags.writeable else "readonly "
    aligned = "" if one.flags.aligned else "unaligned "
    return f"{access}{order}{aligned}{one.dtype}[{', '.join(':' * one.ndim)}]"
