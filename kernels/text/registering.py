"""Names that user code may use on texts: methods, functions, operators.

    @method("find", TEXT, TEXT, INT, INT)
    @helper
    def find(text, part, start=0, stop=END): ...

numba's own way, `overload_method`, compiles one more wrapper for each string literal in user code. Here a literal is
converted to a Text by the caller, any integer to int64, and one compiled function serves all. A `unicode_type`, such as
the result of `str(5)`, is copied into the arena of the first Text among the arguments.
"""
# mypy: allow-untyped-defs, allow-untyped-calls

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any, TypeVar

from numba import types
from numba.core.typing.templates import AbstractTemplate, AttributeTemplate, infer_getattr, infer_global, signature
from numba.extending import lower_builtin

from kernelmill.kernels.text.jitting import call, result_type
from kernelmill.kernels.text.strings import text_of_string, with_arena
from kernelmill.kernels.text.texttype import TEXT, TextType, utf8_of

INT, BOOL, NONE, STRING = types.int64, types.boolean, types.none, types.unicode_type
END = sys.maxsize
"""Stands for "to the end" where Python has None."""

Helper = TypeVar("Helper", bound=Callable[..., Any])


def is_text(given: Any) -> bool:
    """True for types that can become a Text."""
    return given == TEXT or utf8_of(given) is not None or isinstance(given, types.UnicodeType)


def _items_of(tuple_type: Any) -> Any:
    return tuple_type.types


def is_about_texts(given: Any) -> bool:
    """True for Text and what yields or holds it; not for string literals, whose methods are numba's own."""
    if isinstance(given, types.BaseTuple):
        return any(map(is_about_texts, _items_of(given)))
    yields_texts = isinstance(given, types.IterableType) and given.iterator_type.yield_type == TEXT
    return given == TEXT or yields_texts


class JustText:
    """A kind of argument: a Text or a string literal, but none of numba's own strings."""

    formal = TextType

    @staticmethod
    def accept(given: Any) -> Any:
        """The type that the argument is passed as; None if it is of another kind."""
        return TEXT if given == TEXT or utf8_of(given) is not None else None


class MixedTuple:
    """A kind of argument: a tuple of string literals and texts; numba itself knows `in` for tuples of one type."""

    formal = types.Tuple

    @staticmethod
    def accept(given: Any) -> Any:
        """The type that the argument is passed as; None if it is of another kind."""
        return TextTuple.accept(given) if isinstance(given, types.Tuple) else None


class TextTuple:
    """A kind of argument: a tuple of texts, of at least one."""

    formal = types.BaseTuple

    @staticmethod
    def accept(given: Any) -> Any:
        """The type that the argument is passed as; None if it is of another kind."""
        if isinstance(given, types.BaseTuple) and len(given) > 0 and all(is_text(item) for item in _items_of(given)):
            return given
        return None


class Texts:
    """A kind of argument: what yields texts each time it is iterated over, or a tuple of at least one text."""

    @staticmethod
    def accept(given: Any) -> Any:
        """The type that the argument is passed as; None if it is of another kind."""
        if isinstance(given, types.IterableType) and not isinstance(given, types.BaseTuple):
            is_again = not isinstance(given, types.IteratorType) and not _is_used_up(given)
            return given if given.iterator_type.yield_type == TEXT and is_again else None
        return TextTuple.accept(given)


class TextsOnce:
    """A kind of argument: what yields texts and is used up by that, as its type says by `is_used_up`."""

    @staticmethod
    def accept(given: Any) -> Any:
        """The type that the argument is passed as; None if it is of another kind."""
        return given if _is_used_up(given) and given.iterator_type.yield_type == TEXT else None


class TextIterator:
    """A kind of argument: an iterator of numba's over texts, such as map and filter give."""

    @staticmethod
    def accept(given: Any) -> Any:
        """The type that the argument is passed as; None if it is of another kind."""
        is_one = isinstance(given, types.IteratorType) and not _is_used_up(given)
        return given if is_one and given.yield_type == TEXT else None


def _is_used_up(given: Any) -> bool:
    return bool(getattr(given, "is_used_up", False))


def _accepted(kind: Any, given: Any) -> Any:
    """The type that an argument of type `given` is passed as where `kind` is expected; None if it does not fit."""
    if hasattr(kind, "accept"):
        return kind.accept(given)
    if isinstance(kind, type):
        return types.unliteral(given) if isinstance(types.unliteral(given), kind) else None
    if kind == TEXT and is_text(given):
        return given if isinstance(given, types.UnicodeType) else TEXT
    if kind == INT and isinstance(types.unliteral(given), types.Integer | types.Boolean):
        return INT
    return kind if types.unliteral(given) == kind else None


class _Variant:
    """One compiled function behind a name, and the kinds of arguments it takes."""

    def __init__(self, function: Any, kinds: tuple[Any, ...]) -> None:
        self.function, self.kinds = function, kinds
        self.pysig = inspect.signature(function)
        assert len(kinds) == len(self.pysig.parameters)

    def types_for(self, args: Any, kws: Any) -> tuple[Any, ...] | None:
        """The types to pass these arguments as; None if they do not fit. One of them must be about texts."""
        try:
            bound = self.pysig.bind(*args, **kws).arguments
        except TypeError:
            return None
        if not any(map(is_about_texts, bound.values())):
            return None
        found = []
        for kind, name in zip(self.kinds, self.pysig.parameters, strict=True):
            accepted = _accepted(kind, bound[name]) if name in bound else kind
            if accepted is None:
                return None
            found.append(accepted)
        return tuple(found)

    def _wanted(self, passed: Any) -> tuple[Any, ...]:
        """The types that the function is compiled for."""
        return tuple(map(_after_conversion, self.kinds, passed))

    def signature(self, args: Any, kws: Any) -> Any:
        """numba's signature for these arguments; None if they do not fit."""
        passed = self.types_for(args, kws)
        if passed is None:
            return None
        returned = result_type(self.function, self._wanted(passed))
        return signature(returned, *passed).replace(pysig=self.pysig)

    def call(self, context: Any, builder: Any, passed: Any, values: Any) -> Any:
        """Code that converts the arguments and calls the function."""
        wanted = self._wanted(passed)
        texts = [one for item in zip(passed, values, strict=True) for one in _texts_in(builder, *item)]
        values = [_converted(context, builder, *item, texts) for item in zip(passed, wanted, values, strict=True)]
        return call(context, builder, self.function, wanted, values)


def _after_conversion(kind: Any, passed: Any) -> Any:
    if kind == TEXT:
        return TEXT
    if TextTuple.accept(passed) is not None:
        return types.UniTuple(TEXT, len(passed))
    return passed


def _texts_in(builder: Any, given: Any, value: Any) -> Iterator[Any]:
    """The values of type Text, in tuples too."""
    if given == TEXT:
        yield value
    elif isinstance(given, types.BaseTuple):
        for i, one in enumerate(_items_of(given)):
            yield from _texts_in(builder, one, builder.extract_value(value, i))


def _converted(context: Any, builder: Any, given: Any, wanted: Any, value: Any, texts: Sequence[Any]) -> Any:
    """The value as `wanted`; one of `texts` has the arena for it, but a literal's has none."""
    if given == wanted:
        return value
    if isinstance(given, types.BaseTuple):
        items = [
            _converted(context, builder, one, TEXT, builder.extract_value(value, i), texts)
            for i, one in enumerate(_items_of(given))
        ]
        return context.make_tuple(builder, wanted, items)
    if isinstance(given, types.UnicodeType) and texts:
        owner = texts[0]
        for other in texts[1:]:
            owner = call(context, builder, with_arena, (TEXT, TEXT), (owner, other))
        return call(context, builder, text_of_string, (TEXT, given), (owner, value))
    return context.cast(builder, value, given, wanted)


# Methods -------------------------------------------------------------------------------------------------------------

_METHODS: dict[str, list[_Variant]] = {}
_WITH_KEYWORDS = ("split", "rsplit", "splitlines")


def method(name: str, *kinds: Any) -> Callable[[Helper], Helper]:
    """Make a `helper` the method `name` of Text, its first parameter. Several of one name are tried in turn."""

    def register(made: Helper) -> Helper:
        if name not in _METHODS:
            lower_builtin(f"Text.{name}", types.VarArg(types.Any))(_lower_method(name))
        _METHODS.setdefault(name, []).append(_Variant(made, kinds))
        return made

    return register


def _lower_method(name: str) -> Any:
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        for variant in _METHODS[name]:
            passed = variant.types_for(sig.args, {})
            if passed is not None:
                if utf8_of(sig.args[0]) is not None:
                    args = (context.cast(builder, args[0], sig.args[0], TEXT), *args[1:])
                return variant.call(context, builder, passed, args)
        raise AssertionError(f"typing found a {name} for {sig.args}")

    return lower


@infer_getattr
class _Methods(AttributeTemplate):
    key = TextType

    def generic_resolve(self, of_type, attr):  # type: ignore[override]
        """The method of that name, or None."""
        if attr not in _METHODS:
            return None

        class Template(AbstractTemplate):
            key = f"Text.{attr}"
            prefer_literal = True

            def generic(self, args, kws):
                if kws and attr not in _WITH_KEYWORDS:
                    return None
                found = (variant.signature((TEXT, *args), kws) for variant in _METHODS[attr])
                sig = next((one for one in found if one is not None), None)
                return None if sig is None else sig.as_method()

        return types.BoundFunction(Template, of_type)


def method_of(type_class: Any, name: str, *kinds: Any) -> Callable[[Helper], Helper]:
    """Make a `helper` the method `name` of a type other than Text, which has none of that name."""

    def register(made: Helper) -> Helper:
        variant = _Variant(made, (type_class, *kinds))
        full_name = f"{type_class.__name__}.{name}"

        class Template(AbstractTemplate):
            key = full_name
            prefer_literal = True

            def generic(self, args, kws):
                sig = variant.signature((self.this, *args), kws)  # type: ignore[attr-defined]
                return None if sig is None else sig.as_method()

        @infer_getattr
        class Methods(AttributeTemplate):
            key = type_class

            def generic_resolve(self, of_type, attr):  # type: ignore[override]
                return types.BoundFunction(Template, of_type) if attr == name else None

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return variant.call(context, builder, variant.types_for(sig.args, {}), args)

        lower_builtin(full_name, types.VarArg(types.Any))(lower)
        return made

    return register


def refuse(type_class: Any, *names: str) -> None:
    """Let calls of these methods fail to compile; where numba finds none, `repr(x)` is "<object type:Text>"."""

    @infer_getattr
    class Refused(AttributeTemplate):
        key = type_class

        def generic_resolve(self, of_type, attr):  # type: ignore[override]
            """A method that takes no arguments of any type."""
            if attr not in names:
                return None

            class Template(AbstractTemplate):
                key = f"{type_class.__name__}.{attr}"

                def generic(self, args, kws):
                    return None

            return types.BoundFunction(Template, of_type)


refuse(TextType, "__repr__", "__format__")


@infer_getattr
class _LiteralMethods(AttributeTemplate):
    """join of a string literal, `",".join(texts)`; its other methods, and joins of no texts, are numba's own."""

    key = types.StringLiteral

    def generic_resolve(self, of_type, attr):  # type: ignore[override]
        """The method, if it is join."""
        if attr != "join" or utf8_of(of_type) is None:
            return None

        class Template(AbstractTemplate):
            key = "Text.join"
            prefer_literal = True

            def generic(self, args, kws):
                for variant in _METHODS["join"]:
                    sig = variant.signature((of_type, *args), kws)
                    if sig is not None:
                        return sig.as_method().replace(recvr=of_type)
                return None

        return types.BoundFunction(Template, of_type)


# Functions and operators ---------------------------------------------------------------------------------------------


def variants() -> list[tuple[Any, tuple[Any, ...]]]:
    """The functions behind all names and the types that each is compiled for, but those that take types of a family."""
    every = [*_FUNCTION_VARIANTS, *(one for named in _METHODS.values() for one in named)]
    return [(one.function, one.kinds) for one in every if all(isinstance(kind, types.Type) for kind in one.kinds)]


_FUNCTION_VARIANTS: list[_Variant] = []


def function(name: Any, *kinds: Any) -> Callable[[Helper], Helper]:
    """Make a `helper` what a builtin function or an operator does where a text is among its arguments."""

    def register(made: Helper) -> Helper:
        variant = _Variant(made, kinds)
        _FUNCTION_VARIANTS.append(variant)

        class Template(AbstractTemplate):
            key = name
            prefer_literal = True

            def generic(self, args, kws):
                return variant.signature(args, kws)

        infer_global(name)(Template)

        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            return variant.call(context, builder, sig.args, args)

        for formal in product(*(_formal(kind) for kind in kinds)):
            if not all(one in (types.UnicodeType, INT, NONE, BOOL) for one in formal):
                lower_builtin(name, *formal)(lower)
        return made

    return register


def _formal(kind: Any) -> tuple[Any, ...]:
    if kind == TEXT:
        return TextType, types.UnicodeType
    return (getattr(kind, "formal", kind),)
