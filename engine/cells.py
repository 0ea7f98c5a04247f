"""One value as the text of a table's cell. Imports nothing heavy: the command line's help comes through here."""

from __future__ import annotations

from typing import Any

CELL_CHARS_MAX = 60


def cell_text(value: Any) -> str:
    """One value, on one line and not too long: null, text as it is, numbers with thousands marked."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.6g}" if abs(value) < 1e15 else f"{value:.6g}"
    text = value if isinstance(value, str) else str(value)
    text = "".join(char if char.isprintable() else _escaped(char) for char in text[: CELL_CHARS_MAX + 1])
    return text if len(text) <= CELL_CHARS_MAX else text[: CELL_CHARS_MAX - 1] + "…"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
