"""The lines that tasks wrote: in order, numbered, bounded."""

from kernelmill.cluster.fields import AttemptKey, AttemptName
from kernelmill.cluster.master import logbook
from kernelmill.cluster.master.logbook import LogBook
from kernelmill.cluster.messages import Lines

JOB = b"j" * 16


def lines(*texts, job=JOB):
    return Lines(AttemptName(job, 1, 2, AttemptKey(3, 4)), texts)


def test_a_reader_goes_on_where_it_was():
    book = LogBook()
    book.take("w1", lines("a", "b"))
    page = book.page(JOB, 0)
    assert [(row.worker, row.stage, row.text) for row in page.rows] == [("w1", 1, "a"), ("w1", 1, "b")]
    book.take("w2", lines("c"))
    assert [row.text for row in book.page(JOB, page.first + len(page.rows)).rows] == ["c"]
    assert book.page(JOB, 99).rows == () and book.page(b"k" * 16, 0).rows == ()


def test_old_lines_make_room_and_a_reader_sees_that_they_did(monkeypatch):
    monkeypatch.setattr(logbook, "LINES_MAX", 3)
    book = LogBook()
    book.take("w1", lines(*"abcde"))
    page = book.page(JOB, 0)
    assert page.first == 2 and [row.text for row in page.rows] == ["c", "d", "e"]


def test_a_page_is_bounded_and_so_are_the_jobs(monkeypatch):
    monkeypatch.setattr(logbook, "JOBS_MAX", 2)
    book = LogBook()
    book.take("w1", lines(*map(str, range(300))))
    assert len(book.page(JOB, 0).rows) == logbook.PAGE_LINES
    for other in (b"1" * 16, b"2" * 16):
        book.take("w1", lines("x", job=other))
    assert book.page(JOB, 0).rows == () and book.page(b"2" * 16, 0).rows
