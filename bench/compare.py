"""Compare whole processes in turn: `python -m bench.compare wordcount-kernel | wordcount-prose | groupby | ...`.

Each comparison first runs every engine once and checks that their results are equal; it ends with exit code 1 if they
are not. That run also warms the page cache and the kernel cache. Then the engines run in turn, round by round, each
round beginning with another one, and ratios are taken within a round. Inputs come from `python -m bench.corpus`.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from bench.cluster import cluster
from bench.engines import (
    GROUP_ENGINES,
    KERNELMILL,
    ROOT,
    WORD_ENGINES,
    Command,
    groups_command,
    words_command,
)
from bench.h2o import h2o_groupby, h2o_join
from bench.harness import (
    check_words,
    codec_option,
    differ,
    engines_option,
    facts_of,
    finish,
    json_option,
    measure_in_turn,
    needed,
    remove,
    rounds_option,
    run,
    runs_option,
    scratch,
    threads_option,
    warm_seconds,
)
from bench.large import large
from bench.mapreduce import mapreduce
from bench.measure import Run, warm_page_cache
from bench.report import round_order, seconds_table, summarise
from bench.terasort import terasort
from bench.tpch.command import tpch

KEYS = {"int": ["id6"], "string": ["id3"], "both": ["id3", "id6"]}
# What was fastest for each text: see bench/peers/README.md.
KERNEL_ENGINES = ("kernelmill", "duckdb-words", "duckdb-lines", "polars-words")
PROSE_ENGINES = ("kernelmill", "duckdb-pieces", "polars-words", "duckdb-lines", "polars-lines")


def compare_words(
    text: Path, engines: Sequence[str], rounds: int, threads: int, codec: str, json_path: Path | None
) -> None:
    """Compare engines at counting the words of one text."""
    warm_page_cache(text)
    measured = measure_in_turn(
        engines,
        rounds,
        lambda engine, target: words_command(engine, text, target, codec=codec, threads=threads),
        lambda engine, output: check_words(text, output, engine, codec),
    )
    summary = summarise(measured)
    input_facts = json.loads(text.with_suffix(".json").read_text())
    head = f"{text.name}: {input_facts['bytes']:,} bytes, {input_facts['words']:,} words, "
    head += f"{input_facts['distinct']:,} distinct; {codec}, {threads} threads, {rounds} rounds; results equal"
    finish(
        f"word count {text.stem}",
        {"input": input_facts, **summary, "lines": [head, *seconds_table(summary)]},
        json_path,
    )


@click.group(help=__doc__)
def main() -> None:
    """Compare engines; see the module's text."""
    os.chdir(ROOT)  # measured processes are run as `-m bench...`


@main.command()
@rounds_option
@threads_option
@codec_option
@engines_option(WORD_ENGINES, KERNEL_ENGINES)
@json_option
def wordcount_kernel(rounds: int, threads: int, codec: str, engines: Sequence[str], json_path: Path | None) -> None:
    """Count the words of 1.2 GB of Linux source."""
    compare_words(needed("kernel.txt", "kernel"), engines, rounds, threads, codec, json_path)


@main.command()
@rounds_option
@threads_option
@codec_option
@engines_option(WORD_ENGINES, PROSE_ENGINES)
@json_option
def wordcount_prose(rounds: int, threads: int, codec: str, engines: Sequence[str], json_path: Path | None) -> None:
    """Count the words of 1.0 GB of English prose."""
    compare_words(needed("prose.txt", "prose"), engines, rounds, threads, codec, json_path)


@main.command()
@click.argument("name")
@rounds_option
@threads_option
@codec_option
@engines_option(WORD_ENGINES, KERNEL_ENGINES)
@json_option
def wordcount(name: str, rounds: int, threads: int, codec: str, engines: Sequence[str], json_path: Path | None) -> None:
    """Count the words of any text that bench.corpus made: NAME is zipf, tree..."""
    compare_words(needed(f"{name}.txt", name), engines, rounds, threads, codec, json_path)


@main.command()
@click.option("--keys", "kinds", multiple=True, type=click.Choice(list(KEYS)), default=["int", "string"])
@runs_option
@rounds_option
@threads_option
@codec_option
@engines_option(GROUP_ENGINES, GROUP_ENGINES)
@json_option
def groupby(
    kinds: Sequence[str],
    runs: int,
    rounds: int,
    threads: int,
    codec: str,
    engines: Sequence[str],
    json_path: Path | None,
) -> None:
    """Sum and mean by an integer key and by a string key: warm runs in one process, whole process beside."""
    table = needed("groupby.parquet", "tables")
    warm_page_cache(table)
    results: dict[str, Any] = {}
    texts: list[str] = []
    for kind in kinds:
        keys = KEYS[kind]
        warm, whole = _groups(table, keys, runs, rounds, threads, codec, engines)
        results[kind] = {"warm": warm, "whole": whole}
        texts += [f"key {kind}, runs 2-{runs} in one process; results equal", *seconds_table(warm)]
        texts += [f"key {kind}, whole process, one run", *seconds_table(whole)]
    finish("group-by, sum and mean", {**results, "lines": texts}, json_path)


def _groups(
    table: Path, keys: list[str], runs: int, rounds: int, threads: int, codec: str, engines: Sequence[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    first: dict[str, Path] = {}

    def check(engine: str, output: Path) -> None:
        reference = first.setdefault("output", output)
        found = facts_of(["groups", output, reference, *keys])
        if any(found["differences"].values()) or found["codecs"] != [codec]:
            differ(engine, f"equal groups, codec {codec}", found)

    def measured(count: int) -> list[dict[str, Run]]:
        return measure_in_turn(
            engines,
            rounds,
            lambda engine, target: groups_command(
                engine, table, target, keys=keys, codec=codec, threads=threads, runs=count
            ),
            check,
        )

    warm = summarise(measured(runs), warm_seconds)
    first.clear()  # the outputs of the other measurement are gone
    return warm, summarise(measured(1))


@main.command()
@click.option("--corpus", default="kernel", show_default=True)
@rounds_option
@codec_option
@json_option
def scaling(corpus: str, rounds: int, codec: str, json_path: Path | None) -> None:
    """Threads 1 against 2 of kernelmill's word count: each stage (0 maps, 1 reduces), and the whole process."""
    text = needed(f"{corpus}.txt", corpus)
    warm_page_cache(text)

    def command(name: str, target: Path) -> Command:
        threads = name.split()[0]
        return [sys.executable, "-m", "bench.peers.kernelmill_phases", text, target, codec, threads]

    names = ["1 thread", "2 threads"]
    measured = measure_in_turn(names, rounds, command, lambda name, output: check_words(text, output, name, codec))
    summary = summarise(measured)
    phases: dict[str, Any] = {}
    texts = [f"{text.name}, {codec}, {rounds} rounds; results equal", *seconds_table(summary)]
    for stage in json.loads(measured[0][names[0]].output):
        pairs = [tuple(json.loads(times[name].output)[stage] for name in names) for times in measured]
        one, two = (statistics.median(column) for column in zip(*pairs, strict=True))
        speedup = statistics.median(single / double for single, double in pairs)
        phases[stage] = {"seconds": {"1": one, "2": two}, "speedup": speedup}
        texts.append(f"stage {stage}: {one:.3f} s on 1 thread, {two:.3f} s on 2: {speedup:.2f} times as fast")
    finish("threads 1 against 2", {**summary, "stages": phases, "lines": texts}, json_path)


def _repeat(
    what: str, command: Callable[[], tuple[Command, dict[str, str]]], rounds: int, warm: bool, json_path: Path | None
) -> None:
    if warm:
        run(*command())
    measured = [{"kernelmill": run(*command())} for _ in range(rounds)]
    summary = summarise(measured)
    finish(what, {**summary, "lines": seconds_table(summary)}, json_path)


@main.command()
@rounds_option
@json_option
def import_time(rounds: int, json_path: Path | None) -> None:
    """`import kernelmill` in a fresh interpreter, beside an interpreter that imports nothing."""
    programs = {"import kernelmill": "import kernelmill", "nothing": "pass"}
    for program in programs.values():
        run([sys.executable, "-c", program])
    measured = [
        {name: run([sys.executable, "-c", programs[name]]) for name in round_order(list(programs), number)}
        for number in range(rounds)
    ]
    summary = summarise(measured)
    extra = statistics.median(times["import kernelmill"].seconds - times["nothing"].seconds for times in measured)
    texts = [*seconds_table(summary), f"the import itself, median of differences: {extra:.3f} s"]
    finish("import kernelmill", {**summary, "import_seconds": extra, "lines": texts}, json_path)


@main.command()
@rounds_option
@threads_option
@json_option
def kjv(rounds: int, threads: int, json_path: Path | None) -> None:
    """`kernelmill wordcount` on the King James text, whole process, warm."""
    with tempfile.TemporaryDirectory(prefix="kernelmill-bench-", dir=scratch()) as folder:
        target = Path(folder) / "kjv"

        def command() -> tuple[Command, dict[str, str]]:
            remove(target)
            return words_command("kernelmill", ROOT / "data" / "kjv", target, codec="snappy", threads=threads), {}

        _repeat("word count of the King James text", command, rounds, True, json_path)


@main.command()
@click.option("--rounds", default=1, show_default=True, type=click.IntRange(1))
@json_option
def compile_all(rounds: int, json_path: Path | None) -> None:
    """`kernelmill warm` into an empty cache: all kernels compiled from nothing."""
    with tempfile.TemporaryDirectory(prefix="kernelmill-bench-") as folder:
        cache = Path(folder) / "cache"

        def command() -> tuple[Command, dict[str, str]]:
            remove(cache)
            return [KERNELMILL, "warm"], {"KERNELMILL_CACHE_DIR": str(cache)}

        _repeat("all kernels compiled", command, rounds, False, json_path)


main.add_command(h2o_join)
main.add_command(h2o_groupby)
main.add_command(terasort)
main.add_command(tpch)
main.add_command(mapreduce)
main.add_command(cluster)
main.add_command(large)

if __name__ == "__main__":
    main()
