"""What `kernelmill jobs` and `kernelmill logs` print of texts that others chose."""

import contextlib
from pathlib import Path

import pytest
from click.testing import CliRunner

from kernelmill.cluster.cli import client as commands
from kernelmill.cluster.cli.master import master
from kernelmill.cluster.cli.worker import worker
from kernelmill.cluster.client import asking
from kernelmill.cluster.fields import AttemptKey
from kernelmill.cluster.keys import folder as keys_folder
from kernelmill.cluster.messages import JobRow, LogRow
from kernelmill.engine.cli.console import Console
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.printable import printable

JOB = bytes(range(16))
NASTY = "HELLO\x1b[2J\x1b]0;pwn\x07\x9b31m\u202etxt\rover"


@pytest.fixture
def run(monkeypatch):
    """Run a command against a master with one job, whose output and log have nasty texts."""
    log = [LogRow("w1", 0, 3, AttemptKey(1, 7), NASTY)]
    monkeypatch.setattr(commands, "name_in", lambda bundle: "me")
    monkeypatch.setattr(commands, "open_link", lambda bundle, address: contextlib.nullcontext())
    monkeypatch.setattr(
        asking, "jobs_of", lambda link, everybodys=False: [JobRow(JOB, "me", "RUNNING", 1, 0, NASTY, "")]
    )
    monkeypatch.setattr(asking, "log_of", lambda link, job, first=0: (log, 1))

    def run(command, *arguments):
        found = CliRunner().invoke(command, [*arguments, "--bundle", "me.bundle"], obj=Console())
        assert found.exit_code == 0, found.output
        return found.output

    return run


def test_a_line_of_a_log_cannot_steer_the_terminal(run):
    text = run(commands.logs, JOB.hex()[:6])
    assert text == "w1 0.3#1-7 HELLO\\x1b[2J\\x1b]0;pwn\\x07\\x9b31m\\u202etxt\\rover\n"


def test_the_name_of_an_output_cannot_steer_the_terminal(run):
    text = run(commands.jobs)
    assert "HELLO\\x1b[2J" in text and not set(text) & set("\x1b\x07\x9b\u202e\r")


@pytest.mark.parametrize("text", ["grüße\tund 語 👩\u200d🌾", ""])
def test_text_of_people_is_printed_as_it_is(text):
    assert printable(text) == text


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (worker, ["--bundle", "w1.bundle", "--scratch", "x", "--hung-after", "nan"]),
        (master, ["--state", "x", "--keys", "y", "--lost-after", "nan"]),
    ],
)
def test_nan_is_no_number_of_seconds(command, words):
    found = CliRunner().invoke(command, words, obj=Console())
    assert found.exit_code == 2 and "'nan' is no number of seconds" in found.output


def test_a_worker_that_cannot_be_is_not_asked_for(run):
    found = CliRunner().invoke(commands.drain, ["../x", "--bundle", "me.bundle"], obj=Console())
    assert isinstance(found.exception, KernelmillError) and found.exception.code is Code.BAD_SETTING


def test_keys_are_not_made_where_no_folder_is():
    with pytest.raises(KernelmillError) as caught:
        keys_folder.init(Path("/proc/no/such/keys"), "tcp://127.0.0.1:7077")
    assert caught.value.code is Code.KEYS and caught.value.where == "/proc/no/such"
