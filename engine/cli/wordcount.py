"""`kernelmill wordcount`: count the words of any text into Parquet, on the public API."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

import kernelmill as km
from kernelmill.engine.cells import cell_text
from kernelmill.engine.cli.console import (
    JobWatch,
    common_options,
    print_json,
    print_text,
    size,
    table_text,
    the_console,
)
from kernelmill.engine.leftovers import is_single, rejects_path
from kernelmill.engine.sizes import format_bytes, format_count, format_duration


def count_words(inputs: Sequence[str], *, tokens: str, lowercase: bool, **reading: Any) -> km.LazyFrame:
    """Plan the word count of some text files: columns word and len. `reading` goes to scan_text."""
    words = km.col("line").str.tokenize(tokens, lowercase=lowercase)
    lines = km.scan_text(list(inputs), **reading)
    return lines.select(word=words).explode("word").group_by("word").agg(km.len())


def written_text(result: km.JobResult, output: str) -> str:
    """Say what a job wrote, and where rejected records are."""
    text = f"{result} · {format_bytes(result.bytes)} in {format_duration(result.seconds)}"
    if not sum(result.rejects.values()):
        return text
    rejects = rejects_path(output) if is_single(output) else f"{output}/_rejects"
    return f"{text}: kernelmill show {rejects}"


@click.command(short_help="Count the words of text files into Parquet.")
@click.argument("inputs", nargs=-1, required=True, metavar="INPUT...")
@click.option("-o", "--output", required=True, help="A folder for part files, or one file if it ends in .parquet.")
@click.option(
    "--tokens",
    type=click.Choice(["whitespace", "word", "identifier"]),
    default="whitespace",
    show_default=True,
    help="Words: what white space parts; runs of letters, digits, _ and bytes >= 0x80; such runs not led by a digit.",
)
@click.option("--lower", is_flag=True, help="Count words in lower case.")
@click.option("--top", type=click.IntRange(1), metavar="N", help="Print the N most frequent words.")
@click.option(
    "--invalid",
    type=click.Choice(["error", "replace", "skip", "binary"]),
    default="error",
    show_default=True,
    help="What to do about bytes that are not valid in the encoding.",
)
@click.option("--encoding", default="utf-8", show_default=True, help="Encoding of the text, such as cp1252.")
@click.option(
    "--max-line", type=size, metavar="SIZE", help="Longest line that --invalid skip can set aside; default 64 MiB."
)
@click.option("--threads", type=click.IntRange(1, 1024), metavar="N", help="Threads; default: the usable cores.")
@click.option(
    "--memory", type=size, metavar="SIZE", help="Memory to stay within, such as 4GiB; default: half of what there is."
)
@click.option(
    "--compression",
    type=click.Choice(["zstd", "snappy", "lz4", "gzip", "none"]),
    default="zstd",
    show_default=True,
    help="Codec of the Parquet files.",
)
@click.option(
    "--mode",
    type=click.Choice(["error", "overwrite"]),
    default="error",
    show_default=True,
    help="What to do if the output is there.",
)
@click.option(
    "--split-size",
    type=size,
    metavar="SIZE",
    help="Bytes of input that one task reads; default 64 MiB. Changes output bytes.",
)
@click.option("--partitions", type=click.IntRange(1), metavar="N", help="Part files; default from the input's size.")
@click.option(
    "--max-rejects", type=click.IntRange(0), metavar="N", help="With --invalid skip: more of them fail the job."
)
@click.option("--json", "as_json", is_flag=True, help="Print what --top prints as JSON.")
@common_options
def wordcount(
    inputs: tuple[str, ...],
    output: str,
    tokens: str,
    lower: bool,
    top: int | None,
    invalid: str,
    encoding: str,
    max_line: int | None,
    compression: str,
    mode: str,
    as_json: bool,
    **given: Any,
) -> None:
    """Count the words of INPUT (files, globs, folders) into Parquet: columns word and len.

    \b
    kernelmill wordcount 'books/*.txt' -o counts/ --tokens word --lower --top 20
    """
    if as_json and not top:
        raise click.UsageError("--json is about the words that --top prints: give --top too")
    if given["max_rejects"] is not None and invalid != "skip":
        raise click.UsageError("--max-rejects counts the lines that --invalid skip sets aside: give that too")
    console = the_console()
    reading = {"encoding": encoding, "invalid": invalid} | ({} if max_line is None else {"max_line": max_line})
    frame = count_words(inputs, tokens=tokens, lowercase=lower, **reading)
    settings = {name: value for name, value in given.items() if value is not None}
    console.writes(output)
    with JobWatch(console) as watch:
        result = frame.sink_parquet(output, mode=mode, compression=compression, progress=watch, **settings)
    console.note(written_text(result, output))
    console.detail(watch.detail_text())
    if top:
        _print_top(str(result.path), top, as_json)


def _print_top(path: str, count: int, as_json: bool) -> None:
    rows = km.scan_parquet(path).top_k(count, by="len").collect(progress=False).rows()
    if as_json:
        print_json([{"word": word, "len": number} for word, number in rows])
    else:
        cells = [(cell_text(_shown(word)), format_count(number)) for word, number in rows]
        print_text(table_text(["word", "len"], cells, right=[1]))


def _shown(word: str | bytes) -> str:
    """A word as text; --invalid binary gives bytes."""
    return word if isinstance(word, str) else word.decode("utf-8", "backslashreplace")
