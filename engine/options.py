"""Checks of arguments that name one of a few things, or that people know under another name elsewhere."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import Any

from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.origin import users_line
from kernelmill.engine.schema import is_unicode

INTEGER_MIN, INTEGER_MAX = -(1 << 63), (1 << 63) - 1


def one_of(name: str, value: object, words: Collection[str], *, or_none: bool = False) -> str:
    """Give back `value` if it is one of `words`; else KM0107 with the nearest of them.

    `or_none`: the caller takes None too, which the message says.
    """
    if isinstance(value, str) and value in words:
        return value
    near = difflib.get_close_matches(str(value), words, n=1)
    hint = (f"did you mean {near[0]!r}? " if near else "") + f"{name} is one of {', '.join(words)}"
    hint += " or None" if or_none else ""
    raise error(Code.BAD_SETTING, f"{name} cannot be {value!r}", where=users_line(), hint=hint)


def whole_number(name: str, value: object, low: int = INTEGER_MIN, high: int = INTEGER_MAX) -> int:
    """Give back `value` if it is an integer of 64 bits, of at least `low` and at most `high`; else KM0107."""
    if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
        return value
    bound = f", at least {low}" if low > INTEGER_MIN else " of 64 bits"
    hint = f"give an integer, at most {high}" if isinstance(value, int) and value > high else f"give an integer{bound}"
    raise error(Code.BAD_SETTING, f"{name} cannot be {value!r}", where=users_line(), hint=hint)


def flag(name: str, value: object) -> bool:
    """Give back `value` if it is True or False; else KM0107."""
    if isinstance(value, bool):
        return value
    raise error(Code.BAD_SETTING, f"{name} cannot be {value!r}", where=users_line(), hint="give True or False")


def column_name(value: object) -> str:
    """Give back `value` if a column can be called so: a string of whole characters, not empty; else KM0107."""
    if isinstance(value, str) and value and is_unicode(value):
        return value
    is_text = isinstance(value, str) and value
    hint = "give whole characters, not half a surrogate pair" if is_text else "give a string that is not empty"
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        names = ", ".join(f'"{one}"' for one in value)
        hint = f"names of a tuple are a tuple: ({names}{',' if len(value) == 1 else ''})"
    raise error(Code.BAD_SETTING, f"a column cannot be called {value!r}", where=users_line(), hint=hint)


def no_options(function: str, given: Mapping[str, Any], known: Collection[str], foreign: Mapping[str, str]) -> None:
    """Raise KM0107 for the first keyword argument that `function` does not have, with its name here if there is one."""
    for name in given:
        near = difflib.get_close_matches(name, known, n=1)
        hint = foreign.get(name) or (f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(known)}")
        what = f"{function} has no option {name!r}"
        raise error(Code.BAD_SETTING, what, where=users_line(), hint=hint)


def unknown_name(
    owner: str, name: str, known: Collection[str], foreign: Mapping[str, str], *, near_cutoff: float = 0.6
) -> KernelmillError:
    """KM0106 for a method that `owner` does not have: `foreign` knows what other libraries call it."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=near_cutoff)
    hint = foreign.get(name) or (f"did you mean {near[0]!r}?" if near else "")
    return error(Code.UNKNOWN_NAME, f"{owner} has no {name!r}", where=users_line(), hint=hint)
