"""The files of examples/cluster: kernelmill takes their commands, and their folders are there to be written."""

import re
import shlex
from pathlib import Path

import pytest

from kernelmill.cluster.cli.master import master
from kernelmill.cluster.cli.worker import worker

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "cluster"
COMPOSE = (FOLDER / "compose.yaml").read_text()
IMAGE = (FOLDER / "Containerfile").read_text()
COMMANDS = {
    **{f"compose {number}": text for number, text in enumerate(re.findall(r"^ +command: (.*)$", COMPOSE, re.M))},
    **{
        path.name: re.search(r"^ExecStart=\S+/kernelmill (.*)$", path.read_text(), re.M)[1]
        for path in FOLDER.glob("*.service")
    },
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_commands_of_the_examples_are_taken(name):
    verb, *words = shlex.split(COMMANDS[name])
    command = {"master": master, "worker": worker}[verb]
    context = command.make_context(verb, list(words))
    assert not context.args and context.params["roots"] == tuple(
        word for before, word in zip(words, words[1:], strict=False) if before == "--root"
    )


def test_there_are_a_master_and_two_workers_and_a_unit_of_each():
    assert sorted(text.split()[0] for text in COMMANDS.values()) == ["master", "master", "worker", "worker", "worker"]


def test_folders_of_volumes_are_made_in_the_image_for_its_user():
    """A new named volume takes the owner of the image's folder; where there is none, it is root's."""
    mounts = [mount for text in re.findall(r"volumes: \[(.*)\]", COMPOSE) for mount in re.findall(r'"([^"]+)"', text)]
    named = {mount.split(":")[1] for mount in mounts if mount[0] not in "./"}
    assert named == {"/state", "/scratch"}
    user = re.search(r"^USER (\S+)$", IMAGE, re.M)[1]
    before = IMAGE[: IMAGE.index("\nUSER ")]
    made = set(re.search(r"mkdir -m 0700 ([^&\n]+)", before)[1].split())
    owned = set(re.search(rf"chown {user} ([^&\n]+)", before)[1].split())
    assert named <= made == owned
    declared = set(re.search(r"^volumes: \{(.*)\}$", COMPOSE, re.M)[1].replace(": {}", "").split(", "))
    assert {mount.split(":")[0] for mount in mounts if mount[0] not in "./"} == declared


def test_the_user_of_the_containers_has_the_number_that_owns_the_keys():
    builds = re.findall(r"^ +build: (.*)$", COMPOSE, re.M)
    assert len(builds) == 3 and all('args: {USER_NUMBER: "${USER_NUMBER:-1000}"}' in build for build in builds)
    assert "ARG USER_NUMBER=1000" in IMAGE and '--uid "$USER_NUMBER"' in IMAGE
