"""A user's partition(key, n) as machine code.

    drive(key columns..., n, row, last, arena, parts, state) -> the first row not done

writes the partition of each key to `parts`. It stops before `last` at a key whose partition is none of 0 to n - 1; a
key for which the function raises makes it fail, with state[ROW] naming the row. Both are for Python to say. Texts that
are made for a key are gone with the next one.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from kernelmill.kernels import _jit
from kernelmill.kernels._signature import Signature
from kernelmill.kernels.sidetables import SideTables
from kernelmill.kernels.sidevalues import Bound, bind
from kernelmill.kernels.usercode import Input, column_parameters, fingerprint, loaded, require_bound

ROW, SIDE, STATE_SIZE = 0, 1, 2
"""The state: the row at work, the address of side data (sidetables)."""


class CompiledPartition(NamedTuple):
    """`drive` as above, and what the function reads beside keys."""

    drive: Callable[..., int]
    side: SideTables


def compiled_partition(
    function: Callable[..., Any] | Bound, keys: Sequence[Input], *, is_tuple: bool, on_compile: Any = None
) -> CompiledPartition:
    """The partitioner as machine code, from the cache or compiled now. Raises CannotCompileError."""
    bound = function if isinstance(function, Bound) else bind([(function, 2)], {})
    require_bound(bound)
    plain = bound.function

    def compile_(symbol: str) -> Any:
        compiler = importlib.import_module("kernelmill.kernels.functions.partitions")
        return compiler.compile_partition(plain, keys, is_tuple, symbol)

    name = fingerprint("partition", plain, tuple(keys), is_tuple)
    title = getattr(plain, "__name__", "partition")
    drive, _ = loaded(name, title, compile_, lambda _: partition_signature(keys), on_compile)
    return CompiledPartition(drive, bound.side)


def partition_signature(keys: Sequence[Input]) -> Signature:
    """The driver's: the key columns, then n, row, last, arena, parts and state."""
    numbers = _jit.i64, _jit.i64, _jit.i64
    signature: Signature = _jit.i64(*column_parameters(keys), *numbers, _jit.i64_out, _jit.u32_out, _jit.i64_out)
    return signature
