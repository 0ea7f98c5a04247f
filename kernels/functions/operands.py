"""What an operator, a builtin or a method was given that numba has no code for, in words; and whether Python takes it.

Python's answer is found by doing it with a value of each type: a TypeError depends on types alone. The message then
says so, and that the line must be mended, not the types of the columns.
"""

from __future__ import annotations

import builtins
import math
import operator
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

RAISES_TOO = "raises, in Python too"


class Operand(NamedTuple):
    """What a type of numba's is called to people, and a value of it in a list of one; [] where Python has no such."""

    title: str
    sample: list[Any]


_SCALARS = (
    (r"Text|unicode_type|Literal\[str\]\(.*\)", Operand("text", [""])),
    (r"u?int\d+|Literal\[int\]\(.*\)", Operand("an int", [1])),
    (r"float\d+", Operand("a float", [1.0])),
    (r"bool(ean)?|Literal\[bool\]\(.*\)", Operand("a bool", [True])),
    (r"none", Operand("None", [None])),
    (r"complex\d+", Operand("a complex number", [1j])),
    (r"Text\.encode\(\)|(readonly )?bytes\(.*\)", Operand("bytes", [b""])),
    (r"Pieces\(.*\)", Operand("what split gives", [[""]])),
    (r"SideDict\(.*\)", Operand("a dict that is looked up", [])),
    (r"SideSet\(.*\)", Operand("a set that is looked up", [])),
    (r"SideList\(.*\)", Operand("a list that is looked up", [])),
    (r"array\(.*\)", Operand("an array", [])),
    (r"slice<.*>", Operand("a slice", [slice(None)])),
    (r"range_\w+", Operand("a range", [range(1)])),
)
_PLURALS = {"text": "texts", "an int": "ints", "a float": "floats", "a bool": "bools", "a tuple": "tuples"}

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(builtins, name) for name in ("abs", "chr", "len", "ord", "round")},
    **{name: one for name, one in vars(math).items() if callable(one) and not name.startswith(("_", "pow"))},
}
"""Functions that may be called with any value: they are quick and change nothing. `pow` is a builtin's name too."""


def operand(text: str) -> Operand | None:
    """What numba's type of this name is; None for one that has no words."""
    inner = re.fullmatch(r"(\w+)\((.*)\)(<iv=.*>)?", text, re.DOTALL)
    if inner and inner[1] == "OptionalType":
        known = operand(inner[2].removesuffix(", always"))
        return known and Operand(f"{known.title} that may be None", known.sample)
    if inner and inner[1] in ("list", "reflected_list", "set"):
        item = operand(inner[2])
        kind = "a set" if inner[1] == "set" else "a list"
        if item is None:
            return Operand(kind, [])
        bare = item.title.removesuffix(" that may be None")
        of = f" of {_PLURALS[bare]}{item.title.removeprefix(bare)}" if bare in _PLURALS else ""
        return Operand(kind + of, [[one] for one in item.sample] if kind == "a list" else [])
    if inner and inner[1] in ("Tuple", "UniTuple"):
        return Operand("a tuple", _tuple_sample(inner[1], inner[2]))
    return next((one for pattern, one in _SCALARS if re.fullmatch(pattern, text, re.DOTALL)), None)


def _tuple_sample(kind: str, text: str) -> list[Any]:
    repeated = re.fullmatch(r"(.*) x (\d+)", text, re.DOTALL)
    if kind == "UniTuple" and repeated:
        items = [operand(repeated[1])] * int(repeated[2])
    else:
        items = [operand(one) for one in arguments_of(text)]
    samples = [one.sample[0] for one in items if one is not None and one.sample]
    return [tuple(samples)] if len(samples) == len(items) else []


def arguments_of(text: str) -> list[str]:
    """The parts of a list of types, at commas that lie in no brackets."""
    return [one.strip() for one in _split(text)] if text.strip() else []


def _split(text: str) -> Iterator[str]:
    depth, begin = 0, 0
    for at, character in enumerate(text):
        depth += (character in "([{<") - (character in ")]}>")
        if character == "," and depth == 0:
            yield text[begin:at]
            begin = at + 1
    yield text[begin:]


def operation_words(name: str, symbol: str, text: str, *, is_builtin: bool) -> str:
    """What is said of an operator or a function `name` whose call numba writes in `text`, `>>> add(Text, int64)`.

    `symbol`: how users write it, `the operator +` or `len()`; `is_builtin`: it is Python's, and no function of the
    user's of that name. It ends with RAISES_TOO where Python does not take it.
    """
    called = re.search(rf">>> (?:user_|unicode_)?{name}\((.*)\)$", text, re.MULTILINE)
    given = [operand(one) for one in arguments_of(called[1])] if called else []
    known = [one for one in given if one is not None]
    if not given or len(known) < len(given):
        return f"{symbol} is not supported for such values"
    shown = known[::-1] if name == "contains" else known
    titles = _listed([one.title for one in shown])
    function = _FUNCTIONS.get(name) if symbol.endswith("()") else getattr(operator, name.removeprefix("static_"), None)
    is_formatting = name in ("mod", "imod") and known[0].title.startswith("text")  # "%d" % 1 is right, "" % 1 is not
    if is_builtin and not is_formatting and _raises(function, known):
        return f"{symbol} of {titles} {RAISES_TOO}"
    return f"{symbol} is not supported for such values: {titles}"


def method_words(name: str, owner: str, parameters: str) -> str:
    """What is said of the method `name` of a type `owner`, called with types `parameters`; as `operation_words`."""
    of = operand(owner)
    given = [operand(one) for one in arguments_of(parameters)]
    known = [one for one in given if one is not None]
    if of is None or len(known) < len(given):
        return f"{name}() is not supported for such values"
    function = getattr(of.sample[0], name, None) if of.sample and not isinstance(of.sample[0], list) else None
    with_ = f"with {_listed([one.title for one in known])}" if known else "without arguments"
    if _raises(function, known):
        return f"{name}() of {of.title} {with_} {RAISES_TOO}"
    return f"{name}() is not supported for such values: {of.title}, {with_}"


def loop_words(text: str) -> str:
    """What is said of a loop over a value of this type."""
    of = operand(text)
    if of is None:
        return "a loop over such a value is not supported"
    if _raises(iter, [of]):
        return f"a loop over {of.title} {RAISES_TOO}"
    return f"a loop over such a value is not supported: {of.title}"


def _listed(titles: list[str]) -> str:
    return " and ".join((", ".join(titles[:-1]), titles[-1])) if len(titles) > 1 else titles[0]


def _raises(function: Any, given: list[Operand]) -> bool:
    """Whether Python says that this cannot be done with values of such types."""
    if function is None or any(not one.sample for one in given):
        return False
    try:
        function(*(one.sample[0] for one in given))
    except TypeError:
        return True
    except Exception:  # of these values, not of their types
        return False
    return False
