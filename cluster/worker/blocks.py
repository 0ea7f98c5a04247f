"""Blocks that slots wait for: asked for once by a slot, wanted until they are here or the attempt ends.

A block that cannot be had is told to the master each second. It names another attempt or holder of that map task in
newer INPUTS, and the slot is sent there; or it cancels the reader. So a slot is never told that it cannot have a block,
unless this worker's own disk is full.
"""

from __future__ import annotations

from kernelmill.cluster.fields import AttemptName, JobId
from kernelmill.cluster.messages import FetchFailed
from kernelmill.cluster.worker import events as out
from kernelmill.cluster.worker.attempts import Attempt
from kernelmill.cluster.worker.bench import Bench, WantHere
from kernelmill.cluster.worker.events import BlockBegan, BlockCame, BlockMissed, Want
from kernelmill.cluster.worker.pool import Slot
from kernelmill.cluster.worker.slotframes import BlockHere, BlockWanted


def on_block_wanted(bench: Bench, slot: Slot, frame: BlockWanted) -> None:
    """Fetch a block for a slot, send it to where the block is by now, or tell the master that it is nowhere."""
    attempt = bench.attempts[slot.attempt] if slot.attempt is not None else None
    if attempt is None:
        return
    open_wants = bench.wants.setdefault(slot.number, {})
    old = open_wants.pop(_key(frame), None)
    if old is not None:
        bench.forget_want(old)
    here = open_wants[_key(frame)] = WantHere(frame, None, frame.code, bench.now)
    if _redirect(bench, slot, here):
        return
    if frame.code:
        _tell_master(bench, attempt, here)
    else:
        _fetch(bench, attempt, here)


def on_block_began(bench: Bench, event: BlockBegan) -> None:
    """Tell all slots that wait for a block what is in it: they may count, and merge what comes before it."""
    for slot, here in _waiting_for(bench, event.want):
        bench.out.append(out.TellSlot(slot.number, _here(here, event, is_whole=False)))


def on_block_came(bench: Bench, event: BlockCame) -> None:
    """Hand a block to all slots that wait for it; it stays in the spool until their attempts end."""
    for slot, here in _waiting_for(bench, event.want):
        here.code = ""
        bench.out.append(out.TellSlot(slot.number, _here(here, event, is_whole=True)))


def _here(here: WantHere, event: BlockBegan | BlockCame, *, is_whole: bool) -> BlockHere:
    place, frame = event.want, here.frame
    key = frame.stage, frame.map_task, frame.output, frame.partition
    return BlockHere(*key, place.attempt, place.holder, event.path, "", is_whole)


def on_block_missed(bench: Bench, event: BlockMissed) -> None:
    """Tell the master, and wait for newer INPUTS; a full disk of this worker ends the attempt."""
    for slot, here in _waiting_for(bench, event.want):
        attempt = bench.attempts[slot.attempt] if slot.attempt is not None else None
        bench.forget_want(here)
        if attempt is None:
            continue
        if here.is_renewed and event.code == "FETCH_UNREACHABLE":
            bench.seen["fetched again"] += 1
            here.code = ""
            _fetch(bench, attempt, here)
            continue
        here.code, here.since_s = event.code, bench.now
        if event.code == "DISK_FULL":
            frame = here.frame
            gone = BlockHere(
                frame.stage, frame.map_task, frame.output, frame.partition, frame.attempt, frame.holder, "", event.code
            )
            del bench.wants[slot.number][_key(frame)]
            bench.out.append(out.TellSlot(slot.number, gone))
        elif not _redirect(bench, slot, here):
            _tell_master(bench, attempt, here)


def on_places_changed(bench: Bench, job: JobId, stage: int) -> None:
    """Newer INPUTS or a new pair: send slots that wait for a block of this stage to where it is now."""
    for slot in [bench.pool.slots[number] for number in bench.wants]:
        if slot.job == job:
            for here in [each for each in bench.wants[slot.number].values() if each.frame.stage == stage]:
                if not _redirect(bench, slot, here):
                    _renew(bench, slot, here)


def _renew(bench: Bench, slot: Slot, here: WantHere) -> None:
    """The block is where it was, says the master, for its holder has come back: what failed before is void."""
    here.is_renewed = True
    attempt = bench.attempts.get(slot.attempt) if slot.attempt is not None else None
    if here.code == "FETCH_UNREACHABLE" and attempt is not None:
        here.code = ""
        if here.want is None:
            _fetch(bench, attempt, here)


def repeat(bench: Bench) -> None:
    """Each second: tell the master again what cannot be had, and try again what could not be reached."""
    for number, open_wants in bench.wants.items():
        slot = bench.pool.slots[number]
        attempt = bench.attempts.get(slot.attempt) if slot.attempt is not None else None
        if attempt is None:
            continue
        for here in open_wants.values():
            if not here.code:
                continue
            _tell_master(bench, attempt, here)
            is_due = here.since_s + bench.settings.refetch_s <= bench.now
            if here.code == "FETCH_UNREACHABLE" and here.want is None and is_due:
                bench.seen["fetched again"] += 1
                _fetch(bench, attempt, here)


def _fetch(bench: Bench, attempt: Attempt, here: WantHere) -> None:
    frame = here.frame
    want = Want(
        attempt.name.job,
        frame.stage,
        frame.gen,
        frame.map_task,
        frame.attempt,
        frame.holder,
        frame.output,
        frame.partition,
    )
    here.want, here.is_renewed = want, False
    here.since_s = bench.now
    bench.fetching[want] += 1
    if bench.fetching[want] == 1:
        size = bench.inputs.block_bytes_of(want.job, want.stage, want.map_task)
        bench.out.append(out.WantBlock(want, _ticket(bench, attempt, want), size))


def _ticket(bench: Bench, attempt: Attempt, want: Want) -> bytes:
    ticket = attempt.tickets.get((want.stage, want.output, want.holder))
    if ticket is None:
        pair = bench.inputs.pair_of(want.job, want.stage, want.map_task)
        ticket = pair.ticket if pair is not None and pair.holder == want.holder else b""
    return ticket


def _redirect(bench: Bench, slot: Slot, here: WantHere) -> bool:
    """Send a slot to the newest copy of a block, if it asked for another; tell whether it was sent."""
    frame = here.frame
    assert slot.job is not None
    place = bench.inputs.place_of(slot.job, frame.stage, frame.map_task)
    if place is None or place == (frame.attempt, frame.holder):
        return False
    bench.seen["reader sent elsewhere"] += 1
    bench.forget_want(here)
    del bench.wants[slot.number][_key(frame)]
    moved = BlockHere(frame.stage, frame.map_task, frame.output, frame.partition, *place, "", "")
    bench.out.append(out.TellSlot(slot.number, moved))
    return True


def _tell_master(bench: Bench, attempt: Attempt, here: WantHere) -> None:
    frame = here.frame
    source = AttemptName(attempt.name.job, frame.stage, frame.map_task, frame.attempt)
    bench.send(FetchFailed(attempt.name, source, here.code))


def _waiting_for(bench: Bench, want: Want) -> list[tuple[Slot, WantHere]]:
    return [
        (bench.pool.slots[number], here)
        for number, open_wants in bench.wants.items()
        for here in list(open_wants.values())
        if here.want == want
    ]


def _key(frame: BlockWanted) -> tuple[int, int, int, int]:
    return frame.stage, frame.map_task, frame.output, frame.partition
