"""`kernelmill jobs|workers|logs|cancel|drain|top`: what people ask a cluster, with a client's bundle."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from kernelmill.cluster.cli.onejob import job_fields, job_text
from kernelmill.cluster.client import asking
from kernelmill.cluster.client.link import Link
from kernelmill.cluster.keys.allow import check_name
from kernelmill.cluster.keys.bundle import check_address, read_bundle
from kernelmill.cluster.messages import JobRow, LogRow, WorkerRow
from kernelmill.cluster.sockets import new_context
from kernelmill.engine.cli.console import common_options, print_json, print_text, table_text, the_console
from kernelmill.engine.printable import printable
from kernelmill.engine.sizes import format_bytes, format_count

_FOLLOW_S = 0.5
_CLEAR = "\x1b[2J\x1b[H"

_bundle = click.option(
    "--bundle",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    metavar="FILE",
    help="This client's keys, from kernelmill keys add-client.",
)
_address = click.option("--address", default=None, help="Where the master listens, if not where the bundle says.")
_as_json = click.option("--json", "as_json", is_flag=True, help="Print as JSON.")
_everybodys = click.option("--all", "everybodys", is_flag=True, help="Those of other clients too; for --admin keys.")


def name_in(bundle: Path) -> str:
    """The name of the client whose keys these are."""
    return read_bundle(bundle, "client").name


@contextlib.contextmanager
def open_link(bundle: Path, address: str | None) -> Iterator[Link]:
    """A connection with the keys of a bundle, to its master or the one at `address`."""
    keys = read_bundle(bundle, "client")
    context = new_context()
    try:
        with Link(context, keys, keys.address if address is None else check_address(address)) as link:
            yield link
    finally:
        context.destroy(linger=200)


@click.command("jobs", short_help="List the jobs of a cluster, or show one.")
@click.argument("job", required=False)
@_bundle
@_address
@_everybodys
@_as_json
@common_options
def jobs(job: str | None, bundle: Path, address: str | None, everybodys: bool, as_json: bool) -> None:
    """List the jobs of this client, the newest first: what runs, and how ended ones ended.

    With JOB, how far it is, stage by stage, or what it left. Its job_id= or the first letters of its id will do.
    """
    with open_link(bundle, address) as link:
        if job is not None:
            found = asking.look_at(link, asking.job_named(link, job, name_in(bundle)))
            if as_json:
                print_json(job_fields(found))
            else:
                print_text(job_text(found))
            return
        rows = asking.jobs_of(link, everybodys=everybodys)
    if as_json:
        print_json([_job_fields(row) for row in rows])
    else:
        print_text(_jobs_table(rows))


@click.command("workers", short_help="List the workers of a cluster.")
@_bundle
@_address
@_as_json
@common_options
def workers(bundle: Path, address: str | None, as_json: bool) -> None:
    """List the workers that are here, with what they run and have."""
    with open_link(bundle, address) as link:
        rows = asking.workers_of(link)
    if as_json:
        print_json([{name: getattr(row, name) for name in row.__struct_fields__} for row in rows])
    else:
        print_text(_workers_table(rows))


@click.command("logs", short_help="Print what the tasks of a job wrote.")
@click.argument("job")
@click.option("-f", "--follow", is_flag=True, help="Go on printing what is written, until Ctrl-C.")
@_bundle
@_address
@_as_json
@common_options
def logs(job: str, follow: bool, bundle: Path, address: str | None, as_json: bool) -> None:
    """Print what the tasks of JOB wrote to standard output and error.

    JOB is its job_id=, or the first letters of its id. The master keeps the last lines of each job while it lives.
    """
    with open_link(bundle, address) as link:
        number = asking.job_named(link, job, name_in(bundle))
        rows, after = asking.log_of(link, number)
        if as_json:
            print_json([_log_fields(row) for row in rows])
            return
        while True:
            for row in rows:
                print_text(f"{row.worker} {row.stage}.{row.index}#{row.attempt} {printable(row.text)}")
            if not follow:
                break
            time.sleep(_FOLLOW_S)
            rows, after = asking.log_of(link, number, after)


@click.command("cancel", short_help="End a job without output.")
@click.argument("job")
@_bundle
@_address
@common_options
def cancel(job: str, bundle: Path, address: str | None) -> None:
    """End JOB without output.

    JOB is its job_id=, or the first letters of its id; with --admin keys it may be somebody else's.
    """
    with open_link(bundle, address) as link:
        number = asking.job_named(link, job, name_in(bundle))
        asking.cancel_job(link, number)
    the_console().note(f"job {number.hex()} is being cancelled")


@click.command("drain", short_help="Let a worker finish and go.")
@click.argument("worker")
@_bundle
@_address
@common_options
def drain(worker: str, bundle: Path, address: str | None) -> None:
    """Give WORKER no new tasks; it goes when nobody needs what it has. Takes --admin keys."""
    with open_link(bundle, address) as link:
        asking.drain_worker(link, check_name(worker))
    the_console().note(f"{worker} takes no new tasks, and goes when nobody needs what it has")


@click.command("top", short_help="Watch the workers and jobs of a cluster.")
@click.option("--once", is_flag=True, help="Print it once.")
@_bundle
@_address
@_everybodys
@common_options
def top(once: bool, bundle: Path, address: str | None, everybodys: bool) -> None:
    """Show workers and jobs, again each second until Ctrl-C."""
    with open_link(bundle, address) as link:
        while True:
            here, known = asking.workers_of(link), asking.jobs_of(link, everybodys=everybodys)
            slots, running = sum(one.slots for one in here), sum(one.running for one in here)
            head = f"{len(here)} workers, {running} of {slots} slots run"
            page = "\n\n".join([head, _workers_table(here), _jobs_table(known[:20])])
            if once:
                print_text(page)
                return
            print_text(_CLEAR + page)
            time.sleep(1.0)


def _job_fields(row: JobRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__struct_fields__} | {"job": row.job.hex()}


def _log_fields(row: LogRow) -> dict[str, Any]:
    return {name: getattr(row, name) for name in row.__struct_fields__} | {"attempt": str(row.attempt)}


def _jobs_table(rows: list[JobRow]) -> str:
    cells = [
        (
            row.job.hex()[:12],
            row.client,
            row.state,
            f"{format_count(row.committed)} of {format_count(row.tasks)}",
            printable(row.output),
            printable(row.code) or "-",
        )
        for row in rows
    ]
    return table_text(["job", "client", "state", "tasks", "output", "code"], cells)


def _workers_table(rows: list[WorkerRow]) -> str:
    cells = [
        (
            row.name,
            row.state,
            printable(row.host) or "-",
            f"{row.running} of {row.slots}",
            format_bytes(row.rss_bytes, binary=True),
            format_bytes(row.memory_bytes, binary=True),
            format_bytes(row.disk_free_bytes, binary=True),
        )
        for row in rows
    ]
    head = ["worker", "state", "host", "running", "memory used", "memory", "disk free"]
    return table_text(head, cells, right=[3, 4, 5, 6])
