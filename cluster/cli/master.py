"""`kernelmill master`: the process that gives out the work of a cluster."""

from __future__ import annotations

from pathlib import Path

import click

from kernelmill.cluster.keys.bundle import check_address
from kernelmill.cluster.master.process import refuse_to_unpickle
from kernelmill.cluster.master.shell import MasterShell
from kernelmill.cluster.roots import roots_given
from kernelmill.engine.cli.console import common_options, the_console


@click.command("master", short_help="Run the master of a cluster.")
@click.option(
    "--state",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Where its journal and the parts of jobs are, on a local disk.",
)
@click.option(
    "--keys",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="The folder master/ of the cluster's keys, or the folder of keys that has it.",
)
@click.option(
    "--listen", default=None, metavar="ADDR", help="Where clients come in, if not at the address of the keys."
)
@click.option(
    "--root", "roots", multiple=True, metavar="NAME=PLACE", help="A folder that all share, by its name in jobs."
)
@common_options
def master(state: Path, keys: Path, listen: str | None, roots: tuple[str, ...]) -> None:
    """Run the master of a cluster until it is interrupted. Jobs go on where they were when it starts again.

    Clients come in at its address; workers and job parts have the next two ports.
    """
    refuse_to_unpickle()
    folder = keys / "master" if (keys / "master").is_dir() else keys
    shell = MasterShell(state, folder, check_address(listen) if listen is not None else None, roots_given(roots))
    try:
        shell.run(lambda: the_console().note(f"the master listens at {shell.address}, epoch {shell.epoch}"))
    except KeyboardInterrupt:
        the_console().note("the master ends; jobs go on when it starts again")
