"""`python -m bench.compare h2o-join`: the five join questions of h2o's db-benchmark against DuckDB and Polars."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from bench.engines import GROUP_ENGINES, joins_command
from bench.harness import (
    codec_option,
    differ,
    engines_option,
    facts_of,
    finish,
    json_option,
    measure_in_turn,
    needed,
    rounds_option,
    threads_option,
)
from bench.measure import Run, warm_page_cache
from bench.peers.joinquestions import COLUMNS, QUESTIONS
from bench.report import seconds_table, summarise


@click.command(name="h2o-join")
@click.option("--question", "names", multiple=True, type=click.Choice(list(QUESTIONS)), default=list(QUESTIONS))
@click.option("--runs", default=4, show_default=True, type=click.IntRange(2), help="Runs in one process; 1 is cold.")
@rounds_option
@threads_option
@codec_option
@engines_option(GROUP_ENGINES, GROUP_ENGINES)
@json_option
def h2o_join(
    names: Sequence[str],
    runs: int,
    rounds: int,
    threads: int,
    codec: str,
    engines: Sequence[str],
    json_path: Path | None,
) -> None:
    """Join x with small, medium and big tables, Parquet in and out: warm runs in one process."""
    folder = needed("join", "join-tables")
    for table in COLUMNS:
        warm_page_cache(folder / f"{table}.parquet")
    results: dict[str, Any] = {}
    texts: list[str] = []
    ratios: list[float] = []
    for name in names:
        summary = _measured(folder, name, runs, rounds, threads, codec, engines)
        results[name] = summary
        texts += [f"{name}, runs 2-{runs} in one process; results equal", *seconds_table(summary)]
        if "ratio_to_fastest_peer" in summary:
            ratios.append(summary["ratio_to_fastest_peer"])
    if ratios:
        texts.append(f"geometric mean: {statistics.geometric_mean(ratios):.2f}")
    finish("h2o joins", {**results, "ratios": ratios, "lines": texts}, json_path)


def _measured(
    folder: Path, name: str, runs: int, rounds: int, threads: int, codec: str, engines: Sequence[str]
) -> dict[str, Any]:
    first: dict[str, Any] = {}

    def check(engine: str, output: Path) -> None:
        found = facts_of(["rows", output])
        expected = first.setdefault("facts", found)
        if found != expected or found["codecs"] != [codec]:
            differ(engine, {**expected, "codecs": [codec]}, found)

    def seconds(one: Run) -> float:
        each: list[float] = json.loads(one.output)
        return statistics.median(each[1:])

    measured = measure_in_turn(
        engines,
        rounds,
        lambda engine, target: joins_command(engine, folder, target, name, codec=codec, threads=threads, runs=runs),
        check,
    )
    return summarise(measured, seconds)
