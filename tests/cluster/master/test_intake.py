"""Jobs on their way in: asked for piece by piece, given to the machine when all is durable, and never before."""

from __future__ import annotations

import hashlib
import threading

import msgspec
import pytest

from kernelmill.cluster import messages as m
from kernelmill.cluster.fields import JobPart, Place, Policy, Sheet, SheetStage, Versions
from kernelmill.cluster.master import intake as intaking
from kernelmill.cluster.master.events import SubmitReceived
from kernelmill.cluster.master.intake import Intake
from kernelmill.cluster.master.partsfolder import PartsFolder

VERSIONS = Versions("0.1.0", "3.11.7", "26.0.1", "0.68.1", "2.4.6")
JOB, OTHER = b"j" * 16, b"k" * 16
PLAN, CODE = b"plan" * 10, b"code" * 7


def part(role, data):
    return JobPart(role, hashlib.sha256(data).digest(), len(data))


def submission(*parts, job=JOB, versions=VERSIONS, root="data"):
    policy = Policy("error", 0, "error", "signed", "tail", 4, False)
    sheet = Sheet((SheetStage("one", 1, (), ()),), Place(root, ("out",)), policy, versions)
    return m.Submit(job, sheet, parts, b"S" * 32, 1)


BODY = submission(part("plan", PLAN), part("code", CODE))


class Desk:
    """An intake whose written parts are waited for."""

    def __init__(self, folder):
        self.rung = threading.Semaphore(0)
        self.parts = PartsFolder(folder, self.rung.release)
        self.intake = Intake(self.parts, VERSIONS, ("data", "scratch"))

    def submit(self, body=BODY, client="ada", now=0.0):
        return self.intake.submit(client, body, now)

    def put(self, data, need, size=16, client="ada", now=0.0):
        piece = data[need.offset : need.offset + size]
        return self.intake.put(client, m.PutPart(need.job, need.sha256, need.offset, piece), now)

    def put_all(self, data, need):
        """Put a whole part; the answer to its last piece."""
        digest = need.sha256
        while isinstance(need, m.Need) and need.sha256 == digest:
            need = self.put(data, need)
        return need

    def written(self):
        assert self.rung.acquire(timeout=10)
        return self.intake.take_written()


@pytest.fixture
def desk(tmp_path):
    found = Desk(tmp_path / "parts")
    yield found
    found.parts.close()


def test_an_output_in_a_root_that_the_master_does_not_have_is_refused_before_parts_are_asked_for(desk):
    answer = desk.submit(submission(part("plan", PLAN), root="nope"))
    assert isinstance(answer, m.Refused) and answer.code == "BAD_SETTING"
    assert "nope" in answer.text and "data, scratch" in answer.text and "--root nope=" in answer.hint
    assert desk.intake.parts_in_use() == set()


def test_a_job_is_given_on_when_its_last_part_is_durable(desk, tmp_path):
    need = desk.submit()
    assert need == m.Need(JOB, part("plan", PLAN).sha256, 0)
    need = desk.put_all(PLAN, need)
    assert (need.sha256, need.offset) == (part("code", CODE).sha256, 0)
    assert desk.put_all(CODE, need) is None
    found = desk.written()
    while not found:
        found = desk.written()
    ((client, event),) = found
    assert client == "ada" and isinstance(event, SubmitReceived)
    assert event.sheet.job == JOB.hex() and event.sheet.accepted.parts == BODY.parts
    names = {path.name: path.read_bytes() for path in (tmp_path / "parts").iterdir()}
    assert names == {hashlib.sha256(data).hexdigest(): data for data in (PLAN, CODE)}
    assert isinstance(desk.submit(submission(part("plan", PLAN), job=OTHER)), SubmitReceived)  # it is here already


def test_a_submission_that_is_said_again_goes_on_where_it_was(desk):
    need = desk.submit()
    need = desk.put(PLAN, need)
    assert need.offset == 16
    assert desk.submit() == need
    assert desk.put(PLAN, m.Need(JOB, need.sha256, 0)) == need  # a piece that came twice


def test_what_was_not_asked_for_changes_nothing(desk):
    need = desk.submit()
    assert desk.put(PLAN, need, client="bob") is None
    assert desk.intake.put("ada", m.PutPart(OTHER, need.sha256, 0, b"x"), 0.0) is None
    assert desk.intake.put("ada", m.PutPart(JOB, b"x" * 32, 0, b"x"), 0.0) == need
    assert desk.put(CODE, m.Need(JOB, part("code", CODE).sha256, 0)) == need  # not this one's turn
    assert desk.submit(client="bob").code == "JOB_EXISTS"


@pytest.mark.parametrize("data", [PLAN[:-1] + b"?", PLAN + b"more"])
def test_a_part_that_is_not_what_was_signed_is_refused_and_forgotten(desk, data, tmp_path):
    need = desk.submit()
    answer = desk.put(data, need, size=100)
    assert answer.code == "PROTOCOL"
    assert desk.submit() == need
    assert list((tmp_path / "parts").iterdir()) == []


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (submission(part("plan", PLAN), versions=Versions("2", "3", "4", "5", "6")), "VERSION"),
        (submission(part("code", CODE)), "PROTOCOL"),
        (submission(*[JobPart("plan", bytes([n]) * 32, 64 << 20) for n in range(17)]), "TOO_LARGE"),
    ],
)
def test_a_job_that_cannot_be_taken_is_refused_before_any_part_is_asked_for(desk, body, code):
    assert desk.submit(body).code == code


def test_a_client_of_other_versions_is_told_both_sides_and_what_to_do(desk):
    refused = desk.submit(submission(part("plan", PLAN), versions=Versions("9.9", "3", "4", "5", "6")))
    assert "the client has kernelmill 9.9, python 3," in refused.text
    assert "the master has kernelmill 0.1.0, python 3.11.7," in refused.text
    assert "the same everywhere" in refused.hint


def test_what_comes_in_is_bounded_in_bytes_and_in_number(desk, monkeypatch):
    monkeypatch.setattr(intaking, "BUFFER_BYTES_MAX", 60)
    monkeypatch.setattr(intaking, "SUBMISSIONS_MAX", 1)
    need = desk.submit(submission(part("plan", CODE)))  # 28 bytes
    assert isinstance(need, m.Need)
    busy = desk.submit(submission(part("plan", PLAN), job=OTHER), "bob")
    assert busy.code == m.BUSY and busy.hint
    monkeypatch.setattr(intaking, "SUBMISSIONS_MAX", 2)
    assert desk.submit(submission(part("plan", PLAN), job=OTHER), "bob").code == m.BUSY  # 40 bytes more
    assert desk.put_all(CODE, need) is None
    assert isinstance(desk.submit(submission(part("plan", PLAN), job=OTHER), "bob"), m.Need)


def job_of(number):
    return number.to_bytes(16, "big")


def test_one_client_cannot_take_the_places_of_all(desk):
    for number in range(300):
        answer = desk.submit(submission(JobPart("plan", job_of(number) * 2, 1000), job=job_of(number)), "bob")
        assert isinstance(answer, m.Need) == (number < intaking.CLIENT_SUBMISSIONS_MAX)
        assert isinstance(answer, m.Need) or (answer.code == m.BUSY and "bob" in answer.text)
    assert isinstance(desk.submit(), m.Need)  # ada
    assert isinstance(desk.submit(submission(JobPart("plan", b"x" * 32, 9), job=job_of(0)), "bob"), m.Need)  # his own
    desk.intake.pass_time(intaking.SILENCE_S)
    assert isinstance(desk.submit(submission(JobPart("plan", b"x" * 32, 9), job=job_of(299)), "bob"), m.Need)


def test_one_client_cannot_take_the_memory_of_all(desk):
    large = 64 << 20
    answers = [
        desk.submit(submission(JobPart("plan", job_of(number) * 2, large), job=job_of(number)), "bob")
        for number in range(10)
    ]
    needs = intaking.CLIENT_BUFFER_BYTES_MAX // large
    assert [isinstance(one, m.Need) for one in answers] == [True] * needs + [False] * (10 - needs)
    assert {one.code for one in answers[needs:]} == {m.BUSY}
    assert isinstance(desk.submit(), m.Need)  # ada


def test_nobody_spoils_a_part_of_another_by_saying_its_name(desk):
    mine = desk.submit()
    mine = desk.put(PLAN, mine)
    his = desk.submit(submission(part("plan", PLAN), job=OTHER), "bob")
    assert (mine.offset, his.offset) == (16, 0)
    his = desk.intake.put("bob", m.PutPart(OTHER, his.sha256, 0, b"?" * 16), 0.0)
    refused = desk.intake.put("bob", m.PutPart(OTHER, his.sha256, 16, b"?" * 24), 0.0)
    assert refused.code == "PROTOCOL"
    mine = desk.put_all(PLAN, mine)
    assert isinstance(mine, m.Need) and mine.sha256 == part("code", CODE).sha256


def test_two_clients_may_send_the_same_part_at_once(desk):
    needs = {"ada": desk.submit(submission(part("plan", PLAN)))}
    needs["bob"] = desk.submit(submission(part("plan", PLAN), job=OTHER), "bob")
    for client, need in needs.items():
        assert desk.put(PLAN, need, size=100, client=client) is None
    found = desk.written()
    assert sorted(client for client, _ in found) == ["ada", "bob"]
    assert not desk.rung.acquire(timeout=0.2)  # it was written once


def test_parts_of_a_submission_that_came_to_nothing_are_told_of(desk, tmp_path):
    assert desk.put_all(PLAN, desk.submit()).sha256 == part("code", CODE).sha256
    desk.written()
    assert not desk.intake.take_leftovers()
    desk.intake.pass_time(intaking.SILENCE_S)
    assert desk.intake.take_leftovers() and not desk.intake.take_leftovers()
    desk.parts.drop_all_but(desk.intake.parts_in_use())
    assert list((tmp_path / "parts").iterdir()) == []


def test_a_silent_clients_submission_is_forgotten(desk):
    need = desk.submit(now=0.0)
    assert desk.put(PLAN, need, now=1.0).offset == 16
    desk.intake.pass_time(60.0)
    assert desk.submit(now=60.0).offset == 16
    desk.intake.pass_time(121.0)
    assert desk.submit(now=121.0).offset == 0


def test_a_disk_that_takes_no_parts_is_told_to_the_client(desk, tmp_path):
    need = desk.put_all(PLAN, desk.submit(submission(part("plan", PLAN), part("code", CODE))))
    (tmp_path / "parts").rename(tmp_path / "gone")
    assert desk.put_all(CODE, need) is None
    found = desk.written() + desk.written()
    assert [(client, answer.code) for client, answer in found if isinstance(answer, m.Refused)] == [
        ("ada", "JOURNAL_FULL")
    ]


def test_what_a_killed_master_was_writing_is_removed_and_the_rest_is_known(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    whole, half = folder / ("ab" * 32), folder / ("cd" * 32 + ".new")
    whole.write_bytes(b"x"), half.write_bytes(b"y")
    parts = PartsFolder(folder, lambda: None)
    assert parts.has(b"\xab" * 32) and not parts.has(b"\xcd" * 32) and not half.exists()
    parts.drop_all_but({b"\xef" * 32})
    assert not whole.exists() and not parts.has(b"\xab" * 32)
    parts.close()


def test_a_sheet_with_which_other_messages_would_be_too_long_is_refused(desk):
    label = "\N{GRINNING FACE}" * 256
    longest = intaking.SUBMIT_BYTES_MAX // 1024
    stages = tuple(SheetStage(label, 1, (), ()) for _ in range(longest + 1))
    long = msgspec.structs.replace(BODY, sheet=msgspec.structs.replace(BODY.sheet, stages=stages))
    refused = desk.submit(long)
    assert isinstance(refused, m.Refused) and refused.code == "TOO_LARGE"
    stages = stages[: longest - 16]
    fits = msgspec.structs.replace(BODY, sheet=msgspec.structs.replace(BODY.sheet, stages=stages))
    assert isinstance(desk.submit(fits), m.Need)
