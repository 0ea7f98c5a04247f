"""Workers' messages as events of the master's machine, and the machine's actions as messages to workers. Pure.

`WorkerMail` knows what each session was told, so that what goes before an ASSIGN goes before it once: the job's Spec,
and tickets for the holders of its inputs. It decides nothing: what it cannot read it refuses with ValueError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final, NamedTuple

from kernelmill.cluster import messages as m
from kernelmill.cluster.addresses import for_data, is_ipc
from kernelmill.cluster.fields import AttemptName, BlocksOutput, FilesOutput, TaskKey
from kernelmill.cluster.journal.translate import attempt_key, attempt_number
from kernelmill.cluster.keys import signing
from kernelmill.cluster.master import events as told
from kernelmill.cluster.master.desk import SealOf
from kernelmill.cluster.master.machine import Master
from kernelmill.engine.ids import AttemptId, TaskId
from kernelmill.engine.plan.stages import EdgeKind

HELLO_PAGES_MAX: Final = 64
_INPUTS_PAGE: Final = 16384


class Letter(NamedTuple):
    """A message for a worker; without a session it goes back on the way of the message that is being answered."""

    worker: str
    session: int | None
    body: Any


class Member(NamedTuple):
    """A worker's registration: what its HELLO said, and where the master saw it."""

    session: int
    hello: m.Hello
    endpoint: str
    public_key: str
    specs: set[str]  # jobs whose Spec it was sent in this session
    assigned: dict[int, str]  # attempt -> job


def seal_with(secret: bytes) -> SealOf:
    """The function that seals assignments under the journal's secret."""

    def seal_of(job: str, attempt: AttemptId, gen: int, worker: str) -> bytes:
        task = TaskKey(bytes.fromhex(job), attempt.task.stage, gen, attempt.task.index)
        return signing.seal(secret, attempt_key(attempt.number), task, worker)

    return seal_of


def name_of(job: str, attempt: AttemptId) -> AttemptName:
    """The wire's name of an attempt."""
    return AttemptName(bytes.fromhex(job), attempt.task.stage, attempt.task.index, attempt_key(attempt.number))


def attempt_of(name: AttemptName) -> AttemptId:
    """The machine's name of an attempt. Raises ValueError for a number that no master gave out."""
    return AttemptId(TaskId(name.stage, name.index), attempt_number(name.attempt))


class WorkerMail:
    """The correspondence of one master with its workers."""

    def __init__(self, master: Master, address: str) -> None:
        self._master, self._address = master, address
        self._hellos: dict[str, dict[int, m.Hello]] = {}  # pages of a HELLO that is not whole
        self._offers: dict[
            str, tuple[Member, dict[tuple[str, int], AttemptName]]
        ] = {}  # HELLOs the machine was told of
        self._holders: dict[tuple[str, int], tuple[int, tuple[str, ...]]] = {}
        self.members: dict[str, Member] = {}
        self.progress: dict[str, m.Beat] = {}  # the last BEAT of each session's worker

    # What workers say.

    def take_hello(
        self, worker: str, session: int, hello: m.Hello, host: str, public_key: str
    ) -> told.HelloReceived | None:
        """Take a page; with the last one return the event. `session` is new, host and key are what the master saw."""
        if hello.pages > HELLO_PAGES_MAX or hello.page >= hello.pages:
            raise ValueError(f"page {hello.page} of {hello.pages}")
        pages = self._hellos.setdefault(worker, {})
        first = next(iter(pages.values()), hello)
        if (first.nonce, first.count, first.pages) != (hello.nonce, hello.count, hello.pages):
            pages.clear()
        pages[hello.page] = hello
        if len(pages) < hello.pages:
            return None
        del self._hellos[worker]
        endpoint = for_data(self._address, worker, host, hello.data_port)
        running = [each for page in sorted(pages) for each in pages[page].running]
        done = [each for page in sorted(pages) for each in pages[page].done]
        names = {
            (each.attempt.job.hex(), attempt_number(each.attempt.attempt)): each.attempt for each in running + done
        }
        self._offers[worker] = Member(session, pages[0], endpoint, public_key, set(), {}), names
        return told.HelloReceived(
            worker,
            session,
            int.from_bytes(hello.nonce, "little"),
            hello.count,
            hello.slots,
            hello.disk_free_bytes,
            tuple(map(_held, running)),
            tuple(map(_held, done)),
            hello.epoch_seen,
            "" if is_ipc(self._address) else host,
        )

    def event_of(self, worker: str, session: int, body: Any) -> told.Event | None:
        """The event of any other message; None for one that tells the machine nothing."""
        make = _EVENT_OF.get(type(body))
        if make is None:
            return None
        event = make(worker, session, body)
        if isinstance(body, m.Beat):
            self.progress[worker] = body  # all of its attempts are such as a master counts
        return event

    def is_assigned(self, worker: str, attempt: AttemptName) -> bool:
        """Tell whether this session's worker was given the attempt and has had no answer of it yet.

        Raises ValueError for a number that no master gave out.
        """
        member, number = self.members.get(worker), attempt_number(attempt.attempt)
        return member is not None and member.assigned.get(number) == attempt.job.hex()

    # What the machine orders.

    def letters(self, action: told.Action) -> list[Letter]:
        """The messages of an action to a worker, in order; none for an action of another kind."""
        write = _LETTERS_OF.get(type(action))
        if write is None or (isinstance(action, _OF_LIVE_JOBS) and not self._master.is_live(action.job)):
            return []  # a job that ended in the same moment
        return list(write(self, action))

    def _welcome(self, action: told.Welcome) -> Iterator[Letter]:
        member, names = self._offers.pop(action.worker)
        self.members[action.worker] = member
        member.assigned.update({number: job for job, number in action.keep})
        lists = [[names[each] for each in kept] for kept in (action.keep, action.hold, action.resend)]
        pages = max(1, -(-max(map(len, lists)) // m.HELD_PAGE))
        for page in range(pages):
            part = slice(page * m.HELD_PAGE, (page + 1) * m.HELD_PAGE)
            kept = [tuple(each[part]) for each in lists]
            yield Letter(action.worker, action.session, m.Welcome(action.count, page, pages, *kept))

    def _refuse(self, action: told.Refuse) -> Iterator[Letter]:
        yield Letter(action.peer, None, m.Refused(bytes.fromhex(action.job), action.code, action.text[:8192], ""))

    def _assign(self, action: told.Assign) -> Iterator[Letter]:
        member, number = self.members[action.worker], action.attempt.number
        sheet = self._master.sheet_of(action.job)
        if action.job not in member.specs or number in member.assigned:  # said again: the first one may be lost
            member.specs.add(action.job)
            if (accepted := sheet.accepted) is not None:
                job = bytes.fromhex(action.job)
                spec = m.Spec(job, accepted.sheet, accepted.parts, accepted.signature, accepted.expires_s)
                yield Letter(action.worker, action.session, spec)
        member.assigned[number] = action.job
        wide = {stage for stage, _ in action.inputs}
        body = m.Assign(
            name_of(action.job, action.attempt),
            action.gen,
            action.seal,
            action.is_isolating,
            action.poison,
            tuple(m.InputVersion(stage, version) for stage, version in action.inputs),
            tuple(self._tickets(action.worker, action.job, action.attempt.task, wide)),
        )
        yield Letter(action.worker, action.session, body)

    def _inputs(self, action: told.TellInputs) -> Iterator[Letter]:
        job, gen = bytes.fromhex(action.job), self._master.gen_of(action.job, action.stage)
        held = self._master.inputs_of(action.job, action.stage)
        pages = max(1, -(-len(held) // _INPUTS_PAGE))
        for page in range(pages):
            part = held[page * _INPUTS_PAGE : (page + 1) * _INPUTS_PAGE]
            holders = {holder: place for place, holder in enumerate(dict.fromkeys(each[2] for each in part))}
            maps = tuple(
                m.HeldMap(task, attempt_key(number), holders[holder], size) for task, number, holder, size in part
            )
            bits = b"" if page else self._master.without_rows(action.job, action.stage)
            body = m.Inputs(job, action.stage, gen, action.version, page, pages, tuple(holders), maps, bits)
            yield Letter(action.worker, action.session, body)
        self._holders.pop((action.job, action.stage), None)
        assigned = self.members[action.worker].assigned
        for attempt in self._master.attempts_on(action.worker, action.job):
            tickets = tuple(self._tickets(action.worker, action.job, attempt.task, {action.stage}))
            if attempt.number in assigned and tickets:  # others get theirs with their ASSIGN
                yield Letter(action.worker, action.session, m.Tickets(name_of(action.job, attempt), tickets))

    def _pair(self, action: told.TellPair) -> Iterator[Letter]:
        job, gen = bytes.fromhex(action.job), self._master.gen_of(action.job, action.stage)
        edges = [edge for stage in self._master.sheet_of(action.job).stages for edge in stage.inputs]
        outputs = [e.output for e in edges if e.source == action.stage and e.kind is EdgeKind.ONE_TO_ONE]
        holder = self.members.get(action.holder)
        if holder is None:
            return  # lost in this very moment: the pair is told again
        ticket = signing.ticket(holder.hello.ticket_key, job, action.stage, gen, outputs[0], 0, action.worker)
        size = self._master.block_bytes_of(action.job, action.stage, action.task)
        held = m.HeldMap(action.task, attempt_key(action.attempt), 0, size)
        yield Letter(action.worker, action.session, m.Pair(job, action.stage, gen, held, action.holder, ticket))

    def _tickets(self, reader: str, job: str, task: TaskId, sources: set[int]) -> Iterator[m.Ticket]:
        """The reader's tickets for its partition of these stages, at all who hold some of it."""
        for edge in self._master.sheet_of(job).stages[task.stage].inputs:
            if edge.source not in sources or edge.kind is EdgeKind.ONE_TO_ONE:
                continue
            gen = self._master.gen_of(job, edge.source)
            partition = task.index if edge.kind in (EdgeKind.HASH, EdgeKind.RANGE) else 0
            for name in self._holders_of(job, edge.source):
                if (holder := self.members.get(name)) is not None:
                    key = holder.hello.ticket_key
                    made = signing.ticket(key, bytes.fromhex(job), edge.source, gen, edge.output, partition, reader)
                    yield m.Ticket(edge.source, edge.output, name, made)

    def _holders_of(self, job: str, stage: int) -> tuple[str, ...]:
        version = self._master.version_of(job, stage)
        known = self._holders.get((job, stage))
        if known is None or known[0] != version:
            holders = dict.fromkeys(holder for _, _, holder, _ in self._master.inputs_of(job, stage))
            known = self._holders[job, stage] = version, tuple(holders)
        return known[1]

    def _answer(self, action: told.CommitAck | told.Discard | told.Cancel) -> Iterator[Letter]:
        member = self.members.get(action.worker)
        if member is not None and not isinstance(action, told.Cancel):
            member.assigned.pop(action.attempt.number, None)
        yield Letter(action.worker, action.session, _ANSWER_OF[type(action)](name_of(action.job, action.attempt)))

    def _drop(self, action: told.Drop) -> Iterator[Letter]:
        if (member := self.members.get(action.worker)) is not None:
            member.specs.discard(action.job)
            for number in [number for number, job in member.assigned.items() if job == action.job]:
                del member.assigned[number]
        for key in [key for key in self._holders if key[0] == action.job]:
            del self._holders[key]
        yield Letter(action.worker, action.session, m.Drop(bytes.fromhex(action.job)))

    def _drain(self, action: told.Drain) -> Iterator[Letter]:
        yield Letter(action.worker, action.session, m.Drain(action.is_free))

    def _peers(self, action: told.TellPeers) -> Iterator[Letter]:
        here = [self.members[name] for name in self._master.peers()]
        names = self._master.peers()
        peers = zip(names, here, strict=True)
        body = m.Peers(
            action.version, tuple(m.Peer(name, one.endpoint, one.public_key.encode()) for name, one in peers)
        )
        for name, member in zip(names, here, strict=True):
            yield Letter(name, member.session, body)


def _held(each: m.HeldAttempt) -> told.Held:
    return told.Held(each.attempt.job.hex(), attempt_of(each.attempt), each.gen, each.seal)


def _accept(worker: str, session: int, body: m.Accept) -> told.Event:
    return told.AcceptReceived(worker, session, body.attempt.job.hex(), attempt_of(body.attempt))


def _failed(worker: str, session: int, body: m.Failed) -> told.Event:
    text = body.problem.what if body.problem is not None else body.type_name
    batch = body.batch if body.batch is not None else -1
    job, attempt = body.attempt.job.hex(), attempt_of(body.attempt)
    return told.FailedReceived(worker, session, job, attempt, body.code, text, batch, body.origins, body.problem)


def _fetch_failed(worker: str, session: int, body: m.FetchFailed) -> told.Event:
    job, attempt = body.attempt.job.hex(), attempt_of(body.attempt)
    return told.FetchFailedReceived(worker, session, job, attempt, attempt_of(body.source), body.code)


def _beat(worker: str, session: int, body: m.Beat) -> told.Event:
    attempts = tuple((each.job.hex(), attempt_number(each.attempt)) for each in body.attempts)
    return told.BeatReceived(worker, session, attempts, tuple(job.hex() for job in body.jobs), body.disk_free_bytes)


def _done(worker: str, session: int, body: m.Done) -> told.Event:
    record = body.record
    blocks = record.output if isinstance(record.output, BlocksOutput) else BlocksOutput(0, b"")
    files = record.output.files if isinstance(record.output, FilesOutput) else ()
    consumed = tuple(
        told.Consumed(each.maps, each.rows, int.from_bytes(each.sum, "little"), int.from_bytes(each.xor, "little"))
        for each in body.consumed
    )
    return told.DoneReceived(
        worker,
        session,
        body.attempt.job.hex(),
        attempt_of(body.attempt),
        body.gen,
        body.seal,
        blocks.size_bytes,
        blocks.vectors,
        files,
        record.rejects,
        consumed,
        record.counters,
        record.reject_files,
        body.rows,
        body.size_bytes,
        body.millis,
    )


_EVENT_OF: Final[dict[type, Callable[[str, int, Any], told.Event]]] = {
    m.Accept: _accept,
    m.Failed: _failed,
    m.FetchFailed: _fetch_failed,
    m.Beat: _beat,
    m.Done: _done,
    m.WantDrain: lambda worker, session, body: told.DrainRequested(worker),
    m.Bye: lambda worker, session, body: told.ByeReceived(worker, session),
}

_OF_LIVE_JOBS: Final = (told.Assign, told.TellInputs, told.TellPair)

_ANSWER_OF: Final[dict[type, Callable[[AttemptName], Any]]] = {
    told.CommitAck: m.CommitAck,
    told.Discard: m.Discard,
    told.Cancel: m.CancelAttempt,
}

_LETTERS_OF: Final[dict[type, Callable[[WorkerMail, Any], Iterator[Letter]]]] = {
    told.Welcome: WorkerMail._welcome,
    told.Refuse: WorkerMail._refuse,
    told.Assign: WorkerMail._assign,
    told.TellInputs: WorkerMail._inputs,
    told.TellPair: WorkerMail._pair,
    told.CommitAck: WorkerMail._answer,
    told.Discard: WorkerMail._answer,
    told.Cancel: WorkerMail._answer,
    told.Drop: WorkerMail._drop,
    told.Drain: WorkerMail._drain,
    told.TellPeers: WorkerMail._peers,
}
