"""The supervisor: a worker's machine in its shell of sockets, processes, disk and clock.

One thread polls and performs; the data plane and the deleter have threads of their own. It runs no code of users and
imports no Arrow, numba or pickle: outputs are served and heartbeats sent whatever users' code does.
"""

from __future__ import annotations

import os
import random
import secrets
import signal
import socket
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import zmq

from kernelmill.cluster import addresses
from kernelmill.cluster.data.plane import DataPlane, DataSettings
from kernelmill.cluster.failpoints import failpoint
from kernelmill.cluster.fields import JobId
from kernelmill.cluster.keys.bundle import Bundle
from kernelmill.cluster.master.process import Bell
from kernelmill.cluster.messages import Assign, CommitAck
from kernelmill.cluster.roots import Roots
from kernelmill.cluster.sockets import new_context
from kernelmill.cluster.versions import versions_here
from kernelmill.cluster.worker import events as ev
from kernelmill.cluster.worker.bench import Identity, WorkerSettings
from kernelmill.cluster.worker.link import Link
from kernelmill.cluster.worker.machine import Worker
from kernelmill.cluster.worker.nursery import Nursery
from kernelmill.cluster.worker.scratch import PARTS, ScratchFolder
from kernelmill.cluster.worker.slotframes import OpenJob
from kernelmill.cluster.worker.slots import SlotProcess
from kernelmill.engine.errors import KernelmillError
from kernelmill.engine.machine import resident_bytes

_MESSAGES_MAX: Final = 256
_BYE_MS: Final = 1000
_IN: Final = int(zmq.POLLIN)
_IN_AND_OUT: Final = int(zmq.POLLIN | zmq.POLLOUT)
_POLL_MS_MAX: Final = 60_000
_READS_MAX = 8
_NAP_S: Final = 0.003
"""How long frames gather while the slots have short tasks in line: each waking for one cost as much as handling it."""
_RSS_OVER_GRANT: Final = 512 << 20
"""What a slot's process holds beside the memory that its tasks are granted: libraries, compiled functions, slack."""


class SupervisorSettings(msgspec.Struct, frozen=True):
    """What a worker is started with. memory_bytes: for the tasks of all its slots together.

    registered: the functions that it runs, `module:function`; None: all that a holder of the code key signed.
    hung_s: how long a task may show no sign of life.
    """

    bundle: Bundle
    slots: int
    memory_bytes: int
    scratch: Path
    roots: Roots
    say: Callable[[str], None]
    registered: tuple[str, ...] | None = None
    hung_s: float = 30.0


class Supervisor:
    """A worker of a cluster. `run` returns its exit code; use it in the main thread, once."""

    def __init__(self, settings: SupervisorSettings) -> None:
        self._settings = settings
        bundle = settings.bundle
        self._scratch = ScratchFolder(settings.scratch, bundle.name)
        self._context = new_context()
        ticket_key = self._scratch.ticket_key()
        self._bell = Bell()
        endpoint = addresses.for_data(bundle.address, bundle.name, addresses.data_host(bundle.address), 0)
        data = DataSettings(
            scratch=str(settings.scratch),
            worker=bundle.name,
            pair=bundle.pair,
            ticket_key=ticket_key,
            endpoint=endpoint,
            parts_endpoint=addresses.for_parts(bundle.address),
            master_key=bundle.master_key,
        )
        self._plane = DataPlane(data, self._bell.ring)
        me = Identity(
            name=bundle.name,
            nonce=secrets.token_bytes(16),
            versions=versions_here(),
            host=socket.gethostname()[:256],
            data_port=self._plane.port,
            slots=settings.slots,
            memory_bytes=settings.memory_bytes,
            ticket_key=ticket_key,
        )
        times = WorkerSettings(hung_s=settings.hung_s, slot_rss_bytes_max=self._slot_bytes * 5 // 4 + _RSS_OVER_GRANT)
        self._machine = Worker(me, self._scratch.read_notes(), time.monotonic(), times)
        self._link = Link(self._context, bundle, addresses.for_workers(bundle.address))
        self._slots: dict[int, SlotProcess] = {}
        self._nursery: Nursery | None = None
        self._sending: set[int] = set()  # slots for which bytes wait
        self._told: dict[int, SlotProcess] = {}  # slots that were told something in this turn
        self._parts: dict[JobId, set[bytes]] = {}  # sha256 of the parts that each job here has
        self._sources: dict[Any, Callable[[], None]] = {}  # what is polled, and who takes what it has
        self._poller = zmq.Poller()
        self._exit: ev.Exit | None = None
        self._due: float | None = None
        self._signals: list[int] = []

    @property
    def _slot_bytes(self) -> int:
        return self._settings.memory_bytes // self._settings.slots

    def run(self) -> int:
        """Work until told to go. Returns 0 if that was asked for, else 1 after saying why."""
        self._watch_signals()
        self._watch(self._bell.fileno(), self._take_outcomes)
        try:
            self._perform(self._machine.start())
            self._tell(ev.TimePassed(self._sample(), random.random()))  # the first HELLO says how much disk there is
            self._due = self._machine.next_deadline()
            while self._exit is None:
                self._turn()
            self._settings.say(self._exit.text)
            return self._exit.status
        finally:
            self._close()

    def _turn(self) -> None:
        if self._machine.has_lines:
            time.sleep(_NAP_S)
        due, now = self._due, time.monotonic()
        wait_ms = _POLL_MS_MAX if due is None else max(0, min(_POLL_MS_MAX, int((due - now) * 1000) + 1))
        for source, _ in self._poller.poll(wait_ms):
            take = self._sources.get(source)
            if take is not None:  # an earlier one of this turn may have ended it
                take()
        while self._signals:
            self._tell(ev.DrainAsked() if self._signals.pop(0) == signal.SIGTERM else ev.StopAsked())
        self._due = self._machine.next_deadline()
        if self._due is not None and self._due <= time.monotonic():
            self._tell(ev.TimePassed(self._sample(), random.random()))
            self._due = self._machine.next_deadline()
        self._flush()

    def _flush(self) -> None:
        """Send what this turn has brought, to slots and the master: a message with others costs a part of one alone."""
        while self._told:
            _, slot = self._told.popitem()
            slot.flush()
            self._watch_sending(slot)
        self._link.flush()

    def _tell(self, event: ev.Event) -> None:
        if self._exit is None:
            self._perform(self._machine.handle(event, time.monotonic()))

    def _sample(self) -> ev.Sample:
        slots = tuple(slot.sample() for slot in self._slots.values())
        return ev.Sample(resident_bytes("self"), self._scratch.free_bytes, slots)

    # What comes in ---------------------------------------------------------------------------------------------------

    def _take_messages(self) -> None:
        for envelope in self._link.receive(_MESSAGES_MAX).messages:
            if isinstance(envelope.body, Assign):
                failpoint("worker.assign.taken")
            elif isinstance(envelope.body, CommitAck):
                failpoint("worker.ack.taken")
            self._tell(ev.MasterSaid(envelope.epoch, envelope.life, envelope.session, envelope.body))

    def _take_monitor(self) -> None:
        news = self._link.look()
        if news.is_refused:
            self._settings.say("the master does not allow this worker's key, or is not the one of this bundle")
        if news.is_disconnected:
            self._tell(ev.Disconnected())
        elif news.is_connected:
            self._tell(ev.Connected())

    def _take_outcomes(self) -> None:
        self._bell.silence()
        for event in self._plane.take():
            self._tell(event)

    def _take_frames(self, slot: SlotProcess) -> None:
        frames = slot.receive()
        self._take_output(slot)  # what a task printed is there before it is said that it is done
        for said in frames:
            self._tell(said)

    def _take_output(self, slot: SlotProcess) -> None:
        for _ in range(_READS_MAX):  # one that prints without end must not keep the others waiting
            wrote = None if slot.is_silent else slot.read_output()
            if wrote is None:
                break
            self._tell(wrote)
        if slot.is_silent:
            self._unwatch(slot.output)

    def _take_births(self) -> None:
        assert self._nursery is not None
        for birth in self._nursery.births():
            slot = self._slots.get(birth.number)
            if slot is None:  # it was not waited for
                self._nursery.discard(birth)
            elif birth.error:
                self._bury(slot, f"a process cannot be started: {birth.error}")
            else:
                slot.is_born(birth)
                self._watch(slot.pidfd, partial(self._take_death, slot))

    def _take_nursery_death(self) -> None:
        """No slot is born any more until another one is started; those that are there end with it, as is seen."""
        assert self._nursery is not None
        self._take_births()
        for handle in (self._nursery.socket.fileno(), self._nursery.pidfd):
            self._unwatch(handle)
        text, self._nursery = self._nursery.close(), None
        for slot in [each for each in self._slots.values() if each.pid < 0]:
            self._bury(slot, text)

    def _take_death(self, slot: SlotProcess) -> None:
        self._take_frames(slot)  # it may have said that its task is done
        self._bury(slot)

    def _bury(self, slot: SlotProcess, text: str = "") -> None:
        for handle in (slot.socket.fileno(), slot.output, slot.pidfd):
            self._unwatch(handle)
        del self._slots[slot.number]
        self._sending.discard(slot.number)
        self._tell(slot.bury(text))

    # What is done ----------------------------------------------------------------------------------------------------

    def _perform(self, actions: list[ev.Action]) -> None:
        for action in actions:
            _PERFORM[type(action)](self, action)

    def _send(self, action: ev.Send) -> None:
        self._link.post(self._machine.epoch, self._machine.life, action.session, action.body)

    def _reconnect(self, _: ev.Reconnect) -> None:
        for each in (self._link.socket, self._link.monitor):
            if each is not None:
                self._unwatch(each)
        self._link.reconnect()
        self._watch(self._link.socket, self._take_messages)
        self._watch(self._link.monitor, self._take_monitor)

    def _start_slot(self, action: ev.StartSlot) -> None:
        try:
            slot = SlotProcess(action.slot, self._nursery_here())
        except OSError as problem:
            self._tell(ev.SlotDied(action.slot, "SIGNALLED", f"a process cannot be started: {problem}", None))
            return
        self._slots[slot.number] = slot
        self._watch(slot.output, lambda: self._take_output(slot))
        self._watch(slot.socket.fileno(), lambda: self._exchange(slot))

    def _nursery_here(self) -> Nursery:
        """The process that starts slots, started if there is none. Raises OSError if it cannot be."""
        nursery = self._nursery
        if nursery is None:
            nursery = self._nursery = Nursery(os.environ)
            self._watch(nursery.socket.fileno(), self._take_births)
            self._watch(nursery.pidfd, self._take_nursery_death)
        return nursery

    def _exchange(self, slot: SlotProcess) -> None:
        self._take_frames(slot)
        if slot.has_unsent:
            self._told[slot.number] = slot

    def _watch_sending(self, slot: SlotProcess) -> None:
        """Poll for room in the slot's socket as long as bytes wait for it, and no longer."""
        if slot.has_unsent != (slot.number in self._sending) and slot.number in self._slots:
            if slot.has_unsent:
                self._sending.add(slot.number)
            else:
                self._sending.discard(slot.number)
            self._poller.modify(slot.socket.fileno(), _IN_AND_OUT if slot.has_unsent else _IN)

    def _kill_slot(self, action: ev.KillSlot) -> None:
        slot = self._slots.get(action.slot)
        if slot is None:
            return
        slot.kill()
        if slot.pid < 0:  # there is no death to be seen
            self._bury(slot, "it was not started in time")

    def _tell_slot(self, action: ev.TellSlot) -> None:
        slot = self._slots.get(action.slot)
        if slot is not None:
            slot.tell(action.frame)
            self._told[slot.number] = slot

    def _open_in_slot(self, action: ev.OpenInSlot) -> None:
        spec, settings = action.spec, self._settings
        frame = OpenJob(
            job=spec.job,
            sheet=spec.sheet,
            parts=spec.parts,
            parts_folder=str(self._scratch.path / PARTS),
            signature=spec.signature,
            expires_s=spec.expires_s,
            code_key=bytes.fromhex(settings.bundle.code_key),
            roots=tuple(settings.roots.items()),
            memory_bytes=self._slot_bytes,
            scratch=str(settings.scratch),
            worker=settings.bundle.name,
            registered=settings.registered,
            hung_ms=int(1000 * settings.hung_s),
        )
        self._tell_slot(ev.TellSlot(action.slot, frame))

    def _bring_parts(self, action: ev.BringParts) -> None:
        self._parts[action.spec.job] = {part.sha256 for part in action.spec.parts}
        self._plane.want_parts(action.spec.job, action.spec.parts)

    def _keep_note(self, action: ev.KeepNote) -> None:
        try:
            self._scratch.keep_note(action.done)
        except KernelmillError as problem:
            # It is said all the same: only a restart of this supervisor would need the note, and would make it again.
            self._settings.say(f"{problem}")
        failpoint("worker.done.noted")

    def _read_note(self, action: ev.ReadNote) -> None:
        self._tell(ev.NoteRead(action.attempt, self._scratch.read_note(action.attempt)))

    def _delete_job(self, action: ev.DeleteJob) -> None:
        self._scratch.delete_job(action.job)
        self._plane.forget_job(action.job)
        own = self._parts.pop(action.job, set())
        self._scratch.delete_parts(own - {part for others in self._parts.values() for part in others})

    def _leave(self, action: ev.Exit) -> None:
        self._exit = self._exit or action

    # The surroundings ------------------------------------------------------------------------------------------------

    def _watch(self, source: Any, take: Callable[[], None]) -> None:
        self._poller.register(source, zmq.POLLIN)
        self._sources[source] = take

    def _unwatch(self, source: Any) -> None:
        if source in self._sources:
            self._poller.unregister(source)
            del self._sources[source]

    def _watch_signals(self) -> None:
        def note(number: int, _: object) -> None:
            self._signals.append(number)
            self._bell.ring()

        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, note)

    def _close(self) -> None:
        """End all processes and threads, whatever happened; outputs that count stay on the disk."""
        for slot in list(self._slots.values()):
            slot.kill()
        for slot in list(self._slots.values()):
            slot.await_end()
            slot.bury()
        if self._nursery is not None:
            self._nursery.close()
        self._plane.close()
        self._link.close(_BYE_MS)
        self._context.destroy(linger=_BYE_MS)
        self._scratch.close()
        self._bell.close()


_PERFORM: Final[dict[type, Callable[[Supervisor, Any], None]]] = {
    ev.Send: Supervisor._send,
    ev.Reconnect: Supervisor._reconnect,
    ev.StartSlot: Supervisor._start_slot,
    ev.KillSlot: Supervisor._kill_slot,
    ev.TellSlot: Supervisor._tell_slot,
    ev.OpenInSlot: Supervisor._open_in_slot,
    ev.BringParts: Supervisor._bring_parts,
    ev.WantBlock: lambda worker, action: worker._plane.want(action.want, action.ticket, action.block_bytes),
    ev.ForgetBlock: lambda worker, action: worker._plane.forget(action.want),
    ev.KeepNote: Supervisor._keep_note,
    ev.ReadNote: Supervisor._read_note,
    ev.DeleteAttempt: lambda worker, action: worker._scratch.delete_attempt(action.attempt),
    ev.DeleteJob: Supervisor._delete_job,
    ev.LearnPeers: lambda worker, action: worker._plane.set_peers(action.peers.peers),
    ev.Say: lambda worker, action: worker._settings.say(action.text),
    ev.Exit: Supervisor._leave,
}
