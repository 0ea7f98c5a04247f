"""The table of figures of MapReduce with compiled user functions: `python -m bench.compare mapreduce`.

The users' programs are bench/peers/user_*.py, whole processes; each row's engines run in turn, as in `bench.compare`.
"""

from __future__ import annotations

import json
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from bench.engines import KERNELMILL, ROOT, Command
from bench.goals import Figure, goals_table
from bench.harness import (
    check_words,
    codec_option,
    differ,
    facts_of,
    finish,
    json_option,
    measure_in_turn,
    needed,
    remove,
    rounds_option,
    run,
    scratch,
    threads_option,
)
from bench.measure import Run, warm_page_cache
from bench.report import round_order, seconds_table, summarise, whole_seconds

Rounds = Sequence[Mapping[str, Run]]
Seconds = Callable[[Run], float]
PEERS = ("duckdb", "polars")


@dataclass(frozen=True, slots=True)
class Setup:
    """What all rows are measured with."""

    rounds: int
    threads: int
    codec: str

    def command(self, program: str, text: Path, target: Path, *way: str) -> Command:
        """The process of bench/peers/PROGRAM.py."""
        module = f"bench.peers.{program}"
        return [sys.executable, "-m", module, text, target, *way, self.codec, str(self.threads)]


@dataclass(frozen=True, slots=True)
class Row:
    """What one name of the table gives: its figures, the lines to show above the table, and all that was measured."""

    figures: list[Figure]
    lines: list[str]
    results: dict[str, Any]


def cpu_seconds(run: Run) -> float:
    """Processor seconds of the whole process, user and system."""
    return run.user_seconds + run.system_seconds


def ratio(measured: Rounds, of: str, to: str) -> tuple[float, float]:
    """Median over rounds of the time of one engine over another's of the same round: by wall clock, by processor."""
    return _both(lambda times, seconds: seconds(times[of]) / seconds(times[to]), measured)


def fastest_peer(measured: Rounds, ours: str) -> tuple[float, float]:
    """Median over rounds of the fastest peer's time over ours of the same round: by wall clock, by processor."""
    return _both(lambda times, seconds: min(seconds(times[peer]) for peer in PEERS) / seconds(times[ours]), measured)


def _both(number: Callable[[Mapping[str, Run], Seconds], float], measured: Rounds) -> tuple[float, float]:
    wall, cpu = (statistics.median(number(times, of) for times in measured) for of in (whole_seconds, cpu_seconds))
    return wall, cpu


def words_in_turn(setup: Setup, text: Path, ways: Sequence[str], rounds: int) -> Rounds:
    """Measure ways to count a text's words; each output is checked against the text's own facts."""

    def command(way: str, target: Path) -> Command:
        if way == "naive":
            return [sys.executable, "-m", "bench.peers.naive_words", text, target, setup.codec]
        return setup.command("user_words", text, target, way)

    warm_page_cache(text)
    return measure_in_turn(ways, rounds, command, lambda way, output: check_words(text, output, way, setup.codec))


def _row(head: str, measured: Rounds, figures: list[Figure]) -> Row:
    summary = summarise(measured)
    return Row(figures, [f"{head}; {len(measured)} rounds, results equal", *seconds_table(summary)], summary)


def words(setup: Setup) -> Row:
    """A user's word count beside the built-in one."""
    text = needed("prose.txt", "prose")
    measured = words_in_turn(setup, text, ("compiled", "built-in"), setup.rounds)
    what = "user's word count, its time / the built-in's"
    figure = Figure(what, *ratio(measured, "compiled", "built-in"), "x", 1.5, 1.15, at_most=True)
    return _row(f"words of {text.name}, order=None", measured, [figure])


def interpreted(setup: Setup) -> Row:
    """The same functions as machine code, as plain Python, and a script; all three on the whole text.

    Machine code takes two seconds where the others take a minute and a half: it runs several times before them and
    after them, for one run of it alone says little.
    """
    text = needed("prose.txt", "prose")
    quick = words_in_turn(setup, text, ("compiled",), setup.rounds)
    slow = words_in_turn(setup, text, ("interpreted", "naive"), max(1, setup.rounds // 3))
    quick = [*quick, *words_in_turn(setup, text, ("compiled",), setup.rounds)]
    wall, cpu = (
        statistics.median(seconds(times["interpreted"]) for times in slow)
        / statistics.median(seconds(times["compiled"]) for times in quick)
        for seconds in (whole_seconds, cpu_seconds)
    )
    figures = [
        Figure("the same interpreted / compiled", wall, cpu, "x", 25, 60),
        Figure("interpreted / naive Python", *ratio(slow, "interpreted", "naive"), "x", 1.5, at_most=True),
    ]
    rows = [
        _row(f"words of {text.name}, order=None, whole processes on the same text", each, []) for each in (quick, slow)
    ]
    return Row(figures, [line for row in rows for line in row.lines], {"runs": [row.results for row in rows]})


def stations(setup: Setup) -> Row:
    """1BRC: lines parsed and summarised by a user's function, beside the peers' CSV readers."""
    text = needed("measurements.txt", "measurements")
    truth = json.loads(text.with_suffix(".json").read_text())
    expected = {name: truth[name] for name in ("lines", "stations", "digest")} | {"codecs": [setup.codec]}

    def command(engine: str, target: Path) -> Command:
        if engine in PEERS:
            return setup.command(f"{engine}_stations", text, target)
        return setup.command("user_stations", text, target, engine)

    def check(engine: str, output: Path) -> None:
        if (found := facts_of(["stations", output])) != expected:
            differ(engine, expected, found)

    warm_page_cache(text)
    measured = measure_in_turn(("verbs", "combine", *PEERS), setup.rounds, command, check)
    figures = [
        Figure("1BRC, fastest peer's time / a map's and verbs'", *fastest_peer(measured, "verbs"), "x", 1, 2),
        Figure("1BRC, fastest peer's time / a map's and a combine's", *fastest_peer(measured, "combine"), "x", 1, 2),
    ]
    return _row(f"{text.name}, {truth['lines']:,} lines, {truth['stations']} stations", measured, figures)


def index(setup: Setup) -> Row:
    """An inverted index of Linux source, beside the peers' lists."""
    text = needed("kernel-part.txt", "part kernel")
    first: dict[str, Any] = {}

    def command(engine: str, target: Path) -> Command:
        return setup.command(f"{engine}_index", text, target)

    def check(engine: str, output: Path) -> None:
        found = facts_of(["index", output])
        expected = first.setdefault("facts", {**found, "rows": found["distinct"], "codecs": [setup.codec]})
        if found != expected:
            differ(engine, expected, found)

    warm_page_cache(text)
    measured = measure_in_turn(("user", *PEERS), setup.rounds, command, check)
    facts = first["facts"]
    head = f"inverted index of {text.name}, {facts['distinct']:,} words, {facts['postings']:,} postings"
    figure = Figure(
        "inverted index, fastest peer's time / the user's job's", *fastest_peer(measured, "user"), "x", 2, 4
    )
    return _row(head, measured, [figure])


def starts(setup: Setup) -> Row:
    """A function's first process, which compiles it, and the later ones, on a small text: the King James text.

    The first begins with a cache that holds every kernel of the package and no user's function.
    """
    text = ROOT / "data" / "kjv"
    ways = ("compiled", "built-in")
    with tempfile.TemporaryDirectory(prefix="kernelmill-bench-", dir=scratch()) as folder:
        warm, cache, target = (Path(folder) / name for name in ("warm", "cache", "output"))
        run([KERNELMILL, "warm"], {"KERNELMILL_CACHE_DIR": str(warm)})

        def once(way: str) -> Run:
            remove(target)
            command = setup.command("user_words", text, target, way)
            return run(command, {"KERNELMILL_CACHE_DIR": str(cache)})

        measured = []
        for number in range(setup.rounds):
            remove(cache)
            shutil.copytree(warm, cache)
            times = {"first": once("compiled")}
            measured.append({**times, **{way: once(way) for way in round_order(ways, number)}})
    first = _both(lambda times, seconds: seconds(times["first"]), measured)
    more = _both(lambda times, seconds: seconds(times["compiled"]) - seconds(times["built-in"]), measured)
    figures = [
        Figure("first process of a new function, compile included", *first, "s", 3, 1, at_most=True),
        Figure("a later process, more than the built-in's", *more, "s", 0.05, at_most=True),
    ]
    return _row("words of the King James text, first and later processes", measured, figures)


ROWS: dict[str, Callable[[Setup], Row]] = {
    each.__name__: each for each in (words, interpreted, stations, index, starts)
}


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(ROWS)), help="Only this row; may be repeated.")
@rounds_option
@threads_option
@codec_option
@json_option
def mapreduce(only: Sequence[str], rounds: int, threads: int, codec: str, json_path: Path | None) -> None:
    """User functions as machine code: against the built-in count, plain Python, DuckDB and Polars; and their starts."""
    setup, rows = Setup(rounds, threads, codec), {}
    for name in dict.fromkeys(only or ROWS):
        rows[name] = ROWS[name](setup)
        click.echo("\n".join(rows[name].lines))  # at once: a row takes minutes
    figures = [figure for row in rows.values() for figure in row.figures]
    results = {
        "figures": [figure.as_json() for figure in figures],
        "rows": {name: row.results for name, row in rows.items()},
        "lines": goals_table(figures),
    }
    finish("MapReduce with user functions", results, json_path)
