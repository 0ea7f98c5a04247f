"""Orders as messages: what must come before an ASSIGN comes before it, again when it is said again, and no more."""

from __future__ import annotations

import msgspec
import pytest

from kernelmill.cluster import messages as m
from kernelmill.cluster.fields import AttemptKey, AttemptName, JobPart, Place, Policy, Sheet, SheetStage, Versions
from kernelmill.cluster.journal.records import JobAccepted
from kernelmill.cluster.keys import signing
from kernelmill.cluster.master import events as ev
from kernelmill.cluster.master import translate
from kernelmill.cluster.master.translate import WorkerMail, name_of

JOB = b"j" * 16
VERSIONS = Versions("0.1.0", "3.11.7", "26.0.1", "0.68.1", "2.4.6")
KEYS = {"a": b"a" * 32, "b": b"b" * 32}
PUBLIC = "K" * 40


class Office:
    """A machine and its mail; letters by worker, as they are written."""

    def __init__(self, bench):
        self.bench, self.mail = bench, WorkerMail(bench.master, "tcp://10.0.0.9:7440")
        self.letters = []

    def told(self, orders):
        found = [letter for order in orders for letter in self.mail.letters(order)]
        self.letters += found
        return found

    def hello(self, worker, session, **more):
        fields = {
            "versions": VERSIONS, "nonce": b"n" * 16, "count": session, "epoch_seen": 0, "host": "h", "data_port": 5000,
            "slots": 1, "memory_bytes": 1, "disk_free_bytes": 1 << 40, "ticket_key": KEYS[worker], "page": 0,
            "pages": 1, "running": (), "done": (),
        }  # fmt: skip
        event = self.mail.take_hello(worker, session, m.Hello(**{**fields, **more}), "10.0.0.1", PUBLIC)
        return self.told(self.bench.tell(event)) if event is not None else None

    def submit(self, sheet):
        return self.told(self.bench.submit(sheet) + self.bench.pass_time(0.3))


def bodies(letters, kind, worker=None):
    return [one.body for one in letters if isinstance(one.body, kind) and worker in (None, one.worker)]


@pytest.fixture
def office(bench):
    return Office(bench)


@pytest.fixture
def job(sheet):
    policy = Policy("error", 0, "error", "signed", "tail", 4, False)
    stages = (SheetStage("map", 2, (1,), ()), SheetStage("reduce", 1, (), ()))
    signed = Sheet(stages, Place("data", ("out",)), policy, VERSIONS)
    accepted = JobAccepted("ada", signed, (JobPart("plan", b"p" * 32, 1),), b"S" * 32, 1)
    return msgspec.structs.replace(sheet, job=JOB.hex(), accepted=accepted)


def test_a_jobs_spec_goes_once_before_its_first_assign_and_again_when_an_assign_is_said_again(office, job):
    office.hello("a", 1, slots=2)
    said = [one for one in office.submit(job) if isinstance(one.body, m.Spec | m.Assign)]
    assert [type(one.body) for one in said] == [m.Spec, m.Assign, m.Assign]
    assert said[0].body.parts == job.accepted.parts and {one.session for one in said} == {1}
    office.bench.now += 3.0  # no BEAT shows them: they were lost on their way
    beat = ev.BeatReceived("a", 1, (), (), 1 << 40)
    again = [one.body for one in office.told(office.bench.tell(beat)) if isinstance(one.body, m.Spec | m.Assign)]
    assert [type(one) for one in again] == [m.Spec, m.Assign, m.Spec, m.Assign]
    assert again[1] == said[1].body


def test_a_reader_has_tickets_of_all_holders_and_gets_more_when_a_map_moved(office, job, tools):
    for session, worker in ((1, "a"), (2, "b")):
        office.hello(worker, session)
    office.told(office.bench.pass_time(0.3))
    office.submit(job)
    maps = tools.only(ev.Assign, office.bench.orders)
    assert {one.worker for one in maps} == {"a", "b"}
    for one in maps:
        office.told(office.bench.done(one) + office.bench.commit())
    (reduce,) = [one for one in tools.only(ev.Assign, office.bench.orders) if one.attempt.task.stage == 1]
    (assign,) = bodies(office.letters, m.Assign)[2:]
    assert [ticket.holder for ticket in assign.tickets] == ["a", "b"] and assign.inputs == (m.InputVersion(0, 1),)
    for ticket in assign.tickets:
        assert signing.is_ticket(ticket.ticket, KEYS[ticket.holder], JOB, 0, 0, 0, 0, reduce.worker)
    (page,) = bodies(office.letters, m.Inputs)
    assert {(held.task, page.holders[held.holder]) for held in page.held} == {(0, "a"), (1, "b")}
    # The map that the other worker holds is damaged, and made again by whoever reads.
    lost = next(one for one in maps if one.worker != reduce.worker)
    where = reduce.worker, reduce.session, reduce.job, reduce.attempt
    office.told(
        office.bench.tell(ev.FetchFailedReceived(*where, lost.attempt, "CORRUPT_BLOCK")) + office.bench.commit()
    )
    (again,) = [one for one in tools.only(ev.Assign, office.bench.orders) if one.attempt.task.stage == 0][2:]
    found = office.told(office.bench.done(again) + office.bench.commit())
    (newer,) = bodies(found, m.Inputs, reduce.worker)
    assert newer.version == 2 and AttemptKey(1, again.attempt.number & 0xFFFFFFFF) in {
        held.attempt for held in newer.held
    }
    (more,) = bodies(found, m.Tickets, reduce.worker)
    assert more.attempt == name_of(job.job, reduce.attempt)
    assert {ticket.holder for ticket in more.tickets} == set(newer.holders)


def test_a_snapshot_comes_and_is_answered_by_the_page(office, job, monkeypatch):
    monkeypatch.setattr(translate.m, "HELD_PAGE", 1)
    office.hello("a", 1, slots=2)
    office.submit(job)
    assigned = bodies(office.letters, m.Assign)
    held = [m.HeldAttempt(one.attempt, one.gen, one.seal) for one in assigned]
    stale = m.HeldAttempt(AttemptName(JOB, 0, 0, AttemptKey(0, 7)), 0, b"no such seal 123")
    pages = [{"running": (held[0],), "done": (stale,)}, {"running": (held[1],)}]
    assert office.hello("a", 2, slots=2, page=0, pages=2, **pages[0]) is None
    said = bodies(office.hello("a", 2, slots=2, page=1, pages=2, **pages[1]), m.Welcome)
    assert [(one.page, one.pages, one.keep) for one in said] == [
        (0, 2, (held[0].attempt,)),
        (1, 2, (held[1].attempt,)),
    ]
    assert [one.resend + one.hold for one in said] == [(), ()]


def test_pages_of_two_snapshots_are_not_mixed_and_endless_ones_refused(office):
    assert office.hello("a", 1, page=0, pages=2) is None
    assert office.hello("a", 2, page=1, pages=2) is None
    assert bodies(office.hello("a", 2, page=0, pages=2), m.Welcome)
    for page, pages in ((5, 5), (0, 60_000)):
        with pytest.raises(ValueError):
            office.hello("a", 3, page=page, pages=pages)


def test_all_sessions_are_told_of_all_data_sockets(office):
    office.hello("a", 1)
    office.hello("b", 2)
    office.told(office.bench.pass_time(0.3))
    told = bodies(office.letters, m.Peers)[-2:]
    assert {peer.name: peer.endpoint for peer in told[0].peers} == dict.fromkeys("ab", "tcp://10.0.0.1:5000")
    assert told[0] == told[1]


def test_an_attempt_that_no_master_counted_is_refused(office):
    name = AttemptName(JOB, 0, 0, AttemptKey(1, 1 << 40))
    with pytest.raises(ValueError):
        office.mail.event_of("a", 1, m.Accept(name))


def test_a_beat_with_an_attempt_that_no_master_counted_is_not_kept(office):
    good = m.Progress(JOB, AttemptKey(1, 1), "run", 0, 1, 1)
    first = m.Beat((good,), (JOB,), 1, 1)
    assert office.mail.event_of("a", 1, first) is not None
    with pytest.raises(ValueError):
        office.mail.event_of("a", 1, m.Beat((good, m.Progress(JOB, AttemptKey(0, 1 << 62), "run", 0, 1, 1)), (), 1, 1))
    assert office.mail.progress == {"a": first}


def test_an_attempt_is_its_workers_from_its_assign_to_its_answer(office, job):
    office.hello("a", 1)
    office.hello("b", 2)
    (of_a, _) = bodies(office.submit(job), m.Assign, "a") * 2
    made_up = AttemptName(JOB, 0, 0, AttemptKey(1, 999))
    assert [office.mail.is_assigned(worker, of_a.attempt) for worker in "abc"] == [True, False, False]
    assert not office.mail.is_assigned("a", made_up)
    office.told([ev.Discard("a", 1, JOB.hex(), translate.attempt_of(of_a.attempt))])
    assert not office.mail.is_assigned("a", of_a.attempt)
