"""The command line: `kernelmill COMMAND`, the same as `python -m kernelmill COMMAND`.

Exit codes: 0 done; 1 the job failed, or an output is not what its manifest says; 2 usage; 3 the plan, a setting or an
input was wrong before the job started; 130 interrupted; 141 the reader of standard output went away.
"""

from __future__ import annotations

import contextlib
import difflib
import gc
import importlib
import os
import platform
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import Any

import click

import kernelmill
from kernelmill.engine.cli.console import Console, common_options
from kernelmill.engine.errors import Code, KernelmillError, error

# command: (its module below kernelmill, its name there, its line in the help). A table, so that help loads no module:
# most of them import pyarrow.
_COMMANDS = {
    "demo": ("engine.cli.demo", "demo", "Count the words of the King James Bible, which ships with kernelmill."),
    "wordcount": ("engine.cli.wordcount", "wordcount", "Count the words of text files into Parquet."),
    "show": ("engine.cli.outputs", "show", "Print the first rows, the schema and the manifest of Parquet."),
    "check": ("engine.cli.outputs", "check", "Re-read an output and compare it with its manifest."),
    "clean": ("engine.cli.outputs", "clean", "Remove what dead jobs left in a folder."),
    "warm": ("engine.cli.warm", "warm", "Compile all kernels into the cache."),
    "config": ("engine.cli.house", "config", "List the settings, their values and where each was given."),
    "error": ("engine.cli.house", "explain_error", "Explain an error code, or list them all."),
}
_BROKEN_PIPE = 141  # as for any filter that SIGPIPE ends


class _LazyGroup(click.Group):
    """A group that imports a command's module when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        if cmd_name not in _COMMANDS:
            near = difflib.get_close_matches(cmd_name, _COMMANDS, n=1)
            ctx.fail(f"no such command {cmd_name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        module, name, _ = _COMMANDS[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"kernelmill.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, _, text) in _COMMANDS.items()])


def _print_version(context: click.Context, _: click.Parameter, given: bool) -> None:
    if given:
        click.echo(f"kernelmill {kernelmill.__version__} (Python {platform.python_version()})")
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
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as leave:
        return leave.exit_code
    except click.ClickException as usage:
        usage.show()
        return usage.exit_code
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted: no output was published", err=True)
        return 130
    except BrokenPipeError:
        # What is still buffered would fail again, loudly, when Python closes the stream.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except KernelmillError as problem:
        return _report(problem, console)
    except Exception as problem:
        hint = "a bug of kernelmill: please report it with the lines above, the command and kernelmill --version"
        traceback.print_exception(problem)
        click.echo(_error_text(error(Code.INTERNAL, f"{type(problem).__name__}: {problem}", hint=hint)), err=True)
        return 1


def _report(problem: KernelmillError, console: Console) -> int:
    if problem.code is Code.CANCELLED:
        click.echo("interrupted: no output was published", err=True)
        return 130
    if console.verbose:
        traceback.print_exception(problem)
    click.echo(_error_text(problem), err=True)
    return 1 if console.job_started or problem.code is Code.INTERNAL else 3


def _error_text(problem: KernelmillError) -> str:
    return f"{type(problem).__name__} {problem}"


def _show_warning(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
    click.echo(f"warning: {message} [{category.__name__}]", err=True)


def main() -> None:
    """Run the command line of this process and exit."""
    gc.set_threshold(50_000, 20, 50)  # imports make much that lives and little garbage: 0.04 s of a 0.5 s start
    code = run(sys.argv[1:])
    with contextlib.suppress(OSError, ValueError):  # a reader that went away has been dealt with by run
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)  # jobs have freed what outlives them; taking the interpreter apart costs 0.1 s more


if __name__ == "__main__":
    main()
