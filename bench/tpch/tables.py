"""The eight tables of TPC-H: made by `tpchgen-cli`, a folder of snappy Parquet files each."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click

from bench.tpch.sql import TABLES

PARTS = 8
FACTS = "tables.json"


def folder_of(scale: float, data: Path) -> Path:
    """Where the tables of a scale lie below the folder of all inputs."""
    return data / f"tpch-{scale:g}"


def scale_of(folder: str | Path) -> float:
    """The scale that tables were made for."""
    return float(json.loads((Path(folder) / FACTS).read_text())["scale"])


def tables(scale: float, data: Path) -> Path:
    """The folder of the tables of this scale, which are made if they are not there; a click error without the tool."""
    folder = folder_of(scale, data)
    if (folder / FACTS).exists():
        return folder
    tool = shutil.which("tpchgen-cli", path=str(Path(sys.executable).parent)) or shutil.which("tpchgen-cli")
    if tool is None:
        raise click.ClickException(f"{folder} is not there, nor is tpchgen-cli: pip install -e '.[bench]'")
    data.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tpch-", dir=data) as growing:
        made = Path(growing) / "tables"
        options = ["-s", f"{scale:g}", "--parts", str(PARTS), "--output-dir", str(made), "--no-progress"]
        done = subprocess.run([tool, "parquet", *options], capture_output=True, text=True, check=False)
        if done.returncode:
            raise click.ClickException(f"tpchgen-cli: {done.stderr.strip()[-500:]}")
        version = subprocess.run([tool, "--version"], capture_output=True, text=True, check=True).stdout.strip()
        describe(made, scale, version)
        shutil.rmtree(folder, ignore_errors=True)  # what an earlier version of this module may have left
        made.rename(folder)
    return folder


def describe(folder: Path, scale: float, made_by: str) -> None:
    """Write down what the tables of a folder are: scale, maker, bytes; the last thing to be made."""
    sizes = {table: sum(file.stat().st_size for file in sorted((folder / table).glob("*.parquet"))) for table in TABLES}
    (folder / FACTS).write_text(json.dumps({"scale": scale, "made_by": made_by, "bytes": sizes}, indent=1) + "\n")
