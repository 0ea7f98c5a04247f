"""h2o's db-benchmark, ten group-by questions and five joins: `python -m bench.compare h2o-groupby | h2o-join`."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from bench.engines import GROUP_ENGINES, Command, question_command
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
    runs_option,
    threads_option,
    warm_seconds,
)
from bench.measure import Run, warm_page_cache
from bench.peers.joinquestions import COLUMNS
from bench.peers.joinquestions import QUESTIONS as JOIN_QUESTIONS
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
JOINS = {name: f"x {question.how} {question.right} by {question.key}" for name, question in JOIN_QUESTIONS.items()}

Check = Callable[[str, Path], None]
MakeCheck = Callable[[str, str], Check]


class Measuring(NamedTuple):
    """How often, with what, and of which engines."""

    runs: int
    rounds: int
    threads: int
    codec: str
    engines: Sequence[str]


@click.command(name="h2o-groupby")
@click.option("--question", "questions", multiple=True, type=click.Choice(list(QUESTIONS)), default=list(QUESTIONS))
@runs_option
@rounds_option
@threads_option
@codec_option
@engines_option(GROUP_ENGINES, GROUP_ENGINES)
@json_option
def h2o_groupby(questions: Sequence[str], json_path: Path | None, **options: Any) -> None:
    """Answer the ten group-by questions at 10^7 rows: warm runs in one process, whole processes beside."""
    table = needed("h2o.parquet", "h2o")
    warm_page_cache(table)
    asked = {name: QUESTIONS[name] for name in questions}
    answer("h2o group-by", "h2o", table, asked, Measuring(**options), json_path, same_rows)


@click.command(name="h2o-join")
@click.option("--question", "questions", multiple=True, type=click.Choice(list(JOINS)), default=list(JOINS))
@runs_option
@rounds_option
@threads_option
@codec_option
@engines_option(GROUP_ENGINES, GROUP_ENGINES)
@json_option
def h2o_join(questions: Sequence[str], json_path: Path | None, **options: Any) -> None:
    """Join x with small, medium and big tables: warm runs in one process, whole processes beside."""
    folder = needed("join", "join-tables")
    for table in COLUMNS:
        warm_page_cache(folder / f"{table}.parquet")
    asked = {name: JOINS[name] for name in questions}
    answer("h2o joins", "joins", folder, asked, Measuring(**options), json_path, same_digests)


def answer(
    title: str,
    kind: str,
    source: Path,
    questions: dict[str, str],
    how: Measuring,
    json_path: Path | None,
    check: MakeCheck,
) -> None:
    """Measure all engines at each question, and print and keep the table; `check` makes what compares their answers."""
    results: dict[str, Any] = {}
    for question in questions:
        warm, whole = (_measured(kind, source, question, how._replace(runs=runs), check) for runs in (how.runs, 1))
        results[question] = {"warm": summarise(warm, warm_seconds), "whole": summarise(whole)}
    finish(title, {**results, "lines": _table(results, questions, how)}, json_path)


def _measured(kind: str, source: Path, question: str, how: Measuring, check: MakeCheck) -> list[dict[str, Run]]:
    """Rounds of all engines at one question, their answers compared."""

    def command(engine: str, target: Path) -> Command:
        return question_command(
            engine, kind, source, target, question, codec=how.codec, threads=how.threads, runs=how.runs
        )

    return measure_in_turn(how.engines, how.rounds, command, check(question, how.codec))


def same_rows(question: str, codec: str, differences: str = "differences") -> Check:
    """Checks answers that have floats: row by row, with a tolerance, as a command of bench.outputs compares them."""
    first: dict[str, Path] = {}

    def check(engine: str, output: Path) -> None:
        found = facts_of([differences, output, first.setdefault("output", output)])
        if any(found["differences"].values()) or found["codecs"] != [codec]:
            differ(engine, f"equal rows for {question}, codec {codec}", found)

    return check


def same_digests(question: str, codec: str) -> Check:
    """Checks answers that nothing was computed for: by their number and a digest."""
    first: dict[str, Any] = {}

    def check(engine: str, output: Path) -> None:
        found = facts_of(["rows", output])
        expected = first.setdefault("facts", found)
        if found != expected or found["codecs"] != [codec]:
            differ(f"{engine}, {question}", {**expected, "codecs": [codec]}, found)

    return check


def _table(results: dict[str, Any], questions: dict[str, str], how: Measuring) -> list[str]:
    """Lines of a table, one a question: seconds of each engine, and the fastest peer's over ours; then their mean."""
    lines = [f"median seconds of runs 2-{how.runs} in one process (whole process beside), peak GB; results equal"]
    lines.append(f"{'':48}" + "".join(f"{engine:>22}" for engine in how.engines) + f"{'ratio':>8}")
    ratios = []
    for question, found in results.items():
        cells = ""
        for engine in how.engines:
            warm, whole = (found[kind]["medians"][engine] for kind in ("warm", "whole"))
            cells += f"{warm['seconds']:>8.3f} ({whole['seconds']:.2f}) {warm['peak_bytes'] / 1e9:>5.2f}"
        ratio = found["warm"].get("ratio_to_fastest_peer")
        ratios += [ratio] if ratio is not None else []
        lines.append(f"{question + ': ' + questions[question]:48}{cells}" + (f"{ratio:>8.2f}" if ratio else ""))
    if ratios:
        mean = statistics.geometric_mean(ratios)
        lines.append(f"fastest peer of each round / {OURS}: geometric mean {mean:.2f}, least {min(ratios):.2f}")
    return lines
