"""States of a combine that runs as plain Python, as bytes: what travels between tasks where a state is no number.

    state = msgpack of: None, bool, float, text, bytes, an integer of 64 bits, or
            [kind, items...]: t tuple, l list, s set, f frozenset, d dict (key, value, key, ...), i an integer as text

Plain values and nothing else: no bytes make code run, and a set's items are in the order of their bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

_KINDS: dict[str, Any] = {"t": tuple, "l": list, "s": set, "f": frozenset}
_LETTERS: dict[Any, str] = {kind: letter for letter, kind in _KINDS.items()}


def encoded(state: Any) -> bytes:
    """The bytes of a state. Raises TypeError for what is neither a plain value nor made of such."""
    return msgspec.msgpack.encode(_packed(state))


def decoded(data: bytes) -> Any:
    """The state behind `encoded`."""
    return _unpacked(msgspec.msgpack.decode(data))


def _packed(value: Any) -> Any:
    kind = type(value)
    if value is None or kind in (bool, float, str, bytes):
        return value
    if kind is int:
        return value if -(1 << 63) <= value < 1 << 64 else ["i", str(value)]
    if kind in (set, frozenset):
        return [_LETTERS[kind], *sorted(map(_packed, value), key=msgspec.msgpack.encode)]
    if kind in _LETTERS:
        return [_LETTERS[kind], *map(_packed, value)]
    if kind is dict:
        return ["d", *(_packed(one) for pair in value.items() for one in pair)]
    raise TypeError(f"a {kind.__name__} is no state: keep numbers, texts, tuples, lists, sets and dicts of them")


def _unpacked(packed: Any) -> Any:
    if not isinstance(packed, list):
        return packed
    letter, *items = packed
    if letter == "i":
        return int(items[0])
    if letter == "d":
        values: Iterable[Any] = map(_unpacked, items)
        return dict(zip(*[iter(values)] * 2, strict=True))
    return _KINDS[letter](map(_unpacked, items))
