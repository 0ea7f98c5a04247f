"""The command of every engine for every job: what is run, on what, with which threads and codec."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Sequence
from pathlib import Path

Command = list[str | Path]
ROOT = Path(__file__).resolve().parents[1]
# The environment's own scripts lie beside its interpreter.
KERNELMILL = Path(sys.executable).with_name("kernelmill")
FORMULATIONS = ("words", "pieces", "lines")
WORD_ENGINES = ("kernelmill", *(f"{peer}-{way}" for peer in ("duckdb", "polars") for way in FORMULATIONS))
GROUP_ENGINES = ("kernelmill", "duckdb", "polars")


def output_name(engine: str) -> str:
    """The name of an engine's output: a file for the peers, for kernelmill a folder, which its threads write."""
    return f"{engine}.parquet" if engine.startswith(("duckdb", "polars", "naive")) else engine.replace(" ", "-")


def words_command(engine: str, text: Path, target: Path, *, codec: str, threads: int) -> Command:
    """The process that counts the words of `text` into `target`; `engine` is one of WORD_ENGINES."""
    if engine == "kernelmill":
        options = ["--compression", codec, "--threads", str(threads), "--no-progress", "--quiet"]
        return [KERNELMILL, "wordcount", text, "-o", target, *options]
    peer, formulation = engine.split("-")
    return [sys.executable, "-m", f"bench.peers.{peer}_words", text, target, formulation, codec, str(threads)]


def groups_command(
    engine: str, table: Path, target: Path, *, keys: Sequence[str], codec: str, threads: int, runs: int
) -> Command:
    """The process that groups `table` by `keys`, `runs` times, and prints the seconds of each run."""
    module = f"bench.peers.{engine}_groups"
    return [sys.executable, "-m", module, table, target, ",".join(keys), codec, str(threads), str(runs)]


def question_command(
    engine: str, kind: str, source: Path, target: Path, question: str, *, codec: str, threads: int, runs: int
) -> Command:
    """The process that answers a question of h2o (kind: h2o or joins), `runs` times, and prints each run's seconds."""
    module = f"bench.peers.{engine}_{kind}"
    return [sys.executable, "-m", module, source, target, question, codec, str(threads), str(runs)]


def versions() -> dict[str, str]:
    """Versions of Python and of every engine and library that was measured."""
    names = ("kernelmill", "numba", "numpy", "pyarrow", "duckdb", "polars")
    return {"python": platform.python_version(), **{name: importlib.metadata.version(name) for name in names}}


def cpu() -> str:
    """The processor's name, as Linux gives it."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
