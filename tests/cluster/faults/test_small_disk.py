"""The small disk of the fault tests is full when it should be, and nobody else's."""

import subprocess
import sys

import pytest
import smalldisk

FILL = """
import sys
try:
    with open(sys.argv[1] + "/big", "wb") as file:
        for _ in range(64):
            file.write(bytes(1 << 16))
            file.flush()
except OSError as problem:
    print(problem.errno, flush=True)
sys.stdin.read()
"""


def test_a_small_disk_is_full_soon_and_seen_by_nobody_else(tmp_path):
    smalldisk.require(tmp_path)
    words = smalldisk.command([sys.executable, "-c", FILL, tmp_path], {tmp_path: "1m"})
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "28\n"  # ENOSPC
        assert list(tmp_path.iterdir()) == []
        process.kill()
        assert process.wait(10) == -9


def test_where_no_disk_can_be_made_ci_as_root_fails_and_others_skip(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="unshare"):
        smalldisk.require(tmp_path)
    monkeypatch.setenv("CI", "true")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(pytest.fail.Exception, match="unshare"):
        smalldisk.require(tmp_path)
