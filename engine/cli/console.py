"""What commands share: where text goes, how a job is watched, and the options that all have."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self, TypeVar

import click

from kernelmill.engine.durable import output_error
from kernelmill.engine.errors import KernelmillError
from kernelmill.engine.events import (
    COMPILE_KERNELS,
    Event,
    JobStarted,
    PhaseEnded,
    PhaseStarted,
    SpillWritten,
    TaskFailed,
)
from kernelmill.engine.progress import ProgressSink, progress_sink
from kernelmill.engine.settings import resolve
from kernelmill.engine.sizes import format_bytes, format_duration, format_things, parse_bytes

STANDARD_OUTPUT = "standard output"
"""Where errors of printing arise."""

_Command = TypeVar("_Command", bound=Callable[..., Any])


def quietly() -> contextlib.AbstractContextManager[None]:
    """Print to standard error in this block: where nobody can read that, nobody can be told so either."""
    return contextlib.suppress(OSError, ValueError)


def say(text: str) -> None:
    """Print a line on standard error."""
    with quietly():
        click.echo(text, err=True)


def print_text(text: str, *, newline: bool = True) -> None:
    """Print on standard output. Raises KM0402 or KM0502 if that fails, BrokenPipeError if its reader went away."""
    try:
        click.echo(text, nl=newline)
    except BrokenPipeError:
        raise
    except OSError as problem:
        raise output_error(problem, "printing", STANDARD_OUTPUT) from problem


def print_json(value: Any) -> None:
    """Print a value as JSON on standard output; bytes as text, what is not UTF-8 in them as \\xff."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=_plain)
    # File names that are not text hold lone surrogates, which only JSON's own escapes can say: \udcff.
    print_text(text.encode(errors="backslashreplace").decode())


def _plain(value: Any) -> str:
    return value.decode(errors="backslashreplace") if isinstance(value, bytes) else str(value)


@dataclass
class Console:
    """Tables go to standard output, all else to standard error; `job_started` tells a failed job from a wrong plan."""

    quiet: bool = False
    verbose: bool = False
    progress: bool = True
    job_started: bool = False
    command: click.Command | None = None
    _output: str | None = field(default=None, repr=False)
    _before: tuple[int, int] | None = field(default=None, repr=False)

    def note(self, text: str) -> None:
        """Say something to the person at the terminal, unless they asked for quiet."""
        if not self.quiet:
            say(text)

    def detail(self, text: str) -> None:
        """Say something that only -v asks for."""
        if self.verbose:
            say(text)

    def writes(self, output: str) -> None:
        """Say that this command is about to write `output`, for `interrupted_text`."""
        self._output, self._before = output, _identity(output)

    def interrupted_text(self) -> str:
        """Say what an interrupt has left. It may come at any moment: only the place of the output tells if it is there.

        A published output is never the file or folder that was there before: until then both exist.
        """
        if self._output is None:
            return "interrupted"
        if _identity(self._output) in (None, self._before):
            return "interrupted: no output was published"
        return f"interrupted: the output {self._output} is complete"


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def the_console() -> Console:
    """The console of the command that is running."""
    return click.get_current_context().ensure_object(Console)


def _setter(name: str, value: bool) -> Callable[[click.Context, click.Parameter, bool], None]:
    def callback(context: click.Context, _: click.Parameter, given: bool) -> None:
        if given:
            setattr(context.ensure_object(Console), name, value)

    return callback


def common_options(command: _Command) -> _Command:
    """Give a command -q, -v and --no-progress; the group has them too."""
    flags = [
        (("-q", "--quiet"), _setter("quiet", True), "Say nothing but errors and tables."),
        (("-v", "--verbose"), _setter("verbose", True), "Say more; show what lies behind an error."),
        (("--no-progress",), _setter("progress", False), "Draw no progress line."),
    ]
    for names, callback, text in reversed(flags):
        command = click.option(*names, is_flag=True, expose_value=False, callback=callback, help=text)(command)
    return command


def size(text: str) -> int:
    """Read a size on the command line, as `parse_bytes` does; anything else is a usage error. Use it as `type=size`."""
    try:
        return parse_bytes(text, name="it")
    except KernelmillError as problem:
        raise click.BadParameter(f"{problem.what}; {problem.hint}") from problem


def table_text(header: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> str:
    """Align rows under a header, columns two spaces apart; columns whose numbers are in `right` end flush."""
    lines = [list(header), *[list(row) for row in rows]]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


@dataclass
class JobWatch:
    """The event sink of a command's job: draws progress and remembers what the command reports at its end."""

    console: Console
    threads: int = 0
    memory_bytes: int = 0
    kernels_compiled: int = 0
    compile_s: float = 0.0
    spill_bytes: int = 0
    retries: int = 0
    _sink: ProgressSink | None = field(default=None, repr=False)

    def __enter__(self) -> Self:
        hidden = self.console.quiet or not self.console.progress
        settings = resolve(progress="off" if hidden else None)
        self._sink = progress_sink(settings, stream=sys.stderr, logs_to_stream=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._sink is not None:
            self._sink.close()

    def __call__(self, event: Event) -> None:
        """Take one event of the job."""
        match event:
            case JobStarted():
                self.console.job_started = True
                self.threads, self.memory_bytes = event.threads, event.memory_bytes
            case PhaseStarted() if event.name == COMPILE_KERNELS:
                self.kernels_compiled += 1
            case PhaseEnded() if event.name == COMPILE_KERNELS:
                self.compile_s += event.seconds
            case SpillWritten():
                self.spill_bytes += event.bytes
            case TaskFailed():
                self.retries += event.will_retry
        if self._sink is not None:
            self._sink(event)

    def kernels_text(self) -> str:
        """Say whether kernels had to be compiled."""
        if not self.kernels_compiled:
            return "kernels: from the cache"
        return f"kernels: {self.kernels_compiled} compiled in {format_duration(self.compile_s)} (once)"

    def detail_text(self) -> str:
        """Say in one line what -v asks for."""
        parts = [
            format_things(self.threads, "thread"),
            f"memory {format_bytes(self.memory_bytes, binary=True)}",
            self.kernels_text(),
        ]
        parts += [f"spilled {format_bytes(self.spill_bytes)}"] if self.spill_bytes else []
        parts += [f"{format_things(self.retries, 'task')} tried again"] if self.retries else []
        return " · ".join(parts)
