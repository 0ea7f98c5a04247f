"""`kernelmill run FILE.py:JOB`: run a MapReduce, a frame, or a function that returns one, from a user's file."""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from types import ModuleType
from typing import Any

import click

from kernelmill.engine.cli.console import JobWatch, common_options, size, the_console
from kernelmill.engine.cli.wordcount import written_text
from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.frame import LazyFrame
from kernelmill.engine.mapreduce.job import MapReduce
from kernelmill.engine.options import unknown_name
from kernelmill.engine.origin import short_path
from kernelmill.engine.scan import scan_text
from kernelmill.engine.userfunctions import shown

_MODULE = "__kernelmill_job__"
_STARRED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


@click.command(short_help="Run a MapReduce or a frame that a Python file defines.")
@click.argument("target", metavar="FILE.py:JOB")
@click.argument("inputs", nargs=-1, metavar="[INPUT...]")
@click.option("-o", "--output", required=True, help="A folder for part files, or one file if it ends in .parquet.")
@click.option(
    "--mode",
    type=click.Choice(["error", "overwrite"]),
    default="error",
    show_default=True,
    help="What to do if the output is there.",
)
@click.option("--encoding", metavar="NAME", help="Encoding of the text of INPUT, such as cp1252; default utf-8.")
@click.option(
    "--invalid",
    type=click.Choice(["error", "replace", "skip", "binary"]),
    help="What to do about bytes of INPUT that are not valid in the encoding; default: error.",
)
@click.option("--on-bad", type=click.Choice(["error", "reject"]), help="What to do about records that fail.")
@click.option("--max-rejects", type=click.IntRange(0), metavar="N", help="More rejected records fail the job.")
@click.option("--threads", type=click.IntRange(1, 1024), metavar="N", help="Threads; default: the usable cores.")
@click.option(
    "--memory", type=size, metavar="SIZE", help="Memory to stay within, such as 4GiB; default: half of what there is."
)
@click.option("--partitions", type=click.IntRange(1), metavar="N", help="Part files; default from the input's size.")
@click.option(
    "--split-size",
    type=size,
    metavar="SIZE",
    help="Bytes of input that one task reads; default 64 MiB. Changes output bytes.",
)
@common_options
def run(
    target: str,
    inputs: tuple[str, ...],
    output: str,
    mode: str,
    encoding: str | None,
    invalid: str | None,
    **given: Any,
) -> None:
    """Run JOB of FILE.py over INPUT (files, globs, folders of text) into Parquet.

    JOB is a km.MapReduce, which needs INPUT; a LazyFrame, which has its own; or a function that returns either and is
    called with the inputs as a list, if it takes an argument.

    \b
    kernelmill run wordcount.py:job 'books/*.txt' -o counts/
    """
    console = the_console()
    named, jobs = _named_in(target)
    found = _job_or_frame(named, target, list(inputs), jobs)
    settings = {name: value for name, value in given.items() if value is not None}
    reading: dict[str, Any] = {
        name: one for name, one in (("encoding", encoding), ("invalid", invalid)) if one is not None
    }
    if reading and not isinstance(found, tuple):
        raise click.UsageError(
            f"--{next(iter(reading))} is for INPUT of a MapReduce: {target} is a frame that reads itself"
        )
    console.writes(output)
    with JobWatch(console) as watch:
        if isinstance(found, LazyFrame):
            result = found.sink_parquet(output, mode=mode, progress=watch, **settings)
        else:
            job, paths = found
            result = job.run(scan_text(paths, **reading), output=output, mode=mode, progress=watch, **settings)
    console.note(written_text(result, output))
    for name, count in result.counters.items():
        console.note(f"{name}: {count:,}")
    console.detail(watch.detail_text())


def _job_or_frame(
    found: Any, target: str, inputs: list[str], jobs: list[str]
) -> LazyFrame | tuple[MapReduce, list[str]]:
    """What to run: a frame, or a job and its inputs; of a function, what it returns.

    jobs: what else the file has to name.
    """
    is_made = False
    if not isinstance(found, MapReduce | LazyFrame) and callable(found):
        wanted = _arguments_of(found)
        if wanted > 1 or isinstance(found, type):
            kind = "a class" if isinstance(found, type) else f"a function of {wanted} arguments"
            raise _no_job(f"{target} is {kind}", target, jobs)
        takes = wanted != 0
        if inputs and not takes:
            raise click.UsageError(f"{target} takes no inputs: it is a function without arguments")
        found = _returned(found, [inputs] if takes else [], target)
        inputs, is_made = [] if isinstance(found, LazyFrame) else inputs, True
    if isinstance(found, MapReduce):
        if not inputs:
            raise click.UsageError(f"{target} is a MapReduce: name the INPUT to run it over")
        return found, inputs
    if isinstance(found, LazyFrame):
        if inputs:
            raise click.UsageError(f"{target} is a frame, which has its inputs already")
        return found
    given = "gives" if is_made else "is"
    raise _no_job(
        f"{target} {given} {type(found).__name__} {shown(found)}, not something that can be run", target, jobs
    )


def _arguments_of(function: Any) -> int:
    """How many arguments a function cannot do without, or 1 where it can but takes one."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # a builtin, which does not say
        return 1
    needed = sum(one.default is one.empty and one.kind not in _STARRED for one in parameters)
    return needed or min(1, len(parameters))


def _returned(function: Any, arguments: list[Any], target: str) -> Any:
    """What a function of the user's returns; KM0301 for what it raises."""
    try:
        return function(*arguments)
    except KernelmillError:
        raise
    except Exception as problem:
        what = f"{target} raised {type(problem).__name__}: {problem}"
        where = _line_in(problem, target.rpartition(":")[0])
        raise error(Code.FUNCTION_FAILED, what, where=where, hint="-v shows more") from problem


def _no_job(what: str, target: str, jobs: list[str]) -> KernelmillError:
    path = target.rpartition(":")[0]
    there = f", such as {', '.join(f'{path}:{name}' for name in jobs)}" if jobs else f", of which {path} has none"
    hint = f"name a km.MapReduce or a LazyFrame{there}; or a function that returns one"
    return error(Code.BAD_SETTING, what, where=path, hint=hint)


def _named_in(target: str) -> tuple[Any, list[str]]:
    """The object that FILE.py:JOB names, and the names of all jobs and frames there."""
    path, colon, name = target.rpartition(":")
    if not colon or not path or not name:
        raise click.UsageError(f"{target!r} names no job: write FILE.py:JOB")
    if not os.path.isfile(path):
        raise error(Code.INPUT_NOT_FOUND, f"{path} is not there", hint="name the Python file that defines the job")
    module = _load(path)
    known = [other for other, value in vars(module).items() if isinstance(value, MapReduce | LazyFrame)]
    if not hasattr(module, name):
        raise unknown_name(path, name, known, {})
    return getattr(module, name), known


def _load(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(_MODULE, path)
    if spec is None or spec.loader is None:
        hint = "jobs are in files that end in .py"
        raise error(Code.BAD_SETTING, f"{path} cannot be loaded as Python", hint=hint)
    module = importlib.util.module_from_spec(spec)
    sys.modules[_MODULE] = module
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))  # the file's neighbours are what it may import
    try:
        spec.loader.exec_module(module)
    except KernelmillError:
        raise
    except Exception as problem:
        what = f"{short_path(path)} raised {type(problem).__name__}: {problem}"
        raise error(Code.FUNCTION_FAILED, what, where=_line_in(problem, path), hint="-v shows more") from problem
    return module


def _line_in(problem: BaseException, path: str) -> str:
    found, frame = short_path(path), problem.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename == os.path.abspath(path):
            found = f"{short_path(path)}:{frame.tb_lineno}"
        frame = frame.tb_next
    if isinstance(problem, SyntaxError) and problem.lineno:
        found = f"{short_path(problem.filename or path)}:{problem.lineno}"
    return found
