"""`kernelmill master`: the process that gives out the work of a cluster."""

from __future__ import annotations

from pathlib import Path

import click

from kernelmill.cluster.cli.seconds import Seconds
from kernelmill.cluster.filelimit import check_file_limit
from kernelmill.cluster.keys.bundle import check_address
from kernelmill.cluster.master.process import refuse_to_unpickle
from kernelmill.cluster.master.shell import LOST_S, MasterShell
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
@click.option(
    "--lost-after",
    "lost_s",
    type=Seconds(2.0, LOST_S),
    default=LOST_S,
    show_default=True,
    metavar="SECONDS",
    help="How long a worker may say nothing before its work is done elsewhere.",
)
@click.option(
    "--status-port",
    type=click.IntRange(0, 65535),
    default=0,
    metavar="PORT",
    help="Where on 127.0.0.1 the status page is, if not at any port that is free.",
)
@click.option("--no-status", is_flag=True, help="Serve no status page.")
@common_options
def master(
    state: Path,
    keys: Path,
    listen: str | None,
    roots: tuple[str, ...],
    lost_s: float,
    status_port: int,
    no_status: bool,
) -> None:
    """Run the master of a cluster until it is interrupted. Jobs go on where they were when it starts again.

    Clients come in at its address; workers and job parts have the next two ports. It prints the address of a page for
    browsers of this machine that shows jobs and workers; whoever has that address may read it.
    """
    refuse_to_unpickle()
    check_file_limit()
    folder = keys / "master" if (keys / "master").is_dir() else keys
    address = check_address(listen) if listen is not None else None
    shell = MasterShell(state, folder, address, roots_given(roots), lost_s, None if no_status else status_port)

    def listening() -> None:
        the_console().note(f"the master listens at {shell.address}, epoch {shell.epoch}")
        if shell.is_behind:
            the_console().note(
                "its journal lost its end: jobs and results of before may be unknown, outputs are not touched"
            )
        if shell.status_url:
            the_console().note(f"its status page is at {shell.status_url}")

    try:
        shell.run(listening)
    except KeyboardInterrupt:
        the_console().note("the master ends; jobs go on when it starts again")
