"""Sessions: who is here, who went silent, and when the next one is due. One worker name has one session at most.

REGISTERED   gets work
SUSPECT      silent for `suspect_s`, or its connection ended: no new work, any message makes it REGISTERED again
DRAINING     gets no new work; goes when nothing it has is needed
LOST         over; the worker comes back as a new session
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from typing import Final

REGISTERED: Final = "REGISTERED"
SUSPECT: Final = "SUSPECT"
DRAINING: Final = "DRAINING"
LOST: Final = "LOST"

BEATS_MISSED_S: Final = 2.5
"""Who says nothing for longer fell silent before its connection ended: those to hosts that are gone end after 3 s."""

# What moves a session.
HEARD: Final = "HEARD"
SILENT: Final = "SILENT"
DISCONNECTED: Final = "DISCONNECTED"
DRAINED: Final = "DRAINED"
OVER: Final = "OVER"  # silent too long, unreachable, BYE, displaced, revoked

NEXT_SESSION: Final[dict[tuple[str, str], str]] = {
    (REGISTERED, HEARD): REGISTERED,
    (REGISTERED, SILENT): SUSPECT,
    (REGISTERED, DISCONNECTED): SUSPECT,
    (REGISTERED, DRAINED): DRAINING,
    (REGISTERED, OVER): LOST,
    (SUSPECT, HEARD): REGISTERED,
    (SUSPECT, SILENT): SUSPECT,
    (SUSPECT, DISCONNECTED): SUSPECT,
    (SUSPECT, DRAINED): DRAINING,
    (SUSPECT, OVER): LOST,
    (DRAINING, HEARD): DRAINING,
    (DRAINING, SILENT): DRAINING,
    (DRAINING, DISCONNECTED): DRAINING,
    (DRAINING, DRAINED): DRAINING,
    (DRAINING, OVER): LOST,
}


class Session:
    """One registration of a worker."""

    __slots__ = (
        "count",
        "disk_free_bytes",
        "heard_s",
        "host",
        "id",
        "inputs_told",
        "is_cut_alive",
        "is_disk_full",
        "lost_at_s",
        "nonce",
        "slots",
        "state",
        "worker",
    )

    def __init__(self, worker: str, number: int, nonce: int, count: int, slots: int, host: str = "") -> None:
        self.worker, self.id, self.nonce, self.count, self.slots = worker, number, nonce, count, slots
        self.host = host  # as the master saw it
        self.state = REGISTERED
        self.heard_s = 0.0
        self.lost_at_s: float | None = None  # set by a disconnect, sooner than silence would tell
        self.is_cut_alive = False  # it was heard until just before its connection ended
        self.disk_free_bytes = 0
        self.is_disk_full = False
        self.inputs_told: dict[tuple[str, int], int] = {}  # (job, stage) -> version

    def silence_s(self, now: float) -> float:
        """For how long nothing was heard of it; 0.0 between BEATs, and if its connection ended while it was heard."""
        since_s = now - self.heard_s
        return since_s if since_s >= BEATS_MISSED_S and not self.is_cut_alive else 0.0

    @property
    def slots_usable(self) -> int:
        """How many attempts it may be given."""
        return self.slots if self.state == REGISTERED and not self.is_disk_full else 0


class SessionBook:
    """All sessions that stand, the one that was silent longest first."""

    def __init__(self, suspect_s: float, lost_s: float, disconnect_s: float) -> None:
        self._suspect_s, self._lost_s, self._disconnect_s = suspect_s, lost_s, disconnect_s
        self._by_worker: dict[str, Session] = {}
        self._fresh: OrderedDict[str, Session] = OrderedDict()  # not yet silent, by when they were heard
        self._silent: OrderedDict[str, Session] = OrderedDict()  # silent for suspect_s, by when they were heard
        self._cut: dict[str, Session] = {}  # disconnected; few
        self.peers_version = 0

    def __len__(self) -> int:
        return len(self._by_worker)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._by_worker.values())

    @property
    def are_all_disks_full(self) -> bool:
        """Whether workers are here, and none has room for what tasks leave."""
        return bool(self._by_worker) and all(session.is_disk_full for session in self)

    def get(self, worker: str) -> Session | None:
        """Find a worker's session, or None."""
        return self._by_worker.get(worker)

    def register(self, session: Session, now: float) -> None:
        """Begin a session; the worker must have none."""
        assert session.worker not in self._by_worker
        self._by_worker[session.worker] = session
        session.heard_s = now
        self._fresh[session.worker] = session
        self.peers_version += 1

    def hear(self, session: Session, now: float) -> bool:
        """Note a sign of life; tell whether the session was SUSPECT until now."""
        was = session.state
        session.state = NEXT_SESSION[was, HEARD]
        session.heard_s = now
        if self._cut:
            self._cut.pop(session.worker, None)
        if self._silent:
            self._silent.pop(session.worker, None)
        session.lost_at_s, session.is_cut_alive = None, False
        self._fresh[session.worker] = session
        self._fresh.move_to_end(session.worker)
        return was == SUSPECT

    def disconnect(self, session: Session, now: float) -> None:
        """Note that the connection ended: a second is left to come back, none to who had fallen silent before."""
        session.state = NEXT_SESSION[session.state, DISCONNECTED]
        session.is_cut_alive = not session.silence_s(now)
        session.lost_at_s = now + (self._disconnect_s if session.is_cut_alive else 0.0)
        self._cut[session.worker] = session

    def drain(self, session: Session) -> None:
        """Note that the worker shall go."""
        session.state = NEXT_SESSION[session.state, DRAINED]

    def remove(self, session: Session) -> None:
        """End a session."""
        session.state = NEXT_SESSION[session.state, OVER]
        for line in (self._by_worker, self._fresh, self._silent, self._cut):
            line.pop(session.worker, None)
        self.peers_version += 1

    def take_silent(self, now: float) -> list[Session]:
        """Move those that have just become SUSPECT to their line; return those whose state changed."""
        changed = []
        while self._fresh:
            session = next(iter(self._fresh.values()))
            if session.heard_s + self._suspect_s > now:
                break
            del self._fresh[session.worker]
            self._silent[session.worker] = session
            before, session.state = session.state, NEXT_SESSION[session.state, SILENT]
            changed += [session] if session.state != before else []
        return changed

    def overdue(self, now: float) -> list[Session]:
        """Those that are LOST by now; the caller removes them."""
        if not self._cut and not self._silent:
            return []
        cut = [session for session in self._cut.values() if session.lost_at_s is not None and session.lost_at_s <= now]
        for session in self._silent.values():
            if session.heard_s + self._lost_s > now:
                break
            if session not in cut:
                cut.append(session)
        return cut

    def next_deadline(self) -> float | None:
        """Tell when the next session becomes SUSPECT or LOST, or None."""
        due = [session.lost_at_s for session in self._cut.values() if session.lost_at_s is not None]
        due += [session.heard_s + self._suspect_s for session in islice(self._fresh.values(), 1)]
        due += [session.heard_s + self._lost_s for session in islice(self._silent.values(), 1)]
        return min(due, default=None)

    def check(self) -> None:
        """Assert that every session stands in one line, and that the lines are in order."""
        assert set(self._by_worker) == set(self._fresh) | set(self._silent), "a session in no line"
        assert not set(self._fresh) & set(self._silent), "a session in two lines"
        assert set(self._cut) <= set(self._by_worker), "a session that ended waits for its connection"
        for line in (self._fresh, self._silent):
            heard = [session.heard_s for session in line.values()]
            assert heard == sorted(heard), "sessions out of order"
        for worker, session in self._by_worker.items():
            assert session.worker == worker and session.state != LOST, f"{worker}: {session.state}"
