"""Attempts that stand in line in a slot's process, so that the next one need not be waited for.

An attempt that ends in a line for another's sake was perhaps done and not said, or not begun: it is not run again under
its name, but told as CANCELLED, which costs its task nothing.
"""

from __future__ import annotations

from kernelmill.cluster.messages import Failed
from kernelmill.cluster.worker import attempts as states
from kernelmill.cluster.worker import events as out
from kernelmill.cluster.worker import pool as slots
from kernelmill.cluster.worker.attempts import Attempt
from kernelmill.cluster.worker.bench import Bench
from kernelmill.cluster.worker.events import SlotDied, SlotSample
from kernelmill.cluster.worker.pool import Slot
from kernelmill.cluster.worker.slotframes import TakeBack, TaskReturned


def fill_lines(bench: Bench) -> None:
    """Give busy slots what waits for nothing but them; take it back where another slot has nothing to do."""
    pool, most = bench.pool, bench.settings.line_max
    lines = [slot for slot in pool.slots.values() if slot.takes_more and slot.state == slots.BUSY]
    if not bench.waiting:
        if pool.room > 0:
            _even_out(bench, lines)
        return
    low = [slot for slot in lines if 2 * len(slot.line) <= most]
    if not low or pool.room > 0:
        return  # a process for each slot comes first
    for name in list(bench.waiting):
        attempt = bench.attempts[name]
        own = [slot for slot in low if slot.job == name.job and len(slot.line) < most]
        slot = min(own, key=lambda slot: len(slot.line), default=None)
        if slot is not None and attempt.slot is None and bench.may_stand_in_line(attempt, slot):
            bench.line_up(attempt, slot)
        elif not any(len(slot.line) < most for slot in low):
            return


def _even_out(bench: Bench, lines: list[Slot]) -> None:
    longest = max(lines, key=lambda slot: len(slot.line), default=None)
    if longest is None or longest.is_asked or len(longest.line) < 2 or longest.job is None:
        return
    if bench.pool.idle_of(longest.job) is not None:
        longest.is_asked = True
        for name in longest.line[-(len(longest.line) // 2) :]:
            bench.out.append(out.TellSlot(longest.number, TakeBack(name.attempt)))


def on_task_returned(bench: Bench, slot: Slot, frame: TaskReturned) -> None:
    """Let an attempt that stood in line run in another slot."""
    attempt = of_slot(bench, slot, frame)
    if attempt is None:
        return
    if attempt.state != states.RUNNING:  # it is not wanted any more
        _cancel(bench, attempt)
        return
    bench.seen["attempt taken back from a line"] += 1
    bench.leave_slot(attempt)
    attempt.move(states.RETURNED)
    bench.waiting[attempt.name] = bench.now


def of_slot(bench: Bench, slot: Slot, frame: object) -> Attempt | None:
    """The attempt that a slot speaks of, if it has it."""
    key = getattr(frame, "attempt", None)
    name = next((name for name in slot.given if name.attempt == key), None)
    if name is None:
        bench.seen["slot speaks of another attempt"] += 1
        return None
    return bench.attempts[name]


def end_given(bench: Bench, slot: Slot, event: SlotDied) -> tuple[Attempt, SlotSample | None] | None:
    """A process died: end those that stood in line; return the one that it ran, and where that was if it is known."""
    given = [bench.attempts[name] for name in slot.given]
    slot.attempt = None
    slot.line.clear()
    for each in given:
        bench.stopping.pop(each.name, None)
        each.slot = each.stop_at_s = None
    running = next((each for each in given if _is_of(event.sample, each)), given[0] if given else None)
    for each in given:
        if each is not running:
            bench.seen["attempt ended in a line"] += 1
            _cancel(bench, each)
    if running is None:
        return None
    sample = event.sample if event.sample is not None else running.sample
    return running, sample if _is_of(sample, running) else None


def _is_of(sample: SlotSample | None, attempt: Attempt) -> bool:
    return sample is not None and sample.attempt == attempt.name.attempt


def _cancel(bench: Bench, attempt: Attempt) -> None:
    bench.end_failed(attempt, Failed(attempt.name, "CANCELLED", "", None, None, ()), states.BROKE)
