"""The numba type Text: a pointer to UTF-8 bytes and their number.

    data      the first byte; SLACK_BYTES past the last one are readable
    size      bytes
    is_ascii  True only if no byte is >= 0x80; False says nothing, so that pieces of a text need no look at their bytes
    arena     where a method writes new text (arena.py); null in a literal of a function that has no Text as argument

A string literal of the user's code becomes a Text where one is needed: as an argument, and where a variable is now a
literal, now a Text. Text as a result of an entry function becomes a `str`.
"""
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import hashlib
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_constant
from numba.core.typeconv.castgraph import Conversion
from numba.extending import box, lower_cast, make_attribute_wrapper, models, register_model

from kernelmill.kernels.text.pointers import BYTES, SLACK_BYTES, WORDS, instruction

_INT = ir.IntType(64)
_BYTES, _INTS = ir.IntType(8).as_pointer(), _INT.as_pointer()


class TextType(types.Hashable, types.IterableType):
    """A view of UTF-8 bytes."""

    characters: Any = None
    """The type of its iterator, set by pieces.py."""

    def __init__(self) -> None:
        super().__init__(name="Text")

    @property
    def iterator_type(self):
        """The numba type of its iterator, which gives a Text for each character."""
        return self.characters

    def can_convert_from(self, typingctx, other):
        """A string literal is a text, unless it has a lone surrogate and so no UTF-8."""
        return Conversion.safe if utf8_of(other) is not None else None

    def unify(self, typingctx, other):
        """A variable that holds a text or a string literal is a text."""
        return self if utf8_of(other) is not None else None


TEXT = TextType()


def utf8_of(of_type: Any) -> bytes | None:
    """The bytes of a string literal's type; None for other types and for lone surrogates."""
    if not isinstance(of_type, types.StringLiteral):
        return None
    try:
        return str(of_type.literal_value).encode()
    except UnicodeEncodeError:
        return None


@register_model(TextType)
class _TextModel(models.StructModel):
    def __init__(self, manager, of_type):
        members = [("data", BYTES), ("size", types.intp), ("is_ascii", types.boolean), ("arena", WORDS)]
        super().__init__(manager, of_type, members)


for _name in ("data", "size", "is_ascii", "arena"):
    make_attribute_wrapper(TextType, _name, f"_{_name}")


@instruction
def make_text(typingctx, data, size, is_ascii, arena):
    """The Text of these four."""

    def codegen(context, builder, sig, args):
        text = cgutils.create_struct_proxy(TEXT)(context, builder)
        text.data, text.size, text.is_ascii, text.arena = args
        return text._getvalue()

    return TEXT(BYTES, types.intp, types.boolean, WORDS), codegen


def _literal(context: Any, builder: Any, raw: bytes, arena: Any) -> Any:
    text = cgutils.create_struct_proxy(TEXT)(context, builder)
    name = f"text.{hashlib.sha256(raw).hexdigest()}"  # a second constant of that name would not be made
    text.data = context.insert_const_bytes(builder.module, raw + bytes(SLACK_BYTES), name)
    text.size = ir.Constant(ir.IntType(64), len(raw))
    text.is_ascii = context.get_constant(types.boolean, raw.isascii())
    text.arena = arena
    return text._getvalue()


def arena_at_hand(builder: Any) -> Any:
    """The arena of the first Text, or emit, among the arguments of the function being compiled; null without either."""
    arguments = builder.function.args
    for data, size, _, arena in zip(arguments, arguments[1:], arguments[2:], arguments[3:], strict=False):
        stem, _, member = arena.name.rpartition(".")  # numba names what it flattens: arg.line.0 to arg.line.3
        is_text = (data.name, size.name, member) == (f"{stem}.0", f"{stem}.1", "3")
        if is_text and (data.type, size.type, arena.type) == (_BYTES, _INT, _INTS):
            return arena
    for stage, state, arena in zip(arguments, arguments[1:], arguments[2:], strict=False):
        stem, _, member = arena.name.rpartition(".")
        names = [f"{stem}.0", f"{stem}.1", f"{stem}.2"]
        if [one.name for one in (stage, state, arena)] == names and stage.type == state.type == arena.type == _INTS:
            return arena  # what alone has three such pointers is an emit
    return ir.Constant(_INTS, None)


@lower_cast(types.StringLiteral, TextType)
def _text_of_literal(context, builder, from_type, to_type, value):
    raw = utf8_of(from_type)
    assert raw is not None
    return _literal(context, builder, raw, arena_at_hand(builder))


@lower_constant(TextType)
def _text_of_constant(context, builder, of_type, string):
    """A default of a user function, or an item of a tuple that is one."""
    return _literal(context, builder, string.encode(), arena_at_hand(builder))


def constant(string: str) -> Any:
    """Make `text()`, which gives this Text in compiled code."""

    @instruction
    def text(typingctx):
        def codegen(context, builder, sig, args):
            return _literal(context, builder, string.encode(), ir.Constant(_INTS, None))

        return TEXT(), codegen

    return text


@box(TextType)
def _box(of_type, value, c):
    text = cgutils.create_struct_proxy(TEXT)(c.context, c.builder, value=value)
    kind = ir.FunctionType(c.pyapi.pyobj, [ir.IntType(8).as_pointer(), c.pyapi.py_ssize_t])
    decode = cgutils.get_or_insert_function(c.builder.module, kind, "PyUnicode_FromStringAndSize")
    return c.builder.call(decode, [text.data, text.size])
