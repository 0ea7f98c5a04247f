"""From measured rounds to medians, ratios and the table that people read."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from bench.measure import Run

OURS = "kernelmill"


def round_order(names: Sequence[str], number: int) -> list[str]:
    """The order of round `number`: each round begins with another engine, for order changes times."""
    start = number % len(names)
    return [*names[start:], *names[:start]]


def whole_seconds(run: Run) -> float:
    """Wall clock of the whole process."""
    return run.seconds


def summarise(
    measured: Sequence[Mapping[str, Run]], seconds_of: Callable[[Run], float] = whole_seconds
) -> dict[str, Any]:
    """Give medians per engine, and medians over rounds of (engine's seconds / kernelmill's of the same round).

    `ratio_to_fastest_peer` takes the fastest other engine of each round. Without kernelmill there are no ratios.
    """
    names = list(measured[0])
    medians = {
        name: {
            "seconds": statistics.median(seconds_of(times[name]) for times in measured),
            "seconds_min": min(seconds_of(times[name]) for times in measured),
            "cpu_seconds": statistics.median(
                times[name].user_seconds + times[name].system_seconds for times in measured
            ),
            "peak_bytes": max(times[name].peak_bytes for times in measured),
        }
        for name in names
    }
    summary: dict[str, Any] = {
        "medians": medians,
        "rounds": [{name: asdict(run) for name, run in times.items()} for times in measured],
    }
    peers = [name for name in names if name != OURS]
    if OURS in names and peers:
        ratios = [{peer: seconds_of(times[peer]) / seconds_of(times[OURS]) for peer in peers} for times in measured]
        summary["ratios"] = {peer: statistics.median(row[peer] for row in ratios) for peer in peers}
        summary["ratio_to_fastest_peer"] = statistics.median(min(row.values()) for row in ratios)
    return summary


def seconds_table(summary: Mapping[str, Any]) -> list[str]:
    """Lines of a table: median and least seconds, processor seconds, peak memory, and the ratio to kernelmill."""
    ratios = summary.get("ratios", {})
    lines = [f"{'':18}{'median s':>10}{'min s':>10}{'cpu s':>10}{'peak GB':>10}{'ratio':>8}"]
    for name, row in summary["medians"].items():
        ratio = f"{ratios[name]:.2f}" if name in ratios else ""
        numbers = f"{row['seconds']:>10.3f}{row['seconds_min']:>10.3f}{row['cpu_seconds']:>10.2f}"
        lines.append(f"{name:18}{numbers}{row['peak_bytes'] / 1e9:>10.2f}{ratio:>8}")
    if "ratio_to_fastest_peer" in summary:
        lines.append(f"fastest peer of each round / kernelmill, median: {summary['ratio_to_fastest_peer']:.2f}")
    return lines
