"""The master's process: sockets, clock, journal and storage around the pure machine. It decides nothing about jobs.

    journal first (lock, replay, a new epoch that is durable), then the sockets, then the canaries, then work

One thread receives, decodes, tells the machine and performs what it orders. The journal, the parts on disk and the
parts' socket have threads of their own and ring `Bell`; the storage process has the file work of the commit.
"""

from __future__ import annotations

import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import zmq
from zmq.utils.monitor import parse_monitor_message

from kernelmill.cluster import addresses
from kernelmill.cluster import messages as m
from kernelmill.cluster.canary import EVERY_S, Canary
from kernelmill.cluster.data.partserver import PartServer
from kernelmill.cluster.failpoints import failpoint
from kernelmill.cluster.fields import Count, Problem
from kernelmill.cluster.journal.opening import open_journal
from kernelmill.cluster.journal.records import JobAccepted, Record
from kernelmill.cluster.journal.translate import attempt_key, attempt_number, record_of
from kernelmill.cluster.journal.writer import JournalBroke, JournalFilled, Recorded
from kernelmill.cluster.keys.bundle import MasterKey, read_master_key
from kernelmill.cluster.keys.curve import KeyPair
from kernelmill.cluster.logs import cluster_log
from kernelmill.cluster.master import events as told
from kernelmill.cluster.master.clientdesk import ClientDesk
from kernelmill.cluster.master.desk import MasterSettings
from kernelmill.cluster.master.facts import (
    Committing,
    EpochBegun,
    Fact,
    JobEnded,
    JobSubmitted,
    TaskCommitted,
)
from kernelmill.cluster.master.failures import Failure
from kernelmill.cluster.master.gate import CLIENTS, WORKERS, Gate
from kernelmill.cluster.master.intake import Intake
from kernelmill.cluster.master.logbook import LogBook
from kernelmill.cluster.master.machine import Master
from kernelmill.cluster.master.partsfolder import PartsFolder
from kernelmill.cluster.master.posts import MESSAGE_BYTES_MAX, Mail, Me, Post, Route
from kernelmill.cluster.master.process import Bell, has_ended, own_files, pid_of, raise_file_limit
from kernelmill.cluster.master.storagelink import StorageLink
from kernelmill.cluster.master.translate import Letter, WorkerMail, seal_with
from kernelmill.cluster.roots import Roots
from kernelmill.cluster.sockets import Door, bind_router, new_context
from kernelmill.cluster.status.server import StatusServer
from kernelmill.cluster.status.snapshot import FaultBook, Snapshot, snapshot_of
from kernelmill.cluster.storage import frames
from kernelmill.cluster.versions import versions_here
from kernelmill.cluster.wire import CLIENT_TO_MASTER, WORKER_TO_MASTER
from kernelmill.engine.errors import Code, error

MESSAGES_MAX: Final = 256  # of one socket before the others have their turn
QUEUED_MAX: Final = 8192  # messages that wait for one peer
REFRESH_S: Final = 2.0
LOST_S: Final = 5.0
"""How long a worker may be silent; it beats every second."""
SUSPECT_SHARE: Final = 0.6
"""After this share of it the worker gets no new work."""
DISCONNECT_S: Final = 0.8
"""What a worker has to come back whose connection ended; a new one takes it 0.1 s where nothing is wrong."""
IPC_DISCONNECT_S: Final = 0.3
"""The same where no network can have ended it: its process is gone, or has just closed its socket to open another."""
_SESSION_BITS: Final = 63
_NAP_S: Final = 0.005
"""How long messages and commits gather while tasks are short and wait at their workers: a wake-up handles many then."""
_log = cluster_log()


class _Way(NamedTuple):
    """How a session is reached."""

    worker: str
    route: Route
    key: str
    pid: int


class MasterShell:
    """One master, from `run` to the end of its process. Raises typed errors for what keeps it from starting.

    lost_s: after so many seconds of silence a worker is lost.
    """

    def __init__(
        self,
        state: Path,
        keys: Path,
        address: str | None,
        roots: Roots,
        lost_s: float = LOST_S,
        status_port: int | None = None,
    ) -> None:
        self._key: MasterKey = read_master_key(keys / "master.key")
        self.address = address if address is not None else self._key.address
        self._state, self._roots = state, roots
        self._status_port = status_port
        self._status: StatusServer | None = None
        self._faults = FaultBook()
        self._gate = Gate(keys)
        self._bell = Bell()
        self._journal = open_journal(state, versions_here(), self._bell.ring)
        failpoint("master.epoch.durable")
        self.is_behind = self._journal.is_behind
        """Whether the journal lost its end, so that jobs of before may be unknown."""
        self._me = Me(self._journal.cluster, self._journal.epoch, self._journal.life)
        settings = MasterSettings(
            suspect_s=SUSPECT_SHARE * lost_s,
            lost_s=lost_s,
            disconnect_s=IPC_DISCONNECT_S if addresses.is_ipc(self.address) else DISCONNECT_S,
        )
        self._master = Master(self._journal.ledger, seal_with(self._journal.secret), settings)
        self._mail = WorkerMail(self._master, self.address)
        self._logs = LogBook()
        self._parts = PartsFolder(state / "parts", self._bell.ring)
        self._intake = Intake(self._parts, versions_here(), roots.names)
        self._recording: deque[tuple[int, tuple[Fact, ...]]] = deque()
        self._ordered: list[tuple[int, list[tuple[bytes, Record]]]] = []  # what the journal is to be given next
        self._is_journal_full = False
        self._ways: dict[int, _Way] = {}  # session -> way
        self._session_of: dict[int, int] = {}  # descriptor -> session
        self._found: deque[told.Event] = deque()  # while actions were performed; told when all of them are
        self._accepted: dict[str, JobAccepted] = {}  # of jobs whose staging may be there
        self._rights: dict[str, frozenset[bytes]] = {}  # worker -> parts that it may have; replaced, never changed
        self._asking: tuple[Route, int] | None = None
        self._canaries: list[Canary] = []
        self._poller = zmq.Poller()
        self._watched: dict[Any, int] = {}
        self._perform: dict[type, Callable[[Any], None]] = {
            told.Record: self._record,
            told.Refuse: self._refuse,
            told.Publish: self._publish,
            told.CleanStaging: self._clean,
        }

    @property
    def status_url(self) -> str:
        """Where the status page is, once clients can come in; "" without one."""
        return self._status.url if self._status is not None else ""

    @property
    def epoch(self) -> int:
        """How many masters this journal has had, this one included."""
        return self._me.epoch

    def run(self, listening: Callable[[], None]) -> None:
        """Serve until the process is interrupted or the journal breaks. Raises what ended it.

        `listening` is called when clients and workers can come in.
        """
        raise_file_limit()
        storage = self._storage = StorageLink(self._roots.items())
        try:
            self._open()
            listening()
            self._serve()
        finally:
            storage.close()
            self._close()

    # Opening and closing.

    def _open(self) -> None:
        self._context = new_context()
        self._door = Door(self._context, self._gate.decide)
        pair = KeyPair(self._key.public_key, self._key.secret_key)
        sizes = {"message_bytes_max": MESSAGE_BYTES_MAX, "queued_max": QUEUED_MAX}
        parts = addresses.for_parts(self.address)
        self._endpoints = [self.address, addresses.for_workers(self.address), parts]
        with own_files():
            self._part_server = PartServer(parts, pair, str(self._state / "parts"), self._may_have)
            clients = bind_router(self._context, pair, CLIENTS, self._endpoints[0], **sizes)
            workers = bind_router(self._context, pair, WORKERS, self._endpoints[1], **sizes)
        self._clients = Post(clients, CLIENTS, CLIENT_TO_MASTER, self._gate, self._me)
        self._workers = Post(workers, WORKERS, WORKER_TO_MASTER, self._gate, self._me)
        self._monitor = workers.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._desk = ClientDesk(self._clients, self._master, self._mail, self._intake, self._logs, self._tell)
        self._perform |= {
            told.Accept: self._desk.accept,
            told.Grant: self._desk.grant,
            told.TellResult: self._desk.tell_result,
        }
        if self._status_port is not None:
            self._status = StatusServer(self._status_port, self._bell.ring)
        failpoint("master.bound")

    def _close(self) -> None:
        if self._status is not None:
            self._status.close()
        for canary in self._canaries:
            canary.close()
        for post in (getattr(self, "_clients", None), getattr(self, "_workers", None)):
            if post is not None:
                post.socket.close(0)
        if (context := getattr(self, "_context", None)) is not None:
            context.destroy(linger=0)
        if (server := getattr(self, "_part_server", None)) is not None:
            server.close()
        self._parts.close()
        self._journal.close()
        self._bell.close()

    # The loop.

    def _serve(self) -> None:
        now = time.monotonic()
        for job, accepted in self._journal.ended_lately:
            self._storage.order(frames.Clean(job, accepted.sheet))
        self._accepted = self._master.accepted_jobs()
        expected = self._gate.worker_names().values()
        self._do(self._master.start(self._me.epoch, self._me.life, now, expected))
        self._parts.drop_all_but(self._master.parts_in_use())
        self._tell(told.TimePassed())
        self._poller.register(self._door.socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)
        self._poller.register(self._bell.fileno(), zmq.POLLIN)
        refresh_s = canary_s = now
        while True:
            now = time.monotonic()
            if now >= refresh_s:
                refresh_s = now + REFRESH_S
                self._take_revoked(self._gate.refresh())
                self._part_server.set_workers(self._gate.worker_names())
                self._part_server.check()
                if self._intake.take_leftovers():
                    self._drop_parts()
                self._faults.note(self._master.seen, time.time())
            if now >= canary_s:
                canary_s = now + EVERY_S
                self._send_canaries(now)
            deadline = self._master.next_deadline()
            if deadline is not None and deadline <= now:
                self._tell(told.TimePassed())
                self._flush()
                deadline = self._master.next_deadline()
            due = [refresh_s, canary_s, deadline, self._watch_canaries(now)]
            due += [self._storage.pass_time(now), self._desk.pass_time(now)]
            self._wait(min(at for at in due if at is not None) - now)

    def _wait(self, seconds: float) -> None:
        """Wait for what comes first, and take what has come."""
        self._hand_over()
        if self._master.is_brisk:
            time.sleep(_NAP_S)
        is_behind = self._journal.writer.is_behind  # then peers wait, for the disk does not follow
        for post in (self._workers, self._clients):
            self._watch(post.socket, 0 if is_behind else zmq.POLLIN)
        storage = self._storage.fileno()
        if storage >= 0:
            self._watch(storage, zmq.POLLIN | (zmq.POLLOUT if self._storage.is_writing else 0))
        ready = dict(self._poller.poll(max(0, int(seconds * 1000) + 1)))
        if self._door.socket in ready:
            self._door.answer()
        if self._bell.fileno() in ready:
            self._bell.silence()
            self._take_reports()
            self._desk.take_written()
            if self._status is not None and self._status.is_asked:
                self._status.put(self._snapshot())
        if self._monitor in ready:
            self._take_disconnects()
        if self._workers.socket in ready:
            for mail in self._workers.receive(MESSAGES_MAX):
                self._take_worker(mail)
        self._flush()
        if self._clients.socket in ready:
            for mail in self._clients.receive(MESSAGES_MAX):
                self._desk.take(mail, time.monotonic())
        if storage in ready:
            self._take_storage()
            if self._storage.fileno() != storage:
                self._watch(storage, 0)  # it has ended
        self._flush()

    def _snapshot(self) -> Snapshot:
        return snapshot_of(
            self._master.desk,
            self._mail.members,
            self._mail.progress,
            faults=self._faults,
            cluster=self._me.cluster,
            epoch=self._me.epoch,
            address=self.address,
            now=time.monotonic(),
            at_s=time.time(),
        )

    def _watch(self, what: Any, flags: int) -> None:
        """Have the poller watch a socket or descriptor so from now on; 0 for not at all."""
        if self._watched.get(what, 0) != flags:
            self._poller.register(what, flags)  # with 0 it is unregistered
            self._watched[what] = flags

    def _tell(self, event: told.Event) -> None:
        """Tell the machine, and do what it orders; what that brings to light is told to it next."""
        self._found.append(event)
        while self._found:
            self._do(self._master.handle(self._found.popleft(), time.monotonic()))

    def _do(self, actions: Sequence[told.Action]) -> None:
        """Perform actions in order; what is found meanwhile waits in `_found` till the last one is performed."""
        for action in actions:
            perform = self._perform.get(type(action))
            if perform is not None:
                perform(action)
                continue
            for letter in self._mail.letters(action):
                self._send(letter)
            if isinstance(action, told.Assign):
                failpoint("master.assign.sent")
            elif isinstance(action, told.CommitAck):
                failpoint("master.ack.sent")

    # Workers.

    def _take_worker(self, mail: Mail) -> None:
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
                    self._send(Letter(worker, session, m.Heard()))
        except ValueError as problem:  # an attempt's number that no master gave out
            self._workers.strangers += 1
            if (number := self._workers.strangers).bit_count() == 1:  # 1, 2, 4...: nobody fills a disk with such lines
                _log.warning("%s of worker %s is refused, no. %d: %s", type(body).__name__, worker, number, problem)
        finally:
            self._asking = None

    def _take_hello(self, mail: Mail, hello: m.Hello) -> None:
        peer, here = mail.peer, versions_here()
        if hello.versions != here:
            text = f"worker {peer.name} has {hello.versions}, the master {here}"
            refused = m.Refused(b"", "VERSION", text, "install the same versions everywhere")
            self._workers.send(mail.route.id, refused, ack=mail.envelope.seq)
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

    def _send(self, letter: Letter) -> None:
        if letter.session is None:
            if self._asking is not None:
                self._workers.post(self._asking[0].id, letter.body, ack=self._asking[1])
            return
        way = self._ways.get(letter.session)
        if way is None:
            return  # a session that is over
        if isinstance(letter.body, m.Spec):
            self._grant_parts(letter)
        self._workers.post(way.route.id, letter.body, session=letter.session.to_bytes(8, "little"))

    def _hand_over(self) -> None:
        """Give the journal what was ordered since, together."""
        if self._ordered:
            ordered, self._ordered = self._ordered, []
            self._journal.writer.append_groups(ordered)

    def _flush(self) -> None:
        """Send what was posted to workers; the sessions of those who cannot be reached are over."""
        self._hand_over()
        while dead := set(self._workers.flush()):
            for session, way in [one for one in self._ways.items() if one[1].route.id in dead]:
                del self._ways[session]
                self._tell(told.PeerGone(way.worker, session, "unreachable"))

    def _may_have(self, worker: str, sha256: bytes) -> bool:
        """What the thread of the parts' socket asks: a worker may have the parts of jobs whose Spec it was sent."""
        return sha256 in self._rights.get(worker, frozenset())

    def _grant_parts(self, letter: Letter) -> None:
        """Let a worker have a job's parts, and those of live jobs that it could have before; and no others."""
        before = self._rights.get(letter.worker, frozenset()) & self._master.parts_in_use()
        self._rights[letter.worker] = before | {part.sha256 for part in letter.body.parts}

    def _refuse(self, action: told.Refuse) -> None:
        if self._gate.is_worker(action.peer):
            for letter in self._mail.letters(action):
                self._send(letter)
        else:
            self._desk.refuse(action)

    def _take_disconnects(self) -> None:
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

    def _take_revoked(self, keys: frozenset[str]) -> None:
        for session, way in [*self._ways.items()]:
            if way.key in keys or self._gate.peer(WORKERS, way.key) is None:
                refused = m.Refused(b"", "AUTH", "this worker's key was taken from the list", "")
                self._workers.send(way.route.id, refused)
                del self._ways[session]
                self._tell(told.PeerGone(way.worker, session, "revoked"))

    # The journal.

    def _record(self, action: told.Record) -> None:
        facts = [fact for fact in action.facts if not isinstance(fact, EpochBegun)]  # which is durable already
        self._recording.append((action.number, action.facts))
        for fact in facts:
            if isinstance(fact, JobSubmitted) and fact.sheet.accepted is not None:
                self._accepted[fact.sheet.job] = fact.sheet.accepted
        if facts:
            self._ordered.append((action.number, [record_of(fact) for fact in facts]))
        else:
            self._found.append(told.Recorded(action.number))

    def _take_reports(self) -> None:
        for report in self._journal.writer.take_reports():
            match report:
                case Recorded(tokens):
                    if self._is_journal_full:
                        self._is_journal_full = False
                        self._tell(told.JournalFreed())
                    self._gone_durable(tokens[-1])
                case JournalFilled(problem):
                    _log.error("%s", problem)
                    self._is_journal_full = True
                    self._tell(told.JournalFilled())
                case JournalBroke(problem):
                    raise problem

    def _gone_durable(self, number: int) -> None:
        is_over = False
        while self._recording and self._recording[0][0] <= number:
            for fact in self._recording.popleft()[1]:
                if (name := _NAME_OF_DURABLE.get(type(fact))) is not None:
                    failpoint(name)
                is_over |= isinstance(fact, JobEnded)
        self._tell(told.Recorded(number))
        if is_over:
            self._drop_parts()

    def _drop_parts(self) -> None:
        """Delete the parts that no job has, none on its way in either."""
        self._parts.drop_all_but(self._master.parts_in_use() | self._intake.parts_in_use())

    # Storage.

    def _publish(self, action: told.Publish) -> None:
        accepted = self._accepted[action.job]
        plan = next(part for part in accepted.parts if part.role == "plan")
        winners = tuple(
            frames.Winner(stage, task, attempt_key(number), files)
            for stage, task, number, files in self._master.files_left(action.job)
        )
        counters: tuple[Count, ...] = self._master.counters_of(action.job)
        place = str(self._parts.path_of(plan.sha256))
        order = frames.Publish(bytes.fromhex(action.job), accepted.sheet, place, winners, counters)
        self._storage.order(order)
        failpoint("master.publish.sent")

    def _clean(self, action: told.CleanStaging) -> None:
        accepted = self._accepted.pop(action.job)
        self._storage.order(frames.Clean(bytes.fromhex(action.job), accepted.sheet))

    def _take_storage(self) -> None:
        self._storage.write()
        for answer in self._storage.read(time.monotonic()):
            job = answer.job.hex()
            match answer:
                case frames.Published():
                    self._tell(told.Published(job, answer.rows, answer.size_bytes, answer.manifest_xxh3))
                case frames.PublishFailed(bad=bad):
                    place = (bad[0], bad[1], attempt_number(bad[2])) if bad is not None else None
                    problem = _problem_of(answer)
                    if answer.code == Failure.OUTPUT_STUCK.value:
                        _log.warning("job %s: %s: %s; %s", job, answer.where, answer.text, answer.hint)
                    self._tell(told.PublishFailed(job, answer.code, answer.text, place, problem))
                case frames.Cleaned(text=text):
                    if text:
                        _log.warning("staging of job %s: %s", job, text)

    # Canaries.

    def _send_canaries(self, now: float) -> None:
        for endpoint in self._endpoints:
            canary = Canary(self._context, endpoint, self._key.public_key, now)
            self._canaries.append(canary)
            self._poller.register(canary.socket, zmq.POLLIN)

    def _watch_canaries(self, now: float) -> float | None:
        """Look how the canaries are; tell when the next one is due. Raises KM0615 if one was let in."""
        for canary in [*self._canaries]:
            is_dead = canary.is_dead(now)
            if is_dead is None:
                continue
            self._poller.unregister(canary.socket)
            canary.close()
            self._canaries.remove(canary)
            if not is_dead:
                what = "a peer with an unknown key was not refused: the master stops rather than let anybody in"
                raise error(Code.KEYS, what, where=canary.endpoint, hint="report this, with the versions of pyzmq")
        return min((canary.until_s for canary in self._canaries), default=None)


_NAME_OF_DURABLE: Final[dict[type, str]] = {
    JobSubmitted: "master.job.durable",
    TaskCommitted: "master.commit.durable",
    Committing: "master.committing.durable",
    JobEnded: "master.committed.durable",
}


def _problem_of(answer: frames.PublishFailed) -> Problem | None:
    """The error that the client raises, if the job ends by this."""
    if answer.bad is not None or answer.code in (Failure.OUTPUT_FULL.value, Failure.OUTPUT_STUCK.value):
        return None
    return Problem(answer.code, answer.text, answer.where, answer.hint)
