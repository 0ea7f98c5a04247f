"""`re` in users' functions: re.findall("[a-z]+", text), and WORDS.findall(text) of a pattern made before.

Of patterns those are compiled that find the runs of one class of characters (`runs`).
"""
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import re
from typing import Any

from numba import types
from numba.core import errors
from numba.core.imputils import lower_constant
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate, infer_getattr, infer_global, signature
from numba.extending import lower_builtin, models, register_model, typeof_impl

from kernelmill.kernels.text.jitting import call
from kernelmill.kernels.text.runs import finder_of, runs_of
from kernelmill.kernels.text.texttype import TEXT, TextType

TOO_MUCH = "of regular expressions those are compiled that find one class of characters, repeated: [a-z0-9]+ or \\w+"
_FINDALL = "kernelmill.Pattern.findall"


class PatternType(types.Opaque):
    """A compiled regular expression: a constant, of which compiled code holds nothing."""

    def __init__(self, pattern: str, flags: int) -> None:
        self.pattern, self.flags = pattern, flags
        super().__init__(name=f"Pattern({pattern!r}, {flags})")


register_model(PatternType)(models.OpaqueModel)


@typeof_impl.register(re.Pattern)
def _typeof_pattern(value, c):
    return PatternType(value.pattern, value.flags) if isinstance(value.pattern, str) else None


@lower_constant(PatternType)
def _pattern_constant(context, builder, of_type, value):
    return context.get_dummy_value()


def _pattern_of(of_type: Any) -> tuple[str, int] | None:
    """The pattern and its flags, of a string literal's type or a pattern's."""
    if isinstance(of_type, types.StringLiteral):
        return of_type.literal_value, 0
    return (of_type.pattern, of_type.flags) if isinstance(of_type, PatternType) else None


def _finder(of_type: Any) -> Any:
    """The kind of pieces and the helper for a pattern's type. Raises a TypingError where it is not compiled."""
    pattern = _pattern_of(of_type)
    runs = runs_of(*pattern) if pattern is not None else None
    if runs is None:
        raise errors.TypingError(TOO_MUCH)
    return finder_of(runs)


def _found_in(pattern_type: Any, text: Any) -> Any:
    """The signature of findall with that pattern; a text that is None fails when it runs. None for other types."""
    is_text = TEXT in (text, getattr(text, "type", None))
    return signature(_finder(pattern_type)[0], pattern_type, TEXT) if is_text else None


@infer_global(re.findall)
class _FindAll(AbstractTemplate):
    key = re.findall
    prefer_literal = True

    def generic(self, args, kws):
        """Of a pattern that is a literal, or was made before."""
        return _found_in(*args) if len(args) == 2 and not kws else None


@infer_getattr
class _PatternMethods(AttributeTemplate):
    key = PatternType

    def resolve_findall(self, of_type):
        """The method."""

        class Template(AbstractTemplate):
            key = _FINDALL

            def generic(self, args, kws):
                sig = _found_in(of_type, *args) if len(args) == 1 and not kws else None
                return None if sig is None else signature(sig.return_type, TEXT, recvr=of_type)

        return types.BoundFunction(Template, of_type)


def _lower(context, builder, sig, args):
    return call(context, builder, _finder(sig.args[0])[1], (TEXT,), (args[1],))


lower_builtin(_FINDALL, PatternType, TextType)(_lower)
for _kind in (types.StringLiteral, PatternType):
    lower_builtin(re.findall, _kind, TextType)(_lower)
