"""Text of others, made safe to print."""

from __future__ import annotations

# Characters by which text of others could move the cursor, set the title or the clipboard of a terminal, or read as
# something else: controls but the tab, ends of lines of Unicode, and what reverses the direction of writing.
_ESCAPES = {
    number: chr(number).encode("unicode_escape").decode()
    for numbers in (range(9), range(10, 32), range(127, 160), range(0x2028, 0x202F), range(0x2066, 0x206A))
    for number in numbers
}


def printable(text: str) -> str:
    """Make what others chose safe to print: control characters and those that turn the order of text become \\x1b."""
    return text.translate(_ESCAPES)
