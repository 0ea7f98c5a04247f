"""A worker's session: HELLO, WELCOME, BEAT, silence, new connections, and going.

    CONNECTING   no master at the other end of the socket
    GREETING     HELLO was sent
    REGISTERED   WELCOME came; BEATs are sent

Without a session nothing here ends: attempts run on and outputs are held. Each new connection begins with HELLO, a
snapshot of all that is here, and WELCOME answers with what of it is wanted; no differences are negotiated.
"""

from __future__ import annotations

from typing import Final

from kernelmill.cluster.fields import AttemptName, BlocksOutput
from kernelmill.cluster.messages import (
    HELD_PAGE,
    Beat,
    Bye,
    Drain,
    HeldAttempt,
    Hello,
    Progress,
    Refused,
    WantDrain,
    Welcome,
)
from kernelmill.cluster.worker import attempts as states
from kernelmill.cluster.worker import events as out
from kernelmill.cluster.worker.attempts import Attempt
from kernelmill.cluster.worker.bench import CONNECTING, GREETING, REGISTERED, Bench

CONNECTED: Final = "CONNECTED"
WELCOMED: Final = "WELCOMED"
CUT: Final = "CUT"  # the connection ended, or nothing came through it for too long
SENT_AWAY: Final = "SENT_AWAY"  # the master knows no such session

NEXT_LINK: Final[dict[tuple[str, str], str]] = {
    (CONNECTING, CONNECTED): GREETING,
    (GREETING, CONNECTED): GREETING,  # the socket connected anew by itself
    (REGISTERED, CONNECTED): GREETING,
    (GREETING, WELCOMED): REGISTERED,
    (CONNECTING, CUT): CONNECTING,
    (GREETING, CUT): CONNECTING,
    (REGISTERED, CUT): CONNECTING,
    (GREETING, SENT_AWAY): GREETING,
    (REGISTERED, SENT_AWAY): GREETING,
}

# Refusals that waiting does not mend; after others HELLO is said again.
_FINAL: Final = frozenset({"VERSION", "PROTOCOL", "AUTH"})


def on_connected(bench: Bench) -> None:
    """Greet whoever is there."""
    _move(bench, CONNECTED)
    bench.reconnect_at_s = None
    greet(bench)


def on_disconnected(bench: Bench) -> None:
    """Open another socket soon: what was sent last may be lost, so the next session begins with a snapshot."""
    if bench.reconnect_at_s is None:
        cut(bench)


def cut(bench: Bench) -> None:
    """Leave the session, if there is one, and connect anew after a pause that grows."""
    _move(bench, CUT)
    bench.reconnect_at_s = bench.now + bench.back_off_s * (0.5 + 0.5 * bench.chance)
    bench.back_off_s = min(bench.settings.back_off_s_max, 2 * bench.back_off_s)


def greet(bench: Bench) -> None:
    """Say all that is here, by the page."""
    bench.count += 1
    bench.is_refused = False
    bench.welcomes.clear()
    bench.hello_at_s = bench.now + bench.settings.hello_s
    running = [each.held for each in bench.attempts.values() if each.state in states.IN_HAND]
    done = [each.held for each in bench.attempts.values() if each.state in (states.DONE, states.HELD)]
    size = max(len(running), len(done))
    pages = max(1, -(-size // HELD_PAGE))
    for page in range(pages):
        part = slice(page * HELD_PAGE, (page + 1) * HELD_PAGE)
        bench.out.append(out.Send(b"", _hello(bench, page, pages, tuple(running[part]), tuple(done[part]))))


def say_hello_again(bench: Bench) -> None:
    """Begin a new session over the same connection: something that the master said in this one never came."""
    _move(bench, SENT_AWAY)
    greet(bench)


def _hello(
    bench: Bench, page: int, pages: int, running: tuple[HeldAttempt, ...], done: tuple[HeldAttempt, ...]
) -> Hello:
    me = bench.me
    return Hello(
        versions=me.versions,
        nonce=me.nonce,
        count=bench.count,
        epoch_seen=bench.epoch,
        host=me.host,
        data_port=me.data_port,
        slots=me.slots,
        memory_bytes=me.memory_bytes,
        disk_free_bytes=bench.sample.disk_free_bytes,
        ticket_key=me.ticket_key,
        page=page,
        pages=pages,
        running=running,
        done=done,
    )


def is_to_be_heard(bench: Bench, said: out.MasterSaid) -> bool:
    """Tell whether a message is of the newest master, and of this session if it belongs to one (S10)."""
    is_old = said.epoch < bench.epoch or (said.epoch == bench.epoch != 0 and said.life != bench.life)
    if is_old and not isinstance(said.body, Refused):
        bench.seen["message of an old master"] += 1
        return False
    if isinstance(said.body, Welcome | Refused):
        return True
    if bench.link != REGISTERED or said.session != bench.session:
        bench.seen["order of an old session"] += 1
        return False
    return True


def on_welcome(bench: Bench, said: out.MasterSaid, page: Welcome) -> None:
    """Begin the session when all pages are there: go on with what is wanted, delete all else."""
    if bench.link != GREETING or page.count != bench.count:
        return  # the answer to an earlier HELLO
    bench.welcomes[page.page] = page
    if len(bench.welcomes) < page.pages:
        return
    pages = [each for _, each in sorted(bench.welcomes.items())]
    bench.welcomes.clear()
    _move(bench, WELCOMED)
    bench.session, bench.epoch, bench.life = said.session, said.epoch, said.life
    bench.hello_at_s = bench.orphan_since_s = None
    bench.back_off_s = bench.settings.back_off_s_min
    bench.heard_s, bench.beat_s = bench.now, bench.now + bench.settings.beat_s
    bench.inputs.clear()
    keep: set[AttemptName] = {name for each in pages for name in each.keep}
    hold = {name for each in pages for name in each.hold}
    resend = {name for each in pages for name in each.resend}
    for attempt in list(bench.attempts.values()):
        _sift(bench, attempt, keep, hold, resend)
    if bench.is_draining:
        bench.send(WantDrain())


def _sift(
    bench: Bench, attempt: Attempt, keep: set[AttemptName], hold: set[AttemptName], resend: set[AttemptName]
) -> None:
    if attempt.state in (states.DONE, states.HELD):
        if attempt.name in keep or attempt.name in resend:  # what ran at HELLO may have ended since
            attempt.move(states.ASKED_AGAIN)
            bench.open[attempt.name] = attempt
            if attempt.done is None:
                bench.out.append(out.ReadNote(attempt.name))
            bench.say_again(attempt)
        elif attempt.name in hold:
            answered(bench, attempt)
        else:
            bench.discard(attempt)
    elif attempt.state == states.ENDING:
        return
    elif attempt.name not in keep:
        bench.discard(attempt)
    elif attempt.state == states.FAILED:
        bench.say_again(attempt)
    else:
        bench.accept(attempt)


def answered(bench: Bench, attempt: Attempt) -> None:
    """An output counts: its blocks are held; files that lie in the staging are no longer this worker's."""
    attempt.move(states.ANSWERED)
    bench.open.pop(attempt.name, None)
    # Its record has 32 bytes a partition: it stays on the disk alone, for a master that asks for it again.
    done, attempt.done = attempt.done, None
    if done is not None and not isinstance(done.record.output, BlocksOutput):
        bench.remove(attempt)


def on_note_read(bench: Bench, event: out.NoteRead) -> None:
    """Say again what the master asked for; one whose note is gone was no output any more."""
    attempt = bench.attempts.get(event.attempt)
    if attempt is None or attempt.state != states.DONE:
        return
    if event.done is None:
        bench.seen["note gone"] += 1
        bench.discard(attempt)
    else:
        attempt.done = event.done
        bench.say_again(attempt)


def on_refused(bench: Bench, refused: Refused) -> None:
    """Say HELLO again, or give up with the reason."""
    bench.seen[f"refused: {refused.code}"] += 1
    if refused.code in _FINAL:
        fix = f"; {refused.hint}" if refused.hint else ""
        stop(bench, 1, f"the master refuses this worker: {refused.text}{fix}")
    elif bench.link == REGISTERED:
        say_hello_again(bench)
    elif bench.link == GREETING and refused.code != "NO_SESSION":
        if bench.seen[f"refused: {refused.code}"] == 1:
            bench.out.append(out.Say(f"the master refuses this worker for now: {refused.text}"))
        bench.is_refused = True
        bench.hello_at_s = bench.now + bench.settings.refused_s


def on_drain(bench: Bench, drain: Drain) -> None:
    """Go, if nothing here is needed any more."""
    bench.is_draining = True
    if drain.is_free:
        stop(bench, 0, "drained")


def on_drain_asked(bench: Bench) -> None:
    """Ask the master for leave; a second time, or without a master, go at once."""
    if bench.is_draining or bench.link != REGISTERED:
        stop(bench, 0, "stopped")
        return
    bench.is_draining = True
    bench.send(WantDrain())
    beat(bench)


def stop(bench: Bench, status: int, text: str) -> None:
    """Say BYE, end all slots, and leave."""
    if bench.is_over:
        return
    bench.is_over = True
    bench.send(Bye())
    for slot in list(bench.pool.slots.values()):
        bench.kill(slot)
    bench.out.append(out.Exit(status, text))


def beat(bench: Bench) -> None:
    """Say what is in hand, and again all that has not been answered."""
    bench.beat_s = bench.now + bench.settings.beat_s
    progress = tuple(_progress(each) for each in bench.open.values() if each.state in states.REPORTED)
    bench.send(Beat(progress[:8192], tuple(bench.jobs)[:4096], bench.sample.rss_bytes, bench.sample.disk_free_bytes))
    open_ends = [each for each in bench.open.values() if each.state in (states.DONE, states.FAILED)]
    _say_some(bench, open_ends)
    for name in list(bench.lines):
        bench.say_lines(name)


def _say_some(bench: Bench, open_ends: list[Attempt]) -> None:
    """Say the next of them that a beat has room for, in turn."""
    names = [each.name for each in open_ends]
    start = names.index(bench.resaid) + 1 if bench.resaid in names else 0
    turn = (open_ends[start:] + open_ends[:start])[: bench.settings.resaid_max]
    for attempt in turn:
        bench.say_again(attempt)
    bench.resaid = turn[-1].name if turn else None


def _progress(attempt: Attempt) -> Progress:
    name, sample = attempt.name, attempt.sample
    if attempt.state in (states.DONE, states.FAILED):
        return Progress(name.job, name.attempt, "waiting", 0, 0, 0)
    if sample is None:
        return Progress(name.job, name.attempt, "fetch", 0, 0, 0)
    phase = sample.phase if sample.phase in ("compile", "fetch", "run", "write") else "run"
    return Progress(name.job, name.attempt, phase, sample.batch, sample.rows, sample.size_bytes)  # type: ignore[arg-type]


def pass_time(bench: Bench) -> None:
    """Beat, greet again, connect anew, or notice that the master is silent."""
    now, settings = bench.now, bench.settings
    if bench.reconnect_at_s is not None and bench.reconnect_at_s <= now:
        bench.reconnect_at_s = None
        bench.out.append(out.Reconnect())
    if bench.link == GREETING and bench.hello_at_s is not None and bench.hello_at_s <= now:
        if bench.is_refused:
            greet(bench)
        else:
            bench.seen["HELLO unanswered"] += 1
            cut(bench)
    if bench.link == REGISTERED and bench.heard_s + settings.silent_s <= now:
        bench.seen["master silent"] += 1
        cut(bench)
    if bench.beat_s <= now:
        bench.beat_s = now + settings.beat_s  # without a session, too: slots are watched then
        if bench.link == REGISTERED:
            beat(bench)
    if bench.is_draining and bench.orphan_since_s is not None and bench.orphan_since_s + settings.silent_s <= now:
        stop(bench, 0, "stopped: there is no master to ask for leave; what is held stays on the disk")
    elif bench.orphan_since_s is not None and bench.orphan_since_s + settings.orphan_s <= now:
        bench.orphan_since_s = None
        end_work(bench)


def end_work(bench: Bench) -> None:
    """After an hour without a master: end what runs, keep what is done."""
    bench.seen["orphan ended its slots"] += 1
    bench.out.append(out.Say("no master for too long: what runs here is ended, what is done is kept"))
    for attempt in list(bench.open.values()):
        if attempt.state in states.IN_HAND:
            bench.discard(attempt)


def next_deadline(bench: Bench) -> list[float]:
    """When pass_time has something to do."""
    due = [bench.reconnect_at_s]
    if bench.link == GREETING:
        due.append(bench.hello_at_s)
    if bench.link == REGISTERED:
        due += [bench.heard_s + bench.settings.silent_s]
    if bench.orphan_since_s is not None:
        patience_s = bench.settings.silent_s if bench.is_draining else bench.settings.orphan_s
        due.append(bench.orphan_since_s + patience_s)
    return [at for at in due if at is not None]


def _move(bench: Bench, cause: str) -> None:
    before, bench.link = bench.link, NEXT_LINK[bench.link, cause]
    if before == REGISTERED != bench.link:
        bench.session = b""
        bench.orphan_since_s = bench.now
