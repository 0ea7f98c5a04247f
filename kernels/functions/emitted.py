"""What the calls of emit, or of emit.to with one name, give: the columns that serve all of them."""
# mypy: allow-untyped-defs, allow-untyped-calls, allow-incomplete-defs

from __future__ import annotations

from typing import Any

from numba import types

from kernelmill.kernels.functions.driving import KINDS, unified
from kernelmill.kernels.text.texttype import TEXT
from kernelmill.kernels.usercode import CannotCompileError, Output

TUPLE: Any = types.BaseTuple


class Emitted:
    """The calls seen so far: each one's types, whole numbers of the code as literals, and which are tuples (`shapes`).

    columns: the numba types of what is staged, Optional where it may be None, None for what is not, if they are known.
    Else they follow from the calls seen when the first of them is compiled: that is before all are seen only where a
    helper of the function emits too.
    """

    def __init__(self, columns: tuple[Any, ...] | None = None) -> None:
        self.columns = columns
        self.seen: list[tuple[Any, ...]] = []
        self.shapes: set[tuple[int, ...]] = set()

    def note(self, emitted) -> None:
        """A call gives a key, and a value if there is one, of these types."""
        self.shapes.add(tuple(len(one) if isinstance(one, TUPLE) else -1 for one in emitted))
        self.seen.append(tuple(map(_seen, _flat(emitted))))

    def outputs(self) -> tuple[Output, ...]:
        """The columns for all calls seen. Raises CannotCompileError where there are none, or no columns could be."""
        if not self.seen:
            raise CannotCompileError("it never calls emit")
        if len(self.shapes) > 1:
            raise CannotCompileError("its calls of emit differ in how many values they give")
        if any(isinstance(kind, TUPLE) for kinds in self.seen for kind in kinds):
            raise CannotCompileError("a tuple that it emits holds a tuple: no column can")
        return tuple(map(_column, zip(*self.seen, strict=True)))

    def shape(self) -> tuple[int, ...]:
        """For the key, and the value if there is one, its tuple's length or -1; () without calls, or if they differ."""
        return next(iter(self.shapes)) if len(self.shapes) == 1 else ()

    def wanted(self) -> tuple[Any, ...]:
        """The numba types of what is to be staged for all calls seen, as `columns`."""
        return tuple(_staged_type(one) if one.constant is None else None for one in self.outputs())

    def staged(self) -> tuple[Any, ...]:
        """The numba types of what is staged, from now on."""
        if self.columns is None:
            self.columns = self.wanted()
        return self.columns


class EmittedTo(Emitted):
    """The calls of emit.to with one name. Where no columns serve all of them there are none: () everywhere."""

    def outputs(self) -> tuple[Output, ...]:
        """The columns for all calls seen."""
        try:
            return super().outputs()
        except CannotCompileError:
            return ()


def _column(kinds) -> Output:
    column = unified(kinds, "emit is called with")
    values = {kind.literal_value if isinstance(kind, types.IntegerLiteral) else None for kind in kinds}
    return column._replace(constant=values.pop()) if column.kind == "int64" and len(values) == 1 else column


def _staged_type(column: Output) -> Any:
    return types.Optional(KINDS[column.kind]) if column.nullable else KINDS[column.kind]


def _flat(args):
    for one in args:
        yield from one if isinstance(one, TUPLE) else (one,)


def _seen(kind):
    if isinstance(kind, types.Optional):
        return types.Optional(_seen(kind.type))
    if isinstance(kind, types.StringLiteral | types.UnicodeType):
        return TEXT
    return kind if isinstance(kind, types.IntegerLiteral) else types.unliteral(kind)
