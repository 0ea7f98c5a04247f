"""What format specifications and the fields of "%5d" and "{:>8}" say, for values of a type; None for what is not known.

As in the reference of `format`: [[fill]align][sign][#][0][width][grouping][.precision][type].
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_SPEC = re.compile(r"(?:(.)?([<>=^]))?([-+ ])?(#)?(0)?(\d+)?([,_])?(?:\.(\d+))?([a-zA-Z%])?", re.DOTALL)
FIELD = re.compile(r"%([-+ 0#]*)(\d+)?(?:\.(\d+))?([a-zA-Z%])")
_BASES = {"d": 10, "x": 16, "X": 16, "o": 8, "b": 2}
_WIDTH_MAX = 1 << 20
_PLACES_MAX = 18


class Spec(NamedTuple):
    """How a value is laid out: fill, align, sign of what is not negative and separator are code points, 0 for none.

    precision: -1 without one.
    """

    fill: int
    align: int
    plus: int
    has_prefix: bool
    width: int
    separator: int
    precision: int
    kind: str


def parsed(text: str, family: str) -> Spec | None:
    """A specification for a value of a family, "int", "text" or "float"; None if Python raises, or it is not known."""
    found = _SPEC.fullmatch(text)
    if found is None:
        return None
    fill, align, sign, mark, zero, width, separator, precision, kind = found.groups()
    if zero and fill is None:
        fill = "0"
        align = align or ("=" if family != "text" else None)
    default = "<" if family == "text" else ">"
    made = Spec(
        ord(fill or " "),
        ord(align or default),
        0 if sign in (None, "-") else ord(sign),
        bool(mark),
        int(width or 0),
        ord(separator or "\0"),
        -1 if precision is None else int(precision),
        kind or {"int": "d", "text": "s", "float": ""}[family],
    )
    is_grouped_inside = made.separator and made.align == ord("=") and made.width
    if made.width > _WIDTH_MAX or is_grouped_inside or 0xD800 <= made.fill < 0xE000:
        return None
    return made if _is_known(made, family, has_sign=sign is not None) else None


def _is_known(spec: Spec, family: str, *, has_sign: bool) -> bool:
    if family == "text":
        return spec.kind == "s" and spec.align != ord("=") and not (has_sign or spec.has_prefix or spec.separator)
    if family == "int":
        is_grouped_well = spec.separator != ord(",") or spec.kind == "d"
        return spec.kind in _BASES and spec.precision < 0 and is_grouped_well
    return spec.kind in ("f", "F", "%") and spec.precision <= _PLACES_MAX and not spec.has_prefix


def percent(flags: str, width: str, precision: str, kind: str, family: str) -> Spec | None:
    """The same of a field such as %-5d."""
    kind = "d" if kind in ("i", "u") else kind
    if kind == "s" and family == "int":
        return None  # it is made a text first
    known = {"int": tuple("dxXo"), "text": ("s",), "float": ("f", "F")}[family]
    if kind not in known or (family == "int" and precision) or ("#" in flags and kind not in ("x", "X", "o")):
        return None
    is_padded_by_zeros = "0" in flags and "-" not in flags and family != "text"
    align = "<" if "-" in flags else "=" if is_padded_by_zeros else ">"
    plus = 0 if family == "text" else ord("+") if "+" in flags else ord(" ") if " " in flags else 0
    places = int(precision) if precision else -1
    fill = ord("0" if is_padded_by_zeros else " ")
    made = Spec(fill, ord(align), plus, "#" in flags, int(width or 0), 0, places, kind)
    return made if made.width <= _WIDTH_MAX and made.precision <= (_WIDTH_MAX if kind == "s" else _PLACES_MAX) else None


def base_of(spec: Spec) -> tuple[int, int, int, int]:
    """Of an int's: base, what 10 is added to for its letter, digits in a group, the prefix's second character or 0."""
    after_nine = ord("A" if spec.kind == "X" else "a") - 10
    group = 0 if not spec.separator else 3 if spec.kind == "d" else 4
    return _BASES[spec.kind], after_nine, group, ord(spec.kind) if spec.has_prefix and spec.kind != "d" else 0


class Field(NamedTuple):
    """A place in a text that a value is written to. value: its number, from 0, or its name."""

    value: int | str
    spec: str
    is_percent: bool = False


def percent_fields(text: str) -> list[str | Field] | None:
    """What "%d of %s" consists of; None if it has fields that are not known here."""
    parts: list[str | Field] = []
    at = count = 0
    for found in FIELD.finditer(text):
        if "%" in text[at : found.start()]:
            return None
        parts.append(text[at : found.start()])
        at = found.end()
        if found[4] == "%":
            if found[0] != "%%":
                return None
            parts.append("%")
            continue
        parts.append(Field(count, found[0], is_percent=True))
        count += 1
    return None if "%" in text[at:] else [*parts, text[at:]]


def brace_fields(text: str) -> list[str | Field] | None:
    """What "{} of {1:>5}" consists of; None if it has fields that are not known here."""
    from string import Formatter

    parts: list[str | Field] = []
    numbers: Iterator[int] = iter(range(1 << 30))
    is_counted: set[bool] = set()
    try:
        for literal, name, spec, conversion in Formatter().parse(text):
            parts.append(literal)
            if name is None:
                continue
            if conversion not in (None, "s") or "{" in (spec or "") or not re.fullmatch(r"\w*", name):
                return None
            if conversion == "s" and spec:
                return None
            if name == "" or name.isdigit():
                is_counted.add(name == "")
            value: int | str = next(numbers) if name == "" else int(name) if name.isdigit() else name
            parts.append(Field(value, spec or ""))
    except ValueError:
        return None
    return parts if len(is_counted) < 2 else None
