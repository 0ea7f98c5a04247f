"""What linking cached machine code takes of LLVM, by llvmlite's library alone.

llvmlite's Python package declares all of LLVM when it is imported, the writing of intermediate code too: five times as
long as the library takes to load. So the dozen functions that link an object file are declared here, as
`llvmlite.binding` declares them. They are no public interface: they are called only where llvmlite is of the version
that this was written for, which numba's own pin settles. Any other has its package imported.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import Any, Protocol

import llvmlite

_KNOWN = "0.50."
_TEXT, _PLACE, _INT, _FLAG = ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int, ctypes.c_bool
_MADE_TEXT = ctypes.POINTER(ctypes.c_void_p)
_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "AddSymbol": (None, [_TEXT, _PLACE]),
    "CreateMCJITCompiler": (_PLACE, [_PLACE, _PLACE, _FLAG, _MADE_TEXT]),
    "CreateObjectFile": (_PLACE, [_TEXT, ctypes.c_size_t]),
    "CreateTargetMachine": (_PLACE, [_PLACE, _TEXT, _TEXT, _TEXT, _INT, _TEXT, _TEXT, _INT, _INT, _TEXT]),
    "DisposeObjectFile": (None, [_PLACE]),
    "DisposeString": (None, [_PLACE]),
    "FinalizeObject": (None, [_PLACE]),
    "GetFunctionAddress": (ctypes.c_uint64, [_PLACE, _TEXT]),
    "GetGlobalContext": (_PLACE, []),
    "GetHostCPUFeatures": (_INT, [_MADE_TEXT]),
    "GetHostCPUName": (None, [_MADE_TEXT]),
    "GetProcessTriple": (None, [_MADE_TEXT]),
    "GetTargetFromTriple": (_PLACE, [_TEXT, _MADE_TEXT]),
    "InitializeNativeAsmPrinter": (None, []),
    "InitializeNativeTarget": (None, []),
    "MCJITAddObjectFile": (None, [_PLACE, _PLACE]),
    "ParseAssembly": (_PLACE, [_PLACE, _TEXT, _MADE_TEXT]),
    "SearchAddressOfSymbol": (_PLACE, [_TEXT]),
}
_LOCK = threading.RLock()


@contextmanager
def _locked() -> Iterator[None]:
    """Nobody else is in LLVM meanwhile: neither by these functions nor, where it is imported, by llvmlite's package."""
    package = sys.modules.get("llvmlite.binding.ffi")
    with _LOCK, getattr(getattr(package, "lib", None), "_lock", nullcontext()):
        yield


class Llvm(Protocol):
    """LLVM as far as linking goes."""

    def machine(self) -> tuple[str, str, str]:
        """What code is made for here: the triple, the CPU's name, its features."""

    def add_symbol(self, name: str, address: int) -> None:
        """Let linked code call `name`."""

    def address_of_symbol(self, name: str) -> int | None:
        """Where what linked code calls `name` lies; None if there is no such."""

    def link(self, code: bytes, symbol: str) -> int:
        """Link an object file; returns the address of `symbol`, 0 if it is not in it. The code stays."""


@cache
def llvm() -> Llvm:
    """LLVM for this process."""
    return _Library() if llvmlite.__version__.startswith(_KNOWN) else _Package()


class _Library:
    """By the functions of llvmlite's library."""

    def __init__(self) -> None:
        name = "libllvmlite.dylib" if sys.platform == "darwin" else "libllvmlite.so"
        library = ctypes.CDLL(str(Path(llvmlite.__file__).parent / "binding" / name))
        self._engine: Any = None
        self._calls: dict[str, Any] = {}
        for function, (result, arguments) in _FUNCTIONS.items():
            # A function object of our own: the library's may be declared in another way by llvmlite's package.
            prototype = ctypes.CFUNCTYPE(result, *arguments)
            self._calls[function] = prototype((f"LLVMPY_{function}", library))

    def machine(self) -> tuple[str, str, str]:
        with _locked():
            features = ",".join(sorted(self._text("GetHostCPUFeatures").split(","), key=lambda one: one[1:]))
            return self._text("GetProcessTriple"), self._text("GetHostCPUName"), features

    def add_symbol(self, name: str, address: int) -> None:
        with _locked():
            self._calls["AddSymbol"](name.encode(), address)

    def address_of_symbol(self, name: str) -> int | None:
        with _locked():
            found: int | None = self._calls["SearchAddressOfSymbol"](name.encode())
        return found

    def link(self, code: bytes, symbol: str) -> int:
        with _locked():
            engine = self._opened_engine()
            opened = self._required("CreateObjectFile", code, len(code))
            self._calls["MCJITAddObjectFile"](engine, opened)
            self._calls["DisposeObjectFile"](opened)  # what was in it is the engine's
            self._calls["FinalizeObject"](engine)
            return int(self._calls["GetFunctionAddress"](engine, symbol.encode()))

    def _opened_engine(self) -> Any:
        """The one linker of this process."""
        if self._engine is None:
            self._calls["InitializeNativeTarget"]()
            self._calls["InitializeNativeAsmPrinter"]()
            triple, said = self._text("GetProcessTriple").encode(), ctypes.c_void_p()
            target = self._required("GetTargetFromTriple", triple, said)
            model = (2, b"default", b"jitdefault", 0, 1, b"")  # as llvmlite's create_target_machine(jit=True)
            machine = self._required("CreateTargetMachine", target, triple, b"", b"", *model)
            module = self._required("ParseAssembly", self._calls["GetGlobalContext"](), b"", said)
            is_arm = os.uname().machine.lower() in ("arm64", "aarch64")
            self._engine = self._required("CreateMCJITCompiler", module, machine, is_arm, said)
        return self._engine

    def _required(self, function: str, *arguments: Any) -> Any:
        made = self._calls[function](*arguments)
        if not made:
            raise RuntimeError(f"LLVM cannot link machine code: {function} failed")
        return made

    def _text(self, function: str) -> str:
        made = ctypes.c_void_p()
        self._calls[function](made)
        text = ctypes.string_at(made.value) if made.value else b""
        self._calls["DisposeString"](made)
        return text.decode()


class _Package:
    """By llvmlite's package, of whatever version."""

    def __init__(self) -> None:
        self._binding: Any = importlib.import_module("llvmlite.binding")
        self._engine: Any = None

    def machine(self) -> tuple[str, str, str]:
        one = self._binding
        return one.get_process_triple(), one.get_host_cpu_name(), one.get_host_cpu_features().flatten()

    def add_symbol(self, name: str, address: int) -> None:
        self._binding.add_symbol(name, address)

    def address_of_symbol(self, name: str) -> int | None:
        found: int | None = self._binding.address_of_symbol(name)
        return found

    def link(self, code: bytes, symbol: str) -> int:
        one = self._binding
        with _LOCK:
            if self._engine is None:
                one.initialize_native_target()
                one.initialize_native_asmprinter()
                target = one.Target.from_triple(one.get_process_triple())
                machine = target.create_target_machine(codemodel="jitdefault", jit=True)
                self._engine = one.create_mcjit_compiler(one.parse_assembly(""), machine)
            self._engine.add_object_file(one.ObjectFileRef.from_data(code))
            self._engine.finalize_object()
            return int(self._engine.get_function_address(symbol))
