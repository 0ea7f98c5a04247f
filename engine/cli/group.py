"""The group of all commands, and `run`: one command line, its errors as text and its exit code."""

from __future__ import annotations

import difflib
import importlib
import os
import platform
import re
import sys
import traceback
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import click

import kernelmill
from kernelmill.engine.cli.console import STANDARD_OUTPUT, Console, common_options, print_text, quietly, say
from kernelmill.engine.cli.process import exit_code_of
from kernelmill.engine.durable import output_error
from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.settings import ENV_PREFIX, SETTING_NAMES

# command: (its module below kernelmill, its name there, its line in the help). A table, so that help loads no module:
# most of them import pyarrow.
COMMANDS = {
    "demo": ("engine.cli.demo", "demo", "Count the words of the King James Bible, which ships with kernelmill."),
    "wordcount": ("engine.cli.wordcount", "wordcount", "Count the words of text files into Parquet."),
    "run": ("engine.cli.run", "run", "Run a MapReduce or a frame that a Python file defines."),
    "show": ("engine.cli.outputs", "show", "Print the first rows, the schema and the manifest of Parquet."),
    "check": ("engine.cli.outputs", "check", "Re-read an output and compare it with its manifest."),
    "clean": ("cluster.cli.cleaning", "clean", "Remove what dead jobs left in a folder."),
    "warm": ("engine.cli.warm", "warm", "Compile all kernels into the cache."),
    "config": ("engine.cli.house", "config", "List the settings, their values and where each was given."),
    "master": ("cluster.cli.master", "master", "Run the master of a cluster."),
    "worker": ("cluster.cli.worker", "worker", "Be a worker of a cluster until told to go."),
    "keys": ("cluster.cli.keys", "keys", "Make, list and remove the keys of a cluster."),
    "jobs": ("cluster.cli.client", "jobs", "List the jobs of a cluster, or show one."),
    "workers": ("cluster.cli.client", "workers", "List the workers of a cluster."),
    "logs": ("cluster.cli.client", "logs", "Print what the tasks of a job wrote."),
    "cancel": ("cluster.cli.client", "cancel", "End a job without output."),
    "drain": ("cluster.cli.client", "drain", "Let a worker finish and go."),
    "top": ("cluster.cli.client", "top", "Watch the workers and jobs of a cluster."),
    "error": ("engine.cli.house", "explain_error", "Explain an error code, or list them all."),
}
_BROKEN_PIPE = 141  # as for any filter that SIGPIPE ends


class _LazyGroup(click.Group):
    """A group that imports a command's module when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        if cmd_name not in COMMANDS:
            near = difflib.get_close_matches(cmd_name, COMMANDS, n=1)
            ctx.fail(f"no such command {cmd_name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        module, name, _ = COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"kernelmill.{module}"), name)
        ctx.ensure_object(Console).command = command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in COMMANDS.items()])


def _print_version(context: click.Context, _: click.Parameter, given: bool) -> None:
    if given:
        print_text(f"kernelmill {kernelmill.__version__} (Python {platform.python_version()})")
        context.exit()


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_print_version, help="Print the version."
)
@common_options
def commands() -> None:
    """Columnar MapReduce for Python: words of text counted, Parquet grouped, as compiled kernels over Arrow."""


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code; errors are printed, none is raised."""
    console = Console()
    warnings.showwarning = _show_warning
    try:
        with commands.make_context("kernelmill", list(arguments), obj=console) as context:
            result = commands.invoke(context)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.ClickException as usage:
        with quietly():
            usage.show()
        return usage.exit_code
    except (KeyboardInterrupt, click.Abort) as stop:
        say(console.interrupted_text())
        return exit_code_of(stop)
    except BrokenPipeError:
        # What is still buffered would fail again, loudly, when Python closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except KernelmillError as problem:
        return _report(problem, console)
    except Exception as problem:
        if isinstance(problem, OSError) and _is_of_printing(problem):  # click prints help by itself
            return _report(output_error(problem, "printing", STANDARD_OUTPUT), console)
        hint = "a bug of kernelmill: please report it with the lines above, the command and kernelmill --version"
        internal = error(Code.INTERNAL, f"{type(problem).__name__}: {problem}", hint=hint)
        internal.__cause__ = problem
        return _report(internal, console)


def _is_of_printing(problem: BaseException) -> bool:
    *_, (frame, _) = traceback.walk_tb(problem.__traceback__)
    return frame.f_code is click.echo.__code__


def _report(problem: KernelmillError, console: Console) -> int:
    if problem.code is Code.CANCELLED:
        say(console.interrupted_text())
        return exit_code_of(problem)
    if problem.code is Code.INTERNAL:
        say("".join(traceback.format_exception(problem.__cause__ or problem)).rstrip())
    elif console.verbose:
        for cause in _causes_of(problem):
            say(f"caused by {type(cause).__name__}: {cause}")
    shown = error(problem.code, problem.what, where=problem.where, hint=_in_options(problem.hint, console.command))
    say(f"{type(problem).__name__} {shown}")
    failed = console.job_started or problem.code is Code.INTERNAL or problem.where == STANDARD_OUTPUT
    return 1 if failed else 3


def _causes_of(problem: BaseException) -> Iterator[BaseException]:
    """What lies behind an error, the innermost first."""
    if problem.__cause__ is not None:
        yield from _causes_of(problem.__cause__)
        yield problem.__cause__


def _in_options(hint: str, command: click.Command | None) -> str:
    """A hint in the words of a command: `mode='overwrite'` is --mode overwrite, a setting without option a variable."""
    if command is None:
        return hint
    options = {param.name: max(param.opts, key=len) for param in command.params if isinstance(param, click.Option)}
    variables = {name: ENV_PREFIX + name.upper() for name in SETTING_NAMES}

    def replaced(found: re.Match[str]) -> str:
        option, value = options.get(found["name"]), found["value"]
        if option is None and found["name"] not in variables:
            return found[0]
        if value is None:
            return option or variables[found["name"]]
        return f"{option} {value}" if option else f"{variables[found['name']]}={value}"

    return re.sub(r"\b(?P<name>[a-z_]+)=(?:(?P<quote>['\"])(?P<value>.*?)(?P=quote))?", replaced, hint)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    say(f"warning: {message} [{category.__name__}]")
