"""Cut an export of the King James text into data/kjv: one file a book, one verse a line, references dropped.

    bible -f 'Gen1:1-Rev22:21' | python data/make_kjv.py

The export has a line for each verse, "Ge1:1 In the beginning ..."; SOURCES.md says where the command comes from.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

BOOKS = """
    Genesis Exodus Leviticus Numbers Deuteronomy Joshua Judges Ruth 1-Samuel 2-Samuel 1-Kings 2-Kings 1-Chronicles
    2-Chronicles Ezra Nehemiah Esther Job Psalms Proverbs Ecclesiastes Song-of-Solomon Isaiah Jeremiah Lamentations
    Ezekiel Daniel Hosea Joel Amos Obadiah Jonah Micah Nahum Habakkuk Zephaniah Haggai Zechariah Malachi
    Matthew Mark Luke John Acts Romans 1-Corinthians 2-Corinthians Galatians Ephesians Philippians Colossians
    1-Thessalonians 2-Thessalonians 1-Timothy 2-Timothy Titus Philemon Hebrews James 1-Peter 2-Peter 1-John 2-John
    3-John Jude Revelation
""".split()
VERSE = re.compile(r"(\w+?)\d+:\d+ (.*)")


def books_of(lines: list[str]) -> dict[str, list[str]]:
    """Collect the verses of each book, books and verses in the order of the lines."""
    verses: dict[str, list[str]] = {}
    for number, line in enumerate(lines, start=1):
        match = VERSE.fullmatch(line)
        if match is None:
            raise SystemExit(f"line {number} is not a verse: {line!r}")
        verses.setdefault(match[1], []).append(match[2])
    return verses


def main() -> None:
    """Write the 66 files from the export on standard input."""
    verses = books_of(sys.stdin.read().splitlines())
    folder = Path(__file__).parent / "kjv"
    folder.mkdir(exist_ok=True)
    for number, (name, book) in enumerate(zip(BOOKS, verses.values(), strict=True), start=1):
        (folder / f"{number:02}-{name.lower()}.txt").write_text("\n".join(book) + "\n", encoding="ascii")


if __name__ == "__main__":
    main()
