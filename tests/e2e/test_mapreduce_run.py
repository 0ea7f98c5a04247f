"""`kernelmill run FILE.py:JOB` and the paper's word count on a real book, beside the built-in one."""

import json
import os

import outside
import pyarrow.parquet as pq
import pytest

import kernelmill as km

JOB = """
import kernelmill as km

def map(line, emit):
    for word in line.split():
        emit(word, 1)
    emit.count("lines")

types = {"word": "string", "len": "int64"}
job = km.MapReduce(map, "sum", key="word", value="len", schema=types, compile="never")
not_a_job = 3
frame = km.from_arrow(__import__("pyarrow").table({"line": ["a b", "a"]})).pipe(job)

def build(inputs):
    return km.scan_text(inputs).pipe(job).filter(km.col("len") > 1)

def fail():
    return 1 / 0
"""


@pytest.fixture(autouse=True)
def job_file():
    with open("wc.py", "w") as file:
        file.write(JOB)
    with open("text.txt", "w") as file:
        file.write("a b a\nc\n")
    return "wc.py"


def run(*arguments, **options):
    return outside.command("run", *arguments, "--no-progress", **options)


def test_the_book_counts_as_the_built_in_word_count_does():
    books = sorted(outside.KJV.glob("*.txt"))[0]
    done = run("wc.py:job", books, "-o", "out")
    assert done.returncode == 0, done.stderr
    outside.word_count(books).sink_parquet("builtin", progress=False)
    assert outside.counts_in("out") == outside.counts_in("builtin")
    lines = books.read_bytes().count(b"\n")
    assert f"lines: {lines:,}" in done.stderr
    with open("out/_manifest.json") as file:
        assert json.load(file)["counters"] == {"lines": lines}


def test_frames_and_functions_that_make_them_run_too():
    assert run("wc.py:frame", "-o", "one.parquet").returncode == 0
    assert pq.read_table("one.parquet").to_pydict() == {"word": ["a", "b"], "len": [2, 1]}
    assert run("wc.py:build", "text.txt", "-o", "two.parquet").returncode == 0
    assert pq.read_table("two.parquet").to_pydict() == {"word": ["a"], "len": [2]}


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("wc.py", "text.txt"), 2, "FILE.py:JOB"),
        (("wc.py:job",), 2, "name the INPUT"),
        (("wc.py:frame", "text.txt"), 2, "has its inputs"),
        (("none.py:job", "text.txt"), 3, "KM0201"),
        (("wc.py:jobb", "text.txt"), 3, "did you mean 'job'"),
        (("wc.py:not_a_job", "text.txt"), 3, "KM0107"),
        (("wc.py:map", "text.txt"), 3, "[KM0107] wc.py:map is a function of 2 arguments"),
        (("wc.py:map", "text.txt"), 3, "wc.py:job, wc.py:frame"),
        (("wc.py:fail",), 3, "[KM0301] wc.py:fail raised ZeroDivisionError"),
    ],
)
def test_what_cannot_be_run_is_told(arguments, code, said):
    done = run(*arguments, "-o", "out")
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert not os.path.exists("out")


def test_a_file_that_raises_is_named_with_its_line():
    with open("bad.py", "w") as file:
        file.write("x = 1\ny = x / 0\n")
    done = run("bad.py:job", "text.txt", "-o", "out")
    assert done.returncode == 3 and "bad.py:2" in done.stderr and "Traceback" not in done.stderr


def test_rejects_have_options():
    with open("bad.py", "w") as file:
        file.write(JOB.replace("    for word", "    1 / (line != 'c')\n    for word"))
    failed = run("bad.py:job", "text.txt", "-o", "out")
    assert failed.returncode == 1 and "text.txt, byte 6, line 2" in failed.stderr and "bad.py:" in failed.stderr
    assert run("bad.py:job", "text.txt", "-o", "out", "--on-bad", "reject").returncode == 0
    assert run("bad.py:job", "text.txt", "-o", "out", "--on-bad", "reject", "--max-rejects", "0").returncode != 0
    assert km.read_parquet("out/_rejects/part-00000.parquet")["record"].to_pylist() == [b"c"]
