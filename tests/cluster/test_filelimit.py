"""A flood of connections takes files up to the limit; a few beyond it are opened all the same."""

import subprocess
import sys

import pytest

HEAD = """
import errno, os, resource, threading
from kernelmill.cluster.filelimit import RESERVED_FILES, is_short_of_files, raise_file_limit, reserve
resource.setrlimit(resource.RLIMIT_NOFILE, (300, 400))
def flood():
    taken = []
    while True:
        try:
            taken.append(os.open("/dev/null", os.O_RDONLY))
        except OSError as problem:
            assert problem.errno == errno.EMFILE
            return taken
"""


def run(text):
    found = subprocess.run([sys.executable, "-c", HEAD + text], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0, found.stderr


def test_files_of_the_reserve_are_had_when_all_others_are_taken():
    run("""
raise_file_limit(RESERVED_FILES)
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (400 - RESERVED_FILES, 400)
assert not is_short_of_files()
taken = flood()
assert is_short_of_files()
with reserve():
    os.close(os.open("/dev/null", os.O_RDONLY))
assert flood() == [], "behind it the limit is what it was"
for handle in taken:
    os.close(handle)
assert not is_short_of_files()
""")


def test_the_limit_stays_lifted_till_the_last_thread_has_left():
    run("""
raise_file_limit(RESERVED_FILES)
first, second = reserve(), reserve()
first.__enter__()
second.__enter__()
first.__exit__(None, None, None)
assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 400
second.__exit__(None, None, None)
assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == 400 - RESERVED_FILES
""")


@pytest.mark.parametrize(("reserved", "soft"), [(0, 400), (64, 336), (1000, 300)])
def test_the_limit_is_raised_as_far_as_the_system_allows_but_for_the_reserve(reserved, soft):
    run(f"""
raise_file_limit({reserved})
assert resource.getrlimit(resource.RLIMIT_NOFILE) == ({soft}, 400)
""")


@pytest.mark.parametrize("command", [["master", "--state", "s", "--keys", "k"], ["worker", "--bundle", "b"]])
def test_a_process_that_may_open_too_few_files_says_how_it_gets_more(command, tmp_path):
    limited = "import os, resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64)); "
    become = f"os.execv(sys.executable, {[sys.executable, '-m', 'kernelmill', *command]})"
    found = subprocess.run(
        [sys.executable, "-c", limited + become], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert found.returncode == 3 and "KM0403" in found.stderr, found.stderr
    assert "64 files" in found.stderr and "ulimit -n" in found.stderr and "LimitNOFILE" in found.stderr
    assert "Traceback" not in found.stderr
