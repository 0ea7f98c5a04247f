"""The master's process: sockets, clock, journal and storage around the pure machine. It decides nothing about jobs.

    journal first (lock, replay, a new epoch that is durable), then the sockets, then the canaries, then work

One thread receives, decodes, tells the machine and performs what it orders. The journal, the parts on disk and the
parts' socket have threads of their own and ring `Bell`; the storage process has the file work of the commit.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import zmq

from kernelmill.cluster import addresses
from kernelmill.cluster.data.partserver import PartServer
from kernelmill.cluster.failpoints import failpoint
from kernelmill.cluster.filelimit import RESERVED_FILES, raise_file_limit
from kernelmill.cluster.journal.opening import open_journal
from kernelmill.cluster.keys.bundle import MasterKey, read_master_key
from kernelmill.cluster.keys.curve import KeyPair
from kernelmill.cluster.master import events as told
from kernelmill.cluster.master.canaries import Canaries
from kernelmill.cluster.master.clientdesk import ClientDesk
from kernelmill.cluster.master.desk import MasterSettings
from kernelmill.cluster.master.gate import CLIENTS, WORKERS, Gate
from kernelmill.cluster.master.intake import Intake
from kernelmill.cluster.master.logbook import LogBook
from kernelmill.cluster.master.machine import Master
from kernelmill.cluster.master.partsfolder import PartsFolder
from kernelmill.cluster.master.posts import MESSAGE_BYTES_MAX, Me, Post
from kernelmill.cluster.master.process import Bell
from kernelmill.cluster.master.publisher import Publisher
from kernelmill.cluster.master.recorder import Recorder
from kernelmill.cluster.master.storagelink import StorageLink
from kernelmill.cluster.master.translate import WorkerMail, seal_with
from kernelmill.cluster.master.workerdesk import WorkerDesk
from kernelmill.cluster.ownfiles import own_files
from kernelmill.cluster.roots import Roots
from kernelmill.cluster.sockets import Door, bind_router, new_context
from kernelmill.cluster.status.server import StatusServer
from kernelmill.cluster.status.snapshot import FaultBook, Snapshot, snapshot_of
from kernelmill.cluster.versions import versions_here
from kernelmill.cluster.wire import CLIENT_TO_MASTER, WORKER_TO_MASTER

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
_NAP_S: Final = 0.005
"""How long messages and commits gather while tasks are short and wait at their workers: a wake-up handles many then."""


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
        self._recorder = Recorder(self._journal.writer, self._tell)
        self._found: deque[told.Event] = deque()  # while actions were performed; told when all of them are
        self._poller = zmq.Poller()
        self._watched: dict[Any, int] = {}
        self._perform: dict[type, Callable[[Any], None]] = {
            told.Record: self._record,
            told.Refuse: self._refuse,
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
        raise_file_limit(RESERVED_FILES)
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
        endpoints = [self.address, addresses.for_workers(self.address), parts]
        with own_files():
            clients = bind_router(self._context, pair, CLIENTS, endpoints[0], **sizes)
            self._clients = Post(clients, CLIENTS, CLIENT_TO_MASTER, self._gate, self._me)
            workers = bind_router(self._context, pair, WORKERS, endpoints[1], **sizes)
            self._workers = Post(workers, WORKERS, WORKER_TO_MASTER, self._gate, self._me)
            self._monitor = workers.get_monitor_socket(zmq.EVENT_DISCONNECTED)
            self._worker_desk = WorkerDesk(
                self._workers, self._monitor, self._gate, self._master, self._mail, self._logs, self._tell
            )
            self._part_server = PartServer(parts, pair, str(self._state / "parts"), self._worker_desk.may_have)
        self._desk = ClientDesk(self._clients, self._master, self._mail, self._intake, self._logs, self._tell)
        accepted, leftovers = self._master.accepted_jobs(), self._journal.leftovers
        self._publisher = Publisher(self._storage, self._master, self._parts, accepted, leftovers, self._tell)
        self._canaries = Canaries(self._context, endpoints, self._key.public_key, self._poller)
        self._perform |= {
            told.Publish: self._publisher.publish,
            told.CleanStaging: self._publisher.clean,
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
        if (canaries := getattr(self, "_canaries", None)) is not None:
            canaries.close()
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
        self._publisher.clean_leftovers()
        expected = self._gate.worker_names().values()
        self._do(self._master.start(self._me.epoch, self._me.life, now, expected))
        self._parts.drop_all_but(self._master.parts_in_use())
        self._tell(told.TimePassed())
        self._poller.register(self._door.socket, zmq.POLLIN)
        self._poller.register(self._monitor, zmq.POLLIN)
        self._poller.register(self._bell.fileno(), zmq.POLLIN)
        refresh_s = now
        while True:
            now = time.monotonic()
            if now >= refresh_s:
                refresh_s = now + REFRESH_S
                self._worker_desk.take_revoked(self._gate.refresh())
                self._part_server.set_workers(self._gate.worker_names())
                self._part_server.check()
                if self._intake.take_leftovers():
                    self._drop_parts()
                self._faults.note(self._master.seen, time.time())
            deadline = self._master.next_deadline()
            if deadline is not None and deadline <= now:
                self._tell(told.TimePassed())
                self._flush()
                deadline = self._master.next_deadline()
            due = [refresh_s, deadline, self._canaries.pass_time(now)]
            due += [self._storage.pass_time(now), self._desk.pass_time(now)]
            self._wait(min(at for at in due if at is not None) - now)

    def _wait(self, seconds: float) -> None:
        """Wait for what comes first, and take what has come."""
        self._recorder.hand_over()
        if self._master.is_brisk:
            time.sleep(_NAP_S)
        for post in (self._workers, self._clients):
            self._watch(post.socket, 0 if self._recorder.is_behind else zmq.POLLIN)
        storage = self._storage.fileno()
        if storage >= 0:
            self._watch(storage, zmq.POLLIN | (zmq.POLLOUT if self._storage.is_writing else 0))
        ready = dict(self._poller.poll(max(0, int(seconds * 1000) + 1)))
        if self._door.socket in ready:
            self._door.answer()
        if self._bell.fileno() in ready:
            self._bell.silence()
            if self._recorder.take_reports():
                self._drop_parts()
            self._desk.take_written()
            if self._status is not None and self._status.is_asked:
                self._status.put(self._snapshot())
        if self._monitor in ready:
            self._worker_desk.take_disconnects()
        if self._workers.socket in ready:
            for mail in self._workers.receive(MESSAGES_MAX):
                self._worker_desk.take(mail)
        self._flush()
        if self._clients.socket in ready:
            for mail in self._clients.receive(MESSAGES_MAX):
                self._desk.take(mail, time.monotonic())
        if storage in ready:
            self._publisher.take()
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
                self._worker_desk.send(letter)
            if isinstance(action, told.Assign):
                failpoint("master.assign.sent")
            elif isinstance(action, told.CommitAck):
                failpoint("master.ack.sent")

    def _flush(self) -> None:
        """Give the journal what was ordered since, and send what was posted to workers."""
        self._recorder.hand_over()
        self._worker_desk.flush()

    def _record(self, action: told.Record) -> None:
        self._publisher.note(action.facts)
        if not self._recorder.record(action):
            self._found.append(told.Recorded(action.number))

    def _refuse(self, action: told.Refuse) -> None:
        if self._gate.is_worker(action.peer):
            for letter in self._mail.letters(action):
                self._worker_desk.send(letter)
        else:
            self._desk.refuse(action)

    def _drop_parts(self) -> None:
        """Delete the parts that no job has, none on its way in either."""
        self._parts.drop_all_but(self._master.parts_in_use() | self._intake.parts_in_use())
