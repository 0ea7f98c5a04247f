import errno
import os
import signal
import subprocess
import sys

import pytest

from kernelmill.cluster.failpoints import TOKENS_VARIABLE, VARIABLE, Failpoints, parse
from kernelmill.engine.errors import Code, KernelmillError

PASS_THREE_TIMES = """
from kernelmill.cluster.failpoints import failpoint
for count in range(1, 4):
    print(count, flush=True)
    failpoint("worker.done.sent")
    failpoint("another.place")
"""


def run(spec, tokens=""):
    environ = {**os.environ, VARIABLE: spec, TOKENS_VARIABLE: tokens}
    done = subprocess.run([sys.executable, "-c", PASS_THREE_TIMES], env=environ, capture_output=True, text=True)
    return done.returncode, done.stdout.split()


def test_a_process_is_killed_at_the_pass_that_was_asked_for():
    assert run("worker.done.sent=kill@2") == (-signal.SIGKILL, ["1", "2"])
    assert run("other=kill, worker.done.sent=exit@3") == (70, ["1", "2", "3"])
    assert run("") == (0, ["1", "2", "3"])


def test_a_token_lets_a_fault_strike_in_one_process_only(tmp_path):
    assert run("worker.done.sent=exit", str(tmp_path)) == (70, ["1"])
    assert run("worker.done.sent=exit", str(tmp_path)) == (0, ["1", "2", "3"])
    assert [token.name for token in tmp_path.iterdir()] == ["worker.done.sent"]


def test_a_failing_disk_is_an_oserror():
    points = Failpoints({VARIABLE: "journal.fsync=raise@2"})
    points.reach("journal.fsync")
    with pytest.raises(OSError) as caught:
        points.reach("journal.fsync")
    assert caught.value.errno == errno.EIO
    points.reach("journal.fsync")


@pytest.mark.parametrize("text", ["x", "x=", "x=burn", "x=kill@0", "x=kill@-1", "=kill", "x=kill@two"])
def test_what_is_no_failpoint_is_refused(text):
    with pytest.raises(KernelmillError) as caught:
        parse(text)
    assert caught.value.code is Code.BAD_SETTING
