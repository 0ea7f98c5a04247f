"""The table of figures of the cluster: `python -m bench.compare cluster`.

Speed is compared within one round: the same job on two threads of one process, and on two workers of one slot. All
else is measured by programs of bench/peers: cluster_programs.py. Faults strike a cluster of real processes, the one of
tests/cluster/faults. Sockets are ipc but where hosts are cut off, and CURVE is on all of them.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from bench import cluster_programs
from bench.engines import Command
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
    rounds_option,
)
from bench.mapreduce import Row, Setup, cpu_seconds
from bench.measure import Run, warm_page_cache
from bench.report import seconds_table, summarise

RUNS = 3
PLACES = ("local", "cluster")


def _warm_seconds(one: Run) -> float:
    """The later runs of a process: the first one starts task processes and compiles."""
    seconds: list[float] = json.loads(one.output)
    return statistics.median(seconds[1:])


def _speed(setup: Setup, job: str, path: Path, goal: tuple[float, float], check: Callable[[str, Path], None]) -> Row:
    """A job locally and on the cluster, in turn."""

    def command(where: str, target: Path) -> Command:
        return [sys.executable, "-m", "bench.peers.cluster_jobs", job, where, path, target, setup.codec, str(RUNS)]

    warm_page_cache(path)
    measured = measure_in_turn(PLACES, setup.rounds, command, check)
    wall = statistics.median(_warm_seconds(times["local"]) / _warm_seconds(times["cluster"]) for times in measured)
    cpu = statistics.median(cpu_seconds(times["local"]) / cpu_seconds(times["cluster"]) for times in measured)
    summary = summarise(measured, _warm_seconds)
    head = f"{job} of {path.name}, runs 2-{RUNS} of a process; {setup.rounds} rounds, results equal"
    figure = Figure(f"{job}: local runner's time / the cluster's", wall, cpu, "x", *goal)
    return Row([figure], [head, *seconds_table(summary)], summary)


def words(setup: Setup) -> Row:
    """The words of 1 GB of prose."""
    text = needed("prose.txt", "prose")
    return _speed(
        setup, "words", text, (0.8, 0.95), lambda where, output: check_words(text, output, where, setup.codec)
    )


def index(setup: Setup) -> Row:
    """An inverted index of 300 MB of Linux source."""
    first: dict[str, Any] = {}

    def check(where: str, output: Path) -> None:
        found = facts_of(["index", output])
        if found != (expected := first.setdefault("facts", found)):
            differ(where, expected, found)

    return _speed(setup, "index", needed("kernel-part.txt", "part kernel"), (0.8, 0.95), check)


def groups(setup: Setup) -> Row:
    """A group-by of 10^7 rows by a string."""
    first: dict[str, Path] = {}

    def check(where: str, output: Path) -> None:
        found = facts_of(["groups", output, first.setdefault("output", output), "id3"])
        if any(found["differences"].values()):
            differ(where, "equal groups", found)

    return _speed(setup, "groups", needed("groupby.parquet", "tables"), (0.8, 0.95), check)


ROWS: dict[str, Callable[[Setup], Row]] = {
    **{each.__name__: each for each in (words, index, groups)},
    **cluster_programs.ROWS,
}


@click.command()
@click.option("--only", multiple=True, type=click.Choice(list(ROWS)), help="Only this row; may be repeated.")
@rounds_option
@codec_option
@json_option
def cluster(only: Sequence[str], rounds: int, codec: str, json_path: Path | None) -> None:
    """Clusters of this machine: against the local runner's threads, and what faults cost."""
    setup, rows = Setup(rounds, len(PLACES), codec), {}
    for name in dict.fromkeys(only or ROWS):
        rows[name] = ROWS[name](setup)
        click.echo("\n".join(rows[name].lines))  # at once: a row takes minutes
    figures = [figure for row in rows.values() for figure in row.figures]
    results: Mapping[str, Any] = {
        "figures": [figure.as_json() for figure in figures],
        "rows": {name: row.results for name, row in rows.items()},
        "lines": goals_table(figures),
    }
    finish("a cluster of this machine", dict(results), json_path)
