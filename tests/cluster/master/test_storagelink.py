"""The master's end of the storage process, with processes that end at once."""

import logging
import subprocess
import sys

import pytest

from kernelmill.cluster.fields import Place, Policy, Sheet, SheetStage, Versions
from kernelmill.cluster.master import storagelink
from kernelmill.cluster.master.storagelink import StorageLink
from kernelmill.cluster.storage.frames import Clean, Publish

SHEET = Sheet(
    (SheetStage("s", 1, (), ()),),
    Place("data", ("out",)),
    Policy("error", 0, "error", "signed", "tail", 4, False),
    Versions("1", "2", "3", "4", "5"),
)
BAD, GOOD = b"b" * 16, b"g" * 16


@pytest.fixture
def link(monkeypatch):
    """A link whose processes read a few bytes and end."""
    real = subprocess.Popen

    def start(command, **options):
        handle = command[command.index("kernelmill.cluster.storage") + 1]
        return real([sys.executable, "-IS", "-c", f"import os; os.read({handle}, 9)"], **options)

    monkeypatch.setattr(storagelink.subprocess, "Popen", start)
    link = StorageLink([])
    yield link
    link.close()


def let_die(link, now):
    """Wait for the end of the process, and let the next one start."""
    link._channel.setblocking(True)
    assert link.read(now) == []
    assert link.pass_time(now) == now + 1.0
    assert link.pass_time(now + 1.0) is None


def test_a_clean_at_which_the_process_ends_again_and_again_is_given_up(link, caplog):
    link.order(Clean(BAD, SHEET.output))
    link.order(Clean(GOOD, SHEET.output))
    with caplog.at_level(logging.ERROR, "kernelmill.cluster"):
        for death in range(3):
            assert [one.job for one in link._orders] == [BAD, GOOD]
            let_die(link, 10.0 * death)
    assert [one.job for one in link._orders] == [GOOD]
    assert BAD.hex() in caplog.text and "data:/out" in caplog.text and "kernelmill clean" in caplog.text
    assert link.restarts == 3


def test_publishing_is_never_given_up(link):
    link.order(Publish(BAD, SHEET, "/plan", (), ()))
    for death in range(5):
        let_die(link, 10.0 * death)
    assert [one.job for one in link._orders] == [BAD]
