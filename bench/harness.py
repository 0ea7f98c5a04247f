"""What comparisons share: find the input, measure commands in turn, compare outputs, tell and keep figures."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from bench.engines import ROOT, Command, cpu, output_name, versions
from bench.measure import CommandFailedError, Run, measure
from bench.report import round_order


def data_dir() -> Path:
    """The folder of the benchmark's inputs, as in bench.corpus, which imports too much for a process that measures."""
    return Path(os.environ.get("KERNELMILL_BENCH_DATA") or ROOT / "build" / "bench")


def needed(name: str, target: str) -> Path:
    """Path of an input; a usage error that says how to build it if it is absent."""
    path = data_dir() / name
    if not path.exists() or not path.with_suffix(".json").exists():
        raise click.ClickException(f"{path} is not there: python -m bench.corpus {target}")
    return path


def run(command: Command, environment: dict[str, str] | None = None) -> Run:
    """Measure a command in the checkout; a click error if it fails."""
    try:
        return measure(command, environment)
    except CommandFailedError as failed:
        raise click.ClickException(str(failed)) from failed


def remove(path: Path) -> None:
    """Remove an output, be it a file, a folder or nothing."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def facts_of(arguments: Sequence[str | Path]) -> dict[str, Any]:
    """What bench.outputs says, from a process of its own."""
    facts: dict[str, Any] = json.loads(run([sys.executable, "-m", "bench.outputs", *arguments]).output)
    return facts


def differ(what: str, expected: object, found: object) -> None:
    """End with exit code 1: results that differ are not worth a time."""
    raise click.ClickException(f"{what}: results differ: expected {expected}, found {found}")


def warm_seconds(one: Run) -> float:
    """The median of all runs of a process but the first, which it printed."""
    seconds: list[float] = json.loads(one.output)
    return statistics.median(seconds[1:])


def check_words(text: Path, output: Path, engine: str, codec: str) -> None:
    """Compare an output with what plain Python counted when the corpus was built."""
    truth, facts = json.loads(text.with_suffix(".json").read_text()), facts_of(["words", output])
    expected = {"rows": truth["distinct"], **{name: truth[name] for name in ("distinct", "words", "digest")}}
    if facts != {**expected, "codecs": [codec]}:
        differ(engine, {**expected, "codecs": [codec]}, facts)


def measure_in_turn(
    engines: Sequence[str], rounds: int, commands: Callable[[str, Path], Command], check: Callable[[str, Path], None]
) -> list[dict[str, Run]]:
    """Run every engine once for the check, then `rounds` rounds; outputs are removed outside the measured time."""
    with tempfile.TemporaryDirectory(prefix="kernelmill-bench-", dir=scratch()) as folder:
        outputs = {engine: Path(folder) / output_name(engine) for engine in engines}
        for engine in engines:
            run(commands(engine, outputs[engine]))
        for engine in engines:
            check(engine, outputs[engine])
        measured = []
        for number in range(rounds):
            times: dict[str, Run] = {}
            for engine in round_order(engines, number):
                remove(outputs[engine])
                times[engine] = run(commands(engine, outputs[engine]))
            measured.append(times)
    return measured


def scratch() -> Path:
    """The folder for outputs, beside the inputs; made if it is absent."""
    folder = data_dir()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def finish(what: str, results: dict[str, Any], json_path: Path | None) -> None:
    """Print what was measured, and keep all of it as JSON if asked."""
    about = {"what": what, "command": shlex.join(sys.orig_argv), "cpu": cpu(), "cores": len(os.sched_getaffinity(0))}
    click.echo(f"{what} · {about['cpu']}, {about['cores']} cores")
    click.echo(" · ".join(f"{name} {version}" for name, version in versions().items()))
    click.echo(f"$ {about['command']}")
    for text in results.pop("lines"):
        click.echo(text)
    if json_path is not None:
        json_path.write_text(json.dumps({**about, "versions": versions(), **results}, indent=1) + "\n")


runs_option = click.option(
    "--runs", default=4, show_default=True, type=click.IntRange(2), help="Runs in one process; the first is cold."
)
rounds_option = click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
threads_option = click.option("--threads", default=2, show_default=True, type=click.IntRange(1))
codec_option = click.option("--compression", "codec", default="snappy", show_default=True)
json_option = click.option(
    "--json", "json_path", type=click.Path(path_type=Path, resolve_path=True), help="Keep everything measured here."
)


def engines_option(known: Sequence[str], default: Sequence[str]) -> Callable[[Any], Any]:
    """The option that chooses engines; it may be repeated."""
    kind = click.Choice(list(known))
    return click.option("--engine", "engines", multiple=True, type=kind, default=list(default), show_default=True)
