"""The command as a process: signals that end it, standard streams that are closed or full, names that are not text."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kernelmill.engine.commit import check

BOOK = Path(__file__).resolve().parents[1] / "data" / "kjv" / "65-jude.txt"
pytestmark = pytest.mark.usefixtures("signals_reach_children")

COMMAND = [sys.executable, "-m", "kernelmill"]
COUNT = [*COMMAND, "wordcount", str(BOOK), "-o", "out", "--top", "1"]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def ended(words, **options):
    return subprocess.run(words, capture_output=True, timeout=60, check=False, **options)


def program(text, *arguments):
    return ended([sys.executable, "-c", text, *map(str, arguments)], text=True)


# Signals -------------------------------------------------------------------------------------------------------------

SIGNALLED_WHILE_IMPORTING = """
import os, sys
module, number = sys.argv[1], int(sys.argv[2])

class Sender:
    def find_spec(self, name, path=None, target=None):
        if name == module:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), number)

sys.meta_path.insert(0, Sender())
sys.argv[1:] = ["config"]
from kernelmill.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("module", "number", "said"),
    [
        ("kernelmill.engine.cli.process", signal.SIGINT, ""),
        ("click", signal.SIGINT, ""),
        ("kernelmill.engine.settings", signal.SIGTERM, ""),
        ("kernelmill.engine.cli.house", signal.SIGHUP, "interrupted\n"),
    ],
)
def test_a_signal_while_modules_load_ends_the_command_without_a_traceback(module, number, said):
    done = program(SIGNALLED_WHILE_IMPORTING, module, number)
    assert (done.returncode, done.stdout, done.stderr) == (128 + number, "", said)


PRELUDE = """
import signal, threading
from kernelmill.engine.cli.process import Stopped, raise_on_signals
"""
CASES = {
    "a second signal does not break off the clearing up": """
raise_on_signals()
try:
    signal.raise_signal(signal.SIGTERM)
except Stopped as stop:
    signal.raise_signal(signal.SIGHUP)
    print(stop.exit_code)
""",
    "what nohup set stays": """
signal.signal(signal.SIGHUP, signal.SIG_IGN)
raise_on_signals()
signal.raise_signal(signal.SIGHUP)
print(143)
""",
    "a signal in a destructor is not lost": """
class Odd:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)
raise_on_signals()
try:
    odd = Odd()
    del odd
    threading.Event().wait(30)
except Stopped as stop:
    print(stop.exit_code)
""",
}


@pytest.mark.parametrize("case", CASES)
def test_signals(case):
    done = program(PRELUDE + CASES[case])
    assert (done.stdout, done.stderr) == ("143\n", "")


# Streams -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streams", [">&-", "2>&-", "<&- >&- 2>&-", "2>/dev/full"])
def test_streams_that_nobody_reads_do_not_disturb_a_job(streams):
    done = ended(["sh", "-c", f'exec "$@" {streams}', "sh", *COUNT])
    assert (done.returncode, b"Traceback" in done.stderr) == (0, False)
    assert check("out").ok


HELP = [["--version"], ["--help"], ["warm", "-h"], ["config"]]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")
@pytest.mark.parametrize("words", [COUNT, *([*COMMAND, *words] for words in HELP)], ids=" ".join)
def test_a_standard_output_that_is_full_is_a_typed_error(words):
    done = ended(["sh", "-c", 'exec "$@" >/dev/full', "sh", *words], text=True)
    assert (done.returncode, "KM0402" in done.stderr, "Traceback" in done.stderr) == (1, True, False)
    if words == COUNT:
        assert "wrote out: " in done.stderr
        assert check("out").ok


def test_characters_that_the_terminal_lacks_are_escaped():
    Path("text").write_text("λ " * 9)
    environment = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = ended([*COMMAND, "wordcount", "text", "-o", "out", "--top", "1"], env=environment)
    assert (done.returncode, done.stdout.split()[2:]) == (0, [b"\\u03bb", b"9"])


@pytest.mark.parametrize("output", [b"o\xff", b"o\xff.parquet"])
def test_an_output_whose_name_is_not_text_can_be_written_read_and_replaced(output):
    Path("text").write_bytes(b"good\nbad \xff\n")
    words = [*COMMAND, "wordcount", "text", "-o", output, "--invalid", "skip", "--top", "1"]
    for more in ([], ["--mode", "overwrite"]):
        done = ended([*words, *more])
        assert (done.returncode, done.stdout.split()[2:]) == (0, [b"good", b"1"]), done.stderr
        assert b"wrote " + output in done.stderr
    for command in ("show", "check"):
        done = ended([*COMMAND, command, output, "--json"])
        assert os.fsencode(json.loads(done.stdout)["path"]) == output, done.stderr
    assert ended([*COMMAND, "show", output]).stdout.startswith(output + b": 1 row in 1 file")


def test_a_command_that_cannot_stop_ends_after_a_while():
    code = (
        "import os, signal, threading\n"
        "from kernelmill.engine.cli import process\n"
        "process._LEAVE_AFTER_S = 0.1\n"
        "process.raise_on_signals()\n"
        "try:\n"
        "    os.kill(os.getpid(), signal.SIGTERM)\n"
        "    threading.Event().wait(60)\n"
        "except KeyboardInterrupt:\n"
        "    threading.Event().wait(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert done.returncode == 143
    assert "SIGTERM" in done.stderr and "without clearing up" in done.stderr
