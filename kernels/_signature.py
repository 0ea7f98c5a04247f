"""Types of a kernel's arguments and result, as values of our own: running cached machine code takes no compiler.

A type called with types is a signature: `i64(u8_in, i64)` takes bytes and an integer, and returns an integer.
"""

from __future__ import annotations

from typing import NamedTuple


class Scalar(NamedTuple):
    """A number, by the name that numba and (but for boolean) numpy have for it; or nothing (`void`)."""

    name: str

    def __call__(self, *arguments: Scalar | Array) -> Signature:
        return Signature(self, arguments)

    def __str__(self) -> str:
        return self.name


class Array(NamedTuple):
    """A C-contiguous array. Read-only means that the kernel does not write: writable arrays may be given too."""

    element: Scalar
    readonly: bool
    dimensions: int = 1

    def __str__(self) -> str:
        axes = ", ".join(":" * self.dimensions)
        return f"{'readonly ' if self.readonly else ''}{self.element}[{axes}]"


class Signature(NamedTuple):
    """What a kernel takes and returns."""

    returns: Scalar
    arguments: tuple[Scalar | Array, ...]

    def __str__(self) -> str:
        return f"({', '.join(map(str, self.arguments))}) -> {self.returns}"


i64, u64, u32, f64 = Scalar("int64"), Scalar("uint64"), Scalar("uint32"), Scalar("float64")
boolean, void = Scalar("boolean"), Scalar("void")
_u8, _u16, _i32 = Scalar("uint8"), Scalar("uint16"), Scalar("int32")

u8_in, i32_in, i64_in = Array(_u8, True), Array(_i32, True), Array(i64, True)
u16_in, u32_in, u64_in, f64_in = Array(_u16, True), Array(u32, True), Array(u64, True), Array(f64, True)
u8_out, i32_out, i64_out = Array(_u8, False), Array(_i32, False), Array(i64, False)
u16_out, u32_out, u64_out, f64_out = Array(_u16, False), Array(u32, False), Array(u64, False), Array(f64, False)
u64_2d_in, u64_2d_out = Array(u64, True, 2), Array(u64, False, 2)
