"""A mount namespace for a whole cluster: small disks that all its processes see, and this one from outside.

`Room.run` starts programs in it, in the way of subprocess.Popen; `Room.path` is how a file in it is called from here.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import smalldisk


class Room:
    """The namespace lives as long as its keeper, which ends when its input does, so when this process does."""

    def __init__(self, disks: Mapping[Path, str]) -> None:
        words = smalldisk.command(["sh", "-c", "echo ready; exec cat"], disks)
        self._keeper = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._keeper.stdout is not None and self._keeper.stdout.readline() == b"ready\n"
        self._enter = ["nsenter", "--target", str(self._keeper.pid), "--user", "--mount", "--preserve-credentials"]

    def run(self, _: str, argv: Sequence[object], **options: Any) -> subprocess.Popen[Any]:
        """Start a program in the room, as `rig.Launch`."""
        return subprocess.Popen([*self._enter, *(str(word) for word in argv)], **options)

    def path(self, path: Path) -> Path:
        """The file of this name as the room has it, for this process."""
        return Path(f"/proc/{self._keeper.pid}/root{path}")

    def close(self) -> None:
        """Let the namespace go, once nobody is in it any more."""
        assert self._keeper.stdin is not None and self._keeper.stdout is not None
        self._keeper.stdin.close()
        self._keeper.wait(10)
        self._keeper.stdout.close()
