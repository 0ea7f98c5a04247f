"""What end-to-end tests see of kernelmill: commands in processes, digests of outputs, what is left over."""

import contextlib
import hashlib
import os
import subprocess
import sys
import time
import traceback
import warnings
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import kernelmill as km
from kernelmill.engine.errors import KernelmillError
from kernelmill.engine.events import SpillWritten
from kernelmill.engine.grants import plan_grants
from kernelmill.engine.plan.logical import SinkParquet
from kernelmill.engine.plan.planner import plan_job
from kernelmill.engine.settings import resolve

ROOT = Path(__file__).resolve().parents[2]
KJV = ROOT / "data" / "kjv"
COMMAND = [sys.executable, "-m", "kernelmill"]
_DEADLINE_S = 60.0


def command(*arguments, **options):
    """Run `kernelmill ARGUMENTS` in a process of its own; its CompletedProcess, texts captured."""
    return run([*COMMAND, *arguments], **options)


def run(words, **options):
    """Run a program; its CompletedProcess, texts captured."""
    words = [str(word) for word in words]
    return subprocess.run(words, capture_output=True, text=True, timeout=_DEADLINE_S, check=False, **options)


def in_child(work):
    """Run `work` in a forked process; its exit code, negative for the signal that ended it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child of a process with threads: it starts none
        child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@contextlib.contextmanager
def running(words, **options):
    """A process that is ended, by its own number, when the block ends."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([str(word) for word in words], **(pipes | options)) as process:
        try:
            yield process
        finally:
            process.kill()


def until(seen, process):
    """Wait until `seen()` is true; an error if the process ends before or it takes too long."""
    deadline = time.monotonic() + _DEADLINE_S
    while not seen():
        assert process.poll() is None, f"it ended: {process.communicate()}"
        assert time.monotonic() < deadline
        time.sleep(0.0005)


def digests(output):
    """Name -> SHA-256 of every file of an output, hidden ones too; of a single file, of that."""
    place = Path(output)
    files = [place] if place.is_file() else sorted(path for path in place.rglob("*") if path.is_file())
    return {str(path.relative_to(place.parent)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def leftovers(*folders):
    """What only a running job may have: staging folders and spill folders."""
    patterns = (".*.km-staging", "kernelmill-spill-*")
    return sorted(str(path) for folder in folders for pattern in patterns for path in Path(folder).glob(pattern))


def counts_in(output):
    """Word -> count of an output, part by part: a word in two parts would be an error."""
    place = Path(output)
    table = pq.read_table([place] if place.is_file() else sorted(place.glob("*.parquet")))
    words, counts = table.column(0).to_pylist(), table.column(1).to_pylist()
    found = dict(zip(words, counts, strict=True))
    assert len(found) == len(words)
    return found


def word_count(source, *, tokens="whitespace", lowercase=False, invalid="error"):
    """The plan of `kernelmill wordcount`."""
    words = km.col("line").str.tokenize(tokens, lowercase=lowercase)
    return km.scan_text(source, invalid=invalid).select(word=words).explode("word").group_by("word").agg(km.len())


MEMORY_MIN = 32 << 20


def tight_memory(frame, output, threads, **settings):
    """Memory with which all threads work at a plan and nothing is left for blocks, if it is above MEMORY_MIN."""
    plenty = resolve(threads=1, memory="1TiB", **settings)
    sink = SinkParquet(frame._plan, output, output.endswith(".parquet"), "zstd", 1 << 20, True, origin="")
    job = plan_job(sink, split_bytes=plenty.split_bytes, partitions=plenty.partitions)
    low, high = 0, 1 << 14  # MiB; what one task needs, found by trying, for with more a sort is given more
    while high - low > 1:
        middle = (low + high) // 2
        try:
            plan_grants(job, msgspec.structs.replace(plenty, memory_bytes=middle << 20))
            high = middle
        except KernelmillError:
            low = middle
    return max(MEMORY_MIN, threads * high << 20)


class Spilled:
    """An event sink that adds up what was spilled."""

    def __init__(self):
        self.bytes = 0

    def __call__(self, event):
        if isinstance(event, SpillWritten):
            self.bytes += event.bytes


def write_words(path, *, words, distinct, seed=7, line_words=12):
    """Write a text of `words` words of 4 to 13 letters drawn evenly from `distinct` ones: 8.5 bytes a word."""
    rng = np.random.default_rng(seed)
    with open(path, "wb") as file:
        for begin in range(0, words, 1 << 18):
            count = min(1 << 18, words - begin)
            numbers = rng.integers(0, distinct, count, dtype=np.uint64)
            spread = (numbers + 1) * np.uint64(0x9E3779B97F4A7C15)
            letters = (spread[:, None] >> np.arange(0, 60, 5, dtype=np.uint64)) % np.uint64(26) + np.uint64(97)
            lengths = 4 + (spread >> np.uint64(60)) % np.uint64(9)
            text = np.full((count, 14), 32, np.uint8)
            text[:, :12] = letters
            kept = np.arange(14)[None, :] < lengths[:, None].astype(np.int64)
            kept[:, 12] = True
            text[line_words - 1 :: line_words, 12] = 10
            file.write(text[kept].tobytes())
        file.write(b"\n")


def write_table(path, *, rows, seed=0):
    """Write columns i, s (keys with nulls), x (floats), n (integers with nulls) in 8 row groups."""
    rng = np.random.default_rng(seed)
    numbers = rng.integers(-50_000, 250_000, rows)
    texts = [f"key {n}" if n % 101 else None for n in rng.integers(0, 60_000, rows).tolist()]
    columns = {
        "i": pa.array(numbers, mask=numbers % 97 == 0),
        "s": pa.array(texts),
        "x": pa.array(rng.normal(0, 1e6, rows)),
        "n": pa.array(rng.integers(-9, 9, rows), mask=rng.random(rows) < 0.01),
    }
    pq.write_table(pa.table(columns), path, row_group_size=-(-rows // 8))
