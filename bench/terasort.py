"""Sort 100-byte records by their 10-byte keys, whole processes in turn: `python -m bench.compare terasort`.

Every output is checked before any time counts: as many records as were made, in order over all files of the output,
and the checksum of the input; see bench/records.py and bench/sortcheck.py.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from bench.engines import GROUP_ENGINES, Command
from bench.goals import Figure, goals_table
from bench.harness import (
    codec_option,
    differ,
    engines_option,
    finish,
    json_option,
    measure_in_turn,
    needed,
    rounds_option,
    run,
    threads_option,
)
from bench.measure import Run, warm_page_cache
from bench.report import OURS, seconds_table, summarise

BASE_SIZE = "1GB"
BASE, CLUSTER = f"{OURS} {BASE_SIZE}", f"{OURS} cluster"
LIMITED = (OURS, "duckdb")  # Polars has no setting for the memory of a sort
PEAK_MB_MAX = 768.0


class Sorting(NamedTuple):
    """What every engine is told."""

    codec: str
    threads: int
    memory: str | None
    workers: int


def sort_command(engine: str, source: Path, target: Path, how: Sorting) -> Command:
    """The process that sorts the records of `source` once, and prints the seconds of the sort."""
    module, memory = f"bench.peers.{engine.split()[0]}_sort", how.memory or "any"
    more = {
        OURS: [str(how.threads), memory, "local"],
        BASE: [str(how.threads), "any", "local"],
        CLUSTER: [str(how.workers), memory, "cluster"],
        "duckdb": [str(how.threads), memory],
        "polars": [str(how.threads)],
    }
    return [sys.executable, "-m", module, source, target, how.codec, *more[engine]]


@click.command()
@click.option("--bytes", "size", default=BASE_SIZE, show_default=True, help="As `bench.corpus records` was told.")
@click.option("--memory", help="Sort with so much memory, e.g. 512MB; by default each engine's own limit.")
@click.option("--cluster", "workers", type=click.IntRange(1), help="Also on a LocalCluster of so many workers.")
@rounds_option
@threads_option
@codec_option
@engines_option(GROUP_ENGINES, GROUP_ENGINES)
@json_option
def terasort(
    size: str,
    memory: str | None,
    workers: int | None,
    rounds: int,
    threads: int,
    codec: str,
    engines: Sequence[str],
    json_path: Path | None,
) -> None:
    """Sort records of 100 bytes: 1 GB, or more of them with less memory."""
    how = Sorting(codec, threads, memory, workers or 0)
    names = [engine for engine in engines if memory is None or engine in LIMITED]
    names += [CLUSTER] if workers else []
    sources = {name: needed(f"records-{size}.parquet", f"records --bytes {size}") for name in names}
    if memory is not None and size != BASE_SIZE and OURS in names:
        sources[BASE] = needed(f"records-{BASE_SIZE}.parquet", "records")
    for source in dict.fromkeys(sources.values()):
        warm_page_cache(source)
    measured = measure_in_turn(
        list(sources),
        rounds,
        lambda engine, target: sort_command(engine, sources[engine], target, how),
        lambda engine, output: check_sorted(sources[engine], output, engine, codec),
    )
    facts = {name: json.loads(source.with_suffix(".json").read_text()) for name, source in sources.items()}
    report(measured, facts, how, json_path)


def check_sorted(source: Path, output: Path, engine: str, codec: str) -> None:
    """Compare an output with what the generator kept; ends with exit code 1 if it is not these records, sorted."""
    truth = json.loads(source.with_suffix(".json").read_text())
    facts = json.loads(run([sys.executable, "-m", "bench.sortcheck", output]).output)
    expected = {"rows": truth["rows"], "unordered": 0, "checksum": truth["checksum"], "codecs": [codec]}
    if {name: facts[name] for name in expected} != expected:
        differ(engine, expected, facts)


def report(
    measured: Sequence[Mapping[str, Run]], facts: Mapping[str, Mapping[str, Any]], how: Sorting, json_path: Path | None
) -> None:
    """Print times, rates and what was reached of the goals."""
    own = {name: facts[name] for name in facts if name != BASE}
    first = next(iter(own.values()))
    rounds = [{name: times[name] for name in own} for times in measured]
    summary = summarise(rounds)
    limit = f"memory {how.memory}" if how.memory else "memory as each engine sets it"
    head = f"{first['name']}: {first['rows']:,} records of {first['record_bytes']} bytes, {how.codec}, {limit}, "
    head += f"{how.threads} threads; {len(measured)} rounds; outputs in order, checksums equal"
    lines = [head, *seconds_table(summary)]
    figures = list(_figures(measured, facts, how))
    if figures:
        lines += goals_table(figures)
    found = {"figures": [figure.as_json() for figure in figures], **summary}
    finish("sort of records", {"inputs": dict(facts), **found, "lines": lines}, json_path)


def _figures(
    measured: Sequence[Mapping[str, Run]], facts: Mapping[str, Mapping[str, Any]], how: Sorting
) -> list[Figure]:
    """What can be said against the goals, by what ran."""
    names = set(facts)
    if OURS not in names:
        return []
    figures = []
    peers = sorted(names - {OURS, BASE, CLUSTER})
    if peers:
        goal = (1.7, 2.5) if how.memory is None else (None, 1.0)

        def ratio(seconds: Callable[[Run], float]) -> float:
            return statistics.median(
                min(seconds(times[peer]) for peer in peers) / seconds(times[OURS]) for times in measured
            )

        figures.append(Figure("fastest peer's time / kernelmill's", ratio(_wall), ratio(_cpu), "x", *goal))
    if CLUSTER in names:
        wall, cpu = (_median(measured, OURS, CLUSTER, seconds) for seconds in (_sorting, _cpu))
        figures.append(Figure("local runner's time / the cluster's", wall, cpu, "x", 0.8, 0.95))
    if how.memory is not None:
        peak = max(times[OURS].peak_bytes for times in measured) / 1e6
        figures.append(Figure("peak memory", peak, peak, "MB", PEAK_MB_MAX, at_most=True))
    if BASE in names:
        each = facts[OURS]["rows"] / facts[BASE]["rows"]
        wall, cpu = (_median(measured, OURS, BASE, seconds) / each for seconds in (_wall, _cpu))
        figures.append(Figure(f"time per byte / that of {BASE_SIZE}", wall, cpu, "x", 2.0, at_most=True))
    return figures


def _median(measured: Sequence[Mapping[str, Run]], one: str, other: str, seconds: Callable[[Run], float]) -> float:
    """One engine's seconds over another's of the same round."""
    return statistics.median(seconds(times[one]) / seconds(times[other]) for times in measured)


def _wall(run: Run) -> float:
    return run.seconds


def _cpu(run: Run) -> float:
    return run.user_seconds + run.system_seconds


def _sorting(run: Run) -> float:
    """The sort alone, without imports and the start of a cluster, as the process printed it."""
    seconds: list[float] = json.loads(run.output)
    return seconds[0]
