"""Assignments and slots: what the master orders of attempts and jobs, what slots say of them, who runs what next."""

from __future__ import annotations

from collections import deque

from kernelmill.cluster.fields import has_code
from kernelmill.cluster.messages import (
    Assign,
    CancelAttempt,
    CommitAck,
    Discard,
    Done,
    Failed,
    Inputs,
    Pair,
    Spec,
    Tickets,
)
from kernelmill.cluster.worker import attempts as states
from kernelmill.cluster.worker import events as out
from kernelmill.cluster.worker import openings, sessions
from kernelmill.cluster.worker import pool as slots
from kernelmill.cluster.worker.attempts import Attempt, assigned
from kernelmill.cluster.worker.bench import Bench, JobHere
from kernelmill.cluster.worker.blocks import on_places_changed
from kernelmill.cluster.worker.events import PartsCame, PartsMissed, SlotDied, SlotWrote
from kernelmill.cluster.worker.lineup import end_given, fill_lines, of_slot
from kernelmill.cluster.worker.pool import Slot
from kernelmill.cluster.worker.slotframes import (
    SlotReady,
    TaskDone,
    TaskFailed,
)
from kernelmill.cluster.worker.watch import is_own, takes_memory

LINE_CHARS_MAX = 1024
WRITERS_MAX = 256  # attempts whose lines wait for the next beat


# What the master says.


def on_spec(bench: Bench, spec: Spec) -> None:
    """Learn of a job."""
    bench.job_of(spec.job).spec = spec


def on_assign(bench: Bench, assign: Assign) -> None:
    """Take an attempt in hand, once. The next BEAT shows it; only who asks again is answered at once."""
    known = bench.attempts.get(assign.attempt)
    if known is not None:
        bench.seen["ASSIGN doubled"] += 1
        if known.state in states.IN_HAND:
            bench.accept(known)
        return
    job = bench.jobs.get(assign.attempt.job)
    if job is None or job.spec is None or assign.attempt.stage >= len(job.spec.sheet.stages):
        bench.seen["ASSIGN of an unknown job"] += 1  # its Spec was lost: both come again
        return
    if len(bench.waiting) >= bench.settings.waiting_max * bench.me.slots:
        bench.seen["ASSIGN beyond the queue"] += 1  # it comes again if it was meant
        return
    attempt = assigned(assign)
    bench.add(attempt)
    bench.waiting[attempt.name] = bench.now
    _bring_parts(bench, job)


def _bring_parts(bench: Bench, job: JobHere) -> None:
    """Fetch what a job needs, unless it is here, or was missed just now: then `pass_time` does."""
    if not job.has_parts and not job.is_bringing and job.bring_at_s <= bench.now:
        assert job.spec is not None
        job.is_bringing = True
        bench.out.append(out.BringParts(job.spec))


def on_inputs(bench: Bench, page: Inputs) -> None:
    """Learn where a stage's blocks lie."""
    if bench.inputs.take(page):
        on_places_changed(bench, page.job, page.stage)


def on_pair(bench: Bench, pair: Pair) -> None:
    """Learn where the blocks of one map task lie."""
    bench.inputs.take_pair(pair)
    on_places_changed(bench, pair.job, pair.stage)


def on_tickets(bench: Bench, tickets: Tickets) -> None:
    """Take tickets for holders that came later."""
    attempt = bench.attempts.get(tickets.attempt)
    if attempt is not None:
        attempt.tickets.update({(each.stage, each.output, each.holder): each.ticket for each in tickets.tickets})


def on_cancel(bench: Bench, cancel: CancelAttempt) -> None:
    """End an attempt that is not wanted, and say that it has ended; also one that is not known."""
    attempt = bench.attempts.get(cancel.attempt)
    cancelled = Failed(cancel.attempt, "CANCELLED", "", None, None, ())
    if attempt is None or attempt.state == states.ENDING:
        bench.send(cancelled)
    elif attempt.state == states.WAITING:
        bench.end_failed(attempt, cancelled, states.CANCELLED)
    else:
        attempt.move(states.CANCELLED)
        if attempt.state == states.STOPPING:
            bench.stop(attempt)
        elif attempt.state == states.FAILED:
            bench.say_again(attempt)


def on_commit_ack(bench: Bench, ack: CommitAck) -> None:
    """Hold an output that counts."""
    attempt = bench.attempts.get(ack.attempt)
    if attempt is not None and attempt.state in (states.DONE, states.HELD):
        sessions.answered(bench, attempt)


def on_discard(bench: Bench, discard: Discard) -> None:
    """Delete what does not count."""
    attempt = bench.attempts.get(discard.attempt)
    if attempt is not None and attempt.state != states.ENDING:
        bench.discard(attempt)


# What the disk and slots say.


def on_parts_came(bench: Bench, event: PartsCame) -> None:
    """The job can be opened."""
    job = bench.jobs.get(event.job)
    if job is not None:
        job.has_parts, job.is_bringing, job.misses = True, False, 0


def on_parts_missed(bench: Bench, event: PartsMissed) -> None:
    """Attempts of this job cannot run here; those that come are kept waiting before the next try, longer each time."""
    job = bench.jobs.get(event.job)
    if job is None:
        return
    job.is_bringing = False
    job.bring_at_s = bench.now + min(bench.settings.parts_s_max, 2.0**job.misses)
    job.misses += 1
    for attempt in openings.waiting_of(bench, event.job):
        bench.fail(attempt, event.failure, event.text)


def on_slot_ready(bench: Bench, slot: Slot, frame: SlotReady) -> None:
    """A process is there for the next job: a new one, or one that has closed the job before."""
    bench.starts_failed = 0
    slot.move(slots.READY, bench.now)


def on_task_done(bench: Bench, slot: Slot, frame: TaskDone) -> None:
    """Note an output that is complete, then say so."""
    attempt = of_slot(bench, slot, frame)
    if attempt is None:
        return
    bench.leave_slot(attempt)
    if not attempt.move(states.FINISHED):
        bench.remove(attempt)
        return
    attempt.done = Done(
        attempt.name,
        attempt.gen,
        attempt.seal,
        frame.record,
        frame.consumed,
        frame.rows,
        frame.size_bytes,
        frame.millis,
    )
    bench.out.append(out.KeepNote(attempt.done))
    bench.say_again(attempt)


def on_task_failed(bench: Bench, slot: Slot, frame: TaskFailed) -> None:
    """Say why an attempt ended without output."""
    slot.is_clean = False  # whatever it was, it is not carried into another job
    attempt = of_slot(bench, slot, frame)
    if attempt is None:
        return
    failed = Failed(attempt.name, frame.code, frame.type_name, frame.problem, frame.batch, frame.origins)
    bench.end_failed(attempt, failed, states.BROKE)


def on_slot_wrote(bench: Bench, event: SlotWrote) -> None:
    """Keep lines for the next beat; what an attempt writes beyond some hundred a second is dropped, and counted."""
    slot = bench.pool.slots.get(event.slot)
    if slot is None or slot.writer is None or (slot.writer not in bench.lines and len(bench.lines) >= WRITERS_MAX):
        return
    lines = bench.lines.setdefault(slot.writer, deque(maxlen=bench.settings.lines_max))
    bench.seen["line dropped"] += max(0, len(lines) + len(event.lines) - bench.settings.lines_max)
    lines.extend(line[:LINE_CHARS_MAX] for line in event.lines)


def on_slot_died(bench: Bench, event: SlotDied) -> None:
    """End what the process had in hand; its outputs are on the disk, and stay."""
    slot = bench.pool.slots.pop(event.slot, None)
    if slot is None:
        return
    bench.drop_wants(slot.number)
    if slot.state in (slots.STARTING, slots.SPARE):
        bench.starts_failed += 1
        bench.start_at_s = bench.now + min(30.0, 0.5 * 2**bench.starts_failed)
        if bench.starts_failed >= bench.settings.starts_failed_max:
            sessions.stop(bench, 1, f"slots cannot be started: {event.text}")
    bench.watches.pop(slot.number, None)
    found = end_given(bench, slot, event)
    if found is None:
        return
    attempt, sample = found
    failure = slot.killed_for or event.failure
    text = slot.killed_text or event.text
    if failure != "CANCELLED":
        bench.out.append(out.Say(f"job {attempt.name.job.hex()}, task {attempt.name}: {failure}: {text}"))
    problem = bench.problem(failure, text)
    batch = sample.batch if sample is not None else None
    bench.end_failed(attempt, Failed(attempt.name, failure, "", problem, batch, ()), states.BROKE)


# Who runs what next.


def settle(bench: Bench) -> None:
    """Start what can start, open jobs for what waits, and see that there are processes enough."""
    if bench.is_over:
        return
    wanted = 0  # attempts that may run and find no process
    room = bench.pool.room
    for name in list(bench.waiting) if room > 0 else ():
        if bench.pool.room <= wanted:
            break  # others wait for one of those that run, and need no process of their own
        attempt = bench.attempts[name]
        if attempt.slot is None and _is_ready(bench, attempt):
            wanted += not _find_slot(bench, attempt)
    fill_lines(bench)
    _start_slots(bench, wanted)


def _is_ready(bench: Bench, attempt: Attempt) -> bool:
    job = bench.jobs[attempt.name.job]
    spec, assign = job.spec, attempt.assign
    assert spec is not None and assign is not None
    if not job.has_parts:
        return False
    inputs = bench.inputs
    if any(inputs.version_of(spec.job, each.stage) < each.version for each in assign.inputs):
        return False
    edges = spec.sheet.stages[attempt.name.stage].inputs
    return all(
        edge.kind != "one_to_one" or inputs.pair_of(spec.job, edge.source, attempt.name.index) is not None
        for edge in edges
    )


def _find_slot(bench: Bench, attempt: Attempt) -> bool:
    job = attempt.name.job
    slot = bench.pool.idle_of(job)
    if slot is not None:
        bench.start(attempt, slot)
        return True
    spec = bench.jobs[job].spec
    assert spec is not None  # it is ready
    brings_code = has_code(spec.parts)
    spare = bench.pool.spare_for(brings_code)
    if spare is None:
        return False
    spare.job, spare.attempt, attempt.slot = job, attempt.name, spare.number
    spare.is_used, spare.is_clean = True, spare.is_clean and not brings_code
    spare.move(slots.JOB_GIVEN, bench.now)
    bench.out.append(out.OpenInSlot(spare.number, spec))
    return True


def _start_slots(bench: Bench, wanted: int) -> None:
    pool = bench.pool
    coming = slots.STARTING, slots.SPARE, slots.CLOSING, slots.DYING
    if wanted and not pool.missing(wanted) and not pool.in_state(*coming):
        oldest = pool.least_used(bench.attempts[next(iter(bench.waiting))].name.job)
        if oldest is not None:
            bench.free(oldest)
    if not wanted and bench.is_draining:
        return
    if bench.starts_failed and bench.start_at_s > bench.now:
        return
    for _ in range(pool.missing(wanted)):
        bench.out.append(out.StartSlot(pool.add(bench.now).number))


def pass_time(bench: Bench) -> None:
    """Take samples; kill what hangs, what holds too much, what does not end; say HELLO for inputs that never came."""
    settings = bench.settings
    if bench.now > bench.beat_s + settings.stopped_s:  # this process was stopped, and its slots perhaps with it
        bench.seen["was stopped"] += 1
        for watch in bench.watches.values():
            watch.alive_s = bench.now
        for slot in bench.pool.in_state(*openings.PASSING):
            slot.since_s = bench.now
    for sample in bench.sample.slots:
        _look(bench, sample)
    for slot in bench.pool.in_state(*openings.PASSING):
        if slot.since_s + openings.passing_s(bench, slot) <= bench.now:
            openings.end_passing(bench, slot)
    for attempt in list(bench.stopping.values()):
        if attempt.stop_at_s is not None and attempt.stop_at_s <= bench.now and attempt.slot is not None:
            del bench.stopping[attempt.name]
            attempt.stop_at_s = None
            bench.kill(bench.pool.slots[attempt.slot], "CANCELLED")
    for id_ in {name.job for name in bench.waiting}:
        _bring_parts(bench, bench.jobs[id_])
    overdue = [
        name
        for name, since_s in bench.waiting.items()
        if since_s + settings.inputs_s <= bench.now
        and bench.jobs[name.job].has_parts
        and not _is_ready(bench, bench.attempts[name])
    ]
    if overdue and bench.link == "REGISTERED":
        bench.seen["inputs never came"] += 1
        for name in overdue:
            bench.waiting[name] = bench.now
        sessions.say_hello_again(bench)


def _look(bench: Bench, sample: out.SlotSample) -> None:
    slot, settings = bench.pool.slots.get(sample.slot), bench.settings
    if slot is None or (slot.state != slots.BUSY and not openings.opens_code(bench, slot)):
        return
    rss_bytes, rss_bytes_max = sample.rss_bytes, settings.slot_rss_bytes_max
    if rss_bytes > rss_bytes_max:
        bench.seen["slot over its memory"] += 1
        text = f"holds {rss_bytes:,} bytes of memory, of {rss_bytes_max:,} that it may"
        if slot.state == slots.BUSY:
            bench.kill(slot, "OOM_KILLED", f"the task's process {text}")
        else:
            openings.refuse_for_memory(bench, slot, text)
        return
    if slot.state != slots.BUSY:
        return
    name = next((name for name in slot.given if name.attempt == sample.attempt), None)
    if name is None:
        return
    bench.attempts[name].sample = sample
    watch = bench.watches[slot.number]
    watch.look(sample, bench.now)
    hung_at_s = watch.hung_at(settings.hung_s, settings.hung_batches, settings.compile_s)
    if hung_at_s is not None and hung_at_s <= bench.now:
        bench.seen["slot hung"] += 1
        grown_bytes = rss_bytes - watch.alive_bytes if watch.alive_bytes is not None else 0
        silent_s = bench.now - watch.alive_s
        if not is_own(sample.phase) and takes_memory(grown_bytes, rss_bytes_max - rss_bytes):
            text = f"the task's process took {grown_bytes:,} bytes of memory since its last sign of life"
            bench.kill(slot, "OOM_KILLED", f"{text}, {silent_s:.0f} s ago")
        else:
            bench.kill(slot, "HUNG", f"the task's process was held up: no sign of life for {silent_s:.0f} s")


def next_deadline(bench: Bench) -> list[float]:
    """When pass_time has something to do that cannot wait for the next sample."""
    due = [each.stop_at_s for each in bench.stopping.values() if each.stop_at_s is not None]
    due += [slot.since_s + openings.passing_s(bench, slot) for slot in bench.pool.in_state(*openings.PASSING)]
    if bench.starts_failed and bench.start_at_s > bench.now:
        due.append(bench.start_at_s)
    jobs = [bench.jobs[id_] for id_ in {name.job for name in bench.waiting}]
    return due + [job.bring_at_s for job in jobs if job.bring_at_s > bench.now and not job.has_parts]
