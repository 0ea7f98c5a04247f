"""DataPlane: the thread of a supervisor that serves this worker's blocks and fetches those of others, and job parts.

It has a context and a desk of its own, so the control socket never waits for data. What it is told goes through a
queue, what it has to say is taken by `take` after it called `wake`. What to ask of whom is decided by `fetches`.
"""

from __future__ import annotations

import errno
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import zmq

from kernelmill.cluster.canary import EVERY_S, Canary
from kernelmill.cluster.data import fetches as orders
from kernelmill.cluster.data.answering import MESSAGE_BYTES_MAX, QUEUED_MAX, Answering, enveloped
from kernelmill.cluster.data.blockindex import OutputId, decode_index, index_length, stream_bytes_max
from kernelmill.cluster.data.fetches import Fetches
from kernelmill.cluster.data.serving import BlockFiles
from kernelmill.cluster.data.spool import Spool, SpooledFile, failure_of, is_whole_block, is_whole_part
from kernelmill.cluster.fields import JobId, JobPart
from kernelmill.cluster.keys.curve import KeyPair
from kernelmill.cluster.messages import BlockRange, Fetch, PartRange, Peer
from kernelmill.cluster.sockets import Door, bind_router, bound_endpoint, connect_dealer, new_context
from kernelmill.cluster.wire import HOLDER_TO_READER
from kernelmill.cluster.worker.events import BlockBegan, BlockCame, BlockMissed, PartsCame, PartsMissed, Want
from kernelmill.engine.errors import Code, KernelmillError, ProtocolError, error

DOMAIN = "data"
PARTS = ""
"""The source of job parts; peers have names."""
_WAIT_S_MAX = 1.0

Outcome = BlockBegan | BlockCame | BlockMissed | PartsCame | PartsMissed


def id_of(want: Want) -> OutputId:
    """Which output of which attempt a wanted block is of."""
    return OutputId(want.job, want.stage, want.gen, want.map_task, want.output, want.attempt)


class DataSettings(NamedTuple):
    """scratch: the folder of all workers of this host; endpoint: where to bind; parts_endpoint, master_key: P."""

    scratch: str
    worker: str
    pair: KeyPair
    ticket_key: bytes
    endpoint: str
    parts_endpoint: str
    master_key: str


class DataPlane:
    """The data socket of a worker and its fetches. All methods may be called from one other thread.

    wake: called from the plane's thread when `take` has something to give. Raises KM0107 where it cannot bind.
    """

    def __init__(self, settings: DataSettings, wake: Callable[[], None]) -> None:
        self._settings, self._wake = settings, wake
        own = os.path.join(settings.scratch, settings.worker)
        self._spool = Spool(os.path.join(own, "spool"))
        self._parts_folder = os.path.join(own, "parts")
        os.makedirs(self._parts_folder, exist_ok=True)
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._outcomes: queue.SimpleQueue[Outcome] = queue.SimpleQueue()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._is_stopped = False
        self._problem: BaseException | None = None
        self._fetches = Fetches()
        self._files: dict[orders.Key, SpooledFile] = {}
        self._tickets: dict[Want, bytes] = {}
        self._missing: dict[JobId, dict[bytes, JobPart]] = {}
        self._endpoints: dict[str, tuple[str, str]] = {PARTS: (settings.parts_endpoint, settings.master_key)}
        self._dealers: dict[str, zmq.Socket[bytes]] = {}
        self._outboxes: dict[str, deque[bytes]] = {}
        self._names: dict[str, str] = {}
        self._canary: Canary | None = None
        self._canary_s = 0.0
        self._context = new_context()
        self._poller = zmq.Poller()
        try:
            self._door = Door(self._context, lambda domain, key, address: self._names.get(key))
            limits = {"message_bytes_max": MESSAGE_BYTES_MAX, "queued_max": QUEUED_MAX}
            self._router = bind_router(self._context, settings.pair, DOMAIN, settings.endpoint, **limits)
        except BaseException:
            self._context.destroy(0)
            os.close(self._bell)
            raise
        self._blocks = BlockFiles(settings.scratch, settings.worker, settings.ticket_key)
        self._answering = Answering(self._router, self._blocks, lambda: self._names)
        bound = bound_endpoint(self._router)
        self.endpoint, self.port = bound, int(bound.rpartition(":")[2]) if bound.startswith("tcp") else 0
        self._thread = threading.Thread(target=self._run, name="data", daemon=True)
        self._thread.start()

    # By the supervisor's thread --------------------------------------------------------------------------------------

    def set_peers(self, peers: Sequence[Peer]) -> None:
        """These workers may ask, and are where they say; all others may not any more."""
        self._tell(lambda: self._take_peers(peers))

    def want(self, want: Want, ticket: bytes, block_bytes: int) -> None:
        """Fetch a block of at most so many bytes into the spool: BlockCame or BlockMissed follows.

        Of a long one BlockBegan comes before, once its index is there.
        """
        self._tell(lambda: self._want(want, ticket, block_bytes))

    def forget(self, want: Want) -> None:
        """Nobody wants this block any more, whether it came or not: its file goes."""
        self._tell(lambda: self._forget(want))

    def want_parts(self, job: JobId, parts: Sequence[JobPart]) -> None:
        """Fetch a job's parts that are not here: PartsCame or PartsMissed follows."""
        self._tell(lambda: self._want_parts(job, parts))

    def forget_job(self, job: JobId) -> None:
        """The job is over: nothing waits for its parts any more, and nobody asks for its blocks."""
        self._tell(lambda: self._forget_job(job))

    def take(self) -> list[Outcome]:
        """What happened since the last time. Raises what has ended the thread: the worker cannot go on.

        KM0615: somebody with an unknown key was let in. KM0901: a bug.
        """
        if isinstance(self._problem, KernelmillError):
            raise self._problem
        if self._problem is not None:
            raise error(Code.INTERNAL, f"the data plane ended: {self._problem!r}") from self._problem
        found = []
        while not self._outcomes.empty():
            found.append(self._outcomes.get())
        return found

    def close(self) -> None:
        """Serve and fetch no more; does nothing the second time."""
        if not self._is_stopped:
            self._tell(self._stop)
            self._thread.join()
            os.close(self._bell)

    def _tell(self, command: Callable[[], None]) -> None:
        self._commands.put(command)
        os.eventfd_write(self._bell, 1)

    # In the plane's thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            for socket in (self._bell, self._door.socket, self._router):
                self._poller.register(socket, zmq.POLLIN)
            while not self._is_stopped:
                self._turn()
        except BaseException as problem:
            self._problem = problem
            self._wake()
        finally:
            for file in self._files.values():
                file.close()
            if self._canary is not None:
                self._canary.close()
            self._context.destroy(0)

    def _turn(self) -> None:
        due = self._fetches.next_deadline()
        wait_s = _WAIT_S_MAX if due is None else max(0.0, min(_WAIT_S_MAX, due - time.monotonic()))
        ready = dict(self._poller.poll(int(1000 * wait_s) + 1))
        if self._bell in ready:
            os.eventfd_read(self._bell)
            while not self._commands.empty():
                self._commands.get()()
        if self._door.socket in ready:
            self._door.answer()
        if self._router in ready:
            self._answering.receive()
        for source, dealer in list(self._dealers.items()):
            if ready.get(dealer, 0) & zmq.POLLIN:
                self._receive(source, dealer)
        self._fetches.pass_time(time.monotonic())
        self._obey()
        for source in list(self._dealers):
            self._send_waiting(source)
        self._watch_door(time.monotonic())

    def _watch_door(self, now: float) -> None:
        """Knock with a random key, now and then. Raises KM0615 if that is not refused."""
        if self._canary is None and now >= self._canary_s:
            self._canary_s = now + EVERY_S
            self._canary = Canary(self._context, self.endpoint, self._settings.pair.public, now)
        if self._canary is None or (is_dead := self._canary.is_dead(now)) is None:
            return
        self._canary.close()
        self._canary = None
        if not is_dead:
            what = (
                "a peer with an unknown key was not refused: the worker stops rather than let anybody have its blocks"
            )
            raise error(Code.KEYS, what, where=self.endpoint, hint="report this, with the versions of pyzmq")

    def _stop(self) -> None:
        self._is_stopped = True

    def _say(self, outcome: Outcome) -> None:
        self._outcomes.put(outcome)
        self._wake()

    def _take_peers(self, peers: Sequence[Peer]) -> None:
        self._names = {peer.public_key.decode(): peer.name for peer in peers}
        places = {peer.name: (peer.endpoint, peer.public_key.decode()) for peer in peers} | {
            PARTS: self._endpoints[PARTS]
        }
        for source in [name for name in self._dealers if self._endpoints.get(name) != places.get(name)]:
            self._disconnect(source)
        self._endpoints = places

    # Blocks and parts that are wanted

    def _want(self, want: Want, ticket: bytes, block_bytes: int) -> None:
        if want.holder not in self._endpoints:
            self._say(BlockMissed(want, orders.UNREACHABLE))
            return
        if want not in self._files:
            self._files[want] = SpooledFile(self._spool.new_path())
            self._tickets[want] = ticket
            self._fetches.want(want, want.holder, time.monotonic(), stream_bytes_max(block_bytes))

    def _forget(self, want: Want) -> None:
        self._fetches.forget(want)
        self._tickets.pop(want, None)
        file = self._files.pop(want, None)
        if file is not None:
            file.remove()

    def _want_parts(self, job: JobId, parts: Sequence[JobPart]) -> None:
        try:
            missing = {part.sha256: part for part in parts if not is_whole_part(self._part_path(part.sha256), part)}
        except OSError as problem:
            self._say(PartsMissed(job, failure_of(problem), f"{self._parts_folder}: {problem.strerror}"))
            return
        if not missing:
            self._say(PartsCame(job))
            return
        self._missing[job] = missing
        for digest, part in missing.items():
            if digest not in self._files:
                self._files[digest] = SpooledFile(self._part_path(digest) + ".new")
                self._fetches.want(digest, PARTS, time.monotonic(), part.size_bytes)

    def _forget_job(self, job: JobId) -> None:
        self._blocks.forget(job)
        self._forget_parts(job)

    def _forget_parts(self, job: JobId) -> None:
        for digest in self._missing.pop(job, {}):
            if not any(digest in others for others in self._missing.values()):
                self._drop(digest)

    def _part_path(self, digest: bytes) -> str:
        return os.path.join(self._parts_folder, digest.hex())

    # What fetches order

    def _obey(self) -> None:
        while found := self._fetches.take():
            for order in found:
                if not isinstance(order, orders.Reconnect) and order.key not in self._files:
                    continue  # dropped by what was obeyed before
                match order:
                    case orders.Ask():
                        self._outboxes.setdefault(order.source, deque()).append(self._message(order))
                        self._connect(order.source)
                    case orders.Reconnect():
                        self._disconnect(order.source)
                    case orders.Restart():
                        self._files[order.key].restart()
                    case orders.Completed():
                        self._check(order.key)
                    case orders.Missed():
                        self._miss(order.key, order.code)

    def _message(self, order: orders.Ask) -> bytes:
        key = order.key
        one: BlockRange | PartRange
        if isinstance(key, Want):
            place = key.job, key.stage, key.gen, key.map_task, key.attempt, key.output, key.partition
            one, ticket = BlockRange(*place, order.offset, order.length), self._tickets[key]
        else:
            assert isinstance(key, bytes)
            one, ticket = PartRange(key, order.offset, order.length), b""
        return enveloped(Fetch(order.request, ticket, (one,)), order.request)

    def _check(self, key: orders.Key) -> None:
        """A stream has come: believe it or not."""
        file = self._files[key]
        file.close()
        try:
            if isinstance(key, Want):
                is_whole = is_whole_block(file.path, id_of(key), key.partition)
            else:
                assert isinstance(key, bytes)
                is_whole = self._take_part(key, file)
        except OSError as problem:
            self._fetches.fail(key, failure_of(problem))
            return
        self._fetches.checked(key, is_whole, time.monotonic())
        if is_whole and isinstance(key, Want):
            self._say(BlockCame(key, file.path))

    def _take_part(self, digest: bytes, file: SpooledFile) -> bool:
        """Put a part that came under its name, if it is what it should be, and tell the jobs that have all now."""
        part = next(each[digest] for each in self._missing.values() if digest in each)
        if not is_whole_part(file.path, part):
            return False
        os.rename(file.path, self._part_path(digest))
        del self._files[digest]
        for job in [job for job, missing in self._missing.items() if missing.pop(digest, None) and not missing]:
            del self._missing[job]
            self._say(PartsCame(job))
        return True

    def _miss(self, key: orders.Key, code: str) -> None:
        self._drop(key)
        if isinstance(key, Want):
            self._tickets.pop(key, None)
            self._say(BlockMissed(key, code))
            return
        assert isinstance(key, bytes)
        for job in [job for job, missing in self._missing.items() if key in missing]:
            # CORRUPT: the master has looked at its own copy, and it is damaged or gone
            failure = "PART_DAMAGED" if code == orders.CORRUPT else code
            self._forget_parts(job)
            self._say(PartsMissed(job, failure, f"part {key.hex()} of the job could not be fetched: {failure}"))

    def _drop(self, key: orders.Key) -> None:
        self._fetches.forget(key)
        file = self._files.pop(key, None)
        if file is not None:
            file.remove()

    # Sockets to others

    def _connect(self, source: str) -> None:
        if source not in self._dealers and source in self._endpoints:
            endpoint, key = self._endpoints[source]
            dealer = connect_dealer(
                self._context,
                self._settings.pair,
                key,
                endpoint,
                message_bytes_max=MESSAGE_BYTES_MAX,
                queued_max=QUEUED_MAX,
            )
            self._dealers[source] = dealer
            self._poller.register(dealer, zmq.POLLIN)

    def _disconnect(self, source: str) -> None:
        self._outboxes.pop(source, None)
        dealer = self._dealers.pop(source, None)
        if dealer is not None:
            self._poller.unregister(dealer)
            dealer.close(0)

    def _send_waiting(self, source: str) -> None:
        """Send what waits for a source; until its handshake is over nothing can be, so the socket is watched."""
        dealer, outbox = self._dealers[source], self._outboxes.get(source, deque())
        try:
            while outbox:
                dealer.send(outbox[0], zmq.DONTWAIT)
                outbox.popleft()
        except zmq.Again:
            self._poller.register(dealer, zmq.POLLIN | zmq.POLLOUT)
            return
        self._poller.register(dealer, zmq.POLLIN)

    def _receive(self, source: str, dealer: zmq.Socket[bytes]) -> None:
        for _ in range(QUEUED_MAX):
            try:
                frames = dealer.recv_multipart(zmq.DONTWAIT, copy=False)
            except zmq.Again:
                return
            try:
                chunk = HOLDER_TO_READER.decode(frames[0].bytes).body
            except ProtocolError:
                continue  # what it owes is asked for again, over another connection
            body = frames[1].buffer if len(frames) == 2 else memoryview(b"")
            status = chunk.status if len(body) == chunk.length else "CORRUPT"
            told = chunk.request, status, chunk.length, chunk.total_bytes
            place = self._fetches.answered(source, *told, time.monotonic())
            if place is not None:
                self._write(*place, body, chunk.total_bytes)

    def _write(self, key: orders.Key, offset: int, body: memoryview, total: int) -> None:
        try:
            if offset == 0 and not self._spool.has_room(total):
                raise OSError(errno.ENOSPC, "a stream is longer than the disk has room")
            self._files[key].write(body, offset)
        except OSError as problem:
            self._fetches.fail(key, failure_of(problem))
            return
        if offset == 0 and len(body) < total and isinstance(key, Want) and self._is_head(key, bytes(body)):
            self._say(BlockBegan(key, self._files[key].path))
        self._fetches.written(key)

    def _is_head(self, want: Want, beginning: bytes) -> bool:
        """Whether a block's beginning has all of its index, and that is the right one; the rest is checked later."""
        try:
            index = decode_index(beginning[: index_length(beginning, where="")], where="")
        except KernelmillError:
            return False
        return index.id == id_of(want) and want.partition < index.partitions
