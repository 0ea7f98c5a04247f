"""The group-by questions of h2o's db-benchmark: `python -m bench.compare h2o-groupby`."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from bench.engines import GROUP_ENGINES, h2o_command
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
from bench.report import OURS, summarise

QUESTIONS = {
    "q1": "sum v1 by id1",
    "q2": "sum v1 by id1, id2",
    "q3": "sum v1, mean v3 by id3",
    "q4": "mean v1, v2, v3 by id4",
    "q5": "sum v1, v2, v3 by id6",
    "q6": "median v3, sd v3 by id4, id5",
    "q7": "max v1 - min v2 by id3",
    "q8": "largest two v3 by id6",
    "q9": "squared correlation of v1 and v2 by id2, id4",
    "q10": "sum v3, count by id1 to id6",
}


@click.command(name="h2o-groupby")
@click.option("--question", "questions", multiple=True, type=click.Choice(list(QUESTIONS)), default=list(QUESTIONS))
@click.option(
    "--runs", default=4, show_default=True, type=click.IntRange(2), help="Runs in one process; the first is cold."
)
@rounds_option
@threads_option
@codec_option
@engines_option(GROUP_ENGINES, GROUP_ENGINES)
@json_option
def h2o_groupby(
    questions: Sequence[str],
    runs: int,
    rounds: int,
    threads: int,
    codec: str,
    engines: Sequence[str],
    json_path: Path | None,
) -> None:
    """Answer the ten group-by questions at 10^7 rows: warm runs in one process, whole processes beside."""
    table = needed("h2o.parquet", "h2o")
    warm_page_cache(table)
    results: dict[str, Any] = {}
    for question in questions:
        warm, whole = (measured(table, question, count, rounds, threads, codec, engines) for count in (runs, 1))
        results[question] = {"warm": summarise(warm, warm_seconds), "whole": summarise(whole)}
    finish("h2o group-by", {**results, "lines": h2o_table(results, engines, runs)}, json_path)


def measured(
    table: Path, question: str, runs: int, rounds: int, threads: int, codec: str, engines: Sequence[str]
) -> list[dict[str, Run]]:
    """Rounds of all engines at one question, their answers compared."""
    first: dict[str, Path] = {}

    def check(engine: str, output: Path) -> None:
        reference = first.setdefault("output", output)
        found = facts_of(["differences", output, reference])
        if any(found["differences"].values()) or found["codecs"] != [codec]:
            differ(engine, f"equal rows for {question}, codec {codec}", found)

    return measure_in_turn(
        engines,
        rounds,
        lambda engine, target: h2o_command(engine, table, target, question, codec, threads, runs),
        check,
    )


def warm_seconds(one: Run) -> float:
    """The median of all runs of a process but the first."""
    seconds: list[float] = json.loads(one.output)
    return statistics.median(seconds[1:])


def h2o_table(results: dict[str, Any], engines: Sequence[str], runs: int) -> list[str]:
    """Lines of a table, one a question: seconds of each engine, and the fastest peer's over ours; then their mean."""
    lines = [f"median seconds of runs 2-{runs} in one process (whole process beside), peak GB; results equal"]
    lines.append(f"{'':48}" + "".join(f"{engine:>22}" for engine in engines) + f"{'ratio':>8}")
    ratios = []
    for question, found in results.items():
        cells = ""
        for engine in engines:
            warm, whole = (found[kind]["medians"][engine] for kind in ("warm", "whole"))
            cells += f"{warm['seconds']:>8.3f} ({whole['seconds']:.2f}) {warm['peak_bytes'] / 1e9:>5.2f}"
        ratio = found["warm"].get("ratio_to_fastest_peer")
        ratios += [ratio] if ratio is not None else []
        lines.append(f"{question + ': ' + QUESTIONS[question]:48}{cells}" + (f"{ratio:>8.2f}" if ratio else ""))
    if ratios:
        mean = statistics.geometric_mean(ratios)
        lines.append(f"fastest peer of each round / {OURS}: geometric mean {mean:.2f}, least {min(ratios):.2f}")
    return lines
