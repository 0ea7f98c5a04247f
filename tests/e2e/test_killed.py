"""Kill -9, Ctrl-C and rivals: the old output, nothing or the whole new one, and the next run clears what is left."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import outside
import pytest

from kernelmill.engine.commit import check
from kernelmill.engine.events import JobStarted, TaskFinished

pytestmark = pytest.mark.usefixtures("signals_reach_children")

MOMENTS = 9  # for each way to write: spread evenly over the life of the command
SHAPE = {"split_size": "2MiB", "partitions": 8}


def tight(source):
    """So little memory that blocks spill: every kill may come while they do."""
    return outside.tight_memory(outside.word_count(source), "out", 2, **SHAPE)


def wordcount_words(source, output, *more):
    shape = [word for name, value in SHAPE.items() for word in (f"--{name.replace('_', '-')}", value)]
    given = ["--threads", 2, "--memory", tight(source), *shape, "--no-progress"]
    return [*outside.COMMAND, "wordcount", source, "-o", output, *given, *more]


SEEN = {
    "staging": lambda spills: any(Path(".out.km-staging").glob("parts-*")),
    "spilling": lambda spills: any(spills.glob("kernelmill-spill-*/*.data")),
}


@pytest.mark.parametrize("mode", ["error", "overwrite"])
def test_kill_at_any_moment_leaves_the_old_output_nothing_or_the_whole_new_one(many_words, books, spills, mode):
    os.mkdir("before")
    outside.word_count(books).sink_parquet("before/out", progress=False)
    old = outside.digests("before/out")
    words = wordcount_words(many_words, "out", "--mode", mode, "-q")
    began = time.monotonic()
    subprocess.run(list(map(str, words)), check=True)
    life_s = time.monotonic() - began
    new = outside.digests("out")

    outcomes, left = set(), []
    spread = [life_s * (moment + 0.5) / MOMENTS for moment in range(MOMENTS)]
    for number, moment in enumerate([*SEEN, *spread]):
        shutil.rmtree("out")
        if mode == "overwrite":
            shutil.copytree("before/out", "out")
        with outside.running(words) as process:
            if moment in SEEN:
                outside.until(partial(SEEN[moment], spills), process)
            else:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=moment)
            process.kill()
            process.wait()
        found = outside.digests("out") if Path("out").exists() else {}
        assert found in (new, old if mode == "overwrite" else {})
        outcomes.add(found == new)
        left += outside.leftovers(".", spills)
        if found:
            assert check("out").ok
        # The next run of the same kind: it clears what the dead one left, and succeeds.
        if mode == "error" and found:
            shutil.rmtree("out")
        memory = tight(many_words) if number % 2 else "4GiB"  # also one that spills nothing clears spills
        outside.word_count(many_words).sink_parquet("out", mode=mode, progress=False, memory=memory, **SHAPE)
        assert outside.leftovers(".", spills) == []
        assert outside.digests("out") == new
    assert False in outcomes  # it was killed in time at least once
    assert any("km-staging" in path for path in left)
    assert any("kernelmill-spill" in path for path in left)


HELD = """
import os, sys, time
import kernelmill as km
from kernelmill.engine.events import TaskFinished

def hold(event):
    if isinstance(event, TaskFinished):
        print("held", flush=True)
        sys.stdin.readline()

words = km.scan_text(sys.argv[1]).select(w=km.col("line").str.tokenize()).explode("w")
words.group_by("w").agg(km.len()).sink_parquet(sys.argv[2], mode=sys.argv[3], progress=hold)
print("done", flush=True)
"""


@pytest.mark.parametrize("mode", ["error", "overwrite"])
def test_a_second_run_into_the_same_place_is_told_that_it_is_busy(mode):
    book = outside.KJV / "65-jude.txt"
    with outside.running([sys.executable, "-c", HELD, book, "out", mode]) as first:
        assert first.stdout.readline() == "held\n"
        second = outside.command("wordcount", book, "-o", "out", "--mode", mode)
        out, err = first.communicate("\n" * 10, timeout=60)
        assert (first.returncode, out.splitlines()[-1]) == (0, "done"), err
    assert second.returncode in (1, 3)
    assert "KM0504" in second.stderr
    assert "Traceback" not in second.stderr
    assert check("out").ok
    late = outside.command("wordcount", book, "-o", "out", "--mode", mode)
    assert (late.returncode == 0, "KM0501" in late.stderr) == ((False, True) if mode == "error" else (True, False))


def test_of_runs_that_start_at_once_one_wins_and_the_others_say_why(books):
    words = wordcount_words(books, "out", "-q")
    started = [subprocess.Popen(list(map(str, words)), stderr=subprocess.PIPE, text=True) for _ in range(3)]
    ended = [(process.communicate(timeout=60)[1], process.returncode) for process in started]
    assert sorted(code == 0 for _, code in ended) == [False, False, True]
    assert all("KM0504" in err or "KM0501" in err for err, code in ended if code)
    assert check("out").ok


@pytest.mark.parametrize(
    ("moment", "number"),
    [
        ("staging", signal.SIGINT),
        ("spilling", signal.SIGINT),
        ("spilling", signal.SIGTERM),
        ("staging", signal.SIGHUP),
    ],
)
def test_signals_that_ask_to_end_a_command_leave_nothing(inputs, spills, moment, number):
    text = inputs / "interrupted.txt"
    if not text.exists():
        outside.write_words(text, words=6_000_000, distinct=6_000_000)
    with outside.running(wordcount_words(text, "out")) as process:
        outside.until(partial(SEEN[moment], spills), process)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (128 + number, "")
    assert "Traceback" not in err
    assert "no output was published" in err
    assert list(Path().iterdir()) == []
    assert list(spills.iterdir()) == []


def test_an_interrupt_in_a_program_leaves_nothing_and_the_next_run_works(many_words, spills):
    """As in a notebook: KeyboardInterrupt comes out of sink_parquet, and the process lives on."""

    def interrupt(event):
        if isinstance(event, TaskFinished):
            raise KeyboardInterrupt

    frame = outside.word_count(many_words)
    with pytest.raises(KeyboardInterrupt):
        frame.sink_parquet("out", progress=interrupt, memory=tight(many_words), threads=2, **SHAPE)
    assert list(Path().iterdir()) == []
    assert list(spills.iterdir()) == []
    assert frame.sink_parquet("out", progress=False).rows == len(outside.counts_in("out"))


def test_batches_that_nobody_wants_any_more_cancel_the_job(many_words, spills):
    events = []
    batches = outside.word_count(many_words).collect_batches(
        batch_rows=100, progress=events.append, memory=tight(many_words), **SHAPE
    )
    assert next(batches).num_rows == 100
    batches.close()
    assert events[-1].outcome == "cancelled"
    assert isinstance(events[0], JobStarted)
    assert list(spills.iterdir()) == []
