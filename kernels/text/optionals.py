"""==, !=, bool and not of a text that may be None.

numba has no bool of None. It compares its own strings to anything of its own making, and takes an Optional of a Text
for such: no text of that kind would equal any literal. So these stand before it.
"""
# mypy: allow-untyped-defs, allow-untyped-calls, allow-untyped-decorators

from __future__ import annotations

import operator
from itertools import product
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

from kernelmill.kernels.text.comparing import equal, equal_to_string, string_equal_to
from kernelmill.kernels.text.jitting import call
from kernelmill.kernels.text.registering import is_text
from kernelmill.kernels.text.texttype import TEXT

_STRING = types.unicode_type
_MAYBE: Any = types.Optional(TEXT)
_MAYBE_STRING: Any = types.Optional(_STRING)
_EQUAL = {(TEXT, TEXT): equal, (TEXT, _STRING): equal_to_string, (_STRING, TEXT): string_equal_to}
_FIRST = {"target": "cpu"}
"""numba tries what is for this target before what is for any."""
_PAIRS = [
    pair
    for pair in product((TEXT, _STRING, _MAYBE, _MAYBE_STRING), repeat=2)
    if _MAYBE in pair or (TEXT in pair and _MAYBE_STRING in pair)
]


def _passed_as(given: Any) -> Any:
    """The type that an argument is passed as; None if it is no text, nor one that may be None."""
    if isinstance(given, types.Optional):
        bare = _passed_as(given.type)
        return None if bare is None else types.Optional(bare)
    if not is_text(given):
        return None
    return _STRING if isinstance(given, types.UnicodeType) else TEXT


def _register(name: Any) -> None:
    class Template(AbstractTemplate):
        key = name
        prefer_literal = True
        metadata = _FIRST

        def generic(self, args, kws):
            passed = tuple(map(_passed_as, args))
            return signature(types.boolean, *passed) if not kws and passed in _PAIRS else None

    infer_global(name)(Template)

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def equals(kinds: Any, values: Any) -> Any:
            return call(context, builder, _EQUAL[kinds], kinds, values)

        found = equal_or_none(context, builder, sig.args, args, equals)
        return found if name is operator.eq else builder.not_(found)

    for pair in _PAIRS:
        lower_builtin(name, *pair)(lower)


def equal_or_none(context: Any, builder: Any, kinds: Any, values: Any, equals: Any) -> Any:
    """Code for a == b: two Nones are equal, a None and a value are not, `equals(kinds, values)` tells the rest."""
    (a_kind, a, has_a), (b_kind, b, has_b) = (
        _opened(context, builder, *one) for one in zip(kinds, values, strict=True)
    )
    found = cgutils.alloca_once_value(builder, builder.not_(builder.or_(has_a, has_b)))
    with builder.if_then(builder.and_(has_a, has_b)):
        builder.store(equals((a_kind, b_kind), (a, b)), found)
    return builder.load(found)


def _opened(context: Any, builder: Any, kind: Any, value: Any) -> tuple[Any, Any, Any]:
    """The type and the value without None, and whether it is there."""
    if not isinstance(kind, types.Optional):
        return kind, value, ir.Constant(ir.IntType(1), 1)
    held = context.make_helper(builder, kind, value)
    return kind.type, held.data, cgutils.as_bool_bit(builder, held.valid)


_register(operator.eq)
_register(operator.ne)


# bool and not ---------------------------------------------------------------------------------------------------------


def _register_truth(name: Any, *, is_negated: bool) -> None:
    class Template(AbstractTemplate):
        key = name
        metadata = _FIRST

        def generic(self, args, kws):
            return signature(types.boolean, _MAYBE) if not kws and args == (_MAYBE,) else None

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, text, has_text = _opened(context, builder, sig.args[0], args[0])
        size = builder.extract_value(text, 1)
        found = builder.and_(has_text, builder.icmp_signed("!=", size, ir.Constant(size.type, 0)))
        return builder.not_(found) if is_negated else found

    infer_global(name)(Template)
    lower_builtin(name, _MAYBE)(lower)


for _name in (bool, operator.truth, operator.not_):
    _register_truth(_name, is_negated=_name is operator.not_)
