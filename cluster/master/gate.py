"""Who may come in: the allow lists, read again every two seconds, asked at each handshake and for each message.

A peer is known by its public key, which the Door gives as User-Id; its name is what the list says of that key now. So a
key that is taken from a list is a stranger's from the next reading on, connected or not. Only a list that was read
whole can say so: one that is missing for a moment, or cannot be opened, closes the door and ends nobody's session.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from kernelmill.cluster.filelimit import reserve
from kernelmill.cluster.keys.allow import CLIENTS as CLIENTS_LIST
from kernelmill.cluster.keys.allow import WORKERS as WORKERS_LIST
from kernelmill.cluster.keys.allow import Allowed, AllowedPeer
from kernelmill.cluster.logs import cluster_log
from kernelmill.cluster.sockets import LATER

WORKERS: Final = "workers"
CLIENTS: Final = "clients"
_log = cluster_log()


class Gate:
    """The lists of one folder. `refresh` reads them anew and returns the keys that lost their right."""

    def __init__(self, folder: Path) -> None:
        self._allowed = Allowed(folder)
        self.refresh()

    def refresh(self) -> frozenset[str]:
        """Read the lists; never raises: while they cannot be read nobody comes in, and who is in stays."""
        before = self._allowed.problem
        with reserve():
            lost = self._allowed.refresh()
        problem = self._allowed.problem
        if problem is None:
            if before is not None:
                _log.warning("the lists of keys can be read again, and what they say holds")
        elif before is None or (before.what, before.where) != (problem.what, problem.where):
            _log.error("%s", problem)
            _log.error(
                "the lists of keys cannot be read: nobody comes in, who is in stays, and nobody can be taken off "
                "until %s and %s are whole again: put the file back, or stop this master",
                *(self._allowed.folder / name for name in (WORKERS_LIST, CLIENTS_LIST)),
            )
        return lost

    def decide(self, domain: str, key: str, address: str) -> str | None:
        """What a Door asks: the User-Id of a key that may come in at this domain, which is the key itself.

        While the lists cannot be read that is nobody; who was allowed by the last ones shall come again.
        """
        if self.peer(domain, key) is None:
            return None
        return key if self._allowed.problem is None else LATER

    def peer(self, domain: str, key: str) -> AllowedPeer | None:
        """The line of a key in the last list of a domain that could be read."""
        if domain == WORKERS:
            return self._allowed.workers.get(key)
        return self._allowed.clients.get(key) if domain == CLIENTS else None

    def is_worker(self, name: str) -> bool:
        """Tell whether a name is a worker's; no client has the same."""
        return any(peer.name == name for peer in self._allowed.workers.values())

    def worker_names(self) -> dict[str, str]:
        """The names of all workers that may come in, by public key."""
        return {key: peer.name for key, peer in self._allowed.workers.items()}
