"""The worker's machine: what it does once, says until it is answered, keeps and deletes."""

from __future__ import annotations

import pytest
from bench_rig import JOB, LIFE, Rig, assign, files_record, name_of, slot_sample

from kernelmill.cluster import messages
from kernelmill.cluster.fields import AttemptKey, Problem
from kernelmill.cluster.worker import events as ev
from kernelmill.cluster.worker import slotframes


def test_an_attempt_runs_once_and_its_done_is_noted_before_it_is_said():
    rig = Rig().with_job()
    slot = rig.run(1)
    assert not rig.sent(messages.Accept), "the next BEAT shows it"
    rig.say(assign(1))
    assert not rig.frames(slotframes.RunTask) and rig.sent(messages.Accept), "a doubled ASSIGN starts nothing"
    rig.finish(slot, 1)
    kinds = [type(each) if not isinstance(each, ev.Send) else type(each.body) for each in rig.actions]
    assert kinds.index(ev.KeepNote) < kinds.index(messages.Done)


def test_done_is_said_each_second_until_it_is_answered():
    rig = Rig().with_job()
    rig.finish(rig.run(1), 1)
    rig.wait(3.05)
    assert len(rig.sent(messages.Done)) == 3
    rig.say(messages.CommitAck(name_of(1)))
    assert not rig.ordered(ev.DeleteAttempt), "its blocks are held"
    rig.wait(2.0)
    assert not rig.sent(messages.Done)
    rig.say(messages.Drop(JOB))
    assert rig.ordered(ev.DeleteJob)


def test_a_sinks_note_goes_when_its_files_count():
    rig = Rig().with_job()
    rig.finish(rig.run(1), 1, files_record())
    rig.say(messages.CommitAck(name_of(1)))
    assert rig.ordered(ev.DeleteAttempt)


def test_failed_is_said_each_second_until_it_is_discarded():
    rig = Rig().with_job()
    rig.fail(rig.run(1), 1)
    (failed,) = rig.sent(messages.Failed)
    assert failed.code == "USER_ERROR" and failed.problem.what == "it broke" and failed.batch == 3
    rig.wait(2.05)
    assert len(rig.sent(messages.Failed)) == 2
    rig.say(messages.Discard(name_of(1)))
    rig.wait(2.0)
    assert not rig.sent(messages.Failed)


def test_a_slot_runs_one_task_after_the_other_of_its_job():
    rig = Rig(slots=1).with_job(roles=("plan", "code"))
    slot = rig.run(1)
    rig.say(assign(2))
    assert not rig.frames(slotframes.RunTask), "there is one slot"
    rig.finish(slot, 1)
    assert [frame.attempt.number for frame in rig.frames(slotframes.RunTask)] == [2]
    assert {each.slot for each in rig.ordered(ev.TellSlot)} == {slot}


def test_attempts_beyond_the_slots_wait_for_one_and_get_no_process_of_their_own():
    rig = Rig(slots=1).with_job(roles=("plan", "code"))
    slot = rig.run(1)
    rig.say(messages.Heard())
    before = len(rig.worker._bench.pool.slots)
    for number in range(2, 9):
        rig.say(assign(number))
        assert not rig.ordered(ev.StartSlot) and not rig.frames(slotframes.RunTask)
    assert len(rig.worker._bench.pool.slots) == before
    for number in range(1, 8):
        rig.finish(slot, number)
        assert [frame.attempt.number for frame in rig.frames(slotframes.RunTask)] == [number + 1]


def test_a_spare_for_the_next_job_is_started_as_soon_as_one_is_taken():
    rig = Rig(slots=1).with_job()
    before = set(rig.worker._bench.pool.slots)
    slot = rig.run(1)
    assert set(rig.worker._bench.pool.slots) - before and slot in before
    rig.finish(slot, 1)
    assert not rig.ordered(ev.StartSlot), "there is one"


def test_what_waits_for_a_process_is_given_the_first_that_is_ready():
    rig = Rig(slots=2).with_job()
    for number in (1, 2):
        rig.run(number)
    rig.do(ev.SlotDied(rig.worker._bench.attempts[name_of(1)].slot, "SIGNALLED", "", None))
    rig.say(assign(3))
    (starting,) = rig.worker._bench.pool.in_state("STARTING")
    rig.do(ev.SlotSaid(starting.number, slotframes.SlotReady(1)))
    assert [order.slot for order in rig.ordered(ev.OpenInSlot)] == [starting.number]


def test_the_parts_of_a_job_are_fetched_while_another_runs():
    rig = Rig(slots=1).with_job()
    rig.run(1)
    other = b"k" * 16
    rig.with_job(other)
    rig.say(assign(2, job=other))
    assert [order.spec.job for order in rig.ordered(ev.BringParts)] == [other]


def test_parts_that_cannot_be_had_are_asked_for_again_after_pauses_that_grow():
    rig = Rig(slots=1).with_job()
    fetched_s = []
    for number in range(1, 41):  # a master that assigns the task again at once
        rig.say(assign(number))
        while not rig.ordered(ev.BringParts):
            rig.say(messages.Heard())
            rig.wait(0.5)
            assert rig.now < 1000.0
        fetched_s.append(rig.now)
        rig.do(ev.PartsMissed(JOB, "FETCH_UNREACHABLE", "no"))
        assert [each.code for each in rig.sent(messages.Failed)] == ["FETCH_UNREACHABLE"]
        rig.say(messages.Discard(name_of(number)))
    pauses = [after - before for before, after in zip(fetched_s, fetched_s[1:], strict=False)]
    assert pauses == [1.0, 2.0, 4.0] + [8.0] * 36
    rig.say(assign(41))
    while not rig.ordered(ev.BringParts):
        rig.say(messages.Heard())
        rig.wait(0.5)
    rig.do(ev.PartsCame(JOB))
    assert [each.spec.job for each in rig.ordered(ev.OpenInSlot)] == [JOB]


def test_a_second_job_gets_a_process_of_its_own():
    rig = Rig(slots=2).with_job()
    first = rig.run(1)
    rig.finish(first, 1)
    other = b"k" * 16
    rig.with_job(other)
    assert rig.run(2, job=other) != first


def with_another(rig, roles=("plan",)):
    """Another job in the same worker; the slot in which its first attempt runs."""
    rig.say(messages.Drop(JOB))
    for told in rig.ordered(ev.TellSlot):
        assert type(told.frame) is slotframes.CloseJob
        rig.do(ev.SlotSaid(told.slot, slotframes.SlotReady(1)))
    rig.with_job(b"k" * 16, roles=roles)
    return rig.run(2, job=b"k" * 16)


def test_a_slot_of_a_job_without_code_serves_the_next_job():
    rig = Rig(slots=1).with_job()
    slot = rig.run(1)
    rig.finish(slot, 1)
    rig.wait(0.5)
    assert len(rig.worker._bench.pool.slots) == 2, "there is a new process, too"
    assert with_another(rig) == slot


@pytest.mark.parametrize("end", ["code", "failure", "busy"])
def test_a_slot_in_which_a_users_code_ran_or_a_task_failed_or_runs_ends_with_its_job(end):
    rig = Rig(slots=1).with_job(roles=("plan", "code") if end == "code" else ("plan",))
    slot = rig.run(1)
    if end == "code":
        rig.finish(slot, 1)
    elif end == "failure":
        rig.fail(slot, 1)
    rig.say(messages.Drop(JOB))
    assert [order.slot for order in rig.ordered(ev.KillSlot)] == [slot]
    assert not rig.frames(slotframes.CloseJob)


def test_code_of_the_users_is_opened_in_a_new_process_if_there_is_one():
    rig = Rig(slots=1).with_job()
    slot = rig.run(1)
    rig.finish(slot, 1)
    rig.wait(0.5)
    assert with_another(rig, roles=("plan", "code")) != slot


def test_a_slot_that_closes_its_job_and_does_not_say_that_it_is_ready_is_killed():
    rig = Rig(slots=1, start_s=3.0).with_job()
    slot = rig.run(1)
    rig.finish(slot, 1)
    rig.say(messages.Drop(JOB))
    assert [told.slot for told in rig.ordered(ev.TellSlot)] == [slot]
    rig.say(messages.Heard())
    assert slot in [order.slot for order in rig.wait(3.5) if isinstance(order, ev.KillSlot)]


def test_a_slot_that_dies_fails_its_attempt_alone_and_is_replaced():
    rig = Rig().with_job()
    slot, other = rig.run(1), rig.run(2)
    rig.do(ev.SlotDied(slot, "SIGNALLED", "killed by signal 11", slot_sample(slot, 1, batch=7)))
    (failed,) = rig.sent(messages.Failed)
    assert (failed.attempt, failed.code, failed.batch) == (name_of(1), "SIGNALLED", 7)
    rig.finish(other, 2)
    assert rig.sent(messages.Done)
    rig.do(ev.SlotSaid(slot, slotframes.TaskDone(AttemptKey(1, 1), files_record(), (), 0, 0, 0)))
    assert not rig.actions, "a process that has ended says nothing more"


def test_a_slot_that_dies_while_it_opens_a_job_is_charged_to_the_attempt():
    rig = Rig(slots=1).with_job()
    rig.say(assign(1))
    rig.do(ev.PartsCame(JOB))
    (order,) = rig.ordered(ev.OpenInSlot)
    rig.do(ev.SlotDied(order.slot, "SIGNALLED", "killed by signal 11", None))
    assert [failed.code for failed in rig.sent(messages.Failed)] == ["SIGNALLED"]


@pytest.mark.parametrize(
    ("refused", "failed"),
    [
        ("CODE_REFUSED", "CODE_REFUSED"),
        ("VERSION", "CODE_REFUSED"),
        ("BAD_SETTING", "ROOT_MISSING"),
        ("MEMORY_LIMIT", "WORKER_SMALL"),
    ],
)
def test_a_job_that_is_refused_fails_what_waits_for_it(refused, failed):
    rig = Rig(slots=1).with_job()
    rig.say(assign(1))
    rig.do(ev.PartsCame(JOB))
    (order,) = rig.ordered(ev.OpenInSlot)
    rig.do(ev.SlotSaid(order.slot, slotframes.JobRefused(JOB, Problem(refused, "expired", "", ""))))
    assert [one.code for one in rig.sent(messages.Failed)] == [failed]
    assert rig.ordered(ev.KillSlot)


def test_a_cancelled_attempt_is_reported_and_its_slot_killed_if_it_does_not_end():
    rig = Rig().with_job()
    slot = rig.run(1)
    rig.say(messages.CancelAttempt(name_of(1)))
    assert rig.frames(slotframes.CancelTask)
    rig.wait(2.5)
    assert [order.slot for order in rig.ordered(ev.KillSlot)] == [slot]
    rig.do(ev.SlotDied(slot, "SIGNALLED", "killed by signal 9", None))
    assert [failed.code for failed in rig.sent(messages.Failed)] == ["CANCELLED"]


def test_the_cancel_of_an_unknown_attempt_is_answered():
    rig = Rig().with_job()
    rig.say(messages.CancelAttempt(name_of(9)))
    assert [failed.code for failed in rig.sent(messages.Failed)] == ["CANCELLED"]


def test_a_discarded_attempt_ends_without_a_word():
    rig = Rig().with_job()
    slot = rig.run(1)
    rig.say(messages.Discard(name_of(1)))
    assert rig.frames(slotframes.CancelTask)
    rig.finish(slot, 1)
    assert rig.ordered(ev.DeleteAttempt) and not rig.sent(messages.Done) and not rig.ordered(ev.KeepNote)


def test_a_job_that_is_over_leaves_nothing():
    rig = Rig().with_job()
    slot = rig.run(1)
    rig.run(2)
    rig.say(messages.Drop(JOB))
    assert slot in [order.slot for order in rig.ordered(ev.KillSlot)]
    assert rig.ordered(ev.DeleteJob)
    rig.wait(1.05)
    (beat,) = rig.sent(messages.Beat)
    assert beat.jobs == () and beat.attempts == ()


# Inputs and blocks.


def inputs(version, *held, holders=("w1", "w2"), without_rows=b""):
    pairs = tuple(messages.HeldMap(task, AttemptKey(1, number), holder, 5000 + number) for task, number, holder in held)
    return messages.Inputs(JOB, 0, 0, version, 0, 1, holders, pairs, without_rows)


def test_a_reader_waits_until_it_was_told_of_its_inputs():
    rig = Rig().with_job()
    rig.say(assign(5, 1, [(0, 3)]))
    rig.do(ev.PartsCame(JOB))
    rig.say(inputs(2, (0, 1, 0)))
    assert not rig.ordered(ev.OpenInSlot)
    rig.say(inputs(3, (0, 1, 0), (1, 2, 1), without_rows=b"\x0c"))
    (order,) = rig.ordered(ev.OpenInSlot)
    rig.do(ev.SlotSaid(order.slot, slotframes.JobOpened(JOB)))
    (told,) = rig.frames(slotframes.SourceInputs)
    assert [(each.task, told.holders[each.holder]) for each in told.held] == [(0, "w1"), (1, "w2")]
    assert told.without_rows == b"\x0c"
    assert rig.frames(slotframes.RunTask)


def test_inputs_that_never_come_are_asked_for_by_a_new_hello():
    rig = Rig().with_job()
    rig.say(assign(5, 1, [(0, 1)]))
    rig.do(ev.PartsCame(JOB))
    for _ in range(6):
        rig.say(messages.Heard())
        rig.wait(1.0)
        if rig.hellos():
            break
    (hello,) = rig.hellos()
    assert [each.attempt for each in hello.running] == [name_of(5, 1)]


def wanted(number=2, holder="w2", code=""):
    return slotframes.BlockWanted(0, 0, 1, 0, 0, AttemptKey(1, number), holder, code)


@pytest.fixture
def reader():
    rig = Rig().with_job()
    rig.say(inputs(1, (0, 1, 0), (1, 2, 1)))
    rig.reader_slot = rig.run(5, 1, [(0, 1)], tickets=(messages.Ticket(0, 0, "w2", b"k" * 16),))
    return rig


def test_a_block_elsewhere_is_fetched_with_its_ticket(reader):
    reader.do(ev.SlotSaid(reader.reader_slot, wanted()))
    (order,) = reader.ordered(ev.WantBlock)
    assert (order.ticket, order.block_bytes, order.want.holder) == (b"k" * 16, 5002, "w2")
    reader.do(ev.BlockCame(order.want, "/spool/1"))
    (here,) = reader.frames(slotframes.BlockHere)
    assert (here.path, here.code) == ("/spool/1", "")
    reader.finish(reader.reader_slot, 5, files_record())
    assert [each.want for each in reader.ordered(ev.ForgetBlock)] == [order.want]


def test_of_a_long_block_the_slot_hears_first_that_its_index_is_here(reader):
    reader.do(ev.SlotSaid(reader.reader_slot, wanted()))
    (order,) = reader.ordered(ev.WantBlock)
    for event, is_whole in ((ev.BlockBegan, False), (ev.BlockBegan, False), (ev.BlockCame, True)):
        reader.do(event(order.want, "/spool/1"))
        (here,) = reader.frames(slotframes.BlockHere)
        assert (here.path, here.code, here.is_whole) == ("/spool/1", "", is_whole)
    reader.finish(reader.reader_slot, 5, files_record())
    reader.do(ev.BlockBegan(order.want, "/spool/1"))
    assert not reader.actions


def test_a_block_that_cannot_be_had_is_told_to_the_master_until_it_lies_elsewhere(reader):
    reader.do(ev.SlotSaid(reader.reader_slot, wanted()))
    (order,) = reader.ordered(ev.WantBlock)
    reader.do(ev.BlockMissed(order.want, "CORRUPT_BLOCK"))
    (failed,) = reader.sent(messages.FetchFailed)
    assert (failed.source, failed.code) == (name_of(2, 0, 1), "CORRUPT_BLOCK")
    assert not reader.frames(slotframes.BlockHere)
    reader.wait(2.05)
    assert len(reader.sent(messages.FetchFailed)) == 2
    reader.say(inputs(2, (0, 1, 0), (1, 8, 0)))
    (here,) = reader.frames(slotframes.BlockHere)
    assert (here.attempt, here.holder, here.path) == (AttemptKey(1, 8), "w1", "")
    reader.wait(1.05)
    assert not reader.sent(messages.FetchFailed)


def test_what_could_not_be_reached_is_tried_again(reader):
    reader.do(ev.SlotSaid(reader.reader_slot, wanted()))
    (order,) = reader.ordered(ev.WantBlock)
    reader.do(ev.BlockMissed(order.want, "FETCH_UNREACHABLE"))
    assert reader.ordered(ev.ForgetBlock)
    reader.say(messages.Heard())
    reader.wait(4.0)
    assert [each.want for each in reader.ordered(ev.WantBlock)] == [order.want]


def test_a_slot_that_asks_for_a_copy_that_is_no_more_is_sent_to_the_newest(reader):
    reader.say(inputs(2, (0, 1, 0), (1, 8, 0)))
    reader.do(ev.SlotSaid(reader.reader_slot, wanted(code="CORRUPT_BLOCK")))
    assert [here.attempt.number for here in reader.frames(slotframes.BlockHere)] == [8]
    assert not reader.sent(messages.FetchFailed)


# Sessions.


def test_hello_names_what_is_here_and_welcome_decides():
    rig = Rig(slots=3).with_job()
    for number in (1, 2):
        rig.run(number)
    for number in (3, 4, 5):
        rig.finish(rig.run(number), number)
    rig.say(messages.CommitAck(name_of(3)))
    rig.do(ev.Disconnected())
    rig.wait(1.0)
    assert rig.ordered(ev.Reconnect) and not rig.sent(messages.Beat)
    hello = rig.welcome([name_of(1)], [name_of(3)], [name_of(4)], session=b"T" * 8)
    assert [each.attempt for each in hello.running] == [name_of(1), name_of(2)]
    assert [each.attempt for each in hello.done] == [name_of(3), name_of(4), name_of(5)]
    assert [done.attempt for done in rig.sent(messages.Done)] == [name_of(4)]
    assert [order.attempt for order in rig.ordered(ev.DeleteAttempt)] == [name_of(5)]
    assert [frame.attempt.number for frame in rig.frames(slotframes.CancelTask)] == [2]


def test_notes_of_an_earlier_life_are_offered():
    rig = Rig().with_job()
    rig.finish(rig.run(1), 1)
    (note,) = rig.ordered(ev.KeepNote)
    again = Rig(notes=[note.done])
    hello = again.welcome(hold=[name_of(1)])
    assert [each.attempt for each in hello.done] == [name_of(1)] and hello.done[0].seal == b"s" * 16
    again.wait(1.05)
    (beat,) = again.sent(messages.Beat)
    assert beat.jobs == (JOB,) and not again.sent(messages.Done)


def test_the_record_of_a_held_output_lies_on_the_disk_and_is_said_again_from_there():
    rig = Rig().with_job()
    rig.finish(rig.run(1), 1)
    (note,) = rig.ordered(ev.KeepNote)
    rig.say(messages.CommitAck(name_of(1)))
    assert rig.worker._bench.attempts[name_of(1)].done is None, "32 bytes a partition"
    rig.do(ev.Disconnected())
    rig.wait(0.2)
    rig.welcome(resend=[name_of(1)], session=b"T" * 8)
    (order,) = rig.ordered(ev.ReadNote)
    rig.do(ev.NoteRead(order.attempt, note.done))
    assert rig.sent(messages.Done) == [note.done]


def test_an_output_whose_note_is_gone_is_none():
    rig = Rig().with_job()
    rig.finish(rig.run(1), 1)
    rig.say(messages.CommitAck(name_of(1)))
    rig.do(ev.Disconnected())
    rig.wait(0.2)
    rig.welcome(resend=[name_of(1)], session=b"T" * 8)
    rig.do(ev.NoteRead(name_of(1), None))
    assert rig.ordered(ev.DeleteAttempt)
    rig.wait(1.0)
    assert [beat.attempts for beat in rig.sent(messages.Beat)] == [()]


def test_assignments_beyond_the_queue_are_not_taken():
    rig = Rig(slots=1, waiting_max=2).with_job()
    for number in range(5):
        rig.say(assign(number))
    assert len(rig.worker._bench.attempts) == 2 and rig.worker.seen["ASSIGN beyond the queue"] == 3


def test_a_silent_master_is_left_after_five_seconds_and_work_goes_on():
    rig = Rig().with_job()
    slot = rig.run(1)
    rig.wait(5.5)
    assert rig.ordered(ev.Reconnect) and not rig.worker.session
    rig.finish(slot, 1)
    assert rig.ordered(ev.KeepNote) and not rig.sent(messages.Done)
    rig.welcome(keep=[name_of(1)], session=b"T" * 8)
    assert rig.sent(messages.Done), "what was kept running has ended since"


def test_the_pause_between_connections_grows_up_to_two_seconds():
    rig = Rig()
    pauses = []
    for _ in range(8):
        rig.do(ev.Connected())
        rig.do(ev.Disconnected())
        since_s = rig.now
        while not rig.ordered(ev.Reconnect):
            rig.wait(0.05)
        pauses.append(rig.now - since_s)
    assert pauses == sorted(pauses) and pauses[0] < 0.2 and 1.0 <= pauses[-1] <= 2.0


def test_masters_of_the_past_are_not_obeyed():
    rig = Rig().with_job()
    rig.run(1)
    for epoch, life in ((0, LIFE), (1, b"x" * 8)):
        rig.say(messages.Discard(name_of(1)), epoch=epoch, life=life)
        assert not rig.actions
    rig.say(messages.Discard(name_of(1)), session=b"old")
    assert not rig.actions and rig.worker.seen["order of an old session"] == 1


def test_the_answer_to_an_earlier_hello_begins_no_session():
    rig = Rig()
    rig.do(ev.Connected())
    rig.say(messages.Welcome(rig.hellos()[0].count - 1, 0, 1, (), (), ()))
    assert not rig.worker.session


def test_pages_of_a_welcome_count_together():
    rig = Rig().with_job()
    rig.finish(rig.run(1), 1)
    rig.finish(rig.run(2), 2)
    rig.do(ev.Disconnected())
    rig.do(ev.Connected())
    count = rig.hellos()[0].count
    rig.say(messages.Welcome(count, 1, 2, (), (), (name_of(2),)), session=b"T" * 8)
    assert not rig.worker.session
    rig.say(messages.Welcome(count, 0, 2, (), (name_of(1),), ()), session=b"T" * 8)
    assert rig.worker.session == b"T" * 8 and not rig.ordered(ev.DeleteAttempt)


@pytest.mark.parametrize(("code", "ends"), [("VERSION", True), ("NAME_TAKEN", False), ("JOURNAL_BEHIND", False)])
def test_a_refusal_that_waiting_does_not_mend_ends_the_worker(code, ends):
    rig = Rig()
    rig.do(ev.Connected())
    rig.say(messages.Refused(b"", code, "because", "do so"), session=b"")
    assert [leave.text.partition(": ")[2] for leave in rig.ordered(ev.Exit)] == ["because; do so"] * ends
    if not ends:
        rig.wait(0.6)
        assert rig.hellos() and not rig.ordered(ev.Reconnect), "it asks again over the same connection"


def test_a_master_without_this_session_gets_a_hello():
    rig = Rig().with_job()
    rig.say(messages.Refused(b"", "NO_SESSION", "say HELLO", ""))
    assert rig.hellos() and not rig.worker.session


def test_draining_ends_when_the_master_says_so():
    rig = Rig().with_job()
    rig.do(ev.DrainAsked())
    assert rig.sent(messages.WantDrain)
    rig.say(messages.Drain(False))
    assert not rig.ordered(ev.Exit)
    rig.say(messages.Drain(True))
    assert rig.sent(messages.Bye) and [leave.status for leave in rig.ordered(ev.Exit)] == [0]


def test_draining_without_a_master_ends_after_five_seconds():
    rig = Rig().with_job()
    rig.run(1)
    rig.do(ev.DrainAsked())
    rig.do(ev.Disconnected())
    rig.wait(4.5)
    assert not rig.ordered(ev.Exit), "it may come back"
    rig.wait(1.0)
    assert [leave.status for leave in rig.ordered(ev.Exit)] == [0]


def test_an_orphan_ends_its_slots_after_an_hour_and_keeps_its_outputs():
    rig = Rig().with_job()
    rig.finish(rig.run(1), 1)
    slot = rig.run(2)
    rig.do(ev.Disconnected())
    rig.samples = ()
    rig.wait(3601.0)
    assert slot in [each.slot for each in rig.ordered(ev.TellSlot)]
    hello = rig.welcome(session=b"T" * 8)
    assert [each.attempt for each in hello.done] == [name_of(1)]


# Watching slots.


def test_a_slot_without_signs_of_life_is_killed_as_hung():
    rig = Rig().with_job()
    slot = rig.run(1)
    rig.samples = (slot_sample(slot, 1, batch=2, steps=9),)
    for _ in range(28):
        rig.say(messages.Heard())
        rig.wait(1.0)
        assert not rig.ordered(ev.KillSlot)
    for _ in range(4):
        rig.say(messages.Heard())
        rig.wait(1.0)
        if rig.ordered(ev.KillSlot):
            break
    assert [order.slot for order in rig.ordered(ev.KillSlot)] == [slot]
    rig.do(ev.SlotDied(slot, "SIGNALLED", "killed by signal 9", rig.samples[0]))
    assert [(failed.code, failed.batch) for failed in rig.sent(messages.Failed)] == [("HUNG", 2)]


def test_a_supervisor_that_was_stopped_does_not_take_its_slots_for_hung():
    rig = Rig().with_job()
    slot = rig.run(1)
    rig.samples = (slot_sample(slot, 1, steps=9),)
    rig.wait(1.0)
    rig.now += 60.0
    rig.do(ev.TimePassed(ev.Sample(1, 1 << 40, rig.samples), 0.5))
    assert not rig.ordered(ev.KillSlot) and not rig.worker.session
    rig.wait(31.0)
    assert rig.ordered(ev.KillSlot), "it shows no sign of life afterwards either"


def test_a_slot_that_waits_for_blocks_does_not_hang():
    rig = Rig().with_job()
    slot = rig.run(1)
    rig.samples = (slot_sample(slot, 1, phase="fetch"),)
    for _ in range(100):
        rig.say(messages.Heard())
        rig.wait(1.0)
        assert not rig.ordered(ev.KillSlot)


def test_a_slot_over_its_memory_is_killed_and_charged():
    rig = Rig(slot_rss_bytes_max=1000).with_job()
    slot = rig.run(1)
    rig.samples = (slot_sample(slot, 1, rss_bytes=1001),)
    rig.wait(1.0)
    assert rig.ordered(ev.KillSlot)
    rig.do(ev.SlotDied(slot, "SIGNALLED", "killed by signal 9", None))
    (failed,) = rig.sent(messages.Failed)
    assert failed.code == "OOM_KILLED" and "1,001 bytes of memory, of 1,000" in failed.problem.what


@pytest.mark.parametrize(
    ("taken", "code", "text"),
    [(200 << 20, "OOM_KILLED", "209,715,200 bytes"), (90 << 20, "HUNG", "no sign of life for 2 s")],
)
def test_a_slot_that_is_silent_because_it_takes_memory_is_told_as_that_if_it_takes_enough(taken, code, text):
    rig = Rig(slot_rss_bytes_max=1200 << 20, hung_s=2.0).with_job()
    slot = rig.run(1)
    rig.samples = (slot_sample(slot, 1, steps=9, rss_bytes=100 << 20),)
    rig.wait(1.0)
    assert not rig.ordered(ev.KillSlot)
    rig.samples = (slot_sample(slot, 1, steps=9, rss_bytes=(100 << 20) + taken),)
    rig.wait(3.0)
    assert [order.slot for order in rig.ordered(ev.KillSlot)] == [slot]
    rig.do(ev.SlotDied(slot, "SIGNALLED", "killed by signal 9", rig.samples[0]))
    (failed,) = rig.sent(messages.Failed)
    assert failed.code == code and text in failed.problem.what


def test_slots_that_cannot_be_started_end_the_worker_with_what_they_said():
    rig = Rig(slots=1)
    started = rig.ordered(ev.StartSlot)
    for _ in range(10):
        for order in started:
            rig.do(ev.SlotDied(order.slot, "SIGNALLED", "no module named numpy", None))
            if rig.ordered(ev.Exit):
                break
        if rig.ordered(ev.Exit):
            break
        rig.wait(40.0)
        started = rig.ordered(ev.StartSlot)
    (leave,) = rig.ordered(ev.Exit)
    assert leave.status == 1 and "numpy" in leave.text


def test_a_slot_that_says_what_it_cannot_is_killed():
    rig = Rig().with_job()
    slot = rig.run(1)
    rig.do(ev.SlotSaid(slot, slotframes.JobOpened(JOB)))
    assert [order.slot for order in rig.ordered(ev.KillSlot)] == [slot]
