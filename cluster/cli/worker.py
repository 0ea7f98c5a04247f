"""`kernelmill worker`: one worker of a cluster."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from kernelmill.cluster.cli.seconds import Seconds
from kernelmill.cluster.filelimit import check_file_limit, raise_file_limit
from kernelmill.cluster.keys.bundle import read_bundle
from kernelmill.cluster.master.process import refuse_to_unpickle
from kernelmill.cluster.roots import roots_given
from kernelmill.cluster.worker.listedfunctions import check_listed
from kernelmill.cluster.worker.slotframes import REGISTERED_MAX
from kernelmill.cluster.worker.supervisor import Supervisor, SupervisorSettings
from kernelmill.engine.cli.console import common_options, say, size, the_console
from kernelmill.engine.errors import Code, error
from kernelmill.engine.settings import resolve
from kernelmill.engine.sizes import format_bytes

SLOT_BYTES_MIN = 64 << 20


@click.command("worker", short_help="Be a worker of a cluster until told to go.")
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    required=True,
    metavar="FILE",
    help="The worker's keys, made by kernelmill keys add-worker.",
)
@click.option("--slots", type=click.IntRange(1, 1024), help="Tasks at a time; as many as cores if not given.")
@click.option(
    "--memory", type=size, metavar="SIZE", help="For the tasks of all slots; half the machine's if not given."
)
@click.option(
    "--scratch",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where blocks lie between stages, on a local disk; spill_dir if not given.",
)
@click.option(
    "--root", "roots", multiple=True, metavar="NAME=DIR", help="A shared folder and its name in jobs; give each one."
)
@click.option(
    "--registered",
    multiple=True,
    metavar="MODULE:FUNCTION",
    help="Run no code of users but this function; give each one.",
)
@click.option(
    "--hung-after",
    "hung_s",
    type=Seconds(2.0, 86_400.0),
    default=30.0,
    show_default=True,
    metavar="SECONDS",
    help="Of a task without a sign of life: how long one record may take.",
)
@common_options
def worker(
    bundle: Path,
    slots: int | None,
    memory: int | None,
    scratch: Path | None,
    roots: tuple[str, ...],
    registered: tuple[str, ...],
    hung_s: float,
) -> int:
    """Be a worker of the cluster that the bundle belongs to, until told to go.

    The first SIGTERM lets it finish what others need and go; a second one, or Ctrl-C, ends it at once, and its tasks
    are run elsewhere. Functions of users run in processes of their own, with this user's rights.
    """
    if not sys.platform.startswith("linux"):
        hint = "run workers on Linux, or in a container; masters and clients run elsewhere too"
        raise error(Code.VERSION, f"a worker needs Linux, this is {sys.platform}", hint=hint)
    refuse_to_unpickle()
    check_file_limit()
    raise_file_limit()
    given = resolve(threads=slots, memory=memory, spill_dir=str(scratch) if scratch is not None else None)
    if given.memory_bytes // given.threads < SLOT_BYTES_MIN:
        what = f"{format_bytes(given.memory_bytes)} are too little for {given.threads} slots"
        least = format_bytes(given.threads * SLOT_BYTES_MIN, binary=True)
        raise error(Code.BAD_SETTING, what, where="--memory", hint=f"give at least {least}, or fewer slots")
    names = _checked(registered)
    check_listed(names)
    settings = SupervisorSettings(
        bundle=read_bundle(bundle, "worker"),
        slots=given.threads,
        memory_bytes=given.memory_bytes,
        scratch=Path(given.spill_dir).absolute(),
        roots=roots_given(roots),
        registered=names or None,
        say=lambda text: say(f"kernelmill worker: {text}"),
        hung_s=hung_s,
    )
    supervisor = Supervisor(settings)
    the_console().note(
        f"worker {settings.bundle.name}: {settings.slots} slots, {format_bytes(settings.memory_bytes, binary=True)}, "
        f"scratch in {settings.scratch}; the master is at {settings.bundle.address}"
    )
    return supervisor.run()


def _checked(names: tuple[str, ...]) -> tuple[str, ...]:
    """The names of functions, each a module's. Raises KM0107."""
    if len(names) > REGISTERED_MAX:
        raise error(Code.BAD_SETTING, f"{len(names)} functions are too many", hint=f"up to {REGISTERED_MAX}")
    for name in names:
        module, colon, function = name.partition(":")
        if not (colon and function.isidentifier() and all(part.isidentifier() for part in module.split("."))):
            hint = "name a module and a function in it, as in --registered company.jobs:count_words"
            raise error(Code.BAD_SETTING, f"no function can be called {name!r}", where="--registered", hint=hint)
    return names
