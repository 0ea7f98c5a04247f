"""What split(), splitlines() and iteration over characters give: pieces that are found one by one when asked for.

A Pieces value holds no pieces, only the text and how to cut it, so that a loop over `line.split()` allocates nothing.
A kind of Pieces is registered with the two functions of its iterator:

    begin(pieces) -> state                          a tuple of numbers; begin(pieces, room) of a kind that wants room
    step(pieces, state) -> found, start, stop, state     the next piece as offsets into the text
"""
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import RefType, iternext_impl
from numba.core.types.common import SimpleIteratorType
from numba.extending import lower_builtin, make_attribute_wrapper, models, register_model

from kernelmill.kernels.text.jitting import call, helper
from kernelmill.kernels.text.pointers import WORDS, instruction, moved
from kernelmill.kernels.text.registering import refuse
from kernelmill.kernels.text.texttype import TEXT, TextType, make_text


class PiecesType(types.IterableType):
    """Pieces of a text, of one kind."""

    def __init__(self, kind: str, number: int) -> None:
        self.kind, self.number = kind, number
        self.begin: Any = None
        self.step: Any = None
        self.state: Any = None
        self.room_words = 0
        super().__init__(name=f"Pieces({kind})")

    @property
    def iterator_type(self):
        """The numba type of its iterator."""
        return PiecesIteratorType(self)


class LazyPiecesType(PiecesType):
    """Pieces that are found when asked for."""


class TableType(PiecesType):
    """Pieces whose starts and sizes are listed in the arena."""


class PiecesIteratorType(SimpleIteratorType):
    """An iterator over pieces."""

    def __init__(self, pieces: PiecesType) -> None:
        self.pieces = pieces
        super().__init__(f"iter({pieces.name})", TEXT)


TABLE = TableType("table", 0)
"""Pieces listed in the arena."""

SPACED, SEPARATED, LINES, CHARACTERS = (
    LazyPiecesType(kind, number) for number, kind in enumerate(["spaced", "separated", "lines", "characters"], 1)
)
"""What lies between whitespace, between separators, between line breaks; single characters."""

TextType.characters = PiecesIteratorType(CHARACTERS)

NO_LIMIT = -1

refuse(PiecesType, "__str__", "__repr__")


@register_model(LazyPiecesType)
@register_model(TableType)
class _PiecesModel(models.StructModel):
    def __init__(self, manager, of_type):
        members = [
            ("text", TEXT),  # what is cut
            ("separator", TEXT),
            ("option", types.int64),  # cuts at most, or NO_LIMIT; for lines 1 to keep their ends; of a table the pieces
            ("entries", WORDS),  # of a table: start and size of its first piece
            ("stride", types.int64),  # of a table: words from a piece to the next
        ]
        super().__init__(manager, of_type, members)


@register_model(PiecesIteratorType)
class _PiecesIteratorModel(models.StructModel):
    def __init__(self, manager, of_type):
        members = [("pieces", of_type.pieces), ("state", types.EphemeralPointer(of_type.pieces.state))]
        super().__init__(manager, of_type, members)


for _name in ("text", "separator", "option", "entries", "stride"):
    make_attribute_wrapper(PiecesType, _name, f"_{_name}")


def maker(kind: PiecesType) -> Any:
    """Make `make(text, separator, option)`, which gives the Pieces of a kind other than TABLE."""

    @instruction
    def make(typingctx, text, separator, option):
        def codegen(context, builder, sig, args):
            pieces = cgutils.create_struct_proxy(kind)(context, builder)
            pieces.text, pieces.separator, pieces.option = args
            pieces.entries = ir.Constant(ir.IntType(64).as_pointer(), None)
            pieces.stride = ir.Constant(ir.IntType(64), 0)
            return pieces._getvalue()

        return kind(TEXT, TEXT, types.int64), codegen

    return make


@instruction
def make_table(typingctx, text, entries, count, stride):
    """The Pieces of `text` whose starts and sizes are `entries`, `stride` words from one to the next."""

    def codegen(context, builder, sig, args):
        pieces = cgutils.create_struct_proxy(TABLE)(context, builder)
        pieces.text, pieces.entries, pieces.option, pieces.stride = args
        pieces.separator = args[0]
        return pieces._getvalue()

    return TABLE(TEXT, WORDS, types.int64, types.int64), codegen


@helper
def piece(text: Any, start: Any, stop: Any) -> Any:
    """The Text of some bytes of another."""
    return make_text(moved(text._data, start), stop - start, text._is_ascii, text._arena)


# Iteration -----------------------------------------------------------------------------------------------------------


def iterates(kind: PiecesType, state: Any, begin: Any, step: Any, room_words: int = 0) -> None:
    """Register how a kind's pieces are found; `state` is the numba type of the tuple.

    An iterator has `room_words` i64 of any content on the stack of whoever loops.
    """
    kind.state, kind.begin, kind.step, kind.room_words = state, begin, step, room_words


@lower_builtin("getiter", PiecesType)
def _getiter(context, builder, sig, args):
    return _iterator(context, builder, sig.args[0], args[0])


@lower_builtin("getiter", TextType)
def _getiter_of_text(context, builder, sig, args):
    pieces = cgutils.create_struct_proxy(CHARACTERS)(context, builder)
    pieces.text = args[0]
    return _iterator(context, builder, CHARACTERS, pieces._getvalue())


def _iterator(context, builder, kind, value):
    iterator = context.make_helper(builder, kind.iterator_type)
    iterator.pieces = value
    given = [(kind, value)]
    if kind.room_words:
        room = cgutils.alloca_once(builder, ir.IntType(64), ir.Constant(ir.IntType(64), kind.room_words))
        given.append((WORDS, room))
    first = call(context, builder, kind.begin, *zip(*given, strict=True))
    iterator.state = cgutils.alloca_once_value(builder, first)
    return iterator._getvalue()


@lower_builtin("iternext", PiecesIteratorType)
@iternext_impl(RefType.UNTRACKED)
def _iternext(context, builder, sig, args, result):
    kind = sig.args[0].pieces
    iterator = context.make_helper(builder, sig.args[0], value=args[0])
    state = builder.load(iterator.state)
    found = call(context, builder, kind.step, (kind, kind.state), (iterator.pieces, state))
    is_valid, start, stop, state = (builder.extract_value(found, i) for i in range(4))
    builder.store(state, iterator.state)
    result.set_valid(builder.trunc(is_valid, ir.IntType(1)) if is_valid.type.width > 1 else is_valid)
    pieces = cgutils.create_struct_proxy(kind)(context, builder, value=iterator.pieces)
    text = cgutils.create_struct_proxy(TEXT)(context, builder, value=pieces.text)
    text.data = builder.gep(text.data, [start])
    text.size = builder.sub(stop, start)
    result.yield_(text._getvalue())


@lower_builtin("getiter", PiecesIteratorType)
def _getiter_of_iterator(context, builder, sig, args):
    return args[0]
