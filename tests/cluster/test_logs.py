"""Logs of a cluster's processes are lines, whatever others put into them, and not more than can be read."""

import logging

import pytest

from kernelmill.cluster import logs
from kernelmill.cluster.master import gate, publisher, recorder, storagelink, workerdesk


@pytest.fixture
def log():
    """A logger with the filter; what it wrote is in `lines`."""
    found = logging.getLogger("kernelmill.test_logs")
    found.propagate, found.lines = False, []
    handler = logging.Handler()
    handler.emit = lambda record: found.lines.append(record.getMessage())
    found.addHandler(handler)
    found.addFilter(logs.OneLineEach())
    yield found
    found.handlers.clear()
    found.filters.clear()


def at(log, seconds, text, *values):
    record = log.makeRecord(log.name, logging.WARNING, "", 0, text, values, None)
    record.created = 1000.0 + seconds
    log.handle(record)


def test_a_name_that_others_chose_makes_no_line_and_no_escape_sequence(log):
    at(log, 0, "staging of job %s: %s", "ab", "x\nERROR forged \x1b[31mred\x1b]0;title\x07\u202e\r")
    assert log.lines == ["staging of job ab: x\\nERROR forged \\x1b[31mred\\x1b]0;title\\x07\\u202e\\r"]


def test_a_long_text_is_cut(log):
    at(log, 0, "job %s", "é" * 9000)
    assert log.lines == ["job " + "é" * (logs.CHARACTERS_MAX - 4) + "... (9004 characters)"]


def test_lines_of_one_kind_that_come_fast_are_counted(log):
    for number in range(500):
        at(log, number / 100, "job %d fails", number)
    at(log, 5, "something else")
    at(log, 61, "job %d fails", 500)
    at(log, 62, "job %d fails", 501)
    first = [f"job {number} fails" for number in range(logs.LINES_MAX)]
    left_out = 500 - logs.LINES_MAX
    last = [f"job 500 fails ({left_out} such lines before it were left out)", "job 501 fails"]
    assert log.lines == [*first, "something else", *last]


def test_a_clock_that_is_set_back_keeps_nothing_back(log):
    for number in range(logs.LINES_MAX):
        at(log, 0, "job %d", number)
    at(log, -500, "job %d", 99)
    assert log.lines[-1] == "job 99"


def test_the_masters_log_is_such_a_one():
    for module in (gate, publisher, recorder, storagelink, workerdesk):
        (found,) = (one for one in module._log.filters if isinstance(one, logs.OneLineEach))
        assert module._log is logs.cluster_log() and module._log.filters.count(found) == 1
