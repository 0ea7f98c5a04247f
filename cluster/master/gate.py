"""Who may come in: the allow lists, read again every two seconds, asked at each handshake and for each message.

A peer is known by its public key, which the Door gives as User-Id; its name is what the list says of that key now. So a
key that is taken from a list is a stranger's from the next reading on, connected or not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from kernelmill.cluster.keys.allow import Allowed, AllowedPeer
from kernelmill.cluster.logs import cluster_log

WORKERS: Final = "workers"
CLIENTS: Final = "clients"
_log = cluster_log()


class Gate:
    """The lists of one folder. `refresh` reads them anew and returns the keys that lost their right."""

    def __init__(self, folder: Path) -> None:
        self._allowed = Allowed(folder)
        self.refresh()

    def refresh(self) -> frozenset[str]:
        """Read the lists; never raises: while they cannot be read nobody is allowed."""
        before = self._allowed.problem
        lost = self._allowed.refresh()
        problem = self._allowed.problem
        if problem is not None and (before is None or before.what != problem.what):
            _log.error("nobody may come in: %s", problem)
        return lost

    def decide(self, domain: str, key: str, address: str) -> str | None:
        """What a Door asks: the User-Id of a key that may come in at this domain, which is the key itself."""
        return key if self.peer(domain, key) is not None else None

    def peer(self, domain: str, key: str) -> AllowedPeer | None:
        """The line of a key in the list of a domain, now."""
        if domain == WORKERS:
            return self._allowed.workers.get(key)
        return self._allowed.clients.get(key) if domain == CLIENTS else None

    def is_worker(self, name: str) -> bool:
        """Tell whether a name is a worker's; no client has the same."""
        return any(peer.name == name for peer in self._allowed.workers.values())

    def worker_names(self) -> dict[str, str]:
        """The names of all workers that may come in, by public key."""
        return {key: peer.name for key, peer in self._allowed.workers.items()}
