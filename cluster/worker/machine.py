"""The worker: a pure state machine around its slots, its outputs and its session. A shell gives it events and the time.

    actions = worker.handle(event, now)     events.py lists both; `now`: seconds, any monotonic clock
    deadline = worker.next_deadline()       send TimePassed then, with a sample, if nothing came before
    worker.check()                          asserts every invariant; for tests

    worker = Worker(identity, notes, now)   notes: the Dones that an earlier life of this worker left on its disk
    actions = worker.start()                connect, and start processes

There is no clock, chance, thread, socket or file in here. What the master orders twice is done once; what it orders and
cannot be is counted in `seen` and changes nothing. Facts (DONE, FAILED) are said each second until they are answered,
and a connection that ended begins again with HELLO, so nothing need ever be sent reliably.

bench.py is the shared state; attempts.py, pool.py and sessions.py hold the tables of states; work.py, blocks.py and
sessions.py take the events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from kernelmill.cluster import messages
from kernelmill.cluster.worker import attempts as states
from kernelmill.cluster.worker import blocks, lineup, openings, sessions, slotframes, work
from kernelmill.cluster.worker import events as told
from kernelmill.cluster.worker import pool as slots
from kernelmill.cluster.worker.attempts import found
from kernelmill.cluster.worker.bench import REGISTERED, Bench, Identity, WorkerSettings

_ON_MESSAGE: Final[dict[type, Callable[[Bench, Any], None]]] = {
    messages.Refused: sessions.on_refused,
    messages.Peers: lambda bench, body: bench.out.append(told.LearnPeers(body)),
    messages.Spec: work.on_spec,
    messages.Assign: work.on_assign,
    messages.Inputs: work.on_inputs,
    messages.Pair: work.on_pair,
    messages.Tickets: work.on_tickets,
    messages.Heard: lambda bench, body: None,
    messages.CommitAck: work.on_commit_ack,
    messages.Discard: work.on_discard,
    messages.CancelAttempt: work.on_cancel,
    messages.Drop: lambda bench, body: bench.drop_job(body.job),
    messages.Drain: sessions.on_drain,
    messages.Bye: lambda bench, body: sessions.cut(bench),
}

_ON_FRAME: Final[dict[type, Callable[[Bench, Any, Any], None]]] = {
    slotframes.SlotReady: work.on_slot_ready,
    slotframes.JobOpened: openings.on_job_opened,
    slotframes.JobRefused: openings.on_job_refused,
    slotframes.BlockWanted: blocks.on_block_wanted,
    slotframes.TaskDone: work.on_task_done,
    slotframes.TaskFailed: work.on_task_failed,
    slotframes.TaskReturned: lineup.on_task_returned,
}

_ON: Final[dict[type, Callable[[Bench, Any], None]]] = {
    told.SlotWrote: work.on_slot_wrote,
    told.SlotDied: work.on_slot_died,
    told.PartsCame: work.on_parts_came,
    told.PartsMissed: work.on_parts_missed,
    told.NoteRead: sessions.on_note_read,
    told.BlockBegan: blocks.on_block_began,
    told.BlockCame: blocks.on_block_came,
    told.BlockMissed: blocks.on_block_missed,
}

# What each state of a slot may say; a slot runs users' code, so what it says otherwise ends it.
_SAYS: Final[dict[str, frozenset[type]]] = {
    slots.STARTING: frozenset({slotframes.SlotReady}),
    slots.SPARE: frozenset(),
    slots.OPENING: frozenset({slotframes.JobOpened, slotframes.JobRefused}),
    slots.IDLE: frozenset(),
    slots.CLOSING: frozenset({slotframes.SlotReady}),
    slots.BUSY: frozenset(
        {slotframes.BlockWanted, slotframes.TaskDone, slotframes.TaskFailed, slotframes.TaskReturned}
    ),
}

_START_NOTHING: Final = frozenset({messages.CommitAck, messages.Heard})
"""What the master says after which no attempt can begin that could not before: a third of all that a worker hears."""

_JOBLESS: Final = frozenset({slots.STARTING, slots.SPARE, slots.CLOSING})


class Worker:
    """Decides which attempt runs in which process, what is reported, what is kept and what is deleted."""

    def __init__(
        self, me: Identity, notes: Iterable[messages.Done], now: float, settings: WorkerSettings | None = None
    ) -> None:
        self._bench = bench = Bench(me, settings if settings is not None else WorkerSettings(), now)
        for done in notes:
            attempt = found(done)
            bench.add(attempt)
            bench.job_of(attempt.name.job)
        self.seen = bench.seen

    @property
    def session(self) -> bytes:
        """The session that messages belong to; empty while there is none."""
        return self._bench.session

    @property
    def epoch(self) -> int:
        """The newest master's epoch that welcomed this worker."""
        return self._bench.epoch

    @property
    def life(self) -> bytes:
        """The newest master's life."""
        return self._bench.life

    @property
    def has_lines(self) -> bool:
        """Whether all processes that run something have so much to do that nobody need hurry for them."""
        busy = [slot for slot in self._bench.pool.slots.values() if slot.state == slots.BUSY]
        return bool(busy) and all(2 * len(slot.line) >= self._bench.settings.line_max for slot in busy)

    def start(self) -> list[told.Action]:
        """Connect, and start the first processes."""
        bench = self._bench
        bench.out = [told.Reconnect()]
        work.settle(bench)
        return bench.out

    def handle(self, event: told.Event, now: float) -> list[told.Action]:
        """Take one event, return what is to be done, in order."""
        bench = self._bench
        bench.now, bench.out = max(bench.now, now), []
        match event:
            case told.TimePassed():
                bench.sample, bench.chance = event.sample, event.chance
                work.pass_time(bench)
                if bench.beat_s <= bench.now:
                    blocks.repeat(bench)
                sessions.pass_time(bench)
            case told.MasterSaid():
                self._take_message(event)
                if type(event.body) in _START_NOTHING:
                    return bench.out
            case told.SlotSaid():
                self._take_frame(event)
            case told.Connected():
                sessions.on_connected(bench)
            case told.Disconnected():
                sessions.on_disconnected(bench)
            case told.DrainAsked():
                sessions.on_drain_asked(bench)
            case told.StopAsked():
                sessions.stop(bench, 0, "stopped")
            case _:
                _ON[type(event)](bench, event)
        work.settle(bench)
        return bench.out

    def next_deadline(self) -> float | None:
        """Tell when TimePassed has something to do, on the clock of `now`."""
        bench = self._bench
        if bench.is_over:
            return None
        return min([bench.beat_s, *sessions.next_deadline(bench), *work.next_deadline(bench)])

    def check(self) -> None:
        """Assert every invariant."""
        bench = self._bench
        for name, attempt in bench.attempts.items():
            assert attempt.name == name
            assert (name in bench.open) == (attempt.state != states.HELD), (name, attempt.state)
            assert (name in bench.stopping) == (attempt.stop_at_s is not None), name
            assert (name in bench.waiting) == (attempt.state == states.WAITING), (name, attempt.state)
            assert attempt.done is None or attempt.state == states.DONE, (name, attempt.state)
            assert (attempt.failed is not None) == (attempt.state == states.FAILED), (name, attempt.state)
            assert name.job in bench.jobs, f"{name} of a job that is not here"
            if attempt.slot is not None:
                assert name in bench.pool.slots[attempt.slot].given, f"{name} is in a slot that has another"
            assert (attempt.slot is not None) or attempt.state not in states.IN_SLOT, f"{name} runs nowhere"
        assert set(bench.open) <= set(bench.attempts) >= set(bench.stopping)
        running = 0
        for number, slot in bench.pool.slots.items():
            running += slot.state == slots.BUSY
            assert (slot.job is None) == (slot.state in _JOBLESS) or slot.state == slots.DYING
            assert slot.is_clean or slot.state not in _JOBLESS, f"slot {number} may open no other job"
            assert slot.state != slots.BUSY or slot.attempt is not None, f"slot {number} runs nothing"
            assert all(bench.attempts[name].slot == number for name in slot.given), f"slot {number}: {slot.given}"
            assert not slot.line or slot.takes_more, f"others stand in line in slot {number}"
            assert len(slot.line) <= bench.settings.line_max and (slot.attempt is not None or not slot.line)
        assert running <= bench.pool.size, "more attempts run than there are slots (I4)"
        wanted = [here.want for wants in bench.wants.values() for here in wants.values() if here.want is not None]
        assert set(wanted) == set(bench.fetching), "something is fetched that nobody wants, or not fetched"
        assert all(bench.pool.slots[number].attempt is not None for number in bench.wants), "wants of an idle slot"
        assert (bench.session != b"") == (bench.link == REGISTERED)

    def _take_message(self, said: told.MasterSaid) -> None:
        bench = self._bench
        if not sessions.is_to_be_heard(bench, said):
            return
        bench.heard_s = bench.now
        if isinstance(said.body, messages.Welcome):
            sessions.on_welcome(bench, said, said.body)
        else:
            _ON_MESSAGE[type(said.body)](bench, said.body)

    def _take_frame(self, said: told.SlotSaid) -> None:
        bench = self._bench
        slot = bench.pool.slots.get(said.slot)
        if slot is None or slot.state == slots.DYING:
            return
        if type(said.frame) not in _SAYS[slot.state]:
            bench.seen["slot said what it cannot say"] += 1
            bench.kill(slot, "SIGNALLED")
            return
        _ON_FRAME[type(said.frame)](bench, slot, said.frame)
