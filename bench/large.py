"""What is large in one way, each job a process of its own: `python -m bench.compare large`.

A job's seconds are those from its first verb to its closed output; what looks at the output afterwards is not counted,
nor is it in the peak. A job fails, and the command with it, where the output is not what the input's formulas say.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click

from bench.harness import data_dir, finish, json_option, run, scratch, threads_option


class Kind(NamedTuple):
    """An input's whole size, what it is, what is done with it, and with how much memory."""

    size: int
    title: str
    work: Sequence[str]
    memory: str


KINDS = {
    "wide": Kind(
        10_000,
        "columns of 2,000 rows",
        ("write", "select", "filter", "compute", "sort", "group few", "group all"),
        "2GB",
    ),
    "files": Kind(
        100_000,
        "Parquet files and as many of text",
        ("parquet", "text", "parquet, cluster", "text, cluster"),
        "1GB",
    ),
    "text": Kind(2_500_000_000, "bytes in one row group's string column", ("filter", "sort", "group", "join"), "2GB"),
    "groups": Kind(100_000_000, "groups", ("group",), "2GB"),
}


@click.command()
@click.option("--only", "kinds", multiple=True, type=click.Choice(list(KINDS)), default=list(KINDS))
@click.option("--work", "works", multiple=True, help="Of the jobs with an input these alone.")
@click.option("--scale", default=1.0, show_default=True, type=click.FloatRange(0, 1, min_open=True))
@click.option("--memory", help="For all jobs, instead of each input's own.")
@click.option("--keep/--remove", default=False, show_default=True, help="Keep the inputs for the next time.")
@threads_option
@json_option
def large(
    kinds: Sequence[str],
    works: Sequence[str],
    scale: float,
    memory: str | None,
    keep: bool,
    threads: int,
    json_path: Path | None,
) -> None:
    """10,000 columns, 100,000 files, 2.5 GB of text in a column, 10^8 groups: that they end, and in what memory."""
    results: dict[str, Any] = {}
    lines = [f"{'':34}{'scan s':>10}{'job s':>10}{'peak MB':>10}{'rows out':>14}   results are what formulas say"]
    for name in kinds:
        kind = KINDS[name]
        size = max(1, round(kind.size * scale))
        source = _made(name, size)
        lines.append(f"{name}: {size:,} {kind.title}, memory {memory or kind.memory}, {threads} threads")
        try:
            for work in kind.work:
                if not works or work in works:
                    facts = results[f"{name} {work}"] = _measured(
                        name, work, source, size, memory or kind.memory, threads
                    )
                    figures = f"{facts['scan_s']:>10.2f}{facts['job_s']:>10.2f}{facts['job_peak_bytes'] / 1e6:>10,.0f}"
                    lines.append(f"  {work:32}{figures}{facts['rows']:>14,}")
        finally:
            if not keep:
                run(["rm", "-rf", source])
    finish("large inputs", {**results, "lines": lines}, json_path)


def _made(name: str, size: int) -> Path:
    source = data_dir() / f"large-{name}-{size}"
    if not source.exists():
        run([sys.executable, "-m", "bench.largetables", name, str(size), source])
    return source


def _measured(name: str, work: str, source: Path, size: int, memory: str, threads: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="kernelmill-large-", dir=scratch()) as folder:
        arguments = [name, work, source, str(size), Path(folder) / "out", memory, str(threads)]
        done = run([sys.executable, "-m", "bench.peers.kernelmill_large", *arguments])
        facts: dict[str, Any] = json.loads(done.output.splitlines()[-1])
        return {**facts, "process_s": done.seconds}
