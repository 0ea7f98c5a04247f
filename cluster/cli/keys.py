"""`kernelmill keys`: who may take part in a cluster."""

from __future__ import annotations

import difflib
from pathlib import Path

import click

from kernelmill.cluster.keys import folder as keys_folder
from kernelmill.cluster.keys.bundle import ADDRESS
from kernelmill.engine.cli.console import common_options, print_json, print_text, table_text, the_console

_folder = click.option(
    "--keys",
    "folder",
    type=click.Path(path_type=Path),
    default=Path("keys"),
    show_default=True,
    metavar="DIR",
    help="The folder of keys.",
)


class _KeysGroup(click.Group):
    """A group that knows its commands in the order in which they are needed, and the nearest one to a wrong name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command:
        if cmd_name not in self.commands:
            near = difflib.get_close_matches(cmd_name, self.commands, n=1)
            ctx.fail(f"no such command 'keys {cmd_name}'" + (f"; did you mean 'keys {near[0]}'?" if near else ""))
        return self.commands[cmd_name]


@click.group("keys", cls=_KeysGroup, short_help="Make, list and remove the keys of a cluster.")
@common_options
def keys() -> None:
    """Make, list and remove the keys of a cluster.

    Do this on a machine of the administrator's. The folder master/ is for the master's host, each bundle for its worker
    or client. Who has a client's bundle may run code on the workers.
    """


@keys.command("init", short_help="Make the folder of keys.")
@click.option("--address", default=ADDRESS, show_default=True, help="Where the master will listen for clients.")
@_folder
@common_options
def init(folder: Path, address: str) -> None:
    """Make the folder of keys of a new cluster. An existing one is never changed.

    The ADDRESS is written into every bundle. Workers and job parts take the two ports after it.
    """
    keys_folder.init(folder, address)
    the_console().note(f"keys for {address} are in {folder}; {folder / 'master'} is for the master's host")
    the_console().note("next: kernelmill keys add-worker NAME, kernelmill keys add-client NAME")


@keys.command("add-worker", short_help="Make the keys of a worker, and allow it.")
@click.argument("name")
@click.option("--host", default="", help="Where others find the worker's data, if not where the master sees it.")
@_folder
@common_options
def add_worker(folder: Path, name: str, host: str) -> None:
    """Make the keys of the worker NAME, allow it, and print the path of its bundle."""
    print_text(str(keys_folder.add(folder, "worker", name, host=host)))
    the_console().note(f"copy it to the worker's host, readable for its user alone; {name} is allowed from now on")


@keys.command("add-client", short_help="Make the keys of a client, and allow it.")
@click.argument("name")
@click.option("--admin", is_flag=True, help="Let it see and cancel jobs of others.")
@_folder
@common_options
def add_client(folder: Path, name: str, admin: bool) -> None:
    """Make the keys of the client NAME, allow it, and print the path of its bundle."""
    print_text(str(keys_folder.add(folder, "client", name, is_admin=admin)))
    the_console().note(f"give it to {name}, readable for nobody else: its holder may run code on the workers")


@keys.command("list", short_help="List who is allowed.")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@_folder
@common_options
def list_peers(folder: Path, as_json: bool) -> None:
    """List who is allowed, with public keys; secrets are never printed."""
    peers = keys_folder.peers_of(folder)
    if as_json:
        rows = [
            (one.role, one.peer.name, one.peer.is_admin, one.peer.host, one.peer.key, one.has_bundle) for one in peers
        ]
        print_json([dict(zip(("role", "name", "admin", "host", "key", "bundle"), row, strict=True)) for row in rows])
        return
    table = [
        (
            one.role,
            one.peer.name,
            "yes" if one.peer.is_admin else "-",
            one.peer.host or "-",
            one.peer.key,
            "here" if one.has_bundle else "-",
        )
        for one in peers
    ]
    print_text(table_text(["role", "name", "admin", "host", "public key", "bundle"], table))


@keys.command("remove", short_help="Take the right of a worker or client away.")
@click.argument("name")
@_folder
@common_options
def remove(folder: Path, name: str) -> None:
    """Take the right of the worker or client NAME away, and remove its bundle from the folder.

    A master with a copy of the folder master/ needs the changed list. All bundles share the code key: if one was
    stolen, make the keys of the whole cluster anew.
    """
    role = keys_folder.remove(folder, name)
    the_console().note(f"the {role} {name} is no longer allowed")
