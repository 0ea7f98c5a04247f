"""`kernelmill clean`: clear up after dead jobs, of this machine's and of a cluster's."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Final

import click

from kernelmill.cluster.cli.client import open_link
from kernelmill.cluster.client.asking import jobs_of
from kernelmill.cluster.storage.leftovers import Leftover, staging_in, touched_s
from kernelmill.cluster.storage.publishing import remove_staging
from kernelmill.engine.cli.console import common_options, print_json, print_text, say, the_console
from kernelmill.engine.commit import clean as clean_leftovers
from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.sizes import format_things

_ENDS: Final = ("COMMITTED", "FAILED", "CANCELLED")
QUIET_S: Final = 3600.0
"""How long nothing must have been made in the staging of a job that nobody knows."""


@click.command(short_help="Remove what dead jobs left in a folder.")
@click.argument("directory")
@click.option(
    "--bundle",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Of cluster jobs as well, where the cluster of these keys says that they have ended.",
)
@click.option("--address", default=None, help="Where the master listens, if not where the bundle says.")
@click.option(
    "--forgotten",
    is_flag=True,
    help="Of cluster jobs that no cluster knows, too; without --bundle of all. Where nothing was made for an hour.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the removed paths as JSON.")
@common_options
def clean(directory: str, bundle: Path | None, address: str | None, forgotten: bool, as_json: bool) -> None:
    """Remove staging that dead jobs left in DIRECTORY, or beside it if it is an output. Living jobs are left alone.

    A job of a cluster lives as long as its master's journal knows it, whatever runs at the moment: so the master is
    asked (--bundle, an --admin client's for the jobs of all), or you say that no cluster runs jobs there (--forgotten).
    """
    found = staging_in(directory)
    removed = [] if found and not os.path.lexists(directory) else clean_leftovers(directory)
    if found:
        live, ended = _jobs_at(bundle, address, needs_all=forgotten) if bundle is not None else (set(), set())
        kept = []
        for one in found:
            if one.job in ended or (forgotten and one.job not in live and touched_s(one) < time.time() - QUIET_S):
                _remove(one)
                removed.append(one.path)
            else:
                kept.append(one)
        if kept:
            say(_why_kept(kept, live, is_asked=bundle is not None))
    if as_json:
        print_json(removed)
        return
    for path in removed:
        print_text(path)
    the_console().note(f"removed {format_things(len(removed), 'leftover')}")


def _jobs_at(bundle: Path, address: str | None, *, needs_all: bool) -> tuple[set[bytes], set[bytes]]:
    """The jobs that live and those that have ended, as far as these keys may know. KM0602 if they must know all."""
    with open_link(bundle, address) as link:
        try:
            rows = jobs_of(link, everybodys=True)
        except KernelmillError as problem:
            if problem.code is not Code.REFUSED:
                raise
            if needs_all:
                what = "--forgotten takes --admin keys: others do not know the jobs of all"
                raise error(Code.REFUSED, what, hint="kernelmill keys add-client NAME --admin makes some") from problem
            rows = jobs_of(link)
    return {row.job for row in rows if row.state not in _ENDS}, {row.job for row in rows if row.state in _ENDS}


def _remove(one: Leftover) -> None:
    try:
        remove_staging(one.target, one.job)
    except (OSError, KernelmillError) as problem:
        if os.path.lexists(one.path):  # and nobody else has removed it
            raise error(Code.COMMIT, f"this cannot be removed: {problem}", where=one.path) from problem


def _why_kept(kept: list[Leftover], live: set[bytes], *, is_asked: bool) -> str:
    many = f"{format_things(len(kept), 'folder')} of cluster jobs stay"
    if not is_asked:
        return f"{many}, such as {kept[0].path}: --bundle FILE asks their cluster; --forgotten if none runs jobs there"
    lives = sum(one.job in live for one in kept)
    return f"{many}: {lives} of jobs that live, {len(kept) - lives} of jobs that the cluster does not know"
