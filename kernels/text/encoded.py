"""text.encode(): the UTF-8 of a text, of which compiled code may ask the length: `len(text.encode())` are its bytes."""
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

from typing import Any

from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin, models, register_model

from kernelmill.kernels.text.jitting import helper
from kernelmill.kernels.text.pointers import instruction
from kernelmill.kernels.text.registering import method
from kernelmill.kernels.text.texttype import TEXT


class EncodedType(types.Type):
    """What `text.encode()` gives."""

    def __init__(self) -> None:
        super().__init__(name="Text.encode()")


ENCODED = EncodedType()


@register_model(EncodedType)
class _EncodedModel(models.StructModel):
    def __init__(self, manager, of_type):
        super().__init__(manager, of_type, [("size", types.intp)])


@instruction
def _make_encoded(typingctx, size):
    def codegen(context, builder, sig, args):
        made = cgutils.create_struct_proxy(ENCODED)(context, builder)
        made.size = args[0]
        return made._getvalue()

    return ENCODED(types.intp), codegen


@method("encode", TEXT)
@helper
def encode(text: Any) -> Any:
    """text.encode()"""
    return _make_encoded(text._size)


@infer_global(len)
class _Length(AbstractTemplate):
    def generic(self, args, kws):
        return signature(types.intp, ENCODED) if args == (ENCODED,) else None


@lower_builtin(len, EncodedType)
def _length(context, builder, sig, args):
    return cgutils.create_struct_proxy(ENCODED)(context, builder, value=args[0]).size
