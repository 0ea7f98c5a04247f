"""Machine instructions that numba has no name for, as plain functions of numpy.

They are what runs without the JIT and what the tests hold the machine to; `kernels/_instructions.py` has the twin of
each by the same name, which compiled kernels get in its place. All take (array, offset): only arrays let a plain twin
check bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

SLACK_BYTES = 64
"""Bytes that must be readable past the end of any buffer whose blocks a mask or an 8-byte load touches."""

SOON_BYTES = 2048
"""How far ahead a loop over bytes asks for them (`prefetch`): what is fresh from a file lies in no cache of a core's
own, and where no prefetcher of the processor's helped, a map that splits lines waited for bytes in half of its time."""

Function = TypeVar("Function", bound=Callable[..., Any])

INSTRUCTIONS: dict[Callable[..., Any], tuple[str, tuple[int, ...]]] = {}
"""The name of each function's machine twin, and for one that a factory made what it was made from."""


def _instruction(function: Function) -> Function:
    INSTRUCTIONS[function] = function.__name__, ()
    return function


def range_mask(low: int, high: int) -> Any:
    """Make `mask(data, at) -> u64`: bit i is set where low <= data[at + i] <= high, for 64 bytes from `at`."""

    def mask(data: Any, at: Any) -> Any:
        block = data[at : at + 64]
        assert block.size == 64  # a read past the slack fails here, not in production
        return np.packbits((block >= low) & (block <= high), bitorder="little").view(np.uint64)[0]

    INSTRUCTIONS[mask] = "range_mask", (low, high)
    return mask


def folded_range_mask(low: int, high: int, fold: int) -> Any:
    """As `range_mask`, on bytes that were ORed with `fold` first: 0x20 makes one range of both cases of a letter."""

    def mask(data: Any, at: Any) -> Any:
        block = data[at : at + 64] | np.uint8(fold)
        assert block.size == 64
        return np.packbits((block >= low) & (block <= high), bitorder="little").view(np.uint64)[0]

    INSTRUCTIONS[mask] = "folded_range_mask", (low, high, fold)
    return mask


@_instruction
def load_u64(data: Any, at: Any) -> Any:
    """The 8 bytes from `at`, little-endian."""
    block = data[at : at + 8]
    assert block.size == 8
    return np.frombuffer(block.tobytes(), np.uint64)[0]


@_instruction
def load_u32(data: Any, at: Any) -> Any:
    """The 4 bytes from `at`, little-endian."""
    block = data[at : at + 4]
    assert block.size == 4
    return np.frombuffer(block.tobytes(), np.uint32)[0]


@_instruction
def store_u64(data: Any, at: Any, value: Any) -> None:
    """Write 8 bytes from `at`, little-endian."""
    assert 0 <= at and at + 8 <= data.size
    data[at : at + 8] = np.frombuffer(np.uint64(value).tobytes(), np.uint8)


@_instruction
def store_u32(data: Any, at: Any, value: Any) -> None:
    """Write 4 bytes from `at`, little-endian."""
    assert 0 <= at and at + 4 <= data.size
    data[at : at + 4] = np.frombuffer(np.uint32(value).tobytes(), np.uint8)


@_instruction
def count_trailing_zeros(bits: Any) -> int:
    """The number of the lowest set bit; `bits` must not be 0."""
    assert bits != 0
    return (int(bits) & -int(bits)).bit_length() - 1


@_instruction
def prefetch(data: Any, at: Any) -> None:
    """A hint that element `at` of a 1-D array, or row `at` of a 2-D one with 4 u64 a row, will be read soon.

    It never faults, so `at` may lie anywhere.
    """


@_instruction
def prefetch_early(data: Any, at: Any) -> None:
    """As `prefetch`, but no nearer than the core's second cache: for what is read only after a hundred others."""


@_instruction
def same_key(rows: Any, row: Any, keys: Any, key: Any) -> Any:
    """True if record `row` of rows u64[n, 4] and record `key` of keys u64[4 m] agree in all but the last 4 bytes."""
    one, other = rows[row].view(np.uint32), keys[4 * int(key) : 4 * int(key) + 4].view(np.uint32)
    return bool((one[:7] == other[:7]).all())


@_instruction
def add_count(rows: Any, row: Any) -> None:
    """Add one to the last 4 bytes of record `row` of rows u64[n, 4]."""
    rows[row, 3] += np.uint64(1 << 32)


@_instruction
def multiply_fold(a: Any, b: Any) -> Any:
    """High half XOR low half of the 128-bit product."""
    product = int(a) * int(b)
    return np.uint64((product >> 64) ^ (product & 0xFFFFFFFFFFFFFFFF))


@_instruction
def multiply_high(a: Any, b: Any) -> Any:
    """High half of the 128-bit product."""
    return np.uint64((int(a) * int(b)) >> 64)


@_instruction
def count_ones(bits: Any) -> Any:
    """The number of set bits."""
    return int(bits).bit_count()


@_instruction
def trailing_zeros_or_64(bits: Any) -> Any:
    """The number of the lowest set bit; 64 if there is none."""
    return (int(bits) & -int(bits)).bit_length() - 1 if bits else 64


@_instruction
def clear_lowest(bits: Any) -> Any:
    """`bits` without its lowest set bit; 0 stays 0."""
    return np.uint64(int(bits) & (int(bits) - 1)) if bits else bits


@_instruction
def byte_swapped(bits: Any) -> Any:
    """The 8 bytes in the other order."""
    return np.uint64(bits).byteswap()


@_instruction
def copy_lower_ascii(data: Any, at: Any, out: Any, to: Any) -> Any:
    """Copy 64 bytes, A-Z made a-z; `out` may be `data`. Bit i of the result is set where data[at + i] >= 0x80."""
    block = data[at : at + 64].copy()
    assert block.size == 64 and out[to : to + 64].size == 64
    out[to : to + 64] = np.where((block >= 65) & (block <= 90), block | 0x20, block)
    return np.packbits(block >= 0x80, bitorder="little").view(np.uint64)[0]
