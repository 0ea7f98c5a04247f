"""The workers at the master's door: whose session is reached how, what they say, and which parts they may have."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from zmq.utils.monitor import parse_monitor_message

from kernelmill.cluster import messages as m
from kernelmill.cluster.failpoints import failpoint
from kernelmill.cluster.logs import cluster_log
from kernelmill.cluster.master import events as told
from kernelmill.cluster.master.gate import WORKERS, Gate
from kernelmill.cluster.master.logbook import LogBook
from kernelmill.cluster.master.machine import Master
from kernelmill.cluster.master.posts import Mail, Post, Route
from kernelmill.cluster.master.process import has_ended, pid_of
from kernelmill.cluster.master.translate import Letter, WorkerMail
from kernelmill.cluster.versions import VERSIONS_HINT, listed, versions_here

_SESSION_BITS: Final = 63
_log = cluster_log()


class _Way(NamedTuple):
    """How a session is reached."""

    worker: str
    route: Route
    key: str
    pid: int


class WorkerDesk:
    """Takes what workers say and tells the machine by `tell`; sends them its letters.

    monitor: of the workers' socket, for connections that end.
    """

    def __init__(
        self,
        post: Post,
        monitor: Any,
        gate: Gate,
        master: Master,
        mail: WorkerMail,
        logs: LogBook,
        tell: Callable[[told.Event], None],
    ) -> None:
        self._post, self._monitor, self._gate = post, monitor, gate
        self._master, self._mail, self._logs, self._tell = master, mail, logs, tell
        self._ways: dict[int, _Way] = {}  # session -> way
        self._session_of: dict[int, int] = {}  # descriptor -> session
        self._rights: dict[str, frozenset[bytes]] = {}  # worker -> parts that it may have; replaced, never changed
        self._asking: tuple[Route, int] | None = None

    def take(self, mail: Mail) -> None:
        """Take one message of a worker."""
        body, worker = mail.envelope.body, mail.peer.name
        self._asking = mail.route, mail.envelope.seq
        session = int.from_bytes(mail.envelope.session, "little")
        way = self._ways.get(session)
        is_known = way is not None and way.worker == worker and way.key == mail.peer.key
        if way is not None and is_known:
            self._ways[session] = _Way(worker, mail.route, mail.peer.key, way.pid)
            self._session_of[mail.route.descriptor] = session
        try:
            if isinstance(body, m.Hello):
                self._take_hello(mail, body)
            elif isinstance(body, m.Lines):
                is_his = is_known and self._mail.is_assigned(worker, body.attempt)
                if is_his and self._master.is_live(body.attempt.job.hex()):
                    self._logs.take(worker, body)
            else:
                event = self._mail.event_of(worker, session if is_known else 0, body)
                if isinstance(body, m.Done):
                    failpoint("master.done.taken")
                if event is not None and (is_known or not isinstance(event, told.DrainRequested)):
                    self._tell(event)
                if isinstance(body, m.Beat) and is_known:
                    self.send(Letter(worker, session, m.Heard()))
        except ValueError as problem:  # an attempt's number that no master gave out
            self._post.strangers += 1
            if (number := self._post.strangers).bit_count() == 1:  # 1, 2, 4...: nobody fills a disk with such lines
                _log.warning("%s of worker %s is refused, no. %d: %s", type(body).__name__, worker, number, problem)
        finally:
            self._asking = None

    def _take_hello(self, mail: Mail, hello: m.Hello) -> None:
        peer, here = mail.peer, versions_here()
        if hello.versions != here:
            text = f"worker {peer.name} has {listed(hello.versions)}; the master has {listed(here)}"
            refused = m.Refused(b"", "VERSION", text, VERSIONS_HINT)
            self._post.send(mail.route.id, refused, ack=mail.envelope.seq)
            return
        session = secrets.randbits(_SESSION_BITS) | 1
        event = self._mail.take_hello(peer.name, session, hello, peer.host or mail.address, peer.key)
        if event is not None:
            self._ways[session] = _Way(peer.name, mail.route, peer.key, pid_of(mail.address))
            self._tell(event)
            member = self._mail.members.get(peer.name)
            if member is None or member.session != session:
                del self._ways[session]  # refused, or late
                return
            self._session_of[mail.route.descriptor] = session
            for old in [one for one, way in self._ways.items() if way.worker == peer.name and one != session]:
                del self._ways[old]

    def send(self, letter: Letter) -> None:
        """Send in a session, or to whoever is being answered."""
        if letter.session is None:
            if self._asking is not None:
                self._post.post(self._asking[0].id, letter.body, ack=self._asking[1])
            return
        way = self._ways.get(letter.session)
        if way is None:
            return  # a session that is over
        if isinstance(letter.body, m.Spec):
            self._grant_parts(letter)
        self._post.post(way.route.id, letter.body, session=letter.session.to_bytes(8, "little"))

    def flush(self) -> None:
        """Send what was posted to workers; the sessions of those who cannot be reached are over."""
        while dead := set(self._post.flush()):
            for session, way in [one for one in self._ways.items() if one[1].route.id in dead]:
                del self._ways[session]
                self._tell(told.PeerGone(way.worker, session, "unreachable"))

    def take_disconnects(self) -> None:
        """Note whose connections have ended."""
        while self._monitor.poll(0):
            event = parse_monitor_message(self._monitor.recv_multipart())
            session = self._session_of.pop(int(event["value"]), None)
            way = self._ways.get(session) if session is not None else None
            if session is not None and way is not None and way.route.descriptor == int(event["value"]):
                if has_ended(way.pid):  # of this host: nobody is there to come back
                    del self._ways[session]
                    self._tell(told.PeerGone(way.worker, session, "its process has ended"))
                else:
                    self._tell(told.PeerDisconnected(way.worker, session))

    def take_revoked(self, keys: frozenset[str]) -> None:
        """End the sessions of these keys, and of those that are in no list any more."""
        for session, way in [*self._ways.items()]:
            if way.key in keys or self._gate.peer(WORKERS, way.key) is None:
                refused = m.Refused(b"", "AUTH", "this worker's key was taken from the list", "")
                self._post.send(way.route.id, refused)
                del self._ways[session]
                self._tell(told.PeerGone(way.worker, session, "revoked"))

    def may_have(self, worker: str, sha256: bytes) -> bool:
        """What the thread of the parts' socket asks: a worker may have the parts of jobs whose Spec it was sent."""
        return sha256 in self._rights.get(worker, frozenset())

    def _grant_parts(self, letter: Letter) -> None:
        """Let a worker have a job's parts, and those of live jobs that it could have before; and no others."""
        before = self._rights.get(letter.worker, frozenset()) & self._master.parts_in_use()
        self._rights[letter.worker] = before | {part.sha256 for part in letter.body.parts}
