"""`kernelmill warm`: compile every kernel now, so that no job waits for it."""

from __future__ import annotations

import click

from kernelmill.engine.cli.console import JobWatch, common_options, print_json, the_console
from kernelmill.engine.events import COMPILE_KERNELS, PhaseEnded, PhaseStarted
from kernelmill.engine.sizes import format_duration
from kernelmill.kernels import _jit, usercode


@click.command(short_help="Compile all kernels into the cache.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
@common_options
def warm(as_json: bool) -> None:
    """Compile every kernel that the cache lacks, and what maps and other functions of yours may do with texts.

    A job compiles what it needs by itself; images and CI do it before.
    """
    console = the_console()
    with JobWatch(console) as watch:

        def compiling(name: str) -> None:
            watch(PhaseStarted(COMPILE_KERNELS, name))

        count, kernel_seconds = _jit.warm(compiling)
        methods, method_seconds = usercode.warm(compiling)
        seconds = kernel_seconds + method_seconds
        watch(PhaseEnded(COMPILE_KERNELS, seconds))
    directory = _jit.cache_directory()
    compiled = watch.kernels_compiled
    if as_json:
        found = {"kernels": count, "text_methods": methods, "compiled": compiled}
        print_json({**found, "seconds": round(seconds, 3), "cache": directory})
        return
    done = f"{compiled} compiled in {format_duration(seconds)}" if compiled else "all in the cache"
    console.note(f"{count} kernels, {methods} methods of texts, {done}: {directory or 'no cache, nothing is kept'}")
