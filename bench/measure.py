"""Run a command as a process of its own and measure it: wall clock, processor time, peak memory.

Peak memory is `ru_maxrss` of wait4: the largest resident size of the process or of any descendant it waited for, not
their sum; resident pages of mapped files count. Linux starts that number at the size of the process that forked, so
whoever measures must stay small: this module and `bench.compare` import no engine, no pyarrow and no numpy.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

READ_BYTES = 1 << 20
OWN_VARIABLE = "KERNELMILL_BENCH_DATA"  # not passed on: kernelmill refuses KERNELMILL_* that it does not know
_NO_BYTECODE = ("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX")  # any engine's users have its bytecode cached


class CommandFailedError(Exception):
    """A measured command did not end with exit code 0; the text holds the end of what it said."""


@dataclass(frozen=True, slots=True)
class Run:
    """One measured process. `output` is what it wrote to standard output."""

    seconds: float
    user_seconds: float
    system_seconds: float
    peak_bytes: int
    output: str


def measure(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Run:
    """Run `command` to its end and measure it; CommandFailedError if it fails. `environment` adds to our own."""
    inherited = {name: value for name, value in os.environ.items() if name not in (OWN_VARIABLE, *_NO_BYTECODE)}
    with tempfile.TemporaryFile() as said, tempfile.TemporaryFile() as complained:
        began = time.perf_counter()
        process = subprocess.Popen(
            [os.fspath(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=complained,
            env={**inherited, **(environment or {})},
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)  # it is reaped: Popen must not wait for it again
        if process.returncode:
            complained.seek(max(0, complained.tell() - 2000))
            text = complained.read().decode(errors="replace")
            raise CommandFailedError(f"exit code {process.returncode}: {' '.join(map(str, command))}\n{text}")
        said.seek(0)
        output = said.read().decode()
    return Run(seconds, usage.ru_utime, usage.ru_stime, usage.ru_maxrss * 1024, output)


def warm_page_cache(path: Path) -> None:
    """Read a file once, so that every engine finds it in memory."""
    with path.open("rb", buffering=0) as file:
        while file.read(READ_BYTES):
            pass
