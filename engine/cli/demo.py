"""`kernelmill demo`: the word count of the King James Bible, which ships with the package."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import click

import kernelmill as km
from kernelmill.engine.cli.console import JobWatch, common_options, print_text, size, the_console
from kernelmill.engine.cli.wordcount import count_words
from kernelmill.engine.errors import Code, error
from kernelmill.engine.leftovers import is_single
from kernelmill.engine.settings import resolve
from kernelmill.engine.sizes import format_bytes, format_count, format_duration, format_things

_ROWS_SHOWN = 3
_COLUMNS_SHOWN = 2
_WIDTH = 88


@click.command(short_help="Count the words of the King James Bible, which ships with kernelmill.")
@click.option("-o", "--output", default="kernelmill-demo", show_default=True, help="Where the Parquet goes.")
@click.option("--threads", type=click.IntRange(1, 1024), metavar="N", help="Threads; default: the usable cores.")
@click.option("--memory", type=size, metavar="SIZE", help="Memory to stay within; default: half of what there is.")
@common_options
def demo(output: str, threads: int | None, memory: int | None) -> None:
    """Count the words of the King James Bible into Parquet and show the most frequent ones."""
    console = the_console()
    given: dict[str, Any] = {n: v for n, v in (("threads", threads), ("memory", memory)) if v is not None}
    settings = resolve(**given)
    books = the_books()
    sizes = [book.stat().st_size for book in books]
    lines = sum(book.read_bytes().count(b"\n") for book in books)
    place = _nearest_name(books[0].parent)
    title = f"word count of {place}: {len(books)} files, {format_bytes(sum(sizes))}, {format_count(lines)} lines"
    means = f"{format_things(settings.threads, 'thread')}, memory {format_bytes(settings.memory_bytes, binary=True)}"
    console.note(_spread(title, means))
    frame = count_words([str(book) for book in books], tokens="word", lowercase=True)
    console.writes(output)
    with JobWatch(console) as watch:
        result = frame.sink_parquet(output, mode="overwrite", progress=watch, **given)
    counts = km.scan_parquet(str(result.path)).collect(progress=False).rows()
    words = sum(count for _, count in counts)
    seconds = max(0.0, result.seconds - watch.compile_s)
    phases = f"  map  {format_count(words)} words    reduce  {format_count(len(counts))} words"
    console.note(_spread(f"{phases}    {format_duration(seconds)}", watch.kernels_text()))
    print_text(top_text(counts))
    console.note(f"wrote {_first_file(str(result.path))}: {format_count(result.rows)} rows{_manifest_text(output)}")
    console.note(f"next: {_next_text(output)}")


def the_books() -> list[Path]:
    """The book's files in the package, in canonical order. KM0201 if the installation lacks them."""
    folder = Path(str(resources.files("kernelmill"))) / "data" / "kjv"
    books = sorted(folder.glob("*.txt"))
    if not books:
        hint = "reinstall kernelmill: the text is part of its wheel"
        raise error(Code.INPUT_NOT_FOUND, "the demo's text is not there", where=str(folder), hint=hint)
    return books


def top_text(counts: Sequence[tuple[str, int]]) -> str:
    """The most frequent words in two columns side by side, and how many more there are."""
    shown = sorted(counts, key=lambda row: (-row[1], row[0]))[: _ROWS_SHOWN * _COLUMNS_SHOWN]
    columns = [shown[start : start + _ROWS_SHOWN] for start in range(0, len(shown), _ROWS_SHOWN)]
    lines = [""] * (1 + max(map(len, columns), default=0))
    for column in columns:
        word_width = max(len("word"), *(len(word) for word, _ in column))
        count_width = max(len("len"), *(len(format_count(count)) for _, count in column))
        cells = [("word", "len"), *[(word, format_count(count)) for word, count in column]]
        for i, (word, count_text) in enumerate(cells):
            gap = "        " if lines[i] else ""
            lines[i] += f"{gap}{word.ljust(word_width)}  {count_text.rjust(count_width)}"
    if len(counts) > len(shown):
        lines[-1] += f"        ... {format_count(len(counts) - len(shown))} more"
    return "\n".join(lines)


def _spread(left: str, right: str) -> str:
    return f"{left}{' ' * max(4, _WIDTH - len(left) - len(right))}{right}"


def _nearest_name(path: Path) -> str:
    """The path as the user knows it: data/kjv inside a checkout, else in full."""
    checkout = Path("data/kjv")
    return str(checkout) if checkout.is_dir() and checkout.resolve() == path.resolve() else str(path)


def _first_file(output: str) -> str:
    return output if is_single(output) else os.path.join(output, "part-00000.parquet")


def _manifest_text(output: str) -> str:
    return "" if is_single(output) else f", manifest {os.path.join(output, '_manifest.json')}"


def _next_text(output: str) -> str:
    in_checkout = Path("Makefile").is_file() and Path(".venv/bin/kernelmill").is_file()
    return f"make test · .venv/bin/kernelmill show {output}" if in_checkout else f"kernelmill show {output}"
